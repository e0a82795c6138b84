"""Nav2's layers as they read our messages byte by byte: what seg_perception.nav2 gets as arrays."""

from typing import Any

import numpy as np

from seg_perception.nav2.layers import ObstacleLayer
from seg_perception.nav2.semantic import SemanticSource
from seg_perception.nav2.window import FREE, LETHAL, NO_INFORMATION, Window
from seg_perception.occupancy.camera import Pose

__all__ = ["FREE", "LETHAL", "NO_INFORMATION", "STILL", "Obstacles", "Semantic", "floats"]

STILL = (0.0, 0.0, 0.0)


def floats(cloud: Any) -> np.ndarray:
    """Return x, y, z (n,3) of a cloud, found by the offsets of its fields and its point_step."""
    offsets = {f.name: f.offset for f in cloud.fields}
    rows = np.frombuffer(cloud.data, np.uint8).reshape(-1, cloud.point_step)
    rows = rows[: cloud.width * cloud.height]
    columns = [rows[:, offsets[axis] : offsets[axis] + 4].copy().view("<f4") for axis in "xyz"]
    return np.concatenate(columns, axis=1).astype(np.float64)


class Semantic(SemanticSource):
    """A source that reads a set of messages; poses take a frame into the costmap's."""

    def __init__(self, source: dict[str, Any], resolution: float) -> None:
        super().__init__(source, resolution)
        self.refused = 0  # sets that are not buffered

    def on_set(self, mask: Any, confidence: Any, cloud: Any, pose: Pose) -> None:
        """Buffer a set; `pose` is the cloud's frame, whose origin ranges are measured from."""
        stamps = {(m.header.stamp.sec, m.header.stamp.nanosec) for m in (mask, confidence, cloud)}
        count = mask.width * mask.height
        if len(stamps) > 1 or count != cloud.width * cloud.height or len(mask.data) < count:
            self.refused += 1
            return
        # Read as data[v * width + u], whatever step and encoding say; confidence unchecked.
        pixels = (np.frombuffer(m.data, np.uint8)[:count] for m in (mask, confidence))
        stamp = mask.header.stamp.sec + mask.header.stamp.nanosec / 1e9
        self.on_pixels(*pixels, pose.apply(floats(cloud)), pose.translation, stamp)


class Obstacles(ObstacleLayer):
    """A square layer around a robot that stands still, which reads clouds."""

    def __init__(self, layer: dict[str, Any], resolution: float, size: float, now: float) -> None:
        window = Window(
            resolution, (size, size), default=NO_INFORMATION, origin=(-size / 2, -size / 2)
        )
        super().__init__(layer, window, np.zeros((0, 2)), now)

    @property
    def costs(self) -> np.ndarray:
        return self.window.costs

    def cell(self, x: float, y: float) -> tuple[int, int]:
        """Return row and column of a place."""
        row, column = self.window.cells(np.array([x]), np.array([y]))[0]
        return int(row), int(column)

    def on_cloud(self, name: str, cloud: Any, base: Pose, sensor: Pose, now: float) -> None:
        """Give a cloud in `base` to a source; rays start at `sensor`."""
        self.buffers[name].on_cloud(base.apply(floats(cloud)), sensor.translation, now)

"""Readers of our messages that do what Nav2's layers do with them, and nothing better.

Written after kiwicampus/semantic_segmentation_layer (segmentation_buffer.cpp and .hpp, Jazzy) and
nav2_costmap_2d (obstacle_layer.cpp, observation_buffer.cpp, costmap_2d.hpp, Jazzy and Kilted).
They are told the parameters of config/nav2_costmap.yaml. Poses take a frame into the costmap's.
"""

from collections import Counter
from collections.abc import Iterator
from math import ceil, floor, hypot, isfinite
from typing import Any

import numpy as np

from seg_perception.occupancy.camera import Pose

FREE, LETHAL, NO_INFORMATION = 0, 254, 255
Tile = tuple[int, int]


def floats(cloud: Any) -> np.ndarray:
    """Return x, y, z (n,3) of a cloud, found by the offsets of its fields and its point_step."""
    offsets = {f.name: f.offset for f in cloud.fields}
    rows = np.frombuffer(cloud.data, np.uint8).reshape(-1, cloud.point_step)
    rows = rows[: cloud.width * cloud.height]
    columns = [rows[:, offsets[axis] : offsets[axis] + 4].copy().view("<f4") for axis in "xyz"]
    return np.concatenate(columns, axis=1).astype(np.float64)


class SemanticLayer:
    """One observation source: what each tile of the ground costs after a set of messages."""

    def __init__(self, source: dict[str, Any], resolution: float) -> None:
        self._source, self._resolution = source, resolution
        self._costs = {n: source[kind] for kind in source["class_types"]
                       for n in source[kind]["classes"]}  # fmt: skip
        self._by_id: dict[int, dict[str, Any]] | None = None
        self.errors: list[str] = []  # names that no parameter lists: "CRITICAL ERROR"
        self.refused = 0  # sets that are not buffered
        self.unlisted = 0  # pixels with a place whose id LabelInfo does not list
        self._queues: dict[Tile, Counter[int]] = {}
        self._dominant: dict[Tile, int] = {}

    def on_label_info(self, class_map: list[tuple[int, str]]) -> None:
        """Match classes by name; of two ids with one name the last stays."""
        ids = {}
        for number, name in class_map:
            if name in self._costs:
                ids[name] = number & 0xFF
            else:
                self.errors.append(name)
        self._by_id = {number: self._costs[name] for name, number in ids.items()}

    def on_set(self, mask: Any, confidence: Any, cloud: Any, pose: Pose) -> None:
        """Buffer a set; `pose` is the cloud's frame, whose origin ranges are measured from."""
        assert self._by_id is not None, "the layer dereferences a null pointer here"
        stamps = {(m.header.stamp.sec, m.header.stamp.nanosec) for m in (mask, confidence, cloud)}
        count = mask.width * mask.height
        if len(stamps) > 1 or count != cloud.width * cloud.height or len(mask.data) < count:
            self.refused += 1
            return
        points, origin = pose.apply(floats(cloud)), pose.translation
        best: dict[Tile, int] = {}
        for v in range(mask.height):
            for u in range(mask.width):
                pixel = v * mask.width + u  # whatever step and encoding say
                x, y, z = points[pixel]
                if not isfinite(z):
                    continue
                squared = float(((points[pixel] - origin) ** 2).sum())
                if squared >= self._source["max_obstacle_distance"] ** 2:
                    continue
                if squared <= self._source["min_obstacle_distance"] ** 2:
                    continue
                self.unlisted += mask.data[pixel] not in self._by_id
                tile = floor(x / self._resolution), floor(y / self._resolution)
                if tile not in best or self._is_better(mask, confidence, pixel, best[tile]):
                    best[tile] = pixel
        for tile, pixel in best.items():
            assert confidence.data[pixel] >= 0  # read at the mask's pixel, unchecked
            if mask.data[pixel] in self._by_id:
                self._push(tile, mask.data[pixel])

    def costs(self) -> dict[Tile, int]:
        """Return the cost of every tile that has one."""
        assert self._by_id is not None
        return {tile: self._by_id[number]["max_cost"] for tile, number in self._dominant.items()}

    def centre(self, tile: Tile) -> tuple[float, float]:
        """Return the middle of a tile in the costmap's frame."""
        return (tile[0] + 0.5) * self._resolution, (tile[1] + 0.5) * self._resolution

    def _is_better(self, mask: Any, confidence: Any, pixel: int, other: int) -> bool:
        if not self._source["use_cost_selection"]:
            return bool(confidence.data[pixel] > confidence.data[other])
        nothing, by_id = {"max_cost": 0}, self._by_id or {}
        return bool(
            by_id.get(mask.data[pixel], nothing)["max_cost"]
            > by_id.get(mask.data[other], nothing)["max_cost"]
        )

    def _push(self, tile: Tile, number: int) -> None:
        assert self._by_id is not None
        queue = self._queues.setdefault(tile, Counter())
        queue[number] += 1
        dominant = self._dominant.get(tile)
        more = dominant is None or queue[number] > queue[dominant]
        if self._by_id[number]["dominant_priority"] or more:
            self._queues[tile] = Counter({number: queue[number]})
            self._dominant[tile] = number


class Buffer:
    """One observation source of an ObstacleLayer; it keeps the newest cloud for ever."""

    def __init__(self, source: dict[str, Any], now: float) -> None:
        self.source = source
        self.points = np.zeros((0, 3))
        self.origin: np.ndarray | None = None
        self._updated = now

    def on_cloud(self, cloud: Any, base: Pose, sensor: Pose, now: float) -> None:
        """Keep the points of a cloud in `base` whose height is right; rays start at `sensor`."""
        points = base.apply(floats(cloud))
        low, high = self.source["min_obstacle_height"], self.source["max_obstacle_height"]
        self.points = points[(points[:, 2] >= low) & (points[:, 2] <= high)]
        self.origin = sensor.translation
        self._updated = now

    def is_current(self, now: float) -> bool:
        rate = self.source["expected_update_rate"]
        return rate == 0 or now - self._updated <= rate


class ObstacleLayer:
    """A square costmap around the robot where it stood at first; row = y, column = x."""

    def __init__(self, layer: dict[str, Any], resolution: float, size: float, now: float) -> None:
        self._layer, self._resolution, self._low = layer, resolution, -size / 2
        cells = round(size / resolution)
        self.costs = np.full((cells, cells), NO_INFORMATION, np.uint8)
        self.is_current = True
        names = layer["observation_sources"].split()
        self.buffers = {name: Buffer(layer[name], now) for name in names}

    def update(self, now: float) -> None:
        """Clear along the rays, then mark, as updateBounds does."""
        buffers = [b for b in self.buffers.values() if b.origin is not None]
        self.is_current = all(b.is_current(now) for b in self.buffers.values())
        for buffer in (b for b in buffers if b.source["clearing"]):
            for x, y, _ in buffer.points:
                for cell in self.ray(buffer, x, y):
                    self.costs[cell] = FREE
        for buffer in (b for b in buffers if b.source["marking"]):
            for point in buffer.points:
                distance = float(np.linalg.norm(point - buffer.origin))  # aslant: Kilted
                near, far = (buffer.source[f"obstacle_{n}_range"] for n in ("min", "max"))
                low, high = (self._layer[f"{n}_obstacle_height"] for n in ("min", "max"))
                cell = self.cell(point[0], point[1])
                if near <= distance < far and low <= point[2] <= high and self._holds(cell):
                    self.costs[cell] = LETHAL

    def cell(self, x: float, y: float) -> tuple[int, int]:
        """Return row and column of a place."""
        return floor((y - self._low) / self._resolution), floor((x - self._low) / self._resolution)

    def ray(self, buffer: Buffer, x: float, y: float) -> Iterator[tuple[int, int]]:
        """Yield the cells of a clearing ray, from raytrace_min_range to its end, which is clear."""
        origin_x, origin_y = buffer.origin[:2]
        # A ray that leaves the map ends at its border.
        reach, border = 1.0, -self._low - 0.001
        for start, end in ((origin_x, x), (origin_y, y)):
            if abs(end) > border:
                reach = min(reach, (np.sign(end) * border - start) / (end - start))
        end_row, end_column = self.cell(
            origin_x + reach * (x - origin_x), origin_y + reach * (y - origin_y)
        )
        row, column = self.cell(origin_x, origin_y)
        length = hypot(end_row - row, end_column - column)
        shortest = ceil(buffer.source["raytrace_min_range"] / self._resolution)
        longest = ceil(buffer.source["raytrace_max_range"] / self._resolution)
        if length < shortest:
            return
        if length > 0:  # rounded towards zero, as C++ does
            column = int(column + (end_column - column) / length * shortest)
            row = int(row + (end_row - row) / length * shortest)
        wide, high = abs(end_column - column), abs(end_row - row)
        most, least = max(wide, high), min(wide, high)
        steps = int(most * min(1.0, longest / length)) if length else 0
        right, up = (1 if end_column > column else -1), (1 if end_row > row else -1)
        error = most // 2
        yield row, column
        for _ in range(min(steps, most)):
            error += least
            sideways = error >= most
            error -= most if sideways else 0
            column += right if wide >= high or sideways else 0
            row += up if wide < high or sideways else 0
            yield row, column

    def _holds(self, cell: tuple[int, int]) -> bool:
        return all(0 <= n < len(self.costs) for n in cell)

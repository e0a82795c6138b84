"""What a costmap of Nav2 with given parameters would hold of what occupancy_node publishes.

The robot and the camera are where the mapper's poses say, and each cloud arrives when its image was
taken: delays, lost messages and tf that comes late are not in it. The whole window is combined at
each update, where Nav2 leaves out cells that no layer touched.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from seg_perception.errors import DataError
from seg_perception.labels import GROUPS
from seg_perception.nav2 import parameters as p
from seg_perception.nav2.layers import (
    InflationLayer,
    ObstacleLayer,
    StaticLayer,
    footprint,
    inscribed_radius,
)
from seg_perception.nav2.parameters import Layer, Parameters
from seg_perception.nav2.semantic import SemanticLayer
from seg_perception.nav2.window import FREE, NO_INFORMATION, Window
from seg_perception.occupancy.camera import Pose
from seg_perception.occupancy.mapper import Mapper, Pose2D, Result, raised
from seg_perception.occupancy.parameters import OccupancyParameters

AnyLayer = SemanticLayer | ObstacleLayer | StaticLayer | InflationLayer


class Columns(NamedTuple):
    """How occupancy_node raises points of the ground, in metres: its column_* parameters."""

    low: float = OccupancyParameters.column_low
    high: float = OccupancyParameters.column_high
    step: float = OccupancyParameters.column_step


COLUMNS = Columns()


class Costmap:
    """A costmap and those of its layers that our topics reach.

    `costs` is its window: 0 free, 253 inscribed, 254 lethal, 255 unknown; `left_out` names what is
    not simulated, with the reason.
    """

    def __init__(self, name: str, parameters: Parameters, columns: Columns = COLUMNS) -> None:
        """Build the layers; DataError where a parameter is none that Nav2 takes."""
        self.name = name
        self.left_out: list[str] = []
        self._columns = columns
        self._period = 1.0 / float(parameters.get("update_frequency", 5.0))
        self._is_rolling = bool(parameters.get("rolling_window", False))
        is_tracking = bool(parameters.get("track_unknown_space", False))
        self.window = Window(
            float(parameters.get("resolution", 0.1)),
            (float(parameters.get("width", 5)), float(parameters.get("height", 5))),
            default=NO_INFORMATION if is_tracking else FREE,
            origin=(float(parameters.get("origin_x", 0.0)), float(parameters.get("origin_y", 0.0))),
        )
        self._footprint = footprint(parameters)
        self.layers = list(self._built(parameters))
        self._updated: float | None = None
        if not any(isinstance(x, SemanticLayer | ObstacleLayer | StaticLayer)
                   for x in self.layers):  # fmt: skip
            raise DataError(
                f"no layer of {name} reads occupancy_node; merge config/nav2_costmap.yaml into its "
                "parameters (docs/nav2.md, step 4)"
            )

    @classmethod
    def read(cls, path: Path, columns: Columns = COLUMNS) -> "Costmap":
        """Read a parameters file: its local costmap, or else its first; DataError says why not."""
        nodes = p.read_nodes(path)
        costmaps = {name: v for name, v in nodes.items() if p.is_costmap(name, v)}
        if not costmaps:
            raise DataError(
                f"{path} holds no costmap; give the parameters file that Nav2 is started with"
            )
        name = next((n for n in costmaps if "local" in n), next(iter(costmaps)))
        return cls(name, costmaps[name], columns)

    @property
    def costs(self) -> NDArray[np.uint8]:
        """The costs uint8 (rows, columns); row is y and column x from `window.origin` on."""
        return self.window.costs

    @property
    def is_current(self) -> bool:
        """Whether every layer has heard of us in time; Nav2 drives on a current costmap alone."""
        return all(layer.is_current for layer in self.layers)

    def hear(
        self, result: Result, mapper: Mapper, camera: Pose, robot: Pose2D | None, stamp: float
    ) -> None:
        """Give the layers what occupancy_node publishes of one look.

        `camera` takes the optical frame into base, `robot` is base in the costmap's frame.
        """
        base = _pose(robot or Pose2D(0.0, 0.0, 0.0))
        sensor = base.compose(camera)
        ends = {"obstacles": result.lethal(mapper.settings.costs), "clearing": result.free}
        clouds = {name: raised(points, **self._columns._asdict()) for name, points in ends.items()}
        for layer in self.layers:
            if isinstance(layer, ObstacleLayer):
                for buffer in layer.buffers.values():
                    cloud = clouds.get(str(buffer.source.get("topic", "")).split("/")[-1])
                    if cloud is not None:
                        start = sensor if buffer.source["sensor_frame"] else base
                        points = base.apply(cloud.astype(np.float64))
                        buffer.on_cloud(points, start.translation, stamp)
            elif isinstance(layer, SemanticLayer):
                mask, confidence, optical = result.reduced
                places = sensor.apply(optical.reshape(-1, 3).astype(np.float64))
                for source in layer.sources.values():
                    source.on_pixels(
                        mask.ravel(), confidence.ravel(), places, sensor.translation, stamp
                    )
            elif isinstance(layer, StaticLayer):
                layer.on_grid(mapper.costs(), mapper.grid.origin, mapper.settings.resolution)

    def update(self, robot: Pose2D | None, stamp: float) -> None:
        """Update as often as update_frequency says; `stamp` in seconds."""
        if self._updated is not None and 0 <= stamp - self._updated < self._period - 1e-6:
            return
        self._updated = stamp
        place = robot or Pose2D(0.0, 0.0, 0.0)
        if self._is_rolling:
            for window in (self.window, *(w for x in self.layers for w in x.windows())):
                window.centre_on(place.x, place.y)
        self.window.costs[:] = self.window.default
        for layer in self.layers:
            layer.update(stamp, place)
        for layer in self.layers:
            layer.merge(self.window)

    def _built(self, parameters: Parameters) -> Iterator[AnyLayer]:
        for layer in p.layers_of(parameters):
            if not layer.parameters.get("enabled", True):
                self.left_out.append(f"{layer.name}: not enabled")
            elif layer.plugin == p.INFLATION_LAYER:
                inscribed = inscribed_radius(self._footprint)
                yield InflationLayer(layer, self.window.resolution, inscribed)
            elif not layer.reads_ours():
                self.left_out.append(f"{layer.name}: reads nothing of ours")
            elif layer.plugin in p.OBSTACLE_LAYERS:
                yield self._obstacles(layer)
            elif layer.plugin == p.SEMANTIC_LAYER:
                semantic = SemanticLayer(layer, self.window.like())
                for source in semantic.sources.values():
                    source.on_label_info(list(enumerate(GROUPS)))
                yield semantic
            elif layer.plugin == p.STATIC_LAYER:
                if str(layer.parameters.get("map_topic", "")).endswith("grid/cost"):
                    yield StaticLayer(layer, parameters)
                else:
                    self.left_out.append(f"{layer.name}: of the grids only grid/cost is simulated")
            else:
                self.left_out.append(f"{layer.name}: {layer.plugin or 'no plugin'} is not known")

    def _obstacles(self, layer: Layer) -> ObstacleLayer:
        """Return the layer with our sources alone: others would keep it stale for ever."""
        ours = [n for n, s in layer.sources() if p.is_ours(s.get("topic"))]
        others = [n for n, _ in layer.sources() if n not in ours]
        self.left_out += [f"{layer.name}.{name}: reads nothing of ours" for name in others]
        values = {**layer.parameters, "observation_sources": " ".join(ours)}
        return ObstacleLayer(values, self.window.like(), self._footprint, now=0.0)


def _pose(robot: Pose2D) -> Pose:
    return Pose.from_rpy(robot.x, robot.y, 0.0, 0.0, 0.0, robot.yaw)

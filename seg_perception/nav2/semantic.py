"""kiwicampus's semantic_segmentation_layer as it reads our messages, written after its sources.

segmentation_buffer.hpp and .cpp, semantic_segmentation_layer.cpp. Places are in metres in the
costmap's frame, times in seconds.
"""

from collections import deque
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seg_perception.nav2.parameters import Layer, Parameters, section
from seg_perception.nav2.window import Window, combine

Points = NDArray[np.floating[Any]]
Tile = tuple[int, int]


class TileQueue:
    """What was seen of a tile: for each class the stamps and confidences that have not decayed."""

    def __init__(self) -> None:
        self._seen: dict[int, deque[tuple[float, float]]] = {}
        self.dominant: int | None = None
        self._most = 0

    def push(self, number: int, stamp: float, confidence: float, *, has_priority: bool) -> None:
        """Add one look; a class with priority, or seen more often, takes the tile for itself."""
        queue = self._seen.setdefault(number, deque())
        queue.append((stamp, confidence))
        if has_priority or len(queue) > self._most:
            self._seen = {number: queue}
            self.dominant, self._most = number, len(queue)

    def purge(self, before: float) -> None:
        """Forget what was seen before a time."""
        for queue in self._seen.values():
            while queue and queue[0][0] < before:
                queue.popleft()
        self._seen = {number: queue for number, queue in self._seen.items() if queue}
        if self.dominant not in self._seen:
            self.dominant = max(self._seen, key=lambda n: len(self._seen[n]), default=None)
        self._most = len(self._seen[self.dominant]) if self.dominant is not None else 0

    def cost(self, kind: Parameters) -> int:
        """Return the cost that a class of this kind gives the tile."""
        assert self.dominant is not None
        seen = self._seen[self.dominant]
        mean = sum(confidence for _, confidence in seen) / len(seen)
        enough = len(seen) >= int(kind.get("samples_to_max_cost", 0))
        is_sure = mean > float(kind.get("mark_confidence", 0))
        return int(kind["max_cost"] if enough and is_sure else kind["base_cost"])


class SemanticSource:
    """One observation source of the semantic layer: what each tile of the ground costs."""

    def __init__(self, source: Parameters, resolution: float) -> None:
        self._source, self._resolution = source, resolution
        self._costs = {str(n): section(source, str(kind)) for kind in source["class_types"]
                       for n in section(source, str(kind)).get("classes", [])}  # fmt: skip
        self._by_id: dict[int, Parameters] | None = None
        self.errors: list[str] = []  # names that no parameter lists: "CRITICAL ERROR"
        self.unlisted = 0  # pixels with a place whose id LabelInfo does not list
        self._tiles: dict[Tile, TileQueue] = {}

    def on_label_info(self, class_map: list[tuple[int, str]]) -> None:
        """Match classes by name; of two ids with one name the last stays."""
        ids = {}
        for number, name in class_map:
            if name in self._costs:
                ids[name] = number & 0xFF
            else:
                self.errors.append(name)
        self._by_id = {number: self._costs[name] for name, number in ids.items()}

    def on_pixels(
        self,
        mask: NDArray[np.uint8],
        confidence: NDArray[np.uint8],
        points: Points,
        origin: Points,
        stamp: float,
    ) -> None:
        """Buffer a set: ids and confidences (n,), points (n,3), and where the sensor is (3,)."""
        assert self._by_id is not None, "the layer dereferences a null pointer here"
        self.purge(stamp)
        squared = ((points - origin) ** 2).sum(1)
        near, far = (float(self._source.get(f"{end}_obstacle_distance", default)) ** 2
                     for end, default in (("min", 0.3), ("max", 5.0)))  # fmt: skip
        taken = np.flatnonzero(np.isfinite(points[:, 2]) & (squared < far) & (squared > near))
        mask, confidence = mask[taken], confidence[taken]
        self.unlisted += int((~np.isin(mask, list(self._by_id))).sum())
        tiles = np.floor(points[taken, :2] / self._resolution).astype(np.int64)
        for pixel in self._speakers(tiles, self._importance(mask, confidence)):
            number = int(mask[pixel])
            if number in self._by_id:
                tile = (int(tiles[pixel, 0]), int(tiles[pixel, 1]))
                self._tiles.setdefault(tile, TileQueue()).push(
                    number, stamp, float(confidence[pixel]),
                    has_priority=bool(self._by_id[number].get("dominant_priority", False)),
                )  # fmt: skip

    def purge(self, now: float) -> None:
        """Forget what is older than the decay time."""
        before = now - float(self._source.get("tile_map_decay_time", 5.0))
        for queue in self._tiles.values():
            queue.purge(before)
        self._tiles = {t: queue for t, queue in self._tiles.items() if queue.dominant is not None}

    def costs(self) -> dict[Tile, int]:
        """Return the cost of every tile that has one."""
        by_id = self._by_id or {}
        return {
            tile: queue.cost(by_id[queue.dominant])
            for tile, queue in self._tiles.items()
            if queue.dominant is not None
        }

    def centre(self, tile: Tile) -> tuple[float, float]:
        """Return the middle of a tile."""
        return (tile[0] + 0.5) * self._resolution, (tile[1] + 0.5) * self._resolution

    def _importance(
        self, mask: NDArray[np.uint8], confidence: NDArray[np.uint8]
    ) -> NDArray[np.uint8]:
        """Return by what pixels of one tile are compared."""
        if not self._source.get("use_cost_selection", True):
            return confidence
        most = np.zeros(256, np.uint8)
        for number, kind in (self._by_id or {}).items():
            most[number] = int(kind["max_cost"])
        return np.asarray(most[mask], np.uint8)

    @staticmethod
    def _speakers(tiles: NDArray[np.int64], importance: NDArray[np.uint8]) -> list[int]:
        """Return the pixel that speaks for each tile: the first of the most important."""
        order = np.lexsort((-importance.astype(np.int64), tiles[:, 1], tiles[:, 0]))
        ordered = tiles[order]
        is_first = np.ones(len(order), bool)
        is_first[1:] = (ordered[1:] != ordered[:-1]).any(1)
        return [int(n) for n in order[is_first]]


class SemanticLayer:
    """kiwicampus's layer: tiles become costs of the window; one that decayed keeps its last."""

    is_current = True  # whatever happens: expected_update_rate is read and never used

    def __init__(self, layer: Layer, window: Window) -> None:
        self._window, self._method = window, int(layer.parameters.get("combination_method", 1))
        self.sources = {n: SemanticSource(s, window.resolution) for n, s in layer.sources()}

    def update(self, now: float, robot: tuple[float, float, float]) -> None:
        """Follow the robot, and write what the tiles cost."""
        for source in self.sources.values():
            source.purge(now)
            costs = source.costs()
            if costs:
                x, y = np.array([source.centre(tile) for tile in costs]).T
                self._window.set(x, y, np.array(list(costs.values()), np.uint8))

    def merge(self, master: Window) -> None:
        """Put the layer over those below."""
        combine(master.costs, self._window.costs, self._method)

    def windows(self) -> list[Window]:
        """Return what follows the robot."""
        return [self._window]

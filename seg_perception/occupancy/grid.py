"""Evidence of what lies where on the ground, in a window of square cells that rolls with the robot.

Evidence is counted in full looks: one update adds to a cell and group the share of the cell's area
that was seen as that group, times the confidence. So a cell's sum says how well and how recently it
was seen, and its shares say as what. Arrays are row-major with row = y and column = x, as in
nav_msgs/OccupancyGrid; groups are the ids of labels.GROUPS, and sky is never on the ground.
"""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from seg_perception.errors import GeometryError
from seg_perception.labels import GROUPS
from seg_perception.occupancy import grid_kernels
from seg_perception.occupancy.grid_kernels import COUNT

Floats = NDArray[np.float32]
Ids = NDArray[np.uint8]
Shares = NDArray[np.int8]

LARGEST = 4_000_000  # cells
SMALLEST = 1e-3  # m, a cell
FARTHEST = 1e8  # m; beyond every map, and float64 still places a point well within its cell
LEAST_MINIMUM = 1e-3  # looks; far above what decay rounds to 0


class EvidenceGrid:
    """Hold evidence per group in a window of `rows` x `columns` cells of `resolution` m.

    Its lower left corner always lies at whole multiples of the resolution in the grid's own frame
    (odom, or base where there is no odometry).
    """

    def __init__(
        self,
        *,
        resolution: float,
        width: float,
        height: float,
        half_life: float,
        minimum: float = 0.1,
    ) -> None:
        """Lay out an empty window with its middle cell at (0, 0).

        `resolution`, `width` (along x) and `height` (along y) in m, the latter two rounded up to
        whole cells; `half_life` in s, inf for evidence that stays; `minimum` in looks: a cell with
        less is unknown. Raises GeometryError for values without sense and more than LARGEST cells.
        """
        self.resolution = _positive("resolution", resolution, "m")
        if self.resolution < SMALLEST:
            raise GeometryError(f"resolution is {resolution!r} m; set it to {SMALLEST:g} m or more")
        self.half_life = _positive("half_life", half_life, "s", infinite=True)
        self.minimum = _number("minimum", minimum)
        if not LEAST_MINIMUM <= self.minimum < math.inf:
            raise GeometryError(
                f"minimum is {minimum!r}; set it to {LEAST_MINIMUM:g} full looks or more"
            )
        self.columns = _cells(_positive("width", width, "m") / self.resolution)
        self.rows = _cells(_positive("height", height, "m") / self.resolution)
        if self.rows * self.columns > LARGEST:
            raise GeometryError(
                f"a grid of {width} m x {height} m with cells of {resolution} m has more than "
                f"{LARGEST} cells; make it smaller or its cells larger"
            )
        self._column, self._row = -(self.columns // 2), -(self.rows // 2)
        self._evidence = np.zeros((COUNT, self.rows, self.columns), np.float32)
        # The looks of one update; all zero between updates. A cell's groups are neighbours.
        self._looks = np.zeros((self.rows * self.columns, COUNT), np.float32)

    @property
    def origin(self) -> tuple[float, float]:
        """Return x, y of the window's lower left corner, m, in the grid's frame."""
        return self._column * self.resolution, self._row * self.resolution

    @property
    def evidence(self) -> Floats:
        """Return a read-only view, float32 (8, rows, columns), looks, valid until the next call."""
        view = self._evidence.view()
        view.flags.writeable = False
        return view

    def clear(self) -> None:
        """Forget everything; the window stays where it is."""
        self._evidence[:] = 0

    def recentre(self, x: float, y: float) -> None:
        """Move the window by whole cells until (x, y), m, grid's frame, is in its middle cell.

        The middle cell is (rows // 2, columns // 2). Evidence moves along unchanged; what leaves
        the window is forgotten and what enters is empty.
        """
        per_metre = 1 / self.resolution
        column = math.floor(_coordinate("x", x) * per_metre) - self.columns // 2
        row = math.floor(_coordinate("y", y) * per_metre) - self.rows // 2
        right, up = column - self._column, row - self._row
        self._column, self._row = column, row
        if not right and not up:
            return
        moved = np.zeros_like(self._evidence)
        if abs(right) < self.columns and abs(up) < self.rows:
            to_y, from_y = _overlap(up, self.rows)
            to_x, from_x = _overlap(right, self.columns)
            moved[:, to_y, to_x] = self._evidence[:, from_y, from_x]
        self._evidence = moved

    def decay(self, seconds: float) -> None:
        """Multiply the evidence by 0.5 ** (seconds / half_life); time never runs backwards."""
        passed = _number("the time since the last update", seconds)
        if not 0 <= passed < math.inf:
            raise GeometryError(
                f"the time since the last update is {seconds} s; clear the grid when time jumps"
            )
        factor = 0.5 ** (passed / self.half_life)
        if factor < 1:
            grid_kernels.decay(self._evidence.reshape(-1), np.float32(factor))

    def add(
        self, points: Floats, groups: Ids, weights: Floats, transform: tuple[float, float, float]
    ) -> None:
        """Add what the pixels of one image saw on the ground, at most one look a cell.

        `points` float32 (..., 2) x, y in the base frame, m; `groups` uint8 (...) with sky and
        unknown ids ignored; `weights` float32 (...) = confidence 0..1 times the share of a cell's
        area that the pixel covers; `transform` = x, y (m), yaw (rad) of base in the grid's frame.
        Points that are NaN or outside the window and weights that are NaN or not above 0 are
        ignored. A cell whose weights sum to more than 1 gets 1, shared out by group.
        """
        xy, ids, shares = _pixels(points, groups, weights, "weights")
        cells = np.empty(len(ids), np.int32)
        grid_kernels.locate(xy, self._motion(transform), self.rows, self.columns, cells)
        grid_kernels.collect(cells, ids, shares, self._looks)
        grid_kernels.merge(self._looks, self._evidence.reshape(COUNT, -1))

    def add_contacts(
        self,
        points: Floats,
        groups: Ids,
        confidence: Floats,
        transform: tuple[float, float, float],
    ) -> None:
        """Add where obstacles touch the ground: one full look a cell, however few the pixels.

        As `add`, with `confidence` float32 (...) 0..1. Several contacts share their cell's look
        evenly, so that it grows by their mean confidence. Meant for few points: it visits only
        their cells.
        """
        xy, ids, sure = _pixels(points, groups, confidence, "confidence")
        cells = np.empty(len(ids), np.int32)
        grid_kernels.locate(xy, self._motion(transform), self.rows, self.columns, cells)
        grid_kernels.touch(cells, ids, sure, self._looks, self._evidence.reshape(COUNT, -1))

    def shares(self) -> Shares:
        """Return int8 (8, rows, columns): each group's share of a cell's evidence, in per cent.

        -1 in all groups where a cell holds less than the minimum: never seen, or too long ago.
        """
        shares = np.empty(self._evidence.shape, np.int8)
        evidence = self._evidence.reshape(COUNT, -1)
        grid_kernels.share(evidence, np.float32(self.minimum), shares.reshape(COUNT, -1))
        return shares

    def cost(self, costs: Sequence[int]) -> Shares:
        """Return int8 (rows, columns): one grid for a planner; -1 where a cell is unknown.

        `costs` holds 0..100 for each of the 8 groups (sky's is never used). A cell costs what the
        group that decides it costs; see `deciding`.
        """
        return self._choose(_costs(costs))

    def deciding(self) -> Shares:
        """Return int8 (rows, columns): the group that decides each cell, -1 where it is unknown.

        It is the first of person, vehicle, obstacle, vegetation, sidewalk, other, drivable that has
        a share of DECISIVE per cent or more. Where evidence is so mixed that none has, shares add
        up along that order, and the group that reaches DECISIVE decides.
        """
        return self._choose(np.arange(COUNT, dtype=np.int8))

    def _choose(self, table: NDArray[np.int8]) -> Shares:
        """Return what `table` (8,) holds for the deciding group of each cell."""
        chosen = np.empty((self.rows, self.columns), np.int8)
        grid_kernels.choose(self.shares().reshape(COUNT, -1), table, chosen.reshape(-1))
        return chosen

    def _motion(self, transform: tuple[float, float, float]) -> tuple[float, float, float, float]:
        """Return (cos, sin, x, y) that take base, m, into cells from the window's corner."""
        try:
            x, y, yaw = transform
        except (TypeError, ValueError) as error:
            raise GeometryError(
                f"the pose {transform!r} of the base is not (x, y, yaw); give three numbers"
            ) from error
        east, north, angle = _coordinate("x", x), _coordinate("y", y), _number("yaw", yaw)
        if not math.isfinite(angle):
            raise GeometryError(f"yaw is {yaw!r}; give a finite angle in radians")
        per_metre = 1 / self.resolution
        return (
            math.cos(angle) * per_metre,
            math.sin(angle) * per_metre,
            east * per_metre - self._column,
            north * per_metre - self._row,
        )


def warm_up() -> None:
    """Compile, or load from the cache, so that no frame waits for it."""
    grid = EvidenceGrid(resolution=1, width=2, height=2, half_life=1)
    points, groups = np.zeros((1, 2), np.float32), np.zeros(1, np.uint8)
    grid.add(points, groups, np.ones(1, np.float32), (0, 0, 0))
    grid.add_contacts(points, groups, np.ones(1, np.float32), (0, 0, 0))
    grid.decay(1)
    grid.cost([0] * COUNT)


def _number(name: str, value: object) -> float:
    try:
        return float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError) as error:
        raise GeometryError(f"{name} is {value!r}; give a number") from error


def _positive(name: str, value: object, unit: str, *, infinite: bool = False) -> float:
    number = _number(name, value)
    if not number > 0 or (math.isinf(number) and not infinite):
        kind = "" if infinite else " finite"
        raise GeometryError(f"{name} is {value!r}; set it to a{kind} number of {unit} above 0")
    return number


def _cells(length: float) -> int:
    """Round a length in cells up, but for what is a rounding error in 20 / 0.1 and the like."""
    return math.ceil(max(min(length, LARGEST + 1) - 1e-6, 0.5))


def _coordinate(name: str, value: object) -> float:
    number = _number(name, value)
    if not abs(number) <= FARTHEST:
        raise GeometryError(
            f"{name} is {value!r} m; give a pose within {FARTHEST:g} m of its frame's origin"
        )
    return number


def _costs(costs: Sequence[int]) -> NDArray[np.int8]:
    try:
        numbers = [_number("a cost", cost) for cost in costs]
    except TypeError as error:
        raise GeometryError(f"costs is {costs!r}; give one number a group") from error
    if len(numbers) != COUNT:
        raise GeometryError(
            f"costs has {len(numbers)} entries; give one for each of {', '.join(GROUPS)}"
        )
    for name, cost in zip(GROUPS, numbers, strict=True):
        if not (0 <= cost <= 100 and cost.is_integer()):
            raise GeometryError(
                f"the cost of {name} is {cost:g}; set it to a whole number from 0 to 100"
            )
    return np.array(numbers).astype(np.int8)


def _pixels(points: Floats, groups: Ids, weights: Floats, name: str) -> tuple[Floats, Ids, Floats]:
    """Return points (N,2), groups (N,) and weights (N,), read-only, copied only where needed.

    Always read-only, so that the kernels are compiled for one type of array.
    """
    xy, ids, shares = np.asarray(points), np.asarray(groups), np.asarray(weights)
    if ids.dtype != np.uint8:
        raise GeometryError(f"groups are of type {ids.dtype}; give uint8")
    for what, array in (("points", xy), (name, shares)):
        if array.dtype.kind != "f":
            raise GeometryError(f"{what} are of type {array.dtype}; give float32")
    if xy.shape != (*ids.shape, 2) or shares.shape != ids.shape:
        raise GeometryError(
            f"points {xy.shape}, groups {ids.shape} and {name} {shares.shape} do not match; give "
            "two coordinates, a group and a weight for each pixel"
        )
    with np.errstate(over="ignore"):  # becomes infinite, and lies outside
        xy = np.ascontiguousarray(xy, np.float32).reshape(-1, 2)
        shares = np.ascontiguousarray(shares, np.float32).reshape(-1)
    ids = np.ascontiguousarray(ids).reshape(-1)
    for view in (xy, ids, shares):
        view.flags.writeable = False
    return xy, ids, shares


def _overlap(shift: int, size: int) -> tuple[slice, slice]:
    """Return where cells that stay lie after and before the window moves by `shift` cells."""
    after = slice(max(-shift, 0), size - max(shift, 0))
    return after, slice(after.start + shift, after.stop + shift)

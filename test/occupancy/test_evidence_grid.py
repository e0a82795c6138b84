"""Evidence per group: what a look adds, how it moves, ages and becomes a planner's grid."""

import math
import tracemalloc

import numpy as np
import pytest
from support import bounds, rounding
from support.slow_grid import HERE, Slow, look, small

from seg_perception.labels import GROUPS, UNKNOWN
from seg_perception.occupancy.grid import EvidenceGrid
from seg_perception.occupancy.grid_kernels import DECISIVE

OTHER, DRIVABLE, SIDEWALK, OBSTACLE, PERSON, VEHICLE, VEGETATION, SKY = range(8)
COSTS = [50, 0, 30, 100, 99, 98, 60, 7]


def test_the_window_is_around_the_origin_at_first() -> None:
    grid = small()
    assert (grid.rows, grid.columns, grid.origin) == (4, 6, (-1.5, -1.0))
    assert grid.evidence.shape == (8, 4, 6)
    assert grid.evidence.dtype == np.float32


@pytest.mark.parametrize(
    ("resolution", "length", "cells"),
    [(0.1, 20.0, 200), (0.05, 3.0, 60), (0.1, 0.3, 3), (0.3, 1.0, 4), (0.1, 0.01, 1), (0.5, 2, 4)],
)
def test_lengths_are_rounded_up_to_whole_cells(
    resolution: float, length: float, cells: int
) -> None:
    grid = EvidenceGrid(resolution=resolution, width=length, height=length, half_life=1)
    assert (grid.rows, grid.columns) == (cells, cells)


def test_a_pixel_adds_its_weight_to_its_cell_and_group() -> None:
    grid = small()
    look(grid, (-1.4, -0.9, PERSON, 0.25), (1.4, 0.9, DRIVABLE, 0.5), (0.1, -0.4, OTHER, 1))
    expected = np.zeros((8, 4, 6))
    expected[PERSON, 0, 0] = 0.25
    expected[DRIVABLE, 3, 5] = 0.5
    expected[OTHER, 1, 3] = 1
    np.testing.assert_allclose(grid.evidence, expected)


def test_rows_are_y_and_columns_are_x_of_the_turned_robot() -> None:
    grid = small()
    # One metre ahead of a robot that looks along y from (0.25, -0.75) lies (0.25, 0.25).
    look(grid, (1.0, 0.0, DRIVABLE, 1), transform=(0.25, -0.75, math.pi / 2))
    assert np.argwhere(grid.evidence).tolist() == [[DRIVABLE, 2, 3]]


def test_one_image_is_at_most_one_look() -> None:
    grid = small()
    look(grid, *[(0.2, 0.2, DRIVABLE, 0.5)] * 6, *[(0.3, 0.3, SIDEWALK, 0.5)] * 2)
    assert grid.evidence[DRIVABLE, 2, 3] == pytest.approx(0.75)
    assert grid.evidence[SIDEWALK, 2, 3] == pytest.approx(0.25)
    look(grid, (0.2, 0.2, DRIVABLE, 0.5))
    assert grid.evidence[DRIVABLE, 2, 3] == pytest.approx(1.25)


def test_what_is_no_evidence_is_ignored() -> None:
    nan, inf = math.nan, math.inf
    grid = small()
    for contacts in (False, True):
        look(
            grid,
            (0.2, 0.2, SKY, 1), (0.2, 0.2, UNKNOWN, 1), (0.2, 0.2, 8, 1),
            (nan, 0.2, 1, 1), (0.2, nan, 1, 1), (inf, 0.2, 1, 1), (0.2, -inf, 1, 1),
            (1.5, 0.2, 1, 1), (-1.51, 0.2, 1, 1), (0.2, 1.0, 1, 1), (0.2, -1.01, 1, 1),
            (3e38, 3e38, 1, 1), (-3e9, 5e9, 1, 1),
            (0.2, 0.2, 1, nan), (0.2, 0.2, 1, 0), (0.2, 0.2, 1, -1), (0.2, 0.2, 1, -inf),
            contacts=contacts,
        )  # fmt: skip
        look(grid, contacts=contacts)
    assert not grid.evidence.any()
    look(grid, (0.2, 0.2, PERSON, inf))
    look(grid, (0.2, 0.2, VEHICLE, 1), contacts=True)
    assert grid.evidence[:, 2, 3].tolist() == [0, 0, 0, 0, 1, 1, 0, 0]


def test_a_contact_is_a_full_look_and_several_share_one() -> None:
    grid = small()
    look(grid, (0.2, 0.2, SKY, 1))
    look(grid, (0.2, 0.2, PERSON, 0.8), contacts=True)
    assert grid.evidence[PERSON, 2, 3] == pytest.approx(0.8)
    grid.clear()
    look(grid, *[(0.2, 0.2, PERSON, 1.0)] * 5, contacts=True)
    assert grid.evidence[PERSON, 2, 3] == 1
    grid.clear()
    look(grid, *[(0.2, 0.2, PERSON, 0.9), (0.3, 0.2, VEHICLE, 0.5)] * 3, contacts=True)
    assert grid.evidence[PERSON, 2, 3] == pytest.approx(0.45)
    assert grid.evidence[VEHICLE, 2, 3] == pytest.approx(0.25)
    look(grid, (0.2, 0.2, DRIVABLE, 0.5))  # nothing is left over for the next look
    assert grid.evidence[:, 2, 3].sum() == pytest.approx(1.2)
    assert not grid.evidence[SKY].any()


@pytest.mark.parametrize("contacts", [False, True])
def test_pixels_add_up_as_in_a_slow_reference(contacts: bool) -> None:
    rng = np.random.default_rng(5)
    for _ in range(60):
        columns, rows = rng.integers(1, 30, 2)
        resolution = float(rng.choice([0.05, 0.1, 0.3, 1.0]))
        grid = EvidenceGrid(
            resolution=resolution, width=columns * resolution, height=rows * resolution, half_life=1
        )
        slow = Slow(resolution, columns, rows)
        robot = rng.uniform(-1000, 1000, 2)
        for target in (grid, slow):
            target.recentre(*robot)
        for _ in range(3):
            x, y = robot + rng.normal(0, columns * resolution / 4, 2)
            transform = (x, y, rng.uniform(-7, 7))
            points = rng.normal(0, columns * resolution / 2, (200, 2)).astype(np.float32)
            points[rng.random(200) < 0.1] = np.nan
            # A point on an edge belongs to either cell, as rounding has it.
            edge = np.array([np.abs((slow.place(p, transform) + 0.5) % 1 - 0.5) for p in points])
            points[(edge <= bounds.of_float64(reach=1100.0) / resolution).any(1)] = np.nan
            groups = rng.choice([*range(8), 9, 255], 200).astype(np.uint8)
            weights = rng.uniform(-0.1, 1.2, 200).astype(np.float32)
            if contacts:
                grid.add_contacts(points, groups, weights, transform)
            else:
                grid.add(points, groups, weights, transform)
            slow.add(points, groups, weights, transform, contacts=contacts)
        # Three times 200 weights may fall into one cell, of at most 3.
        np.testing.assert_allclose(grid.evidence, slow.evidence, atol=3 * rounding.of_a_sum(600))
        assert (grid.evidence.sum(0) <= 3 * (1 + rounding.of_a_sum(600))).all()


def test_image_encodings_and_foreign_layouts_need_no_preparation() -> None:
    rng = np.random.default_rng(1)
    points = rng.uniform(-1, 1, (8, 10, 2)).astype(np.float32)
    groups = rng.integers(0, 8, (8, 10)).astype(np.uint8)
    weights = rng.random((8, 10)).astype(np.float32)
    grids = [small() for _ in range(4)]
    grids[0].add(points.reshape(-1, 2), groups.reshape(-1), weights.reshape(-1), HERE)
    grids[1].add(points, groups, weights, HERE)
    grids[2].add(points.astype(np.float64), np.asfortranarray(groups), weights.astype(">f4"), HERE)
    frozen = points.copy()
    frozen.flags.writeable = False
    grids[3].add(frozen, groups, weights, HERE)
    for grid in grids:
        np.testing.assert_array_equal(grid.evidence, grids[0].evidence)
    assert weights.flags.writeable


def test_recentring_moves_by_whole_cells_and_keeps_what_stays() -> None:
    grid = small()
    look(grid, (-1.4, -0.9, PERSON, 0.25), (1.4, 0.9, DRIVABLE, 0.5))
    grid.recentre(0.49, 0.01)
    assert grid.origin == (-1.5, -1.0)
    grid.recentre(0.51, 0.5)
    assert grid.origin == (-1.0, -0.5)
    assert np.argwhere(grid.evidence).tolist() == [[DRIVABLE, 2, 4]]
    grid.recentre(0, 0)
    assert grid.evidence.sum() == grid.evidence[DRIVABLE, 3, 5] == 0.5


@pytest.mark.parametrize(("x", "y"), [(3.1, 0), (-3, 0), (0, 2), (0, -2), (1e7, -1e7)])
def test_a_move_beyond_the_window_clears_it(x: float, y: float) -> None:
    grid = small()
    table = [(0.5 * i - 1.25, 0.5 * j - 0.75, OTHER, 1) for i in range(6) for j in range(4)]
    look(grid, *table)
    assert (grid.evidence[OTHER] == 1).all()
    grid.recentre(x, y)
    assert not grid.evidence.any()
    left, low = grid.origin
    assert left <= x - 1.49
    assert x < left + 2.01
    assert low <= y - 0.99
    assert y < low + 1.51


@pytest.mark.parametrize(("columns", "rows"), [(8, 5), (1, 1), (7, 2)])
def test_random_walks_conserve_evidence(columns: int, rows: int) -> None:
    rng = np.random.default_rng(columns)
    resolution = 0.25
    grid = EvidenceGrid(
        resolution=resolution,
        width=columns * resolution,
        height=rows * resolution,
        half_life=3,
    )
    slow = Slow(resolution, columns, rows)
    robot = np.zeros(2)
    for step in range(400):
        robot += rng.normal(0, 5 if step % 50 == 49 else 0.2, 2)
        points = rng.uniform(-1, 1, (12, 2)).astype(np.float32)
        groups = rng.integers(0, 8, 12).astype(np.uint8)
        weights = rng.random(12).astype(np.float32)
        transform = (*robot, rng.uniform(-4, 4))
        for target in (grid, slow):
            target.recentre(*robot)
            target.add(points, groups, weights, transform)
        grid.decay(0.5)
        slow.decay(0.5 ** (0.5 / 3))
        # Each step adds 12 weights and halves in 6 steps: what is left of all roundings is that of
        # 12 / (1 - 0.5 ** (1 / 6)) terms, of at most 3.
        np.testing.assert_allclose(grid.evidence, slow.evidence, atol=3 * rounding.of_a_sum(111))
        assert grid.origin == (slow.left * resolution, slow.low * resolution)


def test_moving_alone_changes_no_number() -> None:
    rng = np.random.default_rng(3)
    grid = EvidenceGrid(resolution=0.1, width=5, height=5, half_life=1)
    points = rng.uniform(-1, 1, (5000, 2)).astype(np.float32)
    groups = rng.integers(0, 7, 5000).astype(np.uint8)
    grid.add(points, groups, np.full(5000, 0.1, np.float32), HERE)
    before = grid.evidence.copy()
    for angle in np.linspace(0, 20, 300):
        grid.recentre(1.4 * math.cos(angle), 1.4 * math.sin(angle))
    grid.recentre(0, 0)
    np.testing.assert_array_equal(grid.evidence, before)


def test_evidence_halves_in_the_half_life() -> None:
    grid = small()
    look(grid, (0.2, 0.2, PERSON, 1), (0.2, 0.7, DRIVABLE, 0.5))
    grid.decay(0)
    assert grid.evidence[PERSON, 2, 3] == 1
    grid.decay(2.0)
    assert grid.evidence[PERSON, 2, 3] == 0.5
    assert grid.evidence[DRIVABLE, 3, 3] == 0.25
    grid.decay(1.0)
    assert grid.evidence[PERSON, 2, 3] == pytest.approx(0.5**1.5)
    for _ in range(30):
        grid.decay(1 / 30)
    assert grid.evidence[PERSON, 2, 3] == pytest.approx(0.25, rel=rounding.of_a_sum(31))


def test_what_is_left_in_the_end_is_nothing() -> None:
    grid = small()
    look(grid, (0.2, 0.2, PERSON, 1))
    for _ in range(100):
        grid.decay(1.0)
    assert not grid.evidence.any()
    look(grid, (0.2, 0.2, PERSON, 1))
    grid.decay(1e300)
    assert not grid.evidence.any()


def test_evidence_stays_with_an_infinite_half_life() -> None:
    grid = small(half_life=math.inf)
    look(grid, (0.2, 0.2, PERSON, 0.3))
    grid.decay(1e9)
    assert grid.evidence[PERSON, 2, 3] == np.float32(0.3)


def test_never_seen_seen_and_free_and_long_ago_differ() -> None:
    grid = small()
    look(grid, (0.2, 0.2, DRIVABLE, 1), (0.7, 0.2, PERSON, 1), (1.2, 0.2, DRIVABLE, 0.09))
    shares, cost = grid.shares(), grid.cost(COSTS)
    assert shares.dtype == cost.dtype == np.int8
    assert (shares[:, 0, 0] == -1).all()
    assert cost[0, 0] == -1
    assert shares[:, 2, 3].tolist() == [0, 100, 0, 0, 0, 0, 0, 0]
    assert cost[2, 3] == 0
    assert shares[:, 2, 4].tolist() == [0, 0, 0, 0, 100, 0, 0, 0]
    assert cost[2, 4] == 99
    assert (shares[:, 2, 5] == -1).all()  # less than the minimum
    # 1 look is 0.1 after 2 s * log2(10) = 6.64 s.
    grid.decay(6.6)
    assert grid.cost(COSTS)[2, 3] == 0
    grid.decay(0.1)
    assert (grid.shares() == -1).all()
    assert (grid.cost(COSTS) == -1).all()


def test_shares_are_per_cent_of_the_evidence_rounded() -> None:
    grid = small()
    look(grid, (0.2, 0.2, PERSON, 0.1), (0.2, 0.2, DRIVABLE, 0.2), (0.7, 0.2, VEHICLE, 0.3))
    assert grid.shares()[:, 2, 3].tolist() == [0, 67, 0, 0, 33, 0, 0, 0]
    assert grid.shares()[:, 2, 4].tolist() == [0, 0, 0, 0, 0, 100, 0, 0]
    rng = np.random.default_rng(0)
    big = EvidenceGrid(resolution=0.1, width=4, height=3, half_life=1)
    points = rng.uniform(-2, 2, (20000, 2)).astype(np.float32)
    groups = rng.integers(0, 8, 20000).astype(np.uint8)
    big.add(points, groups, rng.random(20000).astype(np.float32) / 10, HERE)
    evidence = big.evidence.astype(np.float64)
    with np.errstate(invalid="ignore"):
        exact = 100 * evidence / evidence.sum(0)
    known = evidence.sum(0) >= 0.1
    rounded = 0.5 + 100 * rounding.of_a_sum(len(evidence))  # to whole per cents, of float32
    assert (np.abs(big.shares()[:, known] - exact[:, known]) <= rounded).all()
    assert (big.shares()[:, ~known] == -1).all()
    assert known.any()


def test_the_first_group_in_priority_with_a_quarter_decides() -> None:
    order = [PERSON, VEHICLE, OBSTACLE, VEGETATION, SIDEWALK, OTHER, DRIVABLE]
    for i, upper in enumerate(order):
        for lower in order[i + 1 :]:
            grid = small()
            look(grid, (0.2, 0.2, upper, 0.25), (0.2, 0.2, lower, 0.75))
            look(grid, (0.7, 0.2, upper, 0.24), (0.7, 0.2, lower, 0.76))
            cost = grid.cost(COSTS)
            assert cost[2, 3] == COSTS[upper], GROUPS[upper]
            assert cost[2, 4] == COSTS[lower], GROUPS[lower]
    assert DECISIVE == 25


def test_mixed_evidence_is_not_free() -> None:
    grid = small()
    table = {DRIVABLE: 0.24, SIDEWALK: 0.2, PERSON: 0.16, VEHICLE: 0.2, OTHER: 0.2}
    look(grid, *[(0.2, 0.2, group, weight) for group, weight in table.items()])
    assert grid.cost(COSTS)[2, 3] == COSTS[VEHICLE]  # a person or a vehicle: 36 %
    look(grid, *[(0.7, 0.2, group, 1 / 7) for group in range(7)])
    assert grid.cost(COSTS)[2, 4] == COSTS[VEHICLE]


def test_clear_forgets_and_stays() -> None:
    grid = small()
    grid.recentre(7, 8)
    look(grid, (0, 0, PERSON, 1), transform=(7, 8, 0))
    grid.clear()
    assert grid.origin == (5.5, 7.0)
    assert (grid.shares() == -1).all()


def test_evidence_can_only_be_read() -> None:
    with pytest.raises(ValueError, match="read-only"):
        small().evidence[0, 0, 0] = 1


def test_three_thousand_updates_keep_memory_flat() -> None:
    rng = np.random.default_rng(2)
    grid = EvidenceGrid(resolution=0.1, width=10, height=10, half_life=1)
    points = rng.uniform(-5, 5, (2000, 2)).astype(np.float32)
    groups = rng.integers(0, 8, 2000).astype(np.uint8)
    weights = rng.random(2000).astype(np.float32)

    def update(step: int) -> None:
        place = (0.07 * step, -0.03 * step, 0.01 * step)
        grid.recentre(*place[:2])
        grid.decay(0.033)
        grid.add(points, groups, weights, place)
        grid.add_contacts(points[:50], groups[:50], weights[:50], place)
        grid.shares()
        grid.cost(COSTS)

    update(0)
    tracemalloc.start()
    try:
        for step in range(50):
            update(step)
        before = tracemalloc.get_traced_memory()[0]
        for step in range(3000):
            update(step)
        assert tracemalloc.get_traced_memory()[0] - before < 100_000
    finally:
        tracemalloc.stop()
    assert np.isfinite(grid.evidence).all()

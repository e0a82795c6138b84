"""Parameters of occupancy_node: dotted names, defaults of the core, ranges."""

from dataclasses import fields

import pytest

from seg_perception.occupancy.parameters import ExtrinsicsParameters, OccupancyParameters
from seg_perception.occupancy.settings import Settings
from seg_perception.parameters import SegmentationParameters, name_of, specs


def test_defaults_are_within_their_own_ranges_and_those_of_the_core() -> None:
    defaults, known = OccupancyParameters(), specs(OccupancyParameters)
    for entry in fields(OccupancyParameters):
        spec = known[name_of(entry)]
        assert spec.problem(name_of(entry), getattr(defaults, entry.name)) == ""
        assert spec.text
    assert defaults.settings() == Settings()


def test_costs_have_dotted_names_and_reach_the_core() -> None:
    known = specs(OccupancyParameters)
    assert {n for n in known if "." in n} == {
        f"costs.{group}"
        for group in ("other", "drivable", "sidewalk", "obstacle", "person", "vehicle",
                      "vegetation")
    }  # fmt: skip
    assert known["costs.person"].problem("costs.person", 101) == "costs.person is 101, above 100"
    changed = OccupancyParameters(costs_vegetation=100, half_life=7.0).settings()
    assert changed.costs == {**Settings().costs, "vegetation": 100}
    assert changed.half_life == 7.0


@pytest.mark.parametrize("value", [float("nan"), -0.1, 1e7])
def test_numbers_that_make_no_sense_are_named(value: float) -> None:
    assert "half_life is" in specs(OccupancyParameters)["half_life"].problem("half_life", value)


def test_what_nodes_share_has_one_meaning() -> None:
    ours, theirs = specs(OccupancyParameters), specs(SegmentationParameters)
    for name in ("qos_reliability", "diagnostics_period", "autostart"):
        assert ours[name] == theirs[name]
    assert set(specs(ExtrinsicsParameters)) < set(ours)

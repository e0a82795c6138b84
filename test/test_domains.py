"""Private ROS domains: nobody is in them, and nobody gets one twice."""

import socket
from contextlib import ExitStack

import pytest

from seg_perception.errors import SegPerceptionError
from seg_perception.evaluation import domains
from seg_perception.evaluation.domains import reserved_domain


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> range:
    """Leave two domains that the tests beside this one do not use."""
    left = range(110, 112)
    monkeypatch.setattr(domains, "PRIVATE", left)
    return left


def test_no_domain_is_given_twice_until_it_is_given_back(few: range) -> None:
    with reserved_domain() as first, reserved_domain() as second:
        assert {first, second} == set(few)
        with (
            pytest.raises(SegPerceptionError, match=r"domains of this machine \(110 to 111\)"),
            reserved_domain(),
        ):
            pass
    with reserved_domain() as again:
        assert again in few


def test_a_domain_with_a_participant_is_left_alone(few: range) -> None:
    with ExitStack() as stack:
        participant = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        participant.bind(("0.0.0.0", 7400 + 250 * few[0] + 12))
        for _ in range(5):
            with reserved_domain() as domain:
                assert domain == few[1]


def test_robots_and_other_programs_use_none_of_them() -> None:
    assert domains.PRIVATE[0] > 101
    assert domains.BASE + domains.PER_DOMAIN * domains.PRIVATE[-1] + domains.KEPT < 2**16

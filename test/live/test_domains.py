"""Private ROS domains: nobody is in them, and nobody gets one twice."""

import socket
from contextlib import ExitStack

import pytest

from seg_perception.errors import SegPerceptionError
from seg_perception.live import domains
from seg_perception.live.domains import reserved_domain

FEW = range(110, 112)  # which the tests next to this one do not use


def test_no_domain_is_given_twice_until_it_is_given_back() -> None:
    with reserved_domain(FEW) as first, reserved_domain(FEW) as second:
        assert {first, second} == set(FEW)
        with (
            pytest.raises(SegPerceptionError, match=r"domains of this machine \(110 to 111\)"),
            reserved_domain(FEW),
        ):
            pass
    with reserved_domain(FEW) as again:
        assert again in FEW


def test_a_domain_with_a_participant_is_left_alone() -> None:
    with ExitStack() as stack:
        participant = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        participant.bind(("0.0.0.0", 7400 + 250 * FEW[0] + 12))
        for _ in range(5):
            with reserved_domain(FEW) as domain:
                assert domain == FEW[1]


def test_robots_and_other_programs_use_none_of_them() -> None:
    assert domains.PRIVATE[0] > 101
    assert domains.BASE + domains.PER_DOMAIN * domains.PRIVATE[-1] + domains.KEPT < 2**16

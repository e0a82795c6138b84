"""ROS domains that nobody else on this machine uses."""

import random
import socket
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager

from seg_perception.errors import SegPerceptionError

# Robots use 0 to 101; the ports of these lie above those that Linux gives to other programs.
# Ports of domains: DDSI-RTPS 2.5, section 9.6.2.
PRIVATE = range(215, 232)
BASE, PER_DOMAIN, FIRST = 7400, 250, 10
PARTICIPANTS = 20  # whose ports are looked at
KEPT = 248  # of the last participant that a domain can hold: the mark of a reservation


@contextmanager
def reserved_domain(domains: Sequence[int] = PRIVATE) -> Iterator[int]:
    """Give the id of one of these ROS domains without participants, which no other caller gets.

    Raises SegPerceptionError where all of them are in use.
    """
    for domain in random.sample(domains, len(domains)):
        ports = BASE + PER_DOMAIN * domain
        mark = _bound("127.0.0.1", ports + KEPT)
        if mark is None:
            continue
        with closing(mark):
            if not any(_is_taken(ports + FIRST + 2 * n) for n in range(PARTICIPANTS)):
                yield domain
                return
    raise SegPerceptionError(
        f"the ROS domains of this machine ({domains[0]} to {domains[-1]}) are all in use; end "
        "other demos and live evaluations"
    )


def _is_taken(port: int) -> bool:
    probe = _bound("0.0.0.0", port)
    if probe is not None:
        probe.close()
    return probe is None


def _bound(address: str, port: int) -> socket.socket | None:
    """Return a UDP socket at a port, None where somebody else has it."""
    bound = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    try:
        bound.bind((address, port))
    except OSError:
        bound.close()
        return None
    return bound

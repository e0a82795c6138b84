"""What FASTDDS_BUILTIN_TRANSPORTS means for images; knows no ROS.

Its values: Fast DDS's documentation, "Environment variables" and "LARGE_DATA with configuration
options".
"""

import re
from collections.abc import Mapping
from typing import NamedTuple

from seg_perception.doctor.finding import Finding, error, note, warning

VARIABLE = "FASTDDS_BUILTIN_TRANSPORTS"
RANGE = "ROS_AUTOMATIC_DISCOVERY_RANGE"
LARGE = ("LARGE_DATA", "LARGE_DATAv6")
UDP = ("UDPv4", "UDPv6")
MODES = ("NONE", "DEFAULT", "DEFAULTv6", "SHM", "P2P", *UDP, *LARGE)
OPTION = re.compile(
    r"(?P<size>(max_msg_size|sockets_size)=(?P<number>\d+)(?P<unit>[KMG]?I?B|))"
    r"|non_blocking=(true|false)|tcp_negotiation_timeout=\d+",
    re.IGNORECASE,
)
UNITS = {"K": 1, "M": 2, "G": 3}
IMAGE = 4 * 2**20  # bytes; less memory or buffer loses images of 1280x720 and more
MESSAGE = 65500  # bytes that are sent at once unless told otherwise
BOTH = "set it on both ends, camera and node: with it on one alone no image arrives"


class Transports(NamedTuple):
    """A value of the variable; sizes in bytes, 0 for sockets of the system's size."""

    mode: str
    message: int = MESSAGE
    sockets: int = 0
    may_drop: bool = False


def parse(text: str) -> Transports | None:
    """Return what a value says; None where Fast DDS refuses it, and takes DEFAULT."""
    mode, _, rest = text.partition("?")
    options = [o for o in rest.split("&") if o]
    matches = [OPTION.fullmatch(option) for option in options]
    if mode not in MODES or not all(matches):
        return None
    sizes = {o.partition("=")[0]: _bytes(m) for o, m in zip(options, matches, strict=True) if m}
    return Transports(
        mode,
        sizes.get("max_msg_size", MESSAGE),
        sizes.get("sockets_size", 0),
        "non_blocking=true" in options,
    )


def _bytes(match: "re.Match[str]") -> int:
    """Return an option's size; Fast DDS counts KB in thousands and KIB in 1024."""
    if not match["size"]:
        return 0
    unit = match["unit"].upper()
    base = 1024 if "I" in unit else 1000
    factor: int = base ** UNITS.get(unit[:1], 0)
    return int(match["number"]) * factor


def obstacle(environment: Mapping[str, str]) -> str:
    """Return the setting that lets ROS choose transports itself, whatever the variable says."""
    if environment.get("ROS_LOCALHOST_ONLY") == "1":
        return "ROS_LOCALHOST_ONLY=1"
    given = environment.get(RANGE, "")
    # What ROS does not know counts as LOCALHOST.
    return "" if given in ("", "SUBNET", "SYSTEM_DEFAULT", "OFF") else f"{RANGE}={given}"


def mode_of(environment: Mapping[str, str]) -> str:
    """Return the transports that the variable chooses, or DEFAULT where it chooses none."""
    wanted = parse(environment.get(VARIABLE, ""))
    return "DEFAULT" if wanted is None or obstacle(environment) else wanted.mode


def check(environment: Mapping[str, str], buffers: int | None) -> Finding | None:
    """Judge LARGE_DATA; None where the variable does not say it.

    `buffers` are the bytes that the kernel grants to a socket, None where it does not tell.
    """
    wanted = parse(environment.get(VARIABLE, ""))
    if wanted is None or wanted.mode not in LARGE:
        return None
    found = f"{VARIABLE}={environment[VARIABLE]}"
    stronger = obstacle(environment)
    if stronger:
        return warning(
            "profile",
            f"{found} has no effect with {stronger}",
            "ROS chooses the transports there, and best-effort images of 640x480 and larger are "
            "almost all lost between two processes",
            f"unset {stronger.partition('=')[0]}, or use the profile of Fast DDS instead",
        )
    room = min((n for n in (wanted.sockets, buffers) if n), default=wanted.message)
    if wanted.message > room:
        return error(
            "profile",
            f"{found}: messages of {wanted.message} bytes do not fit into sockets of {room}",
            "Fast DDS starts neither TCP nor UDP: processes of this shell find nobody",
            "leave max_msg_size out, or raise sockets_size, net.core.rmem_max and wmem_max; "
            f"{BOTH}",
        )
    return _check_memory(found, wanted)


def _check_memory(found: str, wanted: Transports) -> Finding:
    """Compare shared memory, which Fast DDS makes twice as large as sockets, with an image."""
    lossy = "; TCP drops them while its buffers are full (non_blocking)" if wanted.may_drop else ""
    carried = f"images from other computers come over TCP{lossy}"
    larger = f"export {VARIABLE}='LARGE_DATA?sockets_size=32MIB' for 64 MB of it; {BOTH}"
    if not wanted.sockets:
        return note(
            "profile", found,
            f"{carried}; those of this one use shared memory, whose size is not named: best-effort "
            "ones of more than 1920x1080 may be lost",
            larger,
        )  # fmt: skip
    memory = 2 * wanted.sockets
    found += f": {memory >> 20} MB of shared memory"
    if memory < IMAGE:
        return warning(
            "profile", found,
            "best-effort images larger than that are lost between two processes of this machine",
            larger,
        )  # fmt: skip
    return note("profile", found, carried, BOTH)

"""What carries the messages: ROS distribution, middleware, its profile, sockets, domain."""

import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Iterator, Mapping
from importlib import resources
from pathlib import Path

from seg_perception.doctor.finding import Finding, error, note, ok, warning
from seg_perception.launch_arguments import FASTDDS, OLD_NAME, PROFILE_VARIABLES, is_fastdds

DISTRIBUTIONS = ("jazzy", "kilted", "lyrical", "rolling")
OLDER = ("foxy", "galactic", "humble", "iron")
PICTURE = 4 * 2**20  # bytes; a smaller segment or buffer loses pictures of 1280x720 and more
RMEM = Path("/proc/sys/net/core/rmem_max")
RANGES = ("SUBNET", "LOCALHOST", "OFF", "SYSTEM_DEFAULT")
PROFILE = str(resources.files("seg_perception") / "fastdds.xml")


def check(environment: Mapping[str, str], version_of: Callable[[str], str]) -> Iterator[Finding]:
    """Look at what the shell says, and at the kernel."""
    distribution = distribution_of(environment, version_of)
    yield check_distribution(distribution, environment)
    rmw = environment.get("RMW_IMPLEMENTATION") or FASTDDS
    if is_fastdds(environment):
        yield check_profile(environment, distribution)
    else:
        yield ok("middleware", f"{rmw}; profiles of Fast DDS do not count")
    if RMEM.is_file():
        yield check_sockets(int(RMEM.read_text("utf-8")), is_shared=is_fastdds(environment))
    yield from check_domain(environment)


def distribution_of(environment: Mapping[str, str], version_of: Callable[[str], str]) -> str:
    """Return the ROS distribution of the shell, or that of the wheels, or an empty string."""
    wheels = (d for d in DISTRIBUTIONS if version_of(f"ros-{d}-rclpy"))
    return environment.get("ROS_DISTRO") or next(wheels, "")


def check_distribution(distribution: str, environment: Mapping[str, str]) -> Finding:
    """Compare the distribution with those that the nodes are for."""
    where = "ROS_DISTRO" if environment.get("ROS_DISTRO") else "wheels from PyPI"
    if not distribution:
        return note(
            "distribution",
            "ROS_DISTRO is not set and there are no wheels",
            "nodes do not run in this shell; evaluate, label and map do",
            "source /opt/ros/<distro>/setup.bash, or pip install '.[ros]' in its source",
        )
    if distribution in OLDER:
        return error(
            "distribution",
            f"{distribution} ({where})",
            "the nodes are written for Jazzy and newer",
            "use Jazzy, Kilted or newer, or the package without ROS",
        )
    if distribution not in DISTRIBUTIONS:
        return note("distribution", f"{distribution} ({where})", "never tried with this package")
    return ok("distribution", f"{distribution} ({where})")


def check_profile(environment: Mapping[str, str], distribution: str) -> Finding:
    """Ask for the profile without which best-effort pictures are lost between processes."""
    read = PROFILE_VARIABLES[1:] if distribution in OLD_NAME else PROFILE_VARIABLES
    name = next((n for n in read if environment.get(n)), "")
    if name:
        return _check_profile_file(name, Path(environment[name]))
    unread = next((n for n in PROFILE_VARIABLES if environment.get(n)), "")
    return warning(
        "profile",
        f"{unread} is set, and {distribution} reads {read[0]}" if unread else "no Fast DDS profile",
        "best-effort pictures of 640x480 and larger are almost all lost between two processes",
        f"on both ends, camera and node: export {read[0]}={environment.get(unread) or PROFILE}",
    )


def _check_profile_file(name: str, path: Path) -> Finding:
    means = "Fast DDS ignores it, and best-effort pictures are lost as without one"
    do = f"on both ends, camera and node: export {name}={PROFILE}"
    try:
        sizes = [
            int(e.text or 0)
            for e in ElementTree.parse(path).iter()
            if e.tag.endswith("segment_size")
        ]
    except (OSError, ElementTree.ParseError, ValueError) as problem:
        return error("profile", f"{name}={path} cannot be read: {problem}", means, do)
    if max(sizes, default=0) < PICTURE:
        return warning(
            "profile",
            f"{path} names no shared memory of {PICTURE >> 20} MB or more",
            "best-effort pictures larger than its segment are lost between two processes",
            f"give its SHM transport a segment_size of 67108864, as {PROFILE} does",
        )
    return ok("profile", f"{path}: {max(sizes) >> 20} MB of shared memory")


def check_sockets(rmem_max: int, *, is_shared: bool) -> Finding:
    """Compare the kernel's largest receive buffer, bytes, with a picture.

    `is_shared` tells whether pictures of this machine come through shared memory.
    """
    found = f"net.core.rmem_max is {rmem_max}"
    if rmem_max >= PICTURE:
        return ok("sockets", found)
    means = "pictures that come over the network are larger and lose their packets"
    do = "sudo sysctl -w net.core.rmem_max=16777216"
    if is_shared:
        return note("sockets", found, f"{means}; those of this machine use shared memory", do)
    return warning("sockets", found, means, do)


def check_domain(environment: Mapping[str, str]) -> Iterator[Finding]:
    """Ask who can be discovered from here."""
    yield _check_domain_id(environment.get("ROS_DOMAIN_ID", "0") or "0")
    given = environment.get("ROS_AUTOMATIC_DISCOVERY_RANGE", "")
    both = "set it alike in the shells of camera and node, or unset it in both"
    if given and given not in RANGES:
        yield warning(
            "discovery", f"ROS_AUTOMATIC_DISCOVERY_RANGE={given}", "ROS knows no such range",
            f"use one of {', '.join(RANGES)}",
        )  # fmt: skip
    elif given == "OFF":
        yield warning(
            "discovery", "ROS_AUTOMATIC_DISCOVERY_RANGE=OFF", "no process finds any other", both
        )
    elif given == "LOCALHOST" or environment.get("ROS_LOCALHOST_ONLY") == "1":
        name = "ROS_AUTOMATIC_DISCOVERY_RANGE=LOCALHOST" if given else "ROS_LOCALHOST_ONLY=1"
        yield note("discovery", name, "nodes on other computers are not found", both)


def _check_domain_id(text: str) -> Finding:
    found = f"ROS_DOMAIN_ID={text}"
    if not text.isdecimal() or int(text) > 232:
        return error(
            "domain", found, "domains are numbers from 0 to 232: no node starts",
            "export ROS_DOMAIN_ID with a number from 0 to 101, the camera's own",
        )  # fmt: skip
    if int(text) > 101:
        return warning(
            "domain", found, "above 101 its ports may be taken by other programs on Linux",
            "use a number from 0 to 101 on every computer of the robot",
        )  # fmt: skip
    return ok("domain", found)

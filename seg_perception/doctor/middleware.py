"""What carries the messages: ROS distribution, middleware, its profile, sockets, domain."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from seg_perception.doctor import transports
from seg_perception.doctor.finding import Finding, error, note, ok, warning
from seg_perception.doctor.transports import IMAGE
from seg_perception.fastdds import (
    DISTRIBUTIONS,
    PROFILE,
    Profile,
    profile_of,
    read_variables,
)
from seg_perception.launch_arguments import FASTDDS, PROFILE_VARIABLES, is_fastdds

OLDER = ("foxy", "galactic", "humble", "iron")
SOCKETS = (Path("/proc/sys/net/core/rmem_max"), Path("/proc/sys/net/core/wmem_max"))
RANGES = ("SUBNET", "LOCALHOST", "OFF", "SYSTEM_DEFAULT")


def check(environment: Mapping[str, str], version_of: Callable[[str], str]) -> Iterator[Finding]:
    """Look at what the shell says, and at the kernel."""
    distribution = distribution_of(environment, version_of)
    yield check_distribution(distribution, environment)
    rmw = environment.get("RMW_IMPLEMENTATION") or FASTDDS
    limits = [int(p.read_text("utf-8")) for p in SOCKETS if p.is_file()]
    if is_fastdds(environment):
        yield check_profile(environment, distribution, min(limits, default=None))
    else:
        yield ok("middleware", f"{rmw}; profiles of Fast DDS do not count")
    if limits:
        yield check_sockets(limits[0], carrier_of(environment, distribution))
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


def check_profile(
    environment: Mapping[str, str], distribution: str, buffers: int | None = None
) -> Finding:
    """Ask for that without which best-effort images are lost between processes.

    `buffers` are the bytes that the kernel grants to a socket, None where it does not tell.
    """
    profile = profile_of(environment, distribution)
    large = transports.check(environment, buffers)
    if profile is not None and not (large and not profile.is_own and profile.memory < IMAGE):
        return _check_profile_file(profile, environment.get(transports.VARIABLE, ""))
    if large is not None:
        return large
    unread = next((n for n in PROFILE_VARIABLES if environment.get(n)), "")
    given = environment.get(transports.VARIABLE)
    found = f"{unread} is set, and {distribution} reads {read_variables(distribution)[0]}"
    found = found if unread else "no Fast DDS profile in this shell"
    if given:
        known = "" if transports.parse(given) else ", which Fast DDS does not understand"
        found += f", and {transports.VARIABLE}={given}{known}"
    return warning(
        "profile",
        found,
        "our nodes set their own; of a camera that is started like this, best-effort images of "
        "640x480 and larger are almost all lost",
        "in the camera's shell: export "
        f"{read_variables(distribution)[0]}={environment.get(unread) or PROFILE}",
    )


def _check_profile_file(profile: Profile, builtin: str) -> Finding:
    if profile.problem:
        return error(
            "profile",
            f"{profile.variable}={profile.path} cannot be read: {profile.problem}",
            "Fast DDS ignores it, and best-effort images are lost as without one",
            f"correct it; or unset it for our nodes, and in the camera's shell export "
            f"{profile.variable}={PROFILE}",
        )
    if profile.memory < IMAGE:
        return warning(
            "profile",
            f"{profile.path} names no shared memory of {IMAGE >> 20} MB or more",
            "best-effort images larger than its segment are lost between two processes",
            f"give its SHM transport a segment_size of 67108864, as {PROFILE} does",
        )
    found = f"{profile.path}: {profile.memory >> 20} MB of shared memory"
    if builtin and profile.is_own:
        return note(
            "profile",
            f"{found}; {transports.VARIABLE}={builtin} has no effect next to it",
            "a camera that is started with LARGE_DATA and without this profile is not heard",
            "set the profile on both ends, camera and node",
        )
    return ok("profile", found)


def carrier_of(environment: Mapping[str, str], distribution: str) -> str:
    """Return what carries images best: tcp (to anywhere), shared memory, or udp alone."""
    if not is_fastdds(environment):
        return "udp"
    profile = profile_of(environment, distribution)
    is_overruled = profile is not None and profile.is_own
    mode = "DEFAULT" if is_overruled else transports.mode_of(environment)
    if mode in transports.LARGE:
        return "tcp"
    return "udp" if mode in transports.UDP else "shared"


def check_sockets(rmem_max: int, carrier: str) -> Finding:
    """Compare the kernel's largest receive buffer, bytes, with an image."""
    found = f"net.core.rmem_max is {rmem_max}"
    if rmem_max >= IMAGE:
        return ok("sockets", found)
    if carrier == "tcp":
        return ok("sockets", f"{found}; TCP (LARGE_DATA) loses no packets to it")
    means = "images that come over the network are larger and lose their packets"
    do = "sudo sysctl -w net.core.rmem_max=16777216"
    if carrier == "shared":
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

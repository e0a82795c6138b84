"""The profile of Fast DDS that our processes run with, and what dead ones left in shared memory.

Fast DDS reads its profile when the first participant of a process is created, so what is set here,
when seg_perception.nodes is imported, holds for every process of ours that makes nodes.
"""

import atexit
import fcntl
import os
import re
import tempfile
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Mapping, MutableMapping
from importlib import metadata, resources
from pathlib import Path
from typing import NamedTuple

from seg_perception.launch_arguments import (
    OLD_NAME,
    PROFILE_CHOICES,
    PROFILE_VARIABLES,
    is_fastdds,
)

PROFILE = str(resources.files("seg_perception") / "fastdds.xml")
DISTRIBUTIONS = ("jazzy", "kilted", "lyrical", "rolling")
TRANSPORTS_VARIABLE = "FASTDDS_BUILTIN_TRANSPORTS"
MEMORY_VARIABLE = "SEG_PERCEPTION_SHARED_MEMORY_MB"
FRAMES = 2  # that the shared memory must hold: one that is read and one that is written
# Fast DDS reads these in the working directory, where no variable names another.
LOCAL_PROFILES = ("DEFAULT_FASTDDS_PROFILES.xml", "DEFAULT_FASTRTPS_PROFILES.xml")
SHM = Path("/dev/shm")
# A participant's segment; its owner holds a lock on the file of this name and `_el`.
SEGMENT = re.compile(r"fast(?:dds|rtps)_[0-9a-f]{16}")
LOCK = "_el"
SETTLED_S = 10.0  # a younger lock may belong to a process that has not taken it yet


class Profile(NamedTuple):
    """A profile that a variable names: its largest shared memory, bytes; `problem` when unread.

    `is_own` tells that it names all its transports itself.
    """

    variable: str
    path: Path
    memory: int = 0
    is_own: bool = False
    problem: str = ""


def prepare(environment: MutableMapping[str, str], folder: Path) -> None:
    """Set our profile where the middleware is Fast DDS and the user chose nothing; clean up.

    A variable, FASTDDS_BUILTIN_TRANSPORTS or a profile in `folder`, the working directory, is a
    choice of the user's.
    """
    if not is_fastdds(environment):
        return
    clean_shared_memory()
    chosen = any(environment.get(name) for name in PROFILE_CHOICES)
    if not chosen and not any((folder / name).is_file() for name in LOCAL_PROFILES):
        variable = read_variables(distribution_of(environment))[0]
        environment[variable] = _profile_with(environment.get(MEMORY_VARIABLE, ""))


def _profile_with(megabytes: str) -> str:
    """Return our profile's path, of a copy with another size where one is given.

    The copy lasts as long as the process: Fast DDS reads it when the first node is made. Raises
    SystemExit for a size that is none.
    """
    if not megabytes:
        return PROFILE
    if not megabytes.isdecimal() or not 1 <= int(megabytes) <= 2047:
        raise SystemExit(
            f"{MEMORY_VARIABLE} is {megabytes!r}; give megabytes from 1 to 2047, or unset it for 64"
        )
    size = f"<segment_size>{int(megabytes) << 20}</segment_size>"
    text = re.sub("<segment_size>.*</segment_size>", size, Path(PROFILE).read_text("utf-8"))
    handle, path = tempfile.mkstemp(prefix="seg_perception_", suffix=".xml")
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        file.write(text)
    atexit.register(Path(path).unlink, missing_ok=True)
    return path


def memory_problem(frame: int, values: Mapping[str, str]) -> str:
    """Return that a frame of so many bytes is too large for the shared memory, or nothing.

    `values` are those of `profile_values`; what is not known of a profile is no problem.
    """
    memory = int(values.get("shared_memory_mb", "0")) << 20
    if not 0 < memory < FRAMES * frame:
        return ""
    wanted = 1 << (2 * FRAMES * frame >> 20).bit_length()
    return (
        f"one frame of all that is published takes {frame / 2**20:.0f} MB, and the shared memory "
        f"of Fast DDS has {memory >> 20} MB: outputs may be lost; start the node with "
        f"{MEMORY_VARIABLE}={min(wanted, 2047)}, or fewer cameras in one node"
    )


def distribution_of(environment: Mapping[str, str]) -> str:
    """Return the ROS distribution of the shell, or that of the wheels, or an empty string."""
    return environment.get("ROS_DISTRO") or next(filter(_has_wheel, DISTRIBUTIONS), "")


def read_variables(distribution: str) -> tuple[str, ...]:
    """Return the variables that a distribution's Fast DDS reads, the first one first."""
    return PROFILE_VARIABLES[1:] if distribution in OLD_NAME else PROFILE_VARIABLES


def profile_of(environment: Mapping[str, str], distribution: str) -> Profile | None:
    """Return the profile that this distribution reads, if one is named."""
    name = next((n for n in read_variables(distribution) if environment.get(n)), "")
    if not name:
        return None
    path = Path(environment[name])
    try:
        parts = [(e.tag, e.text or "") for e in ElementTree.parse(path).iter()]
        sizes = [int(text or 0) for tag, text in parts if tag.endswith("segment_size")]
    except (OSError, ElementTree.ParseError, ValueError) as problem:
        return Profile(name, path, problem=str(problem))
    uses = [t.strip() for tag, t in parts if tag.endswith("useBuiltinTransports")]
    return Profile(name, path, max(sizes, default=0), "false" in uses)


def profile_problem(environment: Mapping[str, str]) -> str:
    """Return why the profile that the user named is not in use, or an empty string."""
    profile = profile_of(environment, distribution_of(environment))
    if profile is None or not profile.problem or not is_fastdds(environment):
        return ""
    return (
        f"{profile.variable}={profile.path} cannot be read ({profile.problem}), so Fast DDS goes "
        "without it and large images are lost: correct it, or unset the variable for ours"
    )


def profile_values(environment: Mapping[str, str]) -> dict[str, str]:
    """Return what diagnostics tell of the profile in use."""
    if not is_fastdds(environment):
        return {}
    profile = profile_of(environment, distribution_of(environment))
    if profile is None:
        chosen = environment.get(TRANSPORTS_VARIABLE)
        local = next((Path(name) for name in LOCAL_PROFILES if Path(name).is_file()), None)
        if local is not None:
            return {"fastdds_profile": str(local.resolve())}
        return {"fastdds_profile": f"none, {TRANSPORTS_VARIABLE}={chosen}" if chosen else "none"}
    return {
        "fastdds_profile": str(profile.path),
        "shared_memory_mb": str(profile.memory >> 20),
    }


def clean_shared_memory(folder: Path = SHM) -> int:
    """Remove the segments of processes that were killed; return how many bytes that freed.

    Each holds 64 MB and more for ever otherwise: Fast DDS removes a segment when its owner ends,
    and never that of an owner that could not.
    """
    freed = 0
    for lock in folder.glob(f"fast*{LOCK}") if folder.is_dir() else ():
        segment = lock.with_name(lock.name.removesuffix(LOCK))
        if not SEGMENT.fullmatch(segment.name):
            continue
        try:
            if time.time() - lock.stat().st_mtime < SETTLED_S or _is_held(lock):
                continue
            freed += segment.stat().st_blocks * 512 if segment.exists() else 0
            segment.unlink(missing_ok=True)
            lock.unlink(missing_ok=True)
        except OSError:  # another user's, or another process removed it first
            continue
    return freed


def _is_held(lock: Path) -> bool:
    """Return whether the process that made a lock still lives."""
    with lock.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def _has_wheel(distribution: str) -> bool:
    try:
        metadata.version(f"ros-{distribution}-rclpy")
    except metadata.PackageNotFoundError:
        return False
    return True


def prepare_this_process() -> None:
    """Prepare the environment of this process, before its middleware starts."""
    prepare(os.environ, Path.cwd())

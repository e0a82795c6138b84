"""The machine: Python, packages, threads, shared memory."""

import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib import import_module, metadata
from pathlib import Path

from packaging.requirements import Requirement

from seg_perception.doctor.finding import Finding, error, note, ok, warning
from seg_perception.launch_arguments import is_fastdds

OLDEST, NEWEST = (3, 10), (3, 13)  # Python: setup.py's oldest, and the newest that tests run with
SHM = Path("/dev/shm")
SEGMENT = 64 * 2**20  # bytes of shared memory of each process with the profile of this package
CGROUP = Path("/sys/fs/cgroup/cpu.max")
THREADS = "OMP_NUM_THREADS"
TELEMETRY = "ORT_DISABLE_TELEMETRY"  # set by `import seg_perception` unless the user did
# What other distributions give, too: Debian's OpenCV, onnxruntime-gpu. The module itself is asked.
MODULES = {"opencv-python-headless": "cv2", "onnxruntime": "onnxruntime"}


def check(environment: Mapping[str, str], python: Sequence[int]) -> Iterator[Finding]:
    """Look at this machine."""
    yield check_python(python)
    yield from check_packages(metadata.requires("seg_perception") or [], installed_version)
    yield check_threads(len(os.sched_getaffinity(0)), cpu_limit(CGROUP), environment)
    yield check_telemetry(environment)
    if SHM.is_dir() and is_fastdds(environment):
        usage = shutil.disk_usage(SHM)
        yield check_shared_memory(usage.total, usage.free)


def check_python(version: Sequence[int]) -> Finding:
    """Compare the interpreter with those that are tested."""
    found = ".".join(map(str, version[:3]))
    if tuple(version[:2]) < OLDEST:
        return error(
            "python",
            found,
            "the package needs Python 3.10 or newer",
            "use your distribution's newer Python, as in: make demo PYTHON=python3.12",
        )
    if tuple(version[:2]) > NEWEST:
        return note("python", found, "newer than the 3.13 that the tests run with")
    return ok("python", found)


def check_telemetry(environment: Mapping[str, str]) -> Finding:
    """Tell whether ONNX Runtime may report to its makers."""
    value = environment.get(TELEMETRY, "")
    if value == "1":
        return ok("telemetry", "ONNX Runtime's is off")
    return note(
        "telemetry",
        f"{TELEMETRY} is {value!r}",
        "ONNX Runtime 1.29 and newer looks up a collector on the Internet, and keeps a device id "
        "below ~/.cache/Microsoft",
        f"unset {TELEMETRY}, and it is switched off",
    )


def check_packages(
    requirements: Sequence[str], version_of: Callable[[str], str]
) -> Iterator[Finding]:
    """Compare what is installed with the package's own ranges; extras only where installed.

    The extra `ros` pins the wheels of one distribution: those of another are as good.
    `version_of` returns an empty string for what is not installed.
    """
    good: list[str] = []
    for text in requirements:
        wanted = Requirement(text)
        marker = str(wanted.marker or "")
        is_extra = "extra" in marker
        if 'extra == "ros"' in marker:
            continue
        version = version_of(wanted.name)
        if version and wanted.specifier.contains(version, prereleases=True):
            good += [] if is_extra else [f"{wanted.name} {version}"]
        elif version:
            yield (warning if is_extra else error)(
                "packages",
                f"{wanted.name} {version}, and {wanted.name}{wanted.specifier} is needed",
                "it is outside of the range that the package is tested with",
                f"pip install '{wanted.name}{wanted.specifier}'",
            )
        elif not is_extra:
            yield error(
                "packages",
                f"{wanted.name} is not installed",
                "models cannot run without it",
                f"pip install '{wanted.name}{wanted.specifier}'",
            )
    if good:
        yield ok("packages", ", ".join(good))


def installed_version(name: str) -> str:
    """Return the version of a distribution, or an empty string."""
    if name in MODULES:
        try:
            return str(import_module(MODULES[name]).__version__)
        except ImportError:
            return ""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return ""


def cpu_limit(path: Path) -> float | None:
    """Return the processors that the control group grants, or None where it sets no limit."""
    try:
        quota, period = path.read_text("utf-8").split()
    except (OSError, ValueError):
        return None
    return None if quota == "max" else int(quota) / int(period)


def check_threads(cores: int, limit: float | None, environment: Mapping[str, str]) -> Finding:
    """Compare cores, the control group's limit, and what the shell says of threads."""
    given = environment.get(THREADS, "")
    found = f"{cores} cores" if limit is None else f"{cores} cores, limited to {limit:g}"
    if given:
        found += f", {THREADS}={given}"
    if limit is not None and limit < cores:
        return warning(
            "threads",
            found,
            "the container may use less than it sees: threads beyond the limit wait, and images "
            "with them",
            f"set the node's threads to at most {max(1, int(limit))}, or give the container more",
        )
    if given and not (given.isdecimal() and 0 < int(given) <= cores):
        return warning(
            "threads",
            found,
            "libraries start more threads than there are cores, or ignore the value",
            f"export {THREADS}=1; the network's threads are the node's parameter threads",
        )
    return ok("threads", found)


def check_shared_memory(total: int, free: int) -> Finding:
    """Ask whether /dev/shm has room for the processes that exchange images; bytes."""
    found = f"/dev/shm has {free >> 20} of {total >> 20} MB free"
    means = "each process with the Fast DDS profile takes 64 MB of it, camera and node alike"
    do = (
        "start the container with --shm-size=1g or --ipc=host; remove what killed processes left "
        "with: rm -f /dev/shm/*fast{dds,rtps}_* (when no node runs)"
    )
    if free < 2 * SEGMENT:
        return error("shared memory", found, f"{means}: images will not arrive", do)
    if free < 4 * SEGMENT:
        return warning("shared memory", found, means, do)
    return ok("shared memory", found)

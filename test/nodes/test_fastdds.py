"""Our processes bring their own Fast DDS profile, and nobody's death silences them."""

import fcntl
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from nav_msgs.msg import OccupancyGrid
from sensor_msgs.msg import Image, PointCloud2
from support.graph import NODE, Graph, stop
from support.paths import SUPPORT
from support.rig import NODE as MAPPER
from support.rig import PLACED, Rig

from seg_perception import fastdds
from seg_perception.launch_arguments import PROFILE_VARIABLES
from seg_perception.messages import stamp_ns

READERS = str(SUPPORT / "dying_readers.py")
NEW, OLD = PROFILE_VARIABLES
NO_CHOICE = {"ROS_DISTRO": "kilted"}


# Which profile


@pytest.mark.parametrize(
    ("environment", "added"),
    [
        ({"ROS_DISTRO": "kilted"}, {NEW: fastdds.PROFILE}),
        ({"ROS_DISTRO": "jazzy"}, {OLD: fastdds.PROFILE}),
        ({"ROS_DISTRO": "jazzy", "RMW_IMPLEMENTATION": "rmw_fastrtps_cpp"}, {OLD: fastdds.PROFILE}),
        ({"ROS_DISTRO": "kilted", NEW: "mine.xml"}, {}),
        ({"ROS_DISTRO": "kilted", OLD: "mine.xml"}, {}),
        ({"ROS_DISTRO": "kilted", "FASTDDS_BUILTIN_TRANSPORTS": "LARGE_DATA"}, {}),
        ({"ROS_DISTRO": "kilted", "RMW_IMPLEMENTATION": "rmw_zenoh_cpp"}, {}),
    ],
)
def test_the_profile_is_set_where_the_user_chose_none(
    environment: dict[str, str], added: dict[str, str], tmp_path: Path
) -> None:
    prepared = dict(environment)
    fastdds.prepare(prepared, tmp_path)
    assert prepared == {**environment, **added}


@pytest.mark.parametrize("name", fastdds.LOCAL_PROFILES)
def test_a_profile_in_the_working_directory_is_a_choice(name: str, tmp_path: Path) -> None:
    (tmp_path / name).touch()
    prepared = dict(NO_CHOICE)
    fastdds.prepare(prepared, tmp_path)
    assert prepared == NO_CHOICE


def test_importing_the_nodes_sets_it_before_rclpy_starts(tmp_path: Path) -> None:
    clean = {k: v for k, v in os.environ.items() if k not in PROFILE_VARIABLES}
    code = (
        f"import os, sys, seg_perception.nodes; print(os.environ['{NEW}'], 'rclpy' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True,
        env={**clean, **NO_CHOICE, "PYTHONPATH": str(Path(fastdds.__file__).parents[1])},
    )  # fmt: skip
    assert done.stdout.split() == [fastdds.PROFILE, "False"], done.stderr


@pytest.mark.parametrize("content", [None, "<dds><profiles>"])
def test_a_profile_that_cannot_be_read_is_named_and_the_node_lives(
    content: str | None, ros: Graph, make_model: Callable[..., Path], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    path = tmp_path / "mine.xml"
    if content is not None:
        path.write_text(content)
    monkeypatch.setenv(NEW, str(path))
    monkeypatch.delenv(OLD, raising=False)
    camera, image = ros.camera(), np.zeros((32, 48, 3), np.uint8)
    ros.start_node(model=make_model())
    ros.ask(camera, ros.image_message(image), ros.collect(Image, f"{NODE}/label_mask"))
    text = f"{NEW}={path} cannot be read"
    assert text in ros.logs()

    def is_told() -> bool:  # a status tells of silence first
        camera.publish(ros.image_message(image))
        ros.spin(0.2)
        return text in ros.status()

    ros.wait(is_told)
    assert "correct it, or unset" in ros.status()


def test_diagnostics_tell_the_profile(ros: Graph, make_model: Callable[..., Path]) -> None:
    ros.start_node(model=make_model())
    values = ros.values()
    assert values["fastdds_profile"] == fastdds.PROFILE
    assert values["shared_memory_mb"] == "64"


def test_the_size_of_shared_memory_is_the_users(
    ros: Graph, make_model: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in PROFILE_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(fastdds.MEMORY_VARIABLE, "8")
    node = ros.start_node(model=make_model())
    values = ros.values()
    assert values["shared_memory_mb"] == "8"
    sizes = [(fastdds.SHM / name).stat().st_size >> 20 for name in segments_of(node.pid)]
    assert max(sizes) == 8
    copy = Path(values["fastdds_profile"])
    assert copy.exists()
    camera, image = ros.camera(), np.zeros((1080, 1920, 3), np.uint8)
    for name in ("label_mask", "confidence", "overlay"):
        ros.collect(Image, f"{NODE}/{name}")

    def is_told() -> bool:  # 2 + 2 + 6 MB
        camera.publish(ros.image_message(image))
        ros.spin(0.3)
        return "takes 10 MB" in ros.status()

    ros.wait(is_told)
    assert f"{fastdds.MEMORY_VARIABLE}=64" in ros.status()
    assert stop(node, signal.SIGTERM) == 0
    assert not copy.exists()


@pytest.mark.parametrize("size", ["0", "many", "-1", "4096"])
def test_a_size_that_is_none_is_refused(size: str, tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=f"{fastdds.MEMORY_VARIABLE} is '{size}'; give megabytes"):
        fastdds.prepare({**NO_CHOICE, fastdds.MEMORY_VARIABLE: size}, tmp_path)


def test_frames_that_are_too_large_for_the_shared_memory_are_named() -> None:
    told = {"shared_memory_mb": "64"}
    assert fastdds.memory_problem(32 << 20, told) == ""
    assert fastdds.memory_problem(1 << 30, {}) == ""
    text = fastdds.memory_problem(82 << 20, told)
    assert "takes 82 MB" in text
    assert f"{fastdds.MEMORY_VARIABLE}=512" in text


# What dead processes leave


@pytest.fixture
def leftovers(tmp_path: Path) -> Callable[[str], Path]:
    """Return a maker of old segments with their locks, as Fast DDS makes them."""

    def make(name: str) -> Path:
        segment = tmp_path / name
        segment.write_bytes(bytes(8192))
        lock = tmp_path / f"{name}{fastdds.LOCK}"
        lock.touch()
        os.utime(lock, (time.time() - 60,) * 2)
        return segment

    return make


def test_segments_without_a_living_owner_are_removed(
    leftovers: Callable[[str], Path], tmp_path: Path
) -> None:
    dead = [leftovers("fastdds_0123456789abcdef"), leftovers("fastrtps_00000000000000ff")]
    kept = [leftovers("fastdds_1111111111111111"), leftovers("fastdds_port7411"),
            leftovers("other_0123456789abcdef")]  # fmt: skip
    young = leftovers("fastdds_2222222222222222")
    os.utime(f"{young}{fastdds.LOCK}")
    with open(f"{kept[0]}{fastdds.LOCK}", "rb") as owner:
        fcntl.flock(owner, fcntl.LOCK_EX)
        assert fastdds.clean_shared_memory(tmp_path) == 16384
    left = {p.name for p in tmp_path.iterdir()}
    assert left == {f"{p.name}{end}" for p in [*kept, young] for end in ("", fastdds.LOCK)}
    assert all(not p.exists() for p in dead)
    assert fastdds.clean_shared_memory(tmp_path / "absent") == 0


@pytest.mark.parametrize("count", [2, pytest.param(20, marks=pytest.mark.heavy)])
def test_shared_memory_does_not_grow_from_restart_to_restart(
    count: int, ros: Graph, make_model: Callable[..., Path]
) -> None:
    """Of nodes that are killed nothing is left when the next has started."""
    model, names = make_model(), set()
    for _ in range(count):
        node = ros.start_node(model=model)
        ros.wait_for_status("nobody publishes /image")
        names |= segments_of(node.pid)
        node.kill()
        node.wait()
    assert len(names) >= count
    left = [lock for name in names if (lock := fastdds.SHM / f"{name}{fastdds.LOCK}").exists()]
    assert left, "a killed process leaves its segment"
    for lock in left:
        os.utime(lock, (time.time() - 60,) * 2)  # as if it had been killed a minute ago
    last = ros.start_node(model=model)
    ros.wait_for_status("nobody publishes /image")
    assert not any((fastdds.SHM / name).exists() for name in names)
    assert last.poll() is None


def segments_of(process: int) -> set[str]:
    """Return the names of the segments that a process made, and holds the locks of."""
    found = set()
    for link in Path(f"/proc/{process}/fd").iterdir():
        name = Path(os.readlink(link)).name.removesuffix(fastdds.LOCK)
        if fastdds.SEGMENT.fullmatch(name):
            found.add(name)
    return found


# Readers that die


def start_readers(ros: Graph, count: int, topics: dict[str, str], *, ends: str = "") -> Any:
    """Start `count` participants in one process that read topics; with `crash` they abort."""
    arguments = [str(count), ends or "live", *(text for pair in topics.items() for text in pair)]
    return ros.start(READERS, *arguments)


def has_heard(ros: Graph, readers: Any) -> Callable[[], bool]:
    return lambda: f"ready {readers.pid}" in ros.logs()


def ended(process: Any) -> Callable[[], bool]:
    return lambda: process.poll() is not None


class Show:
    """Both nodes at work, and how much of what they publish reaches a witness."""

    def __init__(self, ros: Graph, model: Path) -> None:
        self.ros, self._rig, self._sent = ros, Rig(ros), 0
        self._camera = ros.camera()
        ros.start_node(model=model)
        ros.start_node(model=model, max_age=0.0, **PLACED)
        self.topics = {
            f"{NODE}/label_mask": (Image, "sensor_msgs/Image"),
            f"{NODE}/overlay": (Image, "sensor_msgs/Image"),
            f"{MAPPER}/costmap/points": (PointCloud2, "sensor_msgs/PointCloud2"),
            f"{MAPPER}/grid/cost": (OccupancyGrid, "nav_msgs/OccupancyGrid"),
        }
        self._heard = {t: ros.collect(kind, t, depth=100) for t, (kind, _) in self.topics.items()}
        self._image = np.random.default_rng(0).integers(0, 256, (480, 640, 3)).astype(np.uint8)
        self._mask = np.ones((240, 320), np.uint8)
        ros.wait(lambda: self._step() and all(self._heard.values()))

    def names(self) -> dict[str, str]:
        return {topic: name for topic, (_, name) in self.topics.items()}

    def _step(self) -> bool:
        self._camera.publish(self.ros.image_message(self._image))
        self._rig.show(self._mask)
        self.ros.spin(0.1)
        return True

    def until(self, done: Callable[[], bool], seconds: float = 60.0) -> None:
        """Go on publishing until `done`."""
        deadline = time.monotonic() + seconds
        while not done():
            assert time.monotonic() < deadline, self.ros.logs()
            self._step()

    def shares(self, steps: int) -> dict[str, float]:
        """Return the share of what each node says it published that reached the witness."""
        self.ros.spin(0.5)  # nothing is under way
        for heard in self._heard.values():
            heard.clear()
        before = self._published()
        for _ in range(steps):
            self._step()
        self.ros.spin(0.5)
        after = self._published()
        counts = {node: after[node] - before[node] for node in after}
        assert min(counts.values()) >= steps / 2, counts
        seen = {t: len({stamp_ns(m.header) for m in heard}) for t, heard in self._heard.items()}
        return {t: n / counts[next(c for c in counts if t.startswith(c))] for t, n in seen.items()}

    def _published(self) -> dict[str, int]:
        """Return how many masks and maps the nodes published, by their own count."""
        found = {}
        for node in (NODE, MAPPER):
            status = self.ros.wait_for_status("", of=node.strip("/").removesuffix("_node"))
            values = {v.key: v.value for v in status.values}
            found[node] = int(values["published"])
        return found


@pytest.mark.alone
@pytest.mark.parametrize(
    ("rounds", "count"), [(1, 14), pytest.param(5, 12, marks=pytest.mark.heavy)]
)
@pytest.mark.timeout(600)
def test_readers_that_are_killed_take_nothing_from_others(
    rounds: int, count: int, ros: Graph, make_model: Callable[..., Path]
) -> None:
    show = Show(ros, make_model())
    for _ in range(rounds):
        readers = start_readers(ros, count, show.names())
        show.until(has_heard(ros, readers))
        os.kill(readers.pid, signal.SIGSTOP)  # so that messages wait in its queues
        assert_reaches(show, 15)
        readers.kill()
        readers.wait()
        assert_reaches(show, 15)


@pytest.mark.alone
def test_readers_that_freeze_or_crash_take_nothing_from_others(
    ros: Graph, make_model: Callable[..., Path]
) -> None:
    show = Show(ros, make_model())
    frozen = start_readers(ros, 4, show.names())
    show.until(has_heard(ros, frozen))
    os.kill(frozen.pid, signal.SIGSTOP)
    crashing = start_readers(ros, 2, show.names(), ends="crash")
    show.until(ended(crashing))
    assert_reaches(show, 15)
    os.kill(frozen.pid, signal.SIGCONT)


def assert_reaches(show: Show, steps: int) -> None:
    shares = show.shares(steps)
    assert min(shares.values()) >= 0.95, shares


# Other peers that do harm


@pytest.mark.alone
@pytest.mark.parametrize(
    ("count", "depth"),
    [
        pytest.param(1, 1000, id="deep"),
        pytest.param(200, 1, id="many"),
        pytest.param(1000, 1, id="thousand", marks=pytest.mark.heavy),
    ],
)
def test_readers_that_never_read_take_nothing_from_others(
    count: int, depth: int, ros: Graph, make_model: Callable[..., Path]
) -> None:
    """A node next to it subscribes reliably, and spins no more."""
    show = Show(ros, make_model())
    code = (
        "import sys, time, rclpy\n"
        "from rclpy.qos import QoSProfile\n"
        "from sensor_msgs.msg import Image\n"
        "count, depth, topic = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]\n"
        "rclpy.init(); node = rclpy.create_node('idle')\n"
        "subs = [node.create_subscription(Image, topic, print, QoSProfile(depth=depth))\n"
        "        for _ in range(count)]\n"
        "print('subscribed', flush=True); time.sleep(3600)\n"
    )
    idle = ros.start("-c", code, str(count), str(depth), f"{NODE}/label_mask")
    show.until(lambda: "subscribed" in ros.logs())
    ros.wait(lambda: ros.node.count_subscribers(f"{NODE}/label_mask") > count)
    assert_reaches(show, 15)
    idle.kill()
    idle.wait()
    assert_reaches(show, 15)


@pytest.mark.alone
@pytest.mark.parametrize("times", [2, pytest.param(25, marks=pytest.mark.heavy)])
@pytest.mark.timeout(900)
def test_own_nodes_that_are_killed_come_back_to_living_readers(
    times: int, ros: Graph, make_model: Callable[..., Path]
) -> None:
    model = make_model()
    camera, masks = ros.camera(), ros.collect(Image, f"{NODE}/label_mask", depth=100)
    image = np.random.default_rng(0).integers(0, 256, (120, 160, 3)).astype(np.uint8)
    readers = start_readers(ros, 4, {f"{NODE}/label_mask": "sensor_msgs/Image"})
    for _ in range(times):
        node = ros.start_node(model=model)
        ros.wait_for_status("no image on /image")
        ros.ask(camera, ros.image_message(image), masks)
        ros.spin(0.5)
        sent = [ros.image_message(image) for _ in range(20)]
        masks.clear()
        for message in sent:
            camera.publish(message)
            ros.wait(
                lambda one=message: any(m.header == one.header for m in masks), 5.0, must=False
            )
        heard = {stamp_ns(m.header) for m in masks}
        assert len(heard & {stamp_ns(p.header) for p in sent}) >= 0.95 * len(sent)
        node.kill()
        node.wait()
    readers.kill()

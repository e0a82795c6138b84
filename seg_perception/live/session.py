"""Play a bag through real nodes: player, segmentation node and recorder, each a process.

Nothing but DDS connects them, and they hear nobody else.
"""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from seg_perception.bags.bag import BagReader
from seg_perception.bags.bag_topics import choose_image_topic, find_camera_info
from seg_perception.errors import DataError, SegPerceptionError, UsageError
from seg_perception.launch_arguments import private_environment
from seg_perception.live.domains import reserved_domain
from seg_perception.live.processes import NodeProcess, running
from seg_perception.live.recording import NODE, Event, Recording

COMPRESSED = "sensor_msgs/msg/CompressedImage"
OWN = ("autostart", "cameras", "image_transport", "model", "provider", "threads", "use_sim_time")
START_TIMEOUT = 90.0  # seconds; the first start compiles the label stage
SETTLE_S = 10.0  # seconds after which a mask that has not come is not waited for
# Seconds in which nodes end by themselves after Ctrl-C, which reaches them too: another signal
# would kill one that is about to write.
SHUTDOWN_GRACE_S = 5.0
DRAIN_S = 1.2  # seconds in which the rest of the last image and a diagnostic come in


class Topics(NamedTuple):
    """What is played of a bag; `images` is how many it says that it holds."""

    image: str
    is_compressed: bool
    camera_info: str | None
    images: int


class Files(NamedTuple):
    """What the processes write."""

    bag: Path
    sent: Path
    received: Path


def play(
    bag: Path,
    out: Path,
    *,
    image_topic: str | None = None,
    model: str = "default",
    provider: str = "cpu",
    threads: int = 1,
    parameters: Mapping[str, str] | None = None,
    rate: float = 1.0,
    console: Console,
) -> Recording:
    """Play a rosbag2 at `rate` times its pace; write out/result.mcap and a log of each node.

    `parameters` are further ones of segmentation_node, as `-p` takes them. Compressed images are
    recorded too; writing raw ones would make the recorder late. After Ctrl-C the recording holds
    what came before it. Raises DataError for a bag that cannot be played, UsageError for parameters
    and rates that cannot be, and SegPerceptionError with the end of its log for a node that fails.
    """
    if not 0 < rate < float("inf"):
        raise UsageError(f"the rate is {rate:g}; give a number above 0 (1 is as recorded)")
    for name in parameters or ():
        if name in OWN:
            raise UsageError(f"{name} is not for choice here; live evaluation sets it itself")
    topics = find_topics(bag, image_topic)
    out.mkdir(parents=True, exist_ok=True)
    files = Files(*(out / name for name in ("result.mcap", "sent.json", "received.json")))
    for path in files:  # what an earlier run left is not taken for this one's
        path.unlink(missing_ok=True)
    settings = {
        **(parameters or {}),
        "model": json.dumps(model),  # quoted: a path may look like a number
        "provider": provider,
        "threads": str(threads),
        "image_transport": "compressed" if topics.is_compressed else "raw",
        "use_sim_time": "true",
    }
    is_whole = _run(bag, files, topics, settings, rate, console)
    received = _read(files.received)
    recording = Recording(
        files.bag,
        interrupted=not is_whole,
        sent=_events(_read(files.sent)),
        received=_events(received["label_mask"]),
        confident=_events(received["confidence"]),
    )
    _refuse_strangers(recording)
    files.sent.unlink()
    files.received.unlink()
    return recording


def find_topics(bag: Path, image_topic: str | None = None) -> Topics:
    """Choose what is played; DataError for a bag of ROS 1, or without images."""
    if bag.suffix == ".bag":
        raise DataError(
            f"{bag} is a bag of ROS 1, which only an evaluation without --live reads; leave it "
            "out, or convert the bag (rosbags-convert)"
        )
    with BagReader(bag, mend=True) as reader:
        known = reader.topics
        image = choose_image_topic(known, image_topic)
        count = reader.count(image)
    if not count:
        raise DataError(f"{bag} is empty: no message on {image}; record it again")
    return Topics(image, known[image] == COMPRESSED, find_camera_info(known, image), count)


def _run(
    bag: Path,
    files: Files,
    topics: Topics,
    settings: Mapping[str, str],
    rate: float,
    console: Console,
) -> bool:
    """Run the three processes until all that comes is recorded; return False after Ctrl-C."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(),
               TimeRemainingColumn())  # fmt: skip
    with (
        ExitStack() as processes,
        resources.as_file(resources.files("seg_perception") / "fastdds.xml") as profile,
        Progress(*columns, console=console) as progress,
    ):
        task = progress.add_task("starting the nodes", total=topics.images)
        domain = processes.enter_context(reserved_domain())  # given back when all have ended
        environment = private_environment(str(profile), domain)

        def start(module: str, arguments: Sequence[str]) -> NodeProcess:
            context = running(f"seg_perception.{module}", files.bag.parent, environment, *arguments)
            return processes.enter_context(context)

        node = start(f"nodes.{NODE}", _node_arguments(topics, settings))
        recorder = start("live.recorder_node", _recorder_arguments(topics, files))
        _wait_until_ready(recorder, node)

        def look() -> None:
            progress.update(task, completed=recorder.latest.get("masks", 0))
            node.check(must_run=True)
            recorder.check(must_run=True)
            time.sleep(0.05)

        player = start("live.player_node", _player_arguments(bag, topics, files, rate))
        progress.update(task, description="driving")
        is_whole = _drive(player, recorder, files.sent, look)
        recorder.end(after=0.0 if is_whole else SHUTDOWN_GRACE_S)
        recorder.check()
    return is_whole


def _node_arguments(topics: Topics, settings: Mapping[str, str]) -> list[str]:
    image = f"image:={topics.image}"
    if topics.is_compressed:
        base = topics.image.removesuffix("/compressed")
        # The node listens to image/compressed: a topic of another name takes that one's place.
        image = f"image{'' if base != topics.image else '/compressed'}:={base}"
    remaps = ["-r", image]
    if topics.camera_info:
        remaps += ["-r", f"camera_info:={topics.camera_info}"]
    values = [part for name, value in settings.items() for part in ("-p", f"{name}:={value}")]
    return ["--ros-args", *remaps, *values]


def _recorder_arguments(topics: Topics, files: Files) -> list[str]:
    images = ["--image-topic", topics.image] if topics.is_compressed else []
    return [str(files.bag), "--received", str(files.received), *images]


def _player_arguments(bag: Path, topics: Topics, files: Files, rate: float) -> list[str]:
    info = ["--topic", topics.camera_info] if topics.camera_info else []
    listeners = "2" if topics.is_compressed else "1"  # the node, and the recorder
    return [
        str(bag), "--sent", str(files.sent), "--rate", str(rate), "--listeners", listeners,
        "--topic", topics.image, *info,
    ]  # fmt: skip


def _wait_until_ready(recorder: NodeProcess, node: NodeProcess) -> None:
    """Return when the recorder has met the node; raise when the node says that it cannot work."""
    recorder.wait_for(lambda said: "ready" in said or "error" in said, START_TIMEOUT, others=[node])
    if "error" in recorder.latest:
        raise SegPerceptionError(f"{NODE} cannot work:\n{node.log_end()}")


def _refuse_strangers(recording: Recording) -> None:
    """Raise where masks came of images that nobody sent."""
    strange = {e.stamp for e in recording.received} - {e.stamp for e in recording.sent}
    if strange:
        raise SegPerceptionError(
            f"{len(strange)} masks, such as of {min(strange)}, belong to no image of the bag: "
            f"another {NODE} is in the same ROS domain; end it, or play again"
        )


def _drive(
    player: NodeProcess, recorder: NodeProcess, sent: Path, look: Callable[[], None]
) -> bool:
    """Wait until all that was sent is answered, or lost; return False after Ctrl-C."""
    try:
        while player.is_running():
            look()
        player.check()
        _settle(recorder, _events(_read(sent)), look)
    except KeyboardInterrupt:
        player.end(after=SHUTDOWN_GRACE_S)
        if not sent.exists() or not _read(sent):  # nothing was done that could be kept
            raise
        return False
    return True


def _settle(recorder: NodeProcess, sent: Sequence[Event], look: Callable[[], None]) -> None:
    """Return when the last image is answered, or no mask has come for SETTLE seconds."""
    last = sent[-1].stamp
    is_only = sum(event.stamp == last for event in sent) == 1
    count, since = -1, 0.0
    while True:
        said = recorder.latest
        if said.get("masks", 0) != count:
            count, since = said.get("masks", 0), time.monotonic()
        is_answered = count >= len(sent) or (is_only and said.get("stamp") == last)
        if time.monotonic() - since > (DRAIN_S if is_answered else SETTLE_S):
            return
        look()


def _read(path: Path) -> Any:
    return json.loads(path.read_text("utf-8"))


def _events(pairs: Sequence[tuple[int, int]]) -> list[Event]:
    return [Event(*pair) for pair in pairs]

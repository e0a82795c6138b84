"""Is the node tough? Malformed messages and thousands of frames against a live process.

python test/soak.py [--messages 10000] [--frames 3000] [--drive 27000] [--seed 0] [--json FILE]

Prints its counts as JSON; exits 1 when something failed. 27,000 frames are half an hour at 15 Hz;
here each is sent as soon as the one before is answered.
"""

import argparse
import contextlib
import itertools
import json
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from importlib import resources
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from support.drive import Drive, memory_mb
from support.fuzz import Malformed, camera_infos, compressed_messages, raw_messages
from support.graph import NODE, Graph

from seg_perception.bags.bag import BagReader
from seg_perception.messages import decode, to_array
from seg_perception.segmenter import Segmenter

BATCH = 500  # malformed messages between two good images
PACE = 0.008  # seconds between messages: the node shall read each, not the newest alone
OBSERVER_GRACE_S = 20.0  # seconds for an answer on a busy machine
LATE = 5.0  # seconds after which an image is no longer expected on the map
MEMORY_LIMITS = {"memory_leaked_mb": 2.0, "memory_growth_mb": 5.0, "memory_mb": 400.0}
SMALL = "tiny"  # the bundled model whose images are soon done
TRANSPORTS = ("raw", "compressed")
STEPS = 27  # looks at the memory of a drive
COUNTS = ("received", "published", "dropped", "unreadable", "too_old", "failed", "unplaced")


class Camera:
    """A camera and the node that it feeds; every output of the node is listened to."""

    def __init__(self, graph: Graph, transport: str, model: str) -> None:
        self._graph, self._is_raw = graph, transport == "raw"
        self._masks = graph.collect(Image, f"{NODE}/label_mask")
        self._others = [
            graph.collect(CameraInfo, f"{NODE}/camera_info"),
            *(graph.collect(Image, f"{NODE}/{n}") for n in ("confidence", "class_grid", "overlay")),
        ]
        kind, topic = (Image, "/image") if self._is_raw else (CompressedImage, "/image/compressed")
        self._images = graph.camera(kind, topic)
        self._infos = graph.camera(CameraInfo, "/camera_info")
        self.process = graph.start_node(
            model=model, image_transport=transport, grid_rows=3, grid_cols=4
        )
        self.sent = 0

    def message(self, image: np.ndarray) -> Any:
        """Return an image, uint8 (H,W,3) RGB, as a message."""
        message = self._graph.image_message(image)
        if self._is_raw:
            return message
        data = cv2.imencode(".jpeg", image[..., ::-1])[1].tobytes()
        return CompressedImage(header=message.header, format="jpeg", data=data)

    def start(self, image: np.ndarray) -> dict[str, int]:
        """Wait for the first mask; return the counts from which the node goes on."""
        self._graph.wait(self._infos.get_subscription_count)
        self._graph.ask(self._images, self.message(image), self._masks)
        return _steady(self.counts)

    def send(self, message: Any) -> None:
        """Publish an image, or bytes that pass for one."""
        self._images.publish(message)
        self.sent += 1

    def send_all(self, batch: list[Malformed], infos: Iterator[Malformed]) -> None:
        """Publish a batch at a pace that the node follows, with a camera_info now and then."""
        for number, malformed in enumerate(batch):
            self.send(malformed.message)
            if number % 5 == 0:
                self._infos.publish(next(infos).message)
            self._graph.spin(PACE)

    def answer(self, image: np.ndarray) -> Any:
        """Send a good image; return its mask, or None when none comes."""
        message = self.message(image)
        found: list[Any] = []

        def look() -> bool:
            found.extend(m for m in self._masks if m.header == message.header)
            for outputs in (self._masks, *self._others):
                outputs.clear()
            return bool(found) or self.process.poll() is not None

        self.send(message)
        self._graph.wait(look, OBSERVER_GRACE_S, must=False)
        return found[0] if found else None

    def counts(self) -> dict[str, int]:
        """Return what the node has counted."""
        return _counted(self._graph)

    def settled(self, before: dict[str, int]) -> dict[str, int]:
        """Return what was counted since `before`, when all that was sent has been."""
        return _settled(self.counts, before, self.sent)


def fuzz_node(
    graph: Graph, transport: str, count: int, *, model: str, image: np.ndarray, seed: int = 0
) -> dict[str, Any]:
    """Send malformed messages until the node has read `count`; return counts and failures.

    `image`, uint8 (H,W,3) RGB, is sent after each batch: it must be answered, and everything
    that was sent before it must have been counted.
    """
    messages = raw_messages if transport == "raw" else compressed_messages
    camera, bad = Camera(graph, transport, model), messages(seed, image)
    expected = Segmenter.load(model)(*decode(camera.message(image))).labels
    before, infos = camera.start(image), camera_infos(seed)
    kinds: Counter[str] = Counter()
    memory, counts = [memory_mb(camera.process)], dict.fromkeys(COUNTS, 0)
    failures, answered = [], 0
    while counts["received"] - answered < count and not failures:
        batch = list(itertools.islice(bad, min(BATCH, count)))
        kinds.update(malformed.kind for malformed in batch)
        camera.send_all(batch, infos)
        mask = camera.answer(image)
        if mask is None or not (to_array(mask) == expected).all():
            failures.append(f"a good image has no mask; exit status {camera.process.poll()}")
            break
        answered += 1
        counts = camera.settled(before)
        failures += _miscounted(counts, camera.sent)
        memory.append(memory_mb(camera.process))
    return {
        "sent": camera.sent - answered,
        "processed": counts["received"] - answered,
        "good_answered": answered,
        "kinds": dict(sorted(kinds.items())),
        "counts": counts,
        "memory_start_mb": round(memory[0], 1),
        "memory_end_mb": round(memory[-1], 1),
        "memory_leaked_mb": _leaked(memory),
        "failures": failures,
    }


def soak_node(
    graph: Graph, transport: str, count: int, *, model: str, images: list[np.ndarray]
) -> dict[str, Any]:
    """Send good images, each when the one before is answered; return counts and failures."""
    camera, failures = Camera(graph, transport, model), []
    before = camera.start(images[0])
    memory, started = [], time.monotonic()
    for number in range(count):
        if camera.answer(images[number % len(images)]) is None:
            failures.append(f"image {number} has no mask; exit {camera.process.poll()}")
            break
        if number % 100 == 0 or number == count - 1:
            memory.append(memory_mb(camera.process))
    rate = count / (time.monotonic() - started)
    counts = camera.settled(before)
    failures += _miscounted(counts, camera.sent)
    return {
        "sent": camera.sent,
        "answered": counts["published"],
        "rate_hz": round(rate, 1),
        "memory_mb": round(max(memory), 1),
        "memory_growth_mb": round(memory[-1] - memory[1], 1),
        "failures": failures,
    }


def soak_drive(
    graph: Graph, count: int, *, model: str, images: list[np.ndarray]
) -> dict[str, dict[str, Any]]:
    """Send images through both nodes; return of each counts, memory by steps and failures.

    Each image is sent when the one before is on the map, so neither node may drop one. One in a
    thousand may be too old, or lack its odometry, where the machine stands still for a while.
    """
    drive = Drive(graph, model, moves=True)
    drive.start()
    drive.until_mapped(images[0])
    counters = {name: partial(_counted, graph, name) for name in drive.nodes}
    before = {name: _steady(counter) for name, counter in counters.items()}
    memory: dict[str, list[float]] = {name: [] for name in drive.nodes}
    missing, allowed, started = 0, 1 + count // 1000, time.monotonic()
    for number in range(count):
        missing += not drive.is_mapped(drive.send(images[number % len(images)]), LATE)
        if missing > allowed:
            break
        drive.forget()
        if (number + 1) % max(1, count // STEPS) == 0:
            for name, process in drive.nodes.items():
                memory[name].append(memory_mb(process))
    rate = count / (time.monotonic() - started)
    failures = [f"{missing} images have no grids"] if missing > allowed else []
    result: dict[str, dict[str, Any]] = {}
    for name, steps in memory.items():
        counts = _settled(counters[name], before[name], count)
        result[name] = {
            "sent": count,
            "rate_hz": round(rate, 1),
            "counts": counts,
            "memory_by_steps_mb": [round(step, 1) for step in steps],
            "memory_leaked_mb": _leaked(steps),
            "memory_growth_mb": round(steps[-1] - steps[len(steps) // 2], 1) if steps else 0.0,
            "failures": [*failures, *_miscounted(counts, count)],
        }
    return result


def memory_failures(result: dict[str, Any]) -> list[str]:
    """Return what is wrong with the memory that a long run tells."""
    limits = {name: limit for name, limit in MEMORY_LIMITS.items() if result.get(name, 0.0) > limit}
    return [f"{name} is {result[name]}, more than {limit}" for name, limit in limits.items()]


def _leaked(memory: list[float]) -> float:
    """Return the growth in MB that comes with every batch, summed over all.

    The first half fills what the allocator and the queues keep: it grows by ever smaller steps. A
    leak goes on, so the median step of the second half tells.
    """
    steps = np.diff(memory)
    late = steps[steps.size // 2 :]
    return round(float(np.median(late)) * steps.size, 1) if late.size else 0.0


def _counted(graph: Graph, of: str = "") -> dict[str, int]:
    values = graph.values(of)
    return {name: int(values.get(name, 0)) for name in COUNTS}  # one node places nothing


def _steady(counts: Callable[[], dict[str, int]]) -> dict[str, int]:
    """Return the counts when nothing is under way any more."""
    before, now = None, counts()
    while now != before:
        before, now = now, counts()
    return now


def _settled(
    counts: Callable[[], dict[str, int]], before: dict[str, int], sent: int
) -> dict[str, int]:
    """Return what was counted since `before`, when all that was sent has been."""
    deadline = time.monotonic() + OBSERVER_GRACE_S
    while True:
        since = {name: value - before[name] for name, value in counts().items()}
        if not _miscounted(since, sent) or time.monotonic() > deadline:
            return since


def _miscounted(counts: dict[str, int], sent: int) -> list[str]:
    """Return what does not add up."""
    ends = sum(
        counts[name] for name in ("published", "unreadable", "too_old", "failed", "unplaced")
    )
    wrong = []
    if counts["received"] + counts["dropped"] != sent:
        wrong.append(f"{sent} sent, but received and dropped are {counts}")
    if ends != counts["received"]:
        wrong.append(f"{counts['received']} received, but they ended as {counts}")
    if counts["failed"]:
        wrong.append(f"{counts['failed']} failed in a way that nobody foresaw")
    return wrong


def clip() -> list[np.ndarray]:
    """Return the images of the bundled clip, uint8 (360,480,3) RGB."""
    path = resources.files("seg_perception") / "clip" / "bag"
    with resources.as_file(path) as folder, BagReader(folder) as bag:
        sent = bag.messages(["/camera/image/compressed"])
        return [np.ascontiguousarray(decode(m).image[..., ::-1]) for m in sent]


def main(arguments: list[str] | None = None) -> int:
    """Run the fuzz, then the soak, on both transports; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--messages", type=int, default=10_000, help="malformed ones to process")
    parser.add_argument("--frames", type=int, default=3_000, help="good ones on each transport")
    parser.add_argument("--drive", type=int, default=27_000, help="good ones through both nodes")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--model", default="default")
    parser.add_argument("--json", type=Path, help="also write the result to this file")
    options = parser.parse_args(arguments)
    images = clip()
    result: dict[str, dict[str, Any]] = {}
    for transport in TRANSPORTS:
        with _graph() as graph:
            result[f"fuzz {transport}"] = fuzz_node(
                graph,
                transport,
                options.messages // len(TRANSPORTS),
                model=options.model,
                image=images[0],
                seed=options.seed,
            )
        with _graph() as graph:
            result[f"soak {transport}"] = soak_node(
                graph, transport, options.frames, model=options.model, images=images
            )
    with _graph() as graph:
        nodes = soak_drive(graph, options.drive, model=SMALL, images=images)
        result |= {f"drive {name}": run for name, run in nodes.items()}
    for run in result.values():
        run["failures"] += memory_failures(run)
    text = json.dumps(result, indent=2)
    print(text)
    if options.json is not None:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(text + "\n", "utf-8")
    return int(any(run["failures"] for run in result.values()))


@contextlib.contextmanager
def _graph() -> Iterator[Graph]:
    with tempfile.TemporaryDirectory() as logs, Graph(Path(logs)) as graph:
        yield graph


if __name__ == "__main__":
    sys.exit(main())

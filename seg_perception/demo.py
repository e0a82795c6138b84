"""The demo: the bundled drive through real ROS nodes, and a report of what came out.

Player, segmentation node and recorder are three processes; nothing but DDS connects them.
"""

import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from seg_perception import messages, weights
from seg_perception.drawing import draw_overlay, paint
from seg_perception.errors import SegPerceptionError
from seg_perception.evaluation.bags import BagReader
from seg_perception.evaluation.mapping import beside_map, draw_maps
from seg_perception.evaluation.metrics import ConfusionMatrix
from seg_perception.evaluation.report import Report, Sample, Timeline, write_html, write_json
from seg_perception.evaluation.video import write_video
from seg_perception.launch_arguments import private_environment
from seg_perception.manifest import Manifest
from seg_perception.occupancy.camera import Pose
from seg_perception.occupancy.mapper import Settings
from seg_perception.runtimes.onnx import OnnxRuntime

PICTURES = "/camera/image/compressed"
CAMERA_INFO = "/camera/camera_info"
NODE = "segmentation_node"
MASKS = f"/{NODE}/label_mask"
RATE = 15.0
SAMPLES = 5
START_TIMEOUT = 90.0  # seconds; the first start compiles the label stage
NOTES = (
    "The clip is CamVid's validation part: 101 unseen pictures of drive 0016E5, other minutes of "
    "which are in the training data.",
    "The map from above is approximate: CamVid's camera is not published, so it is taken to have "
    "60 degrees of view, 1.4 m above the road, looking 2.9 degrees down, and to stand still.",
    "CamVid: Brostow, Shotton, Fauqueur, Cipolla (ECCV 2008); Brostow, Fauqueur, Cipolla (Pattern "
    "Recognition Letters 2009); released by its authors for research.",
)
# Where CamVid's camera was is not published: a guess from the pictures. Without odometry the map
# must forget quickly.
MOUNT = Pose.from_rpy(0.0, 0.0, 1.4, 0.0, 0.05, 0.0)
MAP = Settings(resolution=0.2, width=30.0, height=30.0, half_life=0.3)
BESIDE = {
    "overlay.mp4": "the whole drive, with the map",
    "result.mcap": "pictures, masks, confidence and diagnostics, for Foxglove or rosbags",
}
WRITTEN = ("report.json", "report.html", *BESIDE, "sent.json", "received.json")


class Recording(NamedTuple):
    """What the three processes left behind; times in nanoseconds of the steady clock, by stamp."""

    bag: Path
    sent: dict[int, int]
    received: dict[int, int]


def run_demo(out: Path, *, rate: float = 1.0) -> Report:
    """Play, segment, record, evaluate; write report.json, report.html, overlay.mp4, result.mcap.

    Raises SegPerceptionError with the log of the process that failed.
    """
    console = Console()
    out.mkdir(parents=True, exist_ok=True)
    for name in WRITTEN:  # what an earlier run left is not taken for this one's
        (out / name).unlink(missing_ok=True)
    manifest = OnnxRuntime(weights.DEFAULT).manifest
    with resources.as_file(resources.files("seg_perception") / "clip") as clip:
        stamps = _stamps(clip / "bag")
        recording = _play(out, clip / "bag", stamps, rate, console)
        report = _evaluate(out, clip, recording, manifest)
    _print_table(console, report)
    console.print(f"open {out / 'report.html'}")
    return report


def _stamps(bag: Path) -> list[int]:
    with BagReader(bag) as reader:
        return [messages.stamp_ns(m.header) for m in reader.messages([PICTURES])]


def _play(out: Path, bag: Path, stamps: list[int], rate: float, console: Console) -> Recording:
    """Run the three processes until the last mask is recorded."""
    result, sent, received = (out / n for n in ("result.mcap", "sent.json", "received.json"))
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(),
               TimeRemainingColumn())  # fmt: skip
    with (
        ExitStack() as processes,
        resources.as_file(resources.files("seg_perception") / "fastdds.xml") as profile,
        Progress(*columns, console=console) as progress,
    ):
        environment = private_environment(str(profile))
        task = progress.add_task("starting the nodes", total=len(stamps))

        def start(name: str, *arguments: str) -> "_Process":
            return processes.enter_context(_process(name, out, environment, *arguments))

        node = start(
            NODE, "--ros-args", "-r", "image:=/camera/image", "-r",
            "camera_info:=/camera/camera_info", "-p", "image_transport:=compressed", "-p",
            "use_sim_time:=true",
        )  # fmt: skip
        recorder = start(
            "recorder_node", str(result), "--received", str(received), "--picture-topic", PICTURES,
            "--last-stamp", str(stamps[-1]),
        )  # fmt: skip
        recorder.wait_for(lambda line: "ready" in line, START_TIMEOUT, others=[node])
        player = start(
            "player_node", str(bag), "--sent", str(sent), "--rate", str(rate),
            "--listeners", "2",  # the node and the recorder
        )  # fmt: skip
        progress.update(task, description="driving")
        while player.is_running():
            progress.update(task, completed=recorder.latest.get("masks", 0))
            node.check(must_run=True)
            recorder.check()
            time.sleep(0.1)
        player.check()
        recorder.end(after=10.0)
        recorder.check()
        progress.update(task, completed=recorder.latest.get("masks", 0))
    recording = Recording(result, _read_times(sent), _read_times(received))
    sent.unlink()
    received.unlink()
    return recording


class _Process:
    """A node process: its log goes to a file, its JSON lines on standard output to `latest`."""

    def __init__(self, name: str, log: Path, environment: dict[str, str], arguments: Any) -> None:
        self._name, self._log = name, log
        self.latest: dict[str, Any] = {}
        with log.open("wb") as errors:
            self._process = subprocess.Popen(
                [sys.executable, "-m", f"seg_perception.nodes.{name}", *arguments],
                env=environment,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def is_running(self) -> bool:
        return self._process.poll() is None

    def check(self, *, must_run: bool = False) -> None:
        """Raise with the end of the log when the process failed, or ended while it `must_run`."""
        status = self._process.poll()
        if status or (must_run and status == 0):
            tail = "\n".join(self._log.read_text(errors="replace").splitlines()[-15:])
            raise SegPerceptionError(
                f"{self._name} ended with status {status}:\n{tail or 'its log is empty'}"
            )

    def wait_for(self, wanted: Any, seconds: float, others: "list[_Process]") -> None:
        """Wait until a JSON line satisfies `wanted`."""
        deadline = time.monotonic() + seconds
        while not wanted(self.latest):
            for process in (self, *others):
                process.check()
            if time.monotonic() > deadline:
                tails = "\n".join(
                    p._log.read_text(errors="replace")[-1500:] for p in (self, *others)
                )
                raise SegPerceptionError(
                    f"{self._name} was not ready after {seconds:g} s; is multicast or shared "
                    f"memory blocked on this machine? Logs:\n{tails}"
                )
            time.sleep(0.05)

    def end(self, after: float) -> None:
        """Give the process `after` seconds to end by itself, then ask, and at last insist.

        A killed node leaves its 64 MB of shared memory behind, so it gets time to obey.
        """
        ask, insist = self._process.terminate, self._process.kill
        for action, seconds in ((None, after), (ask, 10.0), (insist, 10.0)):
            if action is not None:
                action()
            try:
                self._process.wait(seconds)
                break
            except subprocess.TimeoutExpired:
                continue
        self._reader.join(2)

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith("{"):
                self.latest = {**self.latest, **json.loads(line)}


@contextmanager
def _process(
    name: str, out: Path, environment: dict[str, str], *arguments: str
) -> Iterator[_Process]:
    process = _Process(name, out / f"{name}.log", environment, arguments)
    try:
        yield process
    finally:
        process.end(after=0.0)


def _read_times(path: Path) -> dict[int, int]:
    return {int(stamp): steady for stamp, steady in json.loads(path.read_text()).items()}


def _evaluate(out: Path, clip: Path, recording: Recording, manifest: Manifest) -> Report:
    """Compare every recorded mask with the truth of its stamp, and draw."""
    if not recording.received:
        raise SegPerceptionError(f"no mask was received; look at the logs in {out}")
    space = manifest.label_space()
    matrix = ConfusionMatrix(len(manifest.classes), (*manifest.void_ids, 255))
    masks = _masks(recording.bag)
    for stamp, mask in masks.items():
        matrix.add(_truth(clip, stamp), mask)
    pictures = dict(_pictures(clip / "bag"))
    overlays = {s: draw_overlay(pictures[s], masks[s], space) for s in sorted(masks)}
    with BagReader(clip / "bag") as reader:
        info = next(iter(reader.messages([CAMERA_INFO])))
    maps = draw_maps(masks, info, manifest, MOUNT, MAP)
    write_video(
        out / "overlay.mp4", (beside_map(overlays[s], maps[s]) for s in overlays), rate=RATE
    )
    chosen = sorted(masks)[:: max(1, len(masks) // SAMPLES)][:SAMPLES]
    start = min(recording.sent)
    samples = [
        Sample(
            f"{(s - start) / 1e9:.1f} s",
            pictures[s],
            overlays[s],
            paint(_truth(clip, s), space),
            maps[s],
        )
        for s in chosen
    ]
    report, timeline = _report(manifest, matrix, recording)
    write_json(out / "report.json", report)
    write_html(
        out / "report.html",
        report,
        samples=samples,
        timeline=timeline,
        confusion=matrix.counts,
        space=space,
        beside=BESIDE,
    )
    return report


def _report(
    manifest: Manifest, matrix: ConfusionMatrix, recording: Recording
) -> tuple[Report, Timeline]:
    answered = sorted(s for s in recording.received if s in recording.sent)
    ages = [(recording.received[s] - recording.sent[s]) / 1e6 for s in answered]
    start = min(recording.sent.values())
    arrivals = [(recording.received[s] - start) / 1e9 for s in answered]
    missed = [(t - start) / 1e9 for s, t in recording.sent.items() if s not in recording.received]
    p50, p95, p99 = (float(v) for v in np.percentile(ages, (50, 95, 99)))
    values = _last_diagnostic(recording.bag)
    ious = matrix.iou()
    report = Report(
        miou=matrix.miou(),
        miou_void_counted=matrix.miou(void_counted=True),
        pixel_accuracy=matrix.pixel_accuracy(),
        per_class_iou={
            n: None if np.isnan(v) else float(v)
            for n, v in zip(manifest.classes, ious, strict=True)
        },
        frames_in=len(recording.sent),
        frames_out=len(answered),
        dropped=len(recording.sent) - len(answered),
        rate_hz=(len(arrivals) - 1) / max(arrivals[-1] - arrivals[0], 1e-9),
        age_ms={"p50": p50, "p95": p95, "p99": p99},
        stage_ms={
            key.removeprefix("stage.").removesuffix("_ms"): float(value)
            for key, value in values.items()
            if key.startswith("stage.")
        },
        model=manifest.name,
        provider=values.get("provider", ""),
        threads=int(values.get("threads", 0)),
        notes=NOTES,
    )
    return report, Timeline(arrivals, ages, missed)


def _masks(bag: Path) -> dict[int, NDArray[np.uint8]]:
    with BagReader(bag) as reader:
        return {messages.stamp_ns(m.header): messages.to_array(m) for m in reader.messages([MASKS])}


def _pictures(bag: Path) -> Iterator[tuple[int, NDArray[np.uint8]]]:
    with BagReader(bag) as reader:
        for message in reader.messages([PICTURES]):
            yield messages.stamp_ns(message.header), messages.decode(message).image


def _truth(clip: Path, stamp: int) -> NDArray[np.uint8]:
    path = clip / "truth" / f"{stamp}.png"
    truth = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    if truth is None:
        raise SegPerceptionError(f"{path} is missing: the package was installed without its clip")
    return np.asarray(truth, np.uint8)


def _last_diagnostic(bag: Path) -> dict[str, str]:
    with BagReader(bag) as reader:
        arrays = list(reader.messages(["/diagnostics"]))
    own = [s for a in arrays for s in a.status if s.name.startswith(NODE)]
    return {value.key: value.value for value in own[-1].values} if own else {}


def _print_table(console: Console, report: Report) -> None:
    table = Table(title="seg_perception demo", show_header=False)
    ages = report.age_ms or {}
    rows = {
        "mean IoU (void ignored)": f"{report.miou:.3f}",
        "pixel accuracy": f"{report.pixel_accuracy:.3f}",
        "pictures in / masks out": f"{report.frames_in} / {report.frames_out}",
        "rate": f"{report.rate_hz:.1f} Hz",
        "age p50 / p95 / p99": " / ".join(f"{v:.0f}" for v in ages.values()) + " ms",
        "network": f"{report.stage_ms.get('network', float('nan')):.1f} ms",
    }
    for name, value in rows.items():
        table.add_row(name, value)
    for name, iou in (report.per_class_iou or {}).items():
        table.add_row(f"  IoU {name}", "-" if iou is None else f"{iou:.3f}")
    console.print(table)

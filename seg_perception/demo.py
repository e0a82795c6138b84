"""The demo: the bundled drive through real ROS nodes, and a report of what came out.

How it is played stands in live/session.py.
"""

from collections.abc import Iterator
from importlib import resources
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from seg_perception import messages, weights
from seg_perception.bags.bag import BagReader
from seg_perception.bags.video import write_video
from seg_perception.drawing import draw_overlay, paint
from seg_perception.errors import SegPerceptionError
from seg_perception.live.recording import Recording, masks, timeline, timing
from seg_perception.live.session import play
from seg_perception.manifest import Manifest
from seg_perception.metrics.confusion import ConfusionMatrix
from seg_perception.occupancy.camera import Pose
from seg_perception.occupancy.settings import Settings
from seg_perception.offline.map_bag import beside_map, draw_maps
from seg_perception.reporting.report import Report, Sample, write_html, write_json
from seg_perception.runtimes.onnx import OnnxRuntime

IMAGES = "/camera/image/compressed"
CAMERA_INFO = "/camera/camera_info"
RATE = 15.0
SAMPLES = 5
NOTES = (
    "The clip is CamVid's validation part: 101 unseen images of drive 0016E5, other minutes of "
    "which are in the training data.",
    "The map from above is approximate: CamVid's camera is not published, so it is taken to have "
    "60 degrees of view, 1.4 m above the road, looking 2.9 degrees down, and to stand still.",
    "CamVid: Brostow, Shotton, Fauqueur, Cipolla (ECCV 2008); Brostow, Fauqueur, Cipolla (Pattern "
    "Recognition Letters 2009); released by its authors for research.",
)
# Where CamVid's camera was is not published: a guess from the images. Without odometry the map
# must forget quickly.
MOUNT = Pose.from_rpy(0.0, 0.0, 1.4, 0.0, 0.05, 0.0)
MAP = Settings(resolution=0.2, width=30.0, height=30.0, half_life=0.3)
RELATED = {
    "overlay.mp4": "the whole drive, with the map",
    "result.mcap": "images, masks, confidence and diagnostics, for Foxglove or rosbags",
}
WRITTEN = ("report.json", "report.html", *RELATED)


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
        recording = play(clip / "bag", out, rate=rate, console=console)
        if recording.interrupted:
            raise KeyboardInterrupt
        report = _evaluate(out, clip, recording, manifest)
    _print_table(console, report)
    console.print(f"open {out / 'report.html'}")
    return report


def _evaluate(out: Path, clip: Path, recording: Recording, manifest: Manifest) -> Report:
    """Compare every recorded mask with the truth of its stamp, and draw."""
    if not recording.received:
        raise SegPerceptionError(f"no mask was received; look at the logs in {out}")
    space = manifest.label_space()
    matrix = ConfusionMatrix(len(manifest.classes), (*manifest.void_ids, 255))
    seen = dict(masks(recording))
    for stamp, mask in seen.items():
        matrix.add(_truth(clip, stamp), mask)
    images = dict(_images(clip / "bag"))
    overlays = {s: draw_overlay(images[s], seen[s], space) for s in sorted(seen)}
    with BagReader(clip / "bag") as reader:
        info = next(iter(reader.messages([CAMERA_INFO])))
    maps = draw_maps(seen, info, manifest, MOUNT, MAP)
    write_video(
        out / "overlay.mp4", (beside_map(overlays[s], maps[s]) for s in overlays), rate=RATE
    )
    chosen = sorted(seen)[:: max(1, len(seen) // SAMPLES)][:SAMPLES]
    start = recording.sent[0].stamp
    samples = [
        Sample(
            f"{(s - start) / 1e9:.1f} s",
            images[s],
            overlays[s],
            paint(_truth(clip, s), space),
            maps[s],
        )
        for s in chosen
    ]
    report = _report(manifest, matrix, recording)
    write_json(out / "report.json", report)
    write_html(
        out / "report.html",
        report,
        samples=samples,
        timeline=timeline(recording),
        confusion=matrix.counts,
        space=space,
        related=RELATED,
    )
    return report


def _report(manifest: Manifest, matrix: ConfusionMatrix, recording: Recording) -> Report:
    return Report(
        miou=matrix.miou(),
        miou_void_counted=matrix.miou(void_counted=True),
        pixel_accuracy=matrix.pixel_accuracy(),
        per_class_iou={
            n: None if np.isnan(v) else float(v)
            for n, v in zip(manifest.classes, matrix.iou(), strict=True)
        },
        notes=NOTES,
        **{**timing(recording), "model": manifest.name},
    )


def _images(bag: Path) -> Iterator[tuple[int, NDArray[np.uint8]]]:
    with BagReader(bag) as reader:
        for message in reader.messages([IMAGES]):
            yield messages.stamp_ns(message.header), messages.decode(message).image


def _truth(clip: Path, stamp: int) -> NDArray[np.uint8]:
    path = clip / "truth" / f"{stamp}.png"
    truth = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    if truth is None:
        raise SegPerceptionError(f"{path} is missing: the package was installed without its clip")
    return np.asarray(truth, np.uint8)


def _print_table(console: Console, report: Report) -> None:
    table = Table(title="seg_perception demo", show_header=False)
    ages = report.age_ms or {}
    rows = {
        "mean IoU (void ignored)": f"{report.miou:.3f}",
        "pixel accuracy": f"{report.pixel_accuracy:.3f}",
        "images in / masks out": f"{report.frames_in} / {report.frames_out}",
        "rate": f"{report.rate_hz or 0.0:.1f} Hz",
        "age p50 / p95 / p99": " / ".join(f"{v:.0f}" for v in ages.values()) + " ms",
        "network": f"{report.stage_ms.get('network', float('nan')):.1f} ms",
    }
    for name, value in rows.items():
        table.add_row(name, value)
    for name, iou in (report.per_class_iou or {}).items():
        table.add_row(f"  IoU {name}", "-" if iou is None else f"{iou:.3f}")
    console.print(table)

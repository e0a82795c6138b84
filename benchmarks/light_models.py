"""Which light network is the best at its speed? Times measured here, accuracy of equal trials.

python benchmarks/light_models.py [--rounds N] [--out docs/light_models.svg]

Prints, for each network, its time on one thread as a ratio to the default's architecture (median
and spread of interleaved rounds, input 512x640, 11 classes) and its mIoU from light_models.yaml,
and draws both. Times do not depend on weights, so these are drawn at random.
"""

import argparse
import tempfile
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import yaml

from seg_perception.bench.bench import Ratio, measure, ratio
from seg_perception.catalogue import MEAN, STD
from seg_perception.checkpoints.export import export_onnx
from seg_perception.manifest import InputSpec, Manifest, OutputSpec
from seg_perception.models import create_model
from seg_perception.reporting.charts import trade_chart
from seg_perception.runtimes.onnx import OnnxRuntime

HERE = Path(__file__).parent
SIZE, CLASSES, BASE = (512, 640), 11, "topformer_base"
GREY = "#808080"  # an image in a page does not know the page's ink; this is read on any


class Row(NamedTuple):
    """A network: parameters, median milliseconds, that over the base's, mIoU."""

    arch: str
    parameters: int
    milliseconds: float
    over_base: Ratio
    miou: float


def export(arch: str, folder: Path) -> tuple[OnnxRuntime, int]:
    """Return a network with random weights as the node would run it, and its parameters."""
    torch.manual_seed(0)
    network = create_model(arch, dataset="camvid", num_classes=CLASSES).eval()
    spec = InputSpec(SIZE, mean=MEAN, std=STD)
    classes = tuple(f"c{i}" for i in range(CLASSES))
    export_onnx(network, Manifest(classes, spec, OutputSpec(), name=arch), folder / f"{arch}.onnx")
    return OnnxRuntime(folder / f"{arch}.onnx"), sum(p.numel() for p in network.parameters())


def rows(rounds: int) -> list[Row]:
    """Measure all networks that have a trial."""
    trials = yaml.safe_load((HERE / "light_models.yaml").read_text("utf-8"))
    image = np.random.default_rng(0).integers(0, 256, (1, *SIZE, 3)).astype(np.uint8)
    with tempfile.TemporaryDirectory() as folder:
        exported = {arch: export(arch, Path(folder)) for arch in trials}
        runs = {
            arch: lambda _, runtime=runtime: runtime.run(image)
            for arch, (runtime, _) in exported.items()
        }
        times = measure(runs, rounds)
    return [
        Row(
            arch,
            exported[arch][1],
            float(np.median(times[arch])) * 1e3,
            ratio(times[arch] / times[BASE]),
            trial["at_1_5"],
        )
        for arch, trial in trials.items()
    ]


def main() -> None:
    """Print the table and draw it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--out", type=Path, default=HERE.parent / "docs" / "light_models.svg")
    options = parser.parse_args()
    measured = sorted(rows(options.rounds), key=lambda row: row.milliseconds)
    print("| network | parameters | ms | / default's | spread | mIoU on 0006R0 |")
    print("|---|---|---|---|---|---|")
    for row in measured:
        low, high = row.over_base.spread
        print(
            f"| {row.arch} | {row.parameters / 1e6:.1f} M | {row.milliseconds:.1f} | "
            f"{row.over_base.median:.2f} | {low:.2f} .. {high:.2f} | {100 * row.miou:.1f} |"
        )
    chart = trade_chart({row.arch: (row.milliseconds, row.miou) for row in measured})
    options.out.write_text(chart.replace("currentColor", GREY), "utf-8")


if __name__ == "__main__":
    main()

"""What does cutting the tail of a foreign network gain?

python benchmarks/tail.py [NETWORK.onnx ...] [--rounds N]    prints JSON

Each network is imported as `seg-perception import` does it: labels are compared, then network and
labels are timed in both forms, interleaved, on one thread. Without arguments: the bundled tiny
model with its 11 logits mixed to 150 classes, and SegFormer-B0 with 150 classes and seeded weights,
both with Resize and ArgMax inside. Networks that are given must say what they are, or have a card
next to them, NETWORK.yaml.
"""

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import yaml
from onnx import TensorProto, helper, numpy_helper

from seg_perception import weights
from seg_perception.checkpoints.foreign import import_onnx
from seg_perception.runtimes.onnx import OnnxRuntime

CLASSES = 150
SIZE = (512, 512)


def main() -> None:
    """Print the ratios."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("networks", nargs="*", type=Path, metavar="NETWORK.onnx")
    parser.add_argument("--rounds", type=int, default=60)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        given = options.networks or [mixed(Path(folder)), segformer(Path(folder))]
        result = {path.stem: gain(path, Path(folder), options.rounds) for path in given}
    print(json.dumps({"rounds": options.rounds, **result}, indent=2))


def gain(network: Path, folder: Path, rounds: int) -> dict[str, Any]:
    """Import a network and return what its report says."""
    card = network.with_suffix(".yaml")
    imported = import_onnx(
        network, card if card.exists() else None, folder / "out.onnx", rounds=rounds
    )
    report = imported.report
    return {
        "cut": report.operators or report.reason,
        "over_whole": report.time_ratio,
        "over_whole_spread": report.spread,
        "equal_labels": report.equal_labels,
        "classes_seen": report.classes,
        "nodes": report.nodes,
        "milliseconds": report.milliseconds,
    }


def mixed(folder: Path) -> Path:
    """Write the tiny model with its logits mixed to 150 classes, and its card."""
    runtime = OnnxRuntime(weights.BUNDLED["tiny"])
    manifest = runtime.manifest
    model = onnx.load(str(weights.BUNDLED["tiny"]))
    mix = np.random.default_rng(0).normal(size=(CLASSES, len(manifest.classes), 1, 1))
    model.graph.initializer.append(numpy_helper.from_array(mix.astype(np.float32), "mix"))
    scores = model.graph.output[0].name
    model.graph.node.append(helper.make_node("Conv", [scores, "mix"], ["mixed"]))
    append_tail(model, "mixed", manifest.input.size)
    path = folder / "tiny_150.onnx"
    onnx.save(model, str(path))
    card = {**manifest.to_dict(), "classes": names(), "output": {"kind": "labels"}, "sha256": ""}
    card |= {"palette": None, "groups": {}, "void_ids": [], "official": None}
    path.with_suffix(".yaml").write_text(yaml.safe_dump(card))
    return path


def segformer(folder: Path) -> Path:
    """Write SegFormer-B0 with seeded weights as torch's exporter does, and its card."""
    import torch

    from seg_perception.models import create_model

    torch.manual_seed(0)
    network = create_model("segformer_b0").eval()
    path = folder / "segformer_b0_150.onnx"
    torch.onnx.export(
        network, (torch.zeros(1, 3, *SIZE),), str(path), opset_version=17, dynamo=False,
        input_names=["x"], output_names=["logits"],
    )  # fmt: skip
    model = onnx.load(str(path))
    append_tail(model, "logits", SIZE)
    onnx.save(model, str(path))
    spec = {"size": list(SIZE), "mean": [123.675, 116.28, 103.53], "std": [58.395, 57.12, 57.375]}
    card = {"classes": names(), "input": spec, "output": {"kind": "labels"}}
    path.with_suffix(".yaml").write_text(yaml.safe_dump(card))
    return path


def append_tail(model: onnx.ModelProto, scores: str, size: tuple[int, int]) -> None:
    """Let a network resize its scores to `size` and give their ArgMax."""
    graph = model.graph
    graph.initializer.append(numpy_helper.from_array(np.int64([1, CLASSES, *size]), "tail_sizes"))
    graph.node.extend(
        [
            helper.make_node(
                "Resize", [scores, "", "", "tail_sizes"], ["tail_full"], mode="linear",
                coordinate_transformation_mode="half_pixel",
            ),
            helper.make_node("ArgMax", ["tail_full"], ["labels"], axis=1, keepdims=0),
        ]
    )  # fmt: skip
    del graph.output[:]
    graph.output.append(helper.make_tensor_value_info("labels", TensorProto.INT64, [1, *size]))


def names() -> list[str]:
    """Return names for 150 classes."""
    return [f"class {i}" for i in range(CLASSES)]


if __name__ == "__main__":
    main()

"""Measure speed as ratios: every contender once a round, in a new order, in one process.

Times of one machine say little about another; ratios of neighbours in time say more. Keys and their
meaning: CONTRACTS "bench.json".
"""

import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from importlib import metadata, resources
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray
from rich.progress import track

from seg_perception.bags.clip import bundled_images
from seg_perception.decoding import decode_scores
from seg_perception.errors import DataError, SegPerceptionError
from seg_perception.files import atomic_write
from seg_perception.images import convert
from seg_perception.launch_arguments import private_environment
from seg_perception.live.domains import reserved_domain
from seg_perception.manifest import Manifest
from seg_perception.runtimes.onnx import OnnxRuntime, open_session
from seg_perception.segmenter import Segmenter

ROUNDS = 120
SIZE = (480, 640)
IMAGES = 10
MIXES = (19, 150)  # class counts that the 11 logit planes are mixed to
PRODUCT = 1024
WEIGHTS = Path(__file__).parents[2] / "benchmarks" / "topformer_tiny_camvid.pt"
ARCH, DATASET = "topformer_tiny", "camvid"

Contender = Callable[[Any], Any]  # takes the number of the round
Images = list[NDArray[np.uint8]]
Times = Mapping[str, NDArray[np.float64]]  # seconds by round


class Ratio(NamedTuple):
    """Median over the rounds and what lies between the 10th and the 90th percentile."""

    median: float
    spread: tuple[float, float]


def run_bench(model: Path | None = None, *, rounds: int = ROUNDS) -> dict[str, Any]:
    """Return the content of bench.json; with `model`, the keys that need nothing but that file.

    Raises DataError when the bundled weights are missing (they are in the source repository).
    """
    with tempfile.TemporaryDirectory() as folder:
        here = Path(folder)
        files = {} if model else export_both(here)
        path = model or files["rewritten"]
        contenders = _contenders(path, files, here)
        times = measure(contenders, rounds)
        result = _ratios(times)
        result |= _label_stages(path, here, rounds)
        result |= _node(path, rounds)
        if not model:
            result["roofline"] = _roofline(times, here, rounds)
    result["times_ms"] = {k: round(float(np.median(t)) * 1e3, 3) for k, t in times.items()}
    return {"model": str(model or f"{ARCH}_{DATASET}"), "rounds": rounds, **result, **_machine()}


def measure(contenders: Mapping[str, Contender], rounds: int, *, warm_ups: int = 5) -> Times:
    """Time every contender once a round, in an order drawn again each round."""
    random = np.random.default_rng(0)
    names = list(contenders)
    times = {name: np.empty(rounds) for name in names}
    for r in range(-warm_ups, rounds):
        for i in random.permutation(len(names)):
            started = time.perf_counter()
            contenders[names[i]](r)
            times[names[i]][max(r, 0)] = time.perf_counter() - started
    return times


def ratio(values: NDArray[np.float64]) -> Ratio:
    """Summarise the ratios of the rounds."""
    low, middle, high = np.percentile(values, (10, 50, 90))
    return Ratio(round(float(middle), 4), (round(float(low), 4), round(float(high), 4)))


def resized_images(size: tuple[int, int]) -> Images:
    """Return images of the bundled clip, BGR uint8 at `size` (height, width)."""
    return [np.asarray(cv2.resize(p, size[::-1]), np.uint8) for p in bundled_images(IMAGES)]


def ambiguous_cells(scores: NDArray[np.float32]) -> float:
    """Return the share of coarse cells where more than one class can win; scores (K,h,w)."""
    corners = np.stack(
        [scores[:, :-1, :-1], scores[:, 1:, :-1], scores[:, :-1, 1:], scores[:, 1:, 1:]]
    )
    floor = corners.min(0).max(0)
    return float(((corners.max(0) >= floor).sum(0) > 1).mean())


def write_json(result: Mapping[str, Any], path: Path) -> None:
    """Write the whole of it, or ModelError and nothing."""
    with atomic_write(path) as temporary:
        temporary.write_text(json.dumps(result, indent=2) + "\n", "utf-8")


def export_both(folder: Path) -> dict[str, Path]:
    """Write the plain and the rewritten graph of the same trained weights into `folder`."""
    if not WEIGHTS.is_file():
        raise DataError(
            f"no weights at {WEIGHTS}: the comparison with a plain export runs in the source "
            "repository; give --model to measure a model file anywhere"
        )
    from seg_perception.bench.plain_export import export_plain
    from seg_perception.cards import load_card
    from seg_perception.catalogue import MEAN, STD
    from seg_perception.checkpoints import load_official
    from seg_perception.checkpoints.export import export_onnx

    network = load_official(WEIGHTS, arch=ARCH, dataset=DATASET)
    normalised = {"size": list(SIZE), "mean": list(MEAN), "std": list(STD)}
    manifest = Manifest.from_dict(
        {**load_card(DATASET), "input": normalised, "output": {"kind": "logits"}}
    )
    plain, rewritten = folder / "plain.onnx", folder / "rewritten.onnx"
    export_plain(network, manifest, plain)
    export_onnx(network, manifest, rewritten)
    return {"plain": plain, "rewritten": rewritten}


def _contenders(model: Path, files: Mapping[str, Path], folder: Path) -> dict[str, Contender]:
    """Return what is timed: each takes the image of its round."""
    segmenter, bare = Segmenter.load(model), OnnxRuntime(model)
    images = resized_images(bare.manifest.input.size)
    color = bare.manifest.input.color
    inputs = [segmenter.to_input(convert(p, "bgr8", color)) for p in images]
    contenders: dict[str, Contender] = {
        "bare": lambda r: bare.run(inputs[r % IMAGES]),
        "labels": lambda r: segmenter(images[r % IMAGES], "bgr8", confidence=False),
    }
    if segmenter.gives_confidence:
        contenders["confidence"] = lambda r: segmenter(images[r % IMAGES], "bgr8")
    if files:
        plain = OnnxRuntime(files["plain"])
        floats = [_naive_input(p, plain) for p in images]
        grow = _resize_and_argmax(folder, plain.scores(floats[0])[None], SIZE)
        contenders["plain"] = lambda r: plain.run(floats[r % IMAGES])
        contenders["naive"] = lambda r: grow(plain.run(_naive_input(images[r % IMAGES], plain)))
    return contenders


def _naive_input(image: NDArray[np.uint8], plain: OnnxRuntime) -> NDArray[np.float32]:
    """Normalise a BGR image as tutorials do: RGB, float, mean, std, NCHW."""
    spec = plain.manifest.input
    rgb = image[..., ::-1].astype(np.float32)
    x = (rgb - np.array(spec.mean, np.float32)) / np.array(spec.std, np.float32)
    return np.ascontiguousarray(x.transpose(2, 0, 1)[None])


def _resize_and_argmax(
    folder: Path, logits: NDArray[np.float32], size: tuple[int, int]
) -> Contender:
    """Return Resize and ArgMax in ONNX Runtime for logits of this shape."""
    from seg_perception.bench.baselines import write_resize_and_argmax

    _, classes, height, width = logits.shape
    path = folder / f"grow{classes}.onnx"
    write_resize_and_argmax(path, classes=classes, coarse=(height, width), size=size)
    session = open_session(path)
    return lambda x: session.run(None, {"logits": x})[0]


def _ratios(times: Times) -> dict[str, Any]:
    bare = times["bare"]
    values = {"labels_over_bare": times["labels"] / bare}
    if "confidence" in times:
        values["confidence_over_bare"] = (times["confidence"] - times["labels"]) / bare
    if "plain" in times:
        values["rewritten_over_plain"] = bare / times["plain"]
        values["labels_over_plain_bare"] = times["labels"] / times["plain"]
        values["naive_over_ours"] = times["naive"] / times["labels"]
    return _with_spread({name: ratio(v) for name, v in values.items()})


def _with_spread(ratios: Mapping[str, Ratio]) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for name, value in ratios.items():
        result[name] = value.median
        result[f"{name}_spread"] = list(value.spread)
    return result


def _label_stages(model: Path, folder: Path, rounds: int) -> dict[str, Any]:
    """Compare our label stage with ONNX Runtime's for the model's classes and seeded mixes."""
    segmenter, runtime = Segmenter.load(model), OnnxRuntime(model)
    spec, output = runtime.manifest.input, runtime.manifest.output
    if output.kind != "logits" or output.interpolation != "bilinear":
        return {}
    size = spec.size
    images = [convert(p, "bgr8", spec.color) for p in resized_images(size)]
    own = [np.ascontiguousarray(runtime.scores(segmenter.to_input(p))) for p in images]
    found: dict[str, Ratio] = {}
    share: dict[str, float] = {}
    for classes in track((len(own[0]), *MIXES), description="label stage"):
        planes = own if classes == len(own[0]) else [mixed(p, classes) for p in own]
        grow = _resize_and_argmax(folder, planes[0][None], size)
        times = measure(_label_stage(planes, grow, size), rounds)
        found[str(classes)] = ratio(times["theirs"] / times["ours"])
        share[str(classes)] = round(float(np.mean([ambiguous_cells(p) for p in planes])), 4)
    return {
        "label_stage_ort_over_ours": {k: v.median for k, v in found.items()},
        "label_stage_ort_over_ours_spread": {k: list(v.spread) for k, v in found.items()},
        "ambiguous_cells": share,
    }


def _label_stage(
    planes: list[NDArray[np.float32]], grow: Contender, size: tuple[int, int]
) -> dict[str, Contender]:
    return {
        "ours": lambda r: decode_scores(planes[r % IMAGES], size),
        "theirs": lambda r: grow(planes[r % IMAGES][None]),
    }


def mixed(planes: NDArray[np.float32], classes: int) -> NDArray[np.float32]:
    """Return (classes,h,w): seeded linear mixes of (K,h,w), of about the same spread."""
    count = len(planes)
    weights = np.random.default_rng(classes).normal(size=(classes, count)) / np.sqrt(count)
    mixed = np.einsum("kc,chw->khw", weights.astype(np.float32), planes)
    return np.ascontiguousarray(mixed, np.float32)


def _node(model: Path, rounds: int) -> dict[str, Any]:
    """Measure a real node in a process of its own, next to the bare run in the same process."""
    command = [sys.executable, "-m", "seg_perception.bench.bench_node", str(model), str(rounds)]
    package = resources.files("seg_perception")
    with resources.as_file(package / "fastdds.xml") as profile, reserved_domain() as domain:
        environment = private_environment(str(profile), domain)
        done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if done.returncode != 0:
        raise SegPerceptionError(f"the node could not be measured: {done.stderr.strip()[-2000:]}")
    values = np.array(json.loads(done.stdout.splitlines()[-1]))  # rounds 2 (node, bare)
    return _with_spread({"node_over_bare": ratio(values[:, 0] / values[:, 1])})


def _roofline(times: Times, folder: Path, rounds: int) -> dict[str, float]:
    """Return GFLOP/s of one thread: of a large matrix product, of both graphs, and shares."""
    from seg_perception.bench.baselines import write_product
    from seg_perception.bench.plain_export import count_flops
    from seg_perception.checkpoints import load_official

    write_product(folder / "product.onnx", size=PRODUCT)
    session = open_session(folder / "product.onnx")
    x = np.full((PRODUCT, PRODUCT), 0.5, np.float32)
    product = measure({"product": lambda r: session.run(None, {"x": x})}, rounds)["product"]
    peak = 2 * PRODUCT**3 / float(np.median(product)) / 1e9
    flops = count_flops(load_official(WEIGHTS, arch=ARCH, dataset=DATASET), SIZE)
    rates = {k: flops / float(np.median(times[k])) / 1e9 for k in ("plain", "bare")}
    return {
        "network_gflop": round(flops / 1e9, 4),
        "product_gflops": round(peak, 1),
        "plain_gflops": round(rates["plain"], 1),
        "rewritten_gflops": round(rates["bare"], 1),
        "plain_share": round(rates["plain"] / peak, 3),
        "rewritten_share": round(rates["bare"] / peak, 3),
    }


def _machine() -> dict[str, Any]:
    names = ("numpy", "numba", "onnxruntime")
    return {
        "machine": {
            "processor": _processor(),
            "cores": os.cpu_count(),
            "system": platform.platform(),
            "python": platform.python_version(),
            **{name: metadata.version(name) for name in names},
            "opencv": cv2.__version__,  # apt's has no metadata
        }
    }


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text("utf-8").splitlines() if info.is_file() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()

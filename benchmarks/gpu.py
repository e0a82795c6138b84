"""How fast is the torch runtime on a GPU, how exact, and how much of the card does it use?

python benchmarks/gpu.py --json OUT.json    measures every setting of the runtime against eager
fp32 of the same module, round by round in one process; benchmarks/gpu.md explains the numbers.
"""

import argparse
import copy
import gc
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from gpu_cases import CASES, SHRUNK, Case, count_flops, load
from gpu_page import page
from numpy.typing import NDArray
from torch import Tensor, nn

from seg_perception.bench.bench import measure, ratio, resized_images, write_json
from seg_perception.checkpoints.zoo import describe
from seg_perception.decoding.outputs import Masks
from seg_perception.errors import SegPerceptionError
from seg_perception.images import convert
from seg_perception.manifest import Manifest
from seg_perception.models import class_counts
from seg_perception.runtimes import PRECISIONS
from seg_perception.runtimes.torch import (
    DTYPES,
    TorchRuntime,
    allow_tf32,
    decode_on_device,
    device_of,
)

ROUNDS = 40
ENOUGH = 0.999  # of the labels must be those of eager fp32
PRODUCT = {"cuda": 8192, "cpu": 256}  # side of the matrices whose product shows the card's rate
BASELINES = ("eager", "eager_default")  # fp32 everywhere; as torch comes: convolutions in TF32
Bytes = NDArray[np.uint8]


class Subject(Protocol):
    """What is measured: bytes (1,H,W,3) up, scores (1,K,h,w) on the device, labels (H,W) back."""

    def upload(self, x: Bytes) -> Tensor: ...

    def forward(self, image: Tensor) -> Tensor | Masks: ...

    def labels(self, x: Bytes) -> Bytes: ...


class Eager:
    """The unmodified module in float32 (1,3,H,W), one kernel after the other."""

    def __init__(
        self, network: nn.Module, manifest: Manifest, device: torch.device, *, default: bool
    ) -> None:
        self._network = copy.deepcopy(network).to(device)
        self._manifest, self._device, self._default = manifest, device, default
        self._mean = torch.tensor(manifest.input.mean, device=device)[:, None, None]
        self._std = torch.tensor(manifest.input.std, device=device)[:, None, None]

    @torch.inference_mode()
    def upload(self, x: Bytes) -> Tensor:
        planes = torch.from_numpy(x).to(self._device).permute(0, 3, 1, 2)
        return (planes.contiguous().float() - self._mean) / self._std

    @torch.inference_mode()
    def forward(self, image: Tensor) -> Tensor | Masks:
        allow_tf32(products=False, convolutions=self._default)
        y = self._network(image)
        return Masks(*y) if isinstance(y, tuple) else y

    @torch.inference_mode()
    def labels(self, x: Bytes) -> Bytes:
        y, size = self.forward(self.upload(x)), self._manifest.input.size
        labels, _ = decode_on_device(y, self._manifest, size, size, with_confidence=False)
        return np.asarray(labels.cpu().numpy(), np.uint8)


class Ours:
    """The runtime as the node uses it."""

    def __init__(self, runtime: TorchRuntime) -> None:
        self.upload, self.forward = runtime.upload, runtime.forward
        self._runtime = runtime

    def labels(self, x: Bytes) -> Bytes:
        y, size = self._runtime.run(x), self._runtime.manifest.input.size
        return self._runtime.decode(y, size, size, with_confidence=False)[0]


class Bench:
    """Measures on one device, in so many rounds."""

    def __init__(self, provider: str, *, rounds: int, compiled: bool = False) -> None:
        """Raises ProviderError where there is no such device."""
        self.device = device_of(provider)
        self.rounds = rounds
        self.settings = {name: (name, False) for name in PRECISIONS}
        if compiled:
            self.settings |= {f"{name}_compiled": (name, True) for name in PRECISIONS}

    def case(self, case: Case, network: nn.Module) -> dict[str, Any]:
        """Return everything about one case, as it goes into the JSON file."""
        manifest = _manifest(case)
        images = _images(manifest)
        subjects: dict[str, Subject] = {}
        settings: dict[str, dict[str, Any]] = {}
        failed: dict[str, str] = {}
        for name, make in self._makers(network, manifest).items():
            try:
                subjects[name], settings[name] = self._build(make, images[0])
            except (SegPerceptionError, RuntimeError) as error:  # a setting that this card lacks
                failed[name] = (str(error) or repr(error)).splitlines()[0]
        gflop = count_flops(case) / 1e9
        result = {**asdict(case), "size": list(case.size), "gflop": round(gflop, 3),
                  "parameters": sum(p.numel() for p in network.parameters()),
                  "settings": settings, "failed": failed, "best": None}  # fmt: skip
        if "eager" not in subjects:
            return result
        self._compare_labels(subjects, settings, images)
        times = self._times(subjects, images)
        result["product_tflops"] = self._rates(times)
        for name, found in settings.items():
            found |= _timing(name, times, gflop, result["product_tflops"])
        result["best"] = _best(settings)
        return result

    def shrunk(self, cases: Sequence[Case], networks: Sequence[nn.Module]) -> dict[str, Any]:
        """Return, by setting, how many times faster the second network is than the first."""
        result: dict[str, Any] = {}
        images = _images(_manifest(cases[0]))
        for name, (precision, compiled) in self.settings.items():
            try:
                subjects: dict[str, Subject] = {
                    case.name: self._ours(network, _manifest(case), precision, compiled)
                    for case, network in zip(cases, networks, strict=True)
                }
            except SegPerceptionError:  # said where the case itself is measured
                continue
            times = self._times(subjects, images)
            first, second = (case.name for case in cases)
            for kind in ("", "_network"):
                found = ratio(times[first + kind] / times[second + kind])
                result |= _spread(f"{name}{kind}", *found)
        return result

    def _makers(self, network: nn.Module, manifest: Manifest) -> dict[str, Callable[[], "Subject"]]:
        makers: dict[str, Callable[[], Subject]] = {
            name: partial(Eager, network, manifest, self.device, default=name != BASELINES[0])
            for name in BASELINES
        }
        for name, (precision, compiled) in self.settings.items():
            makers[name] = partial(self._ours, network, manifest, precision, compiled)
        return makers

    def _ours(self, network: nn.Module, manifest: Manifest, precision: str, compiled: bool) -> Ours:
        return Ours(TorchRuntime(
            network, manifest, provider=self.device.type, precision=precision, compiled=compiled
        ))  # fmt: skip

    def _build(self, make: Callable[[], Subject], image: Bytes) -> tuple[Subject, dict[str, float]]:
        """Build a subject and return it with its memory in MiB, weights included.

        `peak_mib` counts until the first labels, `held_mib` is what no other program can have.
        """
        if self.device.type == "cpu":
            subject = make()
            subject.labels(image)
            return subject, {}
        cuda = torch.cuda
        gc.collect()
        cuda.empty_cache()
        cuda.reset_peak_memory_stats()
        allocated, reserved = cuda.memory_allocated(), cuda.memory_reserved()
        subject = make()
        subject.labels(image)
        cuda.synchronize()
        peak = cuda.max_memory_allocated() - allocated
        gc.collect()
        cuda.empty_cache()
        held = cuda.memory_reserved() - reserved
        return subject, {"peak_mib": round(peak / 2**20, 1), "held_mib": round(held / 2**20, 1)}

    def _compare_labels(
        self,
        subjects: Mapping[str, Subject],
        settings: Mapping[str, dict[str, Any]],
        images: Sequence[Bytes],
    ) -> None:
        shares: dict[str, list[float]] = {name: [] for name in subjects}
        for image in images:
            expected = subjects["eager"].labels(image)
            for name, subject in subjects.items():
                shares[name].append(float((subject.labels(image) == expected).mean()))
        for name, found in settings.items():
            found["agreement"] = round(float(np.mean(shares[name])), 6)
            found["agreement_lowest"] = round(min(shares[name]), 6)

    def _times(
        self, subjects: Mapping[str, Subject], images: Sequence[Bytes]
    ) -> Mapping[str, NDArray[np.float64]]:
        """Time image to labels, the network alone and products of matrices; in seconds."""
        contenders: dict[str, Callable[[int], Any]] = {}
        for name, subject in subjects.items():
            contenders[name] = partial(_labels, subject, images)
            contenders[f"{name}_network"] = partial(_scores, subject, subject.upload(images[0]))
        for precision, dtype in DTYPES.items():
            contenders[f"product_{precision}"] = self._product(precision == "tf32", dtype)
        synchronised = {k: self._synchronised(c) for k, c in contenders.items()}
        return measure(synchronised, self.rounds, warm_ups=min(5, self.rounds))

    def _product(self, tf32: bool, dtype: torch.dtype) -> Callable[[int], Tensor]:
        side = PRODUCT[self.device.type]
        a = torch.randn(side, side, device=self.device).to(dtype)

        def multiply(_: int) -> Tensor:
            allow_tf32(products=tf32, convolutions=tf32)
            return a @ a

        return multiply

    def _synchronised(self, contender: Callable[[int], Any]) -> Callable[[int], None]:
        def run(r: int) -> None:
            contender(r)
            if self.device.type == "cuda":
                torch.cuda.synchronize()

        return run

    def _rates(self, times: Mapping[str, NDArray[np.float64]]) -> dict[str, float]:
        work = 2 * PRODUCT[self.device.type] ** 3 / 1e12
        return {p: _rounded(work / float(np.median(times[f"product_{p}"]))) for p in DTYPES}


def _labels(subject: Subject, images: Sequence[Bytes], r: int) -> Bytes:
    return subject.labels(images[r % len(images)])


def _scores(subject: Subject, image: Tensor, _: int) -> Tensor | Masks:
    return subject.forward(image)


def _manifest(case: Case) -> Manifest:
    classes = class_counts(case.arch, case.dataset)[0]
    return describe(case.arch, case.dataset, classes=classes, size=case.size)


def _images(manifest: Manifest) -> list[Bytes]:
    spec = manifest.input
    return [convert(p, "bgr8", spec.color)[None] for p in resized_images(spec.size)]


def _timing(
    name: str, times: Mapping[str, NDArray[np.float64]], gflop: float, rates: Mapping[str, float]
) -> dict[str, Any]:
    """Return milliseconds, times faster than both baselines, and the share of the card's rate."""
    result: dict[str, Any] = {}
    for kind in ("", "_network"):
        own = times[name + kind]
        result |= _spread(f"ms{kind}", *ratio(own * 1e3))
        for baseline in BASELINES:
            if baseline in times:
                result |= _spread(f"{baseline}_over{kind}", *ratio(times[baseline + kind] / own))
    tflops = gflop / 1e3 / float(np.median(times[f"{name}_network"]))
    rate = rates["fp32" if name in BASELINES else name.removesuffix("_compiled")]
    return {**result, "tflops": _rounded(tflops), "share_of_product": _rounded(tflops / rate)}


def _spread(name: str, median: float, spread: tuple[float, float]) -> dict[str, Any]:
    return {name: median, f"{name}_spread": list(spread)}


def _rounded(value: float) -> float:
    return float(f"{value:.4g}")


def _best(settings: Mapping[str, Mapping[str, Any]]) -> dict[str, Any] | None:
    """Return the fastest setting of ours that agrees well enough with eager fp32."""
    good = {n: s for n, s in settings.items() if n not in BASELINES and s["agreement"] >= ENOUGH}
    if not good:
        return None
    name = min(good, key=lambda n: good[n]["ms"])
    kept = ("ms", "agreement", "eager_over", "eager_over_spread", "eager_default_over")
    return {"setting": name, **{k: good[name][k] for k in kept if k in good[name]}}


def machine(device: torch.device) -> dict[str, Any]:
    """Return what the numbers depend on."""
    found: dict[str, Any] = {"device": device.type, "torch": torch.__version__}
    if device.type == "cuda":
        card = torch.cuda.get_device_properties(device)
        found |= {
            "name": card.name,
            "capability": f"{card.major}.{card.minor}",
            "memory_gib": round(card.total_memory / 2**30, 1),
            "cuda": torch.version.cuda,
            "cudnn": torch.backends.cudnn.version(),  # type: ignore[no-untyped-call]
        }
    return found


def run(
    bench: Bench, cases: Sequence[Case], checkpoints: Mapping[str, Path], path: Path
) -> dict[str, Any]:
    """Measure the cases; what is there is written after each, so that nothing gets lost."""
    result: dict[str, Any] = {"rounds": bench.rounds, "machine": machine(bench.device),
                              "cases": {}, "shrunk_over_plain": {}}  # fmt: skip
    for case in cases:
        checkpoint = checkpoints.get(case.name)
        weights = "reference rule" if checkpoint is None else checkpoint.name
        found = bench.case(case, load(case, checkpoint))
        result["cases"][case.name] = {"weights": weights, **found}
        write_json(result, path)
        gc.collect()
    pair = [c for name in SHRUNK for c in cases if c.name == name]
    if len(pair) == len(SHRUNK):
        networks = [load(case, checkpoints.get(case.name)) for case in pair]
        result["shrunk_over_plain"] = bench.shrunk(pair, networks)
        write_json(result, path)
    return result


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--markdown", type=Path, help="the page to write, benchmarks/gpu.md")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--case", action="append", choices=CASES, help="all where none is named")
    parser.add_argument("--rounds", type=_above_zero, default=ROUNDS)
    parser.add_argument("--compile", action="store_true", help="measure torch.compile as well")
    parser.add_argument("--checkpoint", action="append", default=[], metavar="CASE=FILE",
                        type=_checkpoint)  # fmt: skip
    return parser.parse_args(argv)


def _above_zero(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number above 0")
    return int(text)


def _checkpoint(text: str) -> tuple[str, Path]:
    name, _, file = text.partition("=")
    if name not in CASES or not Path(file).is_file():
        raise argparse.ArgumentTypeError(
            f"{text!r} is not CASE=FILE with one of {', '.join(CASES)} and a file that exists"
        )
    return name, Path(file)


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, write the JSON file and, where asked for, the page; return the exit status."""
    given = _arguments(argv)
    try:
        bench = Bench(given.device, rounds=given.rounds, compiled=given.compile)
        cases = [CASES[name] for name in dict.fromkeys(given.case or CASES)]
        result = run(bench, cases, dict(given.checkpoint), given.json)
    except SegPerceptionError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    if given.markdown:
        temporary = given.markdown.with_name(given.markdown.name + ".part")
        temporary.write_text(page(result, enough=ENOUGH), "utf-8")
        os.replace(temporary, given.markdown)
    return 0


if __name__ == "__main__":
    sys.exit(main())

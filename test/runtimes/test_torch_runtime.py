"""The torch runtime gives the network's labels, says what it cannot do, and changes no module."""

import copy
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import numpy as np
import pytest
import torch
from support import reference, rounding
from torch import Tensor, nn

from seg_perception import decoding, runtimes
from seg_perception.checkpoints.zoo import describe
from seg_perception.decoding import outputs
from seg_perception.errors import ManifestError, ModelError, ProviderError
from seg_perception.manifest import InputSpec, Manifest, OutputSpec
from seg_perception.models import create_model
from seg_perception.models.folding import fold_norms
from seg_perception.models.layers import simplified
from seg_perception.runtimes import PRECISIONS
from seg_perception.runtimes import torch as torch_runtime
from seg_perception.runtimes.pt_file import write_model
from seg_perception.runtimes.torch import TorchRuntime, decode_on_device

SIZE = (64, 128)
SMALL: dict[str, tuple[tuple[int, int], dict[str, Any]]] = {
    "topformer_tiny": (SIZE, {}),
    "afformer_tiny": (SIZE, {}),
    "segformer_b0": (SIZE, {}),
    "hrformer_small_ocr_v2": (SIZE, {}),
    "hrformer_small_ocr_v3": (SIZE, {}),
    "setr_pup": ((64, 64), {"image_size": 64, "width": 64, "depth": 2, "heads": 4}),
    "setr_mla": ((64, 64), {"image_size": 64, "width": 64, "heads": 4}),
    "segvit_vitb": (
        (64, 64),
        {"size": 64, "width": 32, "depth": 3, "heads": 2, "head_width": 16, "head_heads": 2,
         "taps": (0, 1, 2)},
    ),
}  # fmt: skip
needs_no_gpu = pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU is here")


def by_the_rule(arch: str) -> tuple[nn.Module, Manifest]:
    size, changes = SMALL[arch]
    network = create_model(arch, dataset="cityscapes", **changes).eval()
    for key, value in network.state_dict().items():
        if value.is_floating_point():
            value.copy_(torch.from_numpy(reference.tensor(key, list(value.shape))))
    return network, describe(arch, "cityscapes", classes=19, size=size)


def image(size: tuple[int, int], seed: int = 0) -> np.ndarray:
    """Return uint8 (1,H,W,3), smooth with noise."""
    random = np.random.default_rng(seed)
    coarse = random.integers(0, 256, (-(-size[0] // 16), -(-size[1] // 16), 3))
    smooth = np.kron(coarse, np.ones((16, 16, 1)))[: size[0], : size[1]]
    noisy = smooth + random.normal(0, 20, smooth.shape)
    return np.clip(noisy, 0, 255).astype(np.uint8)[None]


def plain(
    network: nn.Module, manifest: Manifest, x: np.ndarray, dtype: torch.dtype = torch.float32
) -> Any:
    """Return what the unmodified network gives of bytes (1,H,W,3): scores (1,K,h,w), or Masks."""
    spec = manifest.input
    mean, std = np.array(spec.mean, np.float32), np.array(spec.std, np.float32)
    normal = torch.from_numpy((x.astype(np.float32) - mean) / std).to(dtype)
    with torch.inference_mode():
        y = copy.deepcopy(network).to(dtype)(normal.permute(0, 3, 1, 2))
    return outputs.Masks(*(part.numpy() for part in y)) if isinstance(y, tuple) else y.numpy()


@pytest.mark.parametrize("arch", SMALL)
def test_labels_are_those_of_the_plain_network(arch: str) -> None:
    network, manifest = by_the_rule(arch)
    before = {key: value.clone() for key, value in network.state_dict().items()}
    runtime = TorchRuntime(network, manifest)
    x = image(manifest.input.size)
    y = runtime.run(x)
    expected, exact = plain(network, manifest, x), plain(network, manifest, x, torch.float64)
    for actual, right, in_64_bits in zip(
        y if isinstance(y, tuple) else (y,),
        outputs.arrays(expected),
        outputs.arrays(exact),
        strict=True,
    ):
        assert actual.dtype == torch.float32
        assert np.abs(actual.numpy() - right).max() <= reference.tolerance(right, in_64_bits)
    inside, size = manifest.input.size, (90, 111)
    labels, sure = runtime.decode(y, inside, size, with_confidence=True)
    right, right_sure = outputs.decode(expected, manifest, inside, size, with_confidence=True)
    assert labels.shape == size
    scores = [rounding.full_scores(part, inside, size, inside) for part in (exact, expected)]
    near = reference.tolerance(scores[1], scores[0])
    assert rounding.only_ties_differ(labels, right, scores[0], near)
    assert sure is not None
    assert right_sure is not None
    assert np.abs(sure.astype(int) - right_sure).max() <= 1
    after = network.state_dict()
    assert all(torch.equal(after[key], value) for key, value in before.items())


@pytest.mark.parametrize("arch", SMALL)
def test_no_normalisation_is_left_behind_a_convolution(arch: str) -> None:
    network, manifest = by_the_rule(arch)
    folded = simplified(network)
    fold_norms(folded, (1, 3, *manifest.input.size))
    assert not any(isinstance(m, nn.BatchNorm2d) for m in folded.modules())


class Forked(nn.Module):
    """Read one convolution twice, or give it away, or normalise what no convolution made."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind
        self.conv = nn.Conv2d(3, 3, 1)
        self.norm, self.other = nn.BatchNorm2d(3), nn.BatchNorm2d(3)
        self.norm.running_mean = self.other.running_var = torch.tensor([0.5, 1.0, 2.0])

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        if self.kind == "input":
            return self.norm(x)  # type: ignore[no-any-return]
        y = self.conv(x)
        if self.kind == "given away":
            return self.norm(y), y
        if self.kind == "two norms":
            return self.norm(y) + self.other(y)  # type: ignore[no-any-return]
        if self.kind == "one norm for two":
            return self.norm(y) + self.norm(x)  # type: ignore[no-any-return]
        if self.kind == "changing norms":
            return self.norm(y) + self.other(self.conv(x + 1))  # type: ignore[no-any-return]
        return self.norm(y) + y  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    "kind",
    ["input", "given away", "two norms", "one norm for two", "changing norms", "residual"],
)
def test_a_norm_that_is_not_alone_stays(kind: str) -> None:
    network = Forked(kind).eval()
    x = torch.rand(1, 3, 4, 5)
    with torch.inference_mode():
        before = network(x)
        fold_norms(network, (1, 3, 4, 5))
        after = network(x)
    assert isinstance(network.norm, nn.BatchNorm2d)
    for one, other in zip(before, after, strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize("kind", ["logits", "probabilities"])
@pytest.mark.parametrize(
    ("inside", "size"),
    [((64, 128), (64, 128)), ((64, 128), (90, 111)), ((64, 96), (48, 70)), ((37, 128), (50, 41))],
)
def test_both_decoders_agree(
    inside: tuple[int, int], size: tuple[int, int], kind: str, align_corners: bool
) -> None:
    random = np.random.default_rng(1)
    scores = torch.from_numpy(random.normal(0, 2, (1, 19, 8, 16)).astype(np.float32))
    y = scores.softmax(1) if kind == "probabilities" else scores
    manifest = Manifest(
        tuple(map(str, range(19))),
        InputSpec((64, 128), resize="keep_ratio_pad"),
        OutputSpec(kind, align_corners=align_corners),
    )
    labels, sure = decode_on_device(y, manifest, inside, size, with_confidence=True)
    right, right_sure = outputs.decode(y.numpy(), manifest, inside, size, with_confidence=True)
    assert labels.dtype == torch.uint8
    assert tuple(labels.shape) == size
    assert sure is not None
    assert right_sure is not None
    assert np.abs(sure.numpy().astype(int) - right_sure).max() <= 1
    rows, columns = outputs.inside_of((8, 16), inside, (64, 128))
    full = decoding.resize_scores(
        np.ascontiguousarray(y[0, :, :rows, :columns].numpy()), size, align_corners=align_corners
    )
    best = full.max(0)
    for found in (labels.numpy(), right):  # the winner, or one that ties with it
        chosen = np.take_along_axis(full, found[None].astype(np.int64), 0)[0]
        assert (best - chosen).max() <= rounding.of_a_resize(y.numpy())
    alone, nothing = decode_on_device(y, manifest, inside, size, with_confidence=False)
    assert nothing is None
    assert torch.equal(alone, labels)


def test_scores_that_are_no_numbers_are_sure_of_nothing() -> None:
    manifest = Manifest(("a", "b"), InputSpec((8, 8)), OutputSpec())
    y = torch.full((1, 2, 4, 4), float("nan"))
    for kind in ("logits", "probabilities"):
        spec = replace(manifest, output=OutputSpec(kind))
        labels, sure = decode_on_device(y, spec, (8, 8), (8, 8), with_confidence=True)
        assert sure is not None
        assert not labels.any()
        assert not sure.any()


@pytest.mark.parametrize(("precision", "least"), [("bf16", 0.97), ("fp16", 0.99)])
@pytest.mark.parametrize("arch", ["topformer_tiny", "segformer_b0", "segvit_vitb"])
def test_low_precision_keeps_the_labels(arch: str, precision: str, least: float) -> None:
    network, manifest = by_the_rule(arch)
    x = image(manifest.input.size)
    size = manifest.input.size
    labels = []
    for chosen in ("fp32", precision):
        runtime = TorchRuntime(network, manifest, precision=chosen)
        y = runtime.run(x)
        labels.append(runtime.decode(y, size, size, with_confidence=False)[0])
    assert (labels[0] == labels[1]).mean() > least


def test_indices_stay_whole_numbers_in_low_precision() -> None:
    network, manifest = by_the_rule("hrformer_small_ocr_v2")
    runtime = TorchRuntime(network, manifest, precision="bf16")
    kinds = {b.dtype for n, b in runtime._network.named_buffers() if n.endswith("index")}
    assert kinds == {torch.int64}
    assert {p.dtype for p in runtime._network.parameters()} == {torch.bfloat16}
    assert np.isfinite(runtime.scores(image(manifest.input.size))).all()


class Huge(nn.Module):
    """Count further than half precision can."""

    def forward(self, x: Tensor) -> Tensor:
        return x * 300 * 300


def test_a_network_that_fp16_cannot_hold_is_refused() -> None:
    manifest = Manifest(("a", "b", "c"), InputSpec((8, 8)), OutputSpec(), name="huge")
    with pytest.raises(ModelError, match="'huge' exceed what fp16 can hold: set precision to bf16"):
        TorchRuntime(Huge(), manifest, precision="fp16")
    assert np.isfinite(TorchRuntime(Huge(), manifest).scores(image((8, 8)))).all()


@pytest.mark.parametrize(
    ("chosen", "told"),
    [
        pytest.param({"provider": "cuda"}, "'cuda'.*install a CUDA build", marks=needs_no_gpu),
        ({"provider": "tensorrt"}, "'tensorrt' does not run .pt models; use cpu or cuda"),
        ({"precision": "int8"}, "'int8' is none of fp32, tf32, bf16, fp16"),
        ({"precision": "tf32"}, "'tf32' is of NVIDIA GPUs alone; on the cpu use fp32"),
    ],
)
def test_what_is_not_to_be_had_is_named(chosen: dict[str, str], told: str, tmp_path: Path) -> None:
    network, manifest = by_the_rule("topformer_tiny")
    path = tmp_path / "model.pt"
    write_model(network, manifest, path)
    with pytest.raises(ProviderError, match=told):
        runtimes.load(path, **chosen)  # type: ignore[arg-type]


@pytest.mark.parametrize("precision", ["tf32", "bf16"])
def test_an_old_card_is_told_what_it_lacks(precision: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (7, 5))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "Old Card")
    with pytest.raises(ProviderError, match=f"'{precision}' is not in Old Card; use fp32 or fp16"):
        torch_runtime._dtype(precision, torch.device("cuda"))
    assert torch_runtime._dtype("fp16", torch.device("cuda")) == torch.float16
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (8, 0))
    assert {torch_runtime._dtype(p, torch.device("cuda")) for p in PRECISIONS} == {
        torch.float32, torch.bfloat16, torch.float16
    }  # fmt: skip


@pytest.mark.parametrize("inside", [(64, 64), (64, 40)])
def test_masks_of_queries_come_out_the_same_on_the_device(inside: tuple[int, int]) -> None:
    network, manifest = by_the_rule("segvit_vitb")
    y = TorchRuntime(network, manifest).run(image(manifest.input.size))
    classes = 5 * torch.eye(19, 20)[None]  # those of the rule's weights give one class alone
    planes = y.planes - y.planes.mean((2, 3), keepdim=True)
    y = outputs.Masks(4 * planes / planes.std((2, 3), keepdim=True), classes)
    size = (90, 111)
    labels, sure = decode_on_device(y, manifest, inside, size, with_confidence=True)
    assert len(np.unique(labels)) > 3
    given = outputs.Masks(*outputs.arrays(y))
    right, right_sure = outputs.decode(given, manifest, inside, size, with_confidence=True)
    scores = rounding.full_scores(y, inside, size, manifest.input.size)
    assert rounding.only_ties_differ(labels, right, scores, rounding.of_a_resize(scores))
    assert sure is not None
    assert right_sure is not None
    assert np.abs(sure.numpy().astype(int) - right_sure).max() <= 1


def test_a_file_whose_manifest_tells_of_another_output_is_refused() -> None:
    network, manifest = by_the_rule("segvit_vitb")
    wrong = replace(manifest, output=OutputSpec())
    with pytest.raises(ManifestError, match="gives masks of queries, its manifest says .* logits"):
        TorchRuntime(network, wrong).run(image((64, 64)))


def test_the_official_map_of_masks_is_the_networks_own() -> None:
    network, manifest = by_the_rule("segvit_vitb")
    x = image((96, 96))
    scores = TorchRuntime(network, manifest).scores(x)
    normal = (x.astype(np.float32) - np.float32(127.5)) / np.float32(127.5)
    with torch.inference_mode():
        fed = torch.from_numpy(normal).permute(0, 3, 1, 2)
        expected = network.scores(fed)[0].numpy()
        exact = copy.deepcopy(network).double().scores(fed.double())[0].numpy()
    assert scores.shape == expected.shape == (19, 96, 96)
    assert np.abs(scores - expected).max() <= reference.tolerance(expected, exact)


def test_image_encodings_of_another_size_are_scored() -> None:
    network, manifest = by_the_rule("segformer_b0")
    x = image((96, 160))
    scores = TorchRuntime(network, manifest).scores(x)
    expected, exact = plain(network, manifest, x)[0], plain(network, manifest, x, torch.float64)[0]
    assert scores.shape == expected.shape == (19, 24, 40)
    assert np.abs(scores - expected).max() <= reference.tolerance(expected, exact)


def test_a_network_of_one_size_says_what_it_takes() -> None:
    network, manifest = by_the_rule("setr_pup")
    runtime = TorchRuntime(network, manifest)
    with pytest.raises(ModelError, match="96x64 and this SETR takes 64x64 alone"):
        runtime.scores(image((96, 64)))
    wide = replace(manifest, input=replace(manifest.input, size=(64, 128)))
    with pytest.raises(ModelError, match="64x128 and this SETR takes 64x64 alone"):
        TorchRuntime(network, wide)
    network, manifest = by_the_rule("segvit_vitb")
    with pytest.raises(ModelError, match="SegViT cannot take 64x128"):
        TorchRuntime(network, manifest).scores(image((64, 128)))


class Breaking(nn.Module):
    """Fail as torch does, where there is an image."""

    def __init__(self, error: type[Exception]) -> None:
        super().__init__()
        self.error = error

    def forward(self, x: Tensor) -> Tensor:
        if not x.is_meta:
            raise self.error("first line\nsecond line")
        return x


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (RuntimeError, r"'b' fails on an image of \(1, 8, 8, 3\): first line$"),
        (torch.cuda.OutOfMemoryError, "memory is full; free some, choose a smaller image"),
    ],
)
def test_what_torch_says_is_passed_on(error: type[Exception], told: str) -> None:
    manifest = Manifest(("a", "b", "c"), InputSpec((8, 8)), OutputSpec(), name="b")
    with pytest.raises(ModelError, match=told):
        TorchRuntime(Breaking(error), manifest).run(image((8, 8)))


def test_read_only_and_strided_images_are_taken_without_a_word() -> None:
    network, manifest = by_the_rule("topformer_tiny")
    runtime = TorchRuntime(network, manifest)
    x = image(SIZE)
    expected = runtime.scores(x)
    frozen = x.copy()
    frozen.flags.writeable = False
    strided = np.ascontiguousarray(x[:, :, ::-1])[:, :, ::-1]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert (runtime.scores(frozen) == expected).all()
        assert (runtime.scores(strided) == expected).all()


class Recorded:
    """Stand in for a CUDA graph: replaying runs the same function on the same memory."""

    def __init__(self) -> None:
        self.replays = 0
        self.work: Callable[[], Any] = lambda: None

    def replay(self) -> None:
        self.replays += 1
        self.work()


def test_image_encodings_of_the_captured_size_go_through_the_graph(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    network, manifest = by_the_rule("segformer_b0")
    runtime = TorchRuntime(network, manifest)
    expected = [runtime.scores(image(SIZE, seed)) for seed in (1, 2)]
    other = runtime.scores(image((96, 160)))

    graph, seen = Recorded(), []
    written = torch.empty(1, *expected[0].shape)

    def forward(x: Tensor) -> Tensor:
        seen.append(x)
        return written.copy_(runtime._forward(x))

    @contextmanager
    def capture(recorded: Recorded, *, capture_error_mode: str) -> Iterator[None]:
        assert recorded is graph
        assert capture_error_mode == "thread_local"  # a swap of models runs next to the old one
        assert torch.is_inference_mode_enabled()
        yield

    monkeypatch.setattr(torch.cuda, "Stream", lambda _: MagicMock())
    monkeypatch.setattr(torch.cuda, "current_stream", lambda _: MagicMock())
    monkeypatch.setattr(torch.cuda, "stream", nullcontext)
    monkeypatch.setattr(torch.cuda, "CUDAGraph", lambda: graph)
    monkeypatch.setattr(torch.cuda, "graph", capture)
    monkeypatch.setattr(Tensor, "pin_memory", lambda self: self)
    shape = runtime.manifest.input.shape
    captured = torch_runtime._Captured(forward, shape, torch.device("cpu"))
    assert len(seen) == torch_runtime.WARM_UPS + 1
    assert all(x is captured.image for x in seen)

    graph.work = lambda: forward(captured.image)
    runtime._captured = captured
    for seed, wanted in zip((1, 2), expected, strict=True):
        assert (runtime.scores(image(SIZE, seed)) == wanted).all()
    assert graph.replays == 2
    assert (runtime.scores(image((96, 160))) == other).all()
    assert graph.replays == 2


def test_tf32_is_said_either_way() -> None:
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    try:
        for wanted in (True, False):
            torch_runtime.allow_tf32(products=wanted, convolutions=wanted)
            assert torch.backends.cuda.matmul.allow_tf32 is wanted
            assert torch.backends.cudnn.allow_tf32 is wanted
    finally:
        torch_runtime.allow_tf32(products=before[0], convolutions=before[1])

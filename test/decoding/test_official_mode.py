"""The official mode prepares, slides and resizes as the official code does."""

import copy
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from support import reference, rounding
from support.paths import DATA
from torch import nn

from seg_perception import catalogue
from seg_perception.decoding import official_mode, resize_scores
from seg_perception.errors import ManifestError, ModelError
from seg_perception.manifest import InputSpec, Manifest, OfficialSpec, OutputSpec
from seg_perception.models import segvit, setr
from seg_perception.runtimes.torch import TorchRuntime
from seg_perception.segmenter import Segmenter

RULES = {  # long, short of the recorded preparations
    "down_256x64": (256, 64),
    "up_512x150": (512, 150),
    "longcap_160x128": (160, 128),
}


def spec_of(rule: str, multiple: int = 1) -> OfficialSpec:
    long, short = RULES[rule]
    return OfficialSpec(short=short, long=long, multiple=multiple)


def check_preparation(recorded: dict[str, np.ndarray], rule: str) -> None:
    image = recorded["image_bgr"]
    kept = official_mode.prepare(image, spec_of(rule)).image
    assert (kept == recorded[f"{rule}|keep_ratio"]).all()
    aligned = official_mode.prepare(image, spec_of(rule, multiple=32)).image
    assert (aligned == recorded[f"{rule}|to_multiple32"]).all()


@pytest.mark.parametrize("rule", ["down_256x64", "longcap_160x128"])
def test_image_encodings_are_prepared_as_recorded(rule: str) -> None:
    check_preparation(dict(np.load(DATA / "official" / "preprocess.npz")), rule)


def test_every_recorded_preparation_comes_out(reference_folder: Path) -> None:
    recorded = dict(np.load(reference_folder / "preprocess.npz"))
    for rule in RULES:
        check_preparation(recorded, rule)
    spec = InputSpec((64, 96), mean=catalogue.MEAN, std=catalogue.STD)
    aligned = official_mode.prepare(recorded["image_bgr"], spec_of("down_256x64", 32)).image
    fed = feed(spec, aligned[..., ::-1])
    expected = recorded["down_256x64|norm_imagenet"]
    assert np.abs(fed - expected).max() <= 2 * rounding.EPS * np.abs(expected).max()
    # HRFormer normalises BGR with the numbers of RGB.
    prepared = catalogue.preparation("hrformer_small_ocr_v2", "cityscapes")
    spec = InputSpec((97, 143), color=prepared.color, mean=prepared.mean, std=prepared.std)
    fed = feed(spec, recorded["image_bgr"])
    expected = recorded["hrformer_norm_bgr"]
    assert np.abs(fed - expected).max() <= 2 * rounding.EPS * np.abs(expected).max()


def feed(spec: InputSpec, image: np.ndarray) -> np.ndarray:
    """Return what a network of this input gets of uint8 (h,w,3) in its colour order."""

    class Echo:
        manifest = Manifest(("a",), spec, OutputSpec(), official=OfficialSpec())
        provider = "cpu"
        takes_any_size = True

    return Segmenter(Echo(), mode="official").to_input(np.ascontiguousarray(image))[0]  # type: ignore[arg-type]


LIGHT_SETR = {"image_size": 128, "width": 192, "depth": 4, "heads": 3, "taps": (0, 1, 2, 3)}
LIGHT_SEGVIT = {
    "size": 128, "width": 192, "depth": 6, "heads": 3, "head_width": 96, "head_heads": 4,
    "taps": (1, 3, 5),
}  # fmt: skip


@pytest.mark.parametrize("name", ["setr_mla_light", "segvit_light"])
def test_windows_slide_as_recorded(name: str) -> None:
    family, variant = name.split("_", 1)
    if family == "setr":
        network: nn.Module = setr.SETR(replace(setr.CONFIGS["setr_mla"], **LIGHT_SETR), 150)
        ignored = setr.AUXILIARY + setr.UNUSED
    else:
        network = segvit.SegViT(replace(segvit.CONFIGS["segvit_vitb"], **LIGHT_SEGVIT), 150)
        ignored = segvit.UNUSED
    weights = reference.state_dict(DATA / family, variant)
    network.load_state_dict({k: w for k, w in weights.items() if not k.startswith(ignored)})
    network.eval()

    exact_network = copy.deepcopy(network).double()

    @torch.no_grad()
    def scores_of(window: np.ndarray, network: nn.Module = network) -> np.ndarray:
        x = torch.from_numpy(window.transpose(2, 0, 1)[None].copy())
        return np.asarray(network.scores(x.to(next(network.parameters()).dtype))[0], np.float32)

    def exact_scores_of(window: np.ndarray) -> np.ndarray:
        return scores_of(window, exact_network)

    image = reference.image(200, 300)[0].permute(1, 2, 0).numpy()
    spec = OfficialSpec(crop=(128, 128), stride=(85, 85))
    scores = resize_scores(official_mode.slide(image, spec, scores_of), (150, 225))
    golden = dict(np.load(DATA / "official" / "slide.npz"))
    key = f"{name}|slide_rescaled"
    expected = golden[key]
    difference = np.abs(reference.stored_part(golden, key, scores[None]) - expected).max()
    exact = resize_scores(official_mode.slide(image, spec, exact_scores_of), (150, 225))
    assert difference <= reference.tolerance(scores, exact)
    assert (scores.argmax(0) == golden[f"{name}|pred"][0]).all()


@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize("size", [(30, 41), (7, 5), (9, 13), (1, 1)])
def test_scores_are_resized_as_torch_does(size: tuple[int, int], align_corners: bool) -> None:
    scores = np.random.default_rng(0).normal(size=(5, 9, 13)).astype(np.float32)
    expected = F.interpolate(
        torch.from_numpy(scores)[None], size, mode="bilinear", align_corners=align_corners
    )[0].numpy()
    ours = resize_scores(scores, size, align_corners=align_corners)
    assert np.abs(ours - expected).max() <= rounding.of_a_resize(scores)


class Means(nn.Module):
    """Score each class by the mean of its channel over 4x4 pixels; takes any size."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.avg_pool2d(x, 4)


def means(spec: OfficialSpec | None, size: tuple[int, int] = (32, 48)) -> TorchRuntime:
    manifest = Manifest(("red", "green", "blue"), InputSpec(size), OutputSpec(), official=spec)
    return TorchRuntime(Means(), manifest)


@pytest.mark.parametrize(
    "spec",
    [
        OfficialSpec(),
        OfficialSpec(short=64, long=200, multiple=32),
        OfficialSpec(short=37, pad_multiple=8, final="cubic"),
        OfficialSpec(short=64, crop=(32, 32), stride=(20, 20)),
    ],
)
def test_the_official_mode_answers_in_the_images_size(
    spec: OfficialSpec, halves: np.ndarray
) -> None:
    result = Segmenter(means(spec), mode="official")(halves)
    assert result.labels.shape == halves.shape[:2]
    assert result.confidence is not None
    assert (result.labels[:, :20] == 0).all()
    assert (result.labels[:, 28:] == 2).all()


def test_padding_is_never_image() -> None:
    spec = OfficialSpec(pad_multiple=8, pad_color=(0, 250, 0))
    image = np.full((33, 50, 3), (250, 0, 0), np.uint8)
    seen = official_mode.prepare(image, spec)
    assert seen.image.shape == (40, 56, 3)
    assert seen.inside == (33, 50)
    assert (seen.image[33:] == (0, 250, 0)).all()
    labels = Segmenter(means(spec), mode="official")(image).labels
    assert labels.shape == (33, 50)
    assert (labels[:-4, :-4] == 0).all()  # nearer to the padding its scores are blended in


def test_the_mode_must_be_known_and_described() -> None:
    with pytest.raises(ModelError, match="'slow' is neither of fast, official"):
        Segmenter(means(OfficialSpec()), mode="slow")
    with pytest.raises(ManifestError, match="does not say how its official code tests it"):
        Segmenter(means(None), mode="official")


def test_a_file_of_one_size_is_refused_where_no_image_could_be_shown_to_it(
    make_model: Callable[..., Path], halves: np.ndarray
) -> None:
    path = make_model(official={"short": 64})
    with pytest.raises(ModelError, match=r"never show it images of 32x48.*as \.pt"):
        Segmenter.load(path, mode="official")
    windows = make_model("windows.onnx", official={"short": 99, "crop": [32, 48], "stride": [9, 9]})
    assert Segmenter.load(windows, mode="official")(halves).labels.shape == (32, 48)
    same = make_model("same.onnx", official={"short": 32})
    segmenter = Segmenter.load(same, mode="official")
    assert (segmenter(halves).labels == Segmenter.load(same)(halves).labels).all()
    with pytest.raises(ModelError, match=r"needs an input of \(1, 32, 32, 3\).*as \.pt"):
        segmenter(np.ascontiguousarray(halves[:, :32]))


@pytest.mark.parametrize("seed", range(40))
def test_what_is_refused_could_not_have_been_shown(seed: int) -> None:
    random = np.random.default_rng(seed)
    crop = tuple(map(int, random.choice([16, 24, 32], 2))) if seed % 2 else None
    spec = OfficialSpec(
        short=int(random.choice([0, 17, 24, 32])),
        long=int(random.choice([0, 40, 48])),
        multiple=int(random.choice([1, 8])),
        pad_multiple=int(random.choice([1, 8])),
        crop=crop,
        stride=(7, 9) if crop else (0, 0),
    )
    shown = set()
    for size in random.integers(1, 70, (60, 2)):
        seen = official_mode.prepare(np.zeros((*size, 3), np.uint8), spec).image

        def note(part: np.ndarray) -> np.ndarray:
            shown.add(part.shape[:2])
            return np.zeros((1, *part.shape[:2]), np.float32)

        note(seen) if crop is None else official_mode.slide(seen, spec, note)
    assert all(official_mode.can_feed(spec, size) for size in shown)
    impossible = (57, 61) if spec.short or crop else (13, 57)
    assert official_mode.can_feed(spec, impossible) == (
        not (spec.short or crop) and spec.pad_multiple == 1
    )


@pytest.mark.parametrize("size", [(1, 900), (900, 1), (1, 1)])
def test_narrow_images_are_answered(size: tuple[int, int]) -> None:
    spec = OfficialSpec(short=32, long=64, crop=(32, 32), stride=(20, 20))
    image = np.full((*size, 3), (0, 250, 0), np.uint8)
    assert official_mode.prepare(image, spec).image.shape[:2] in {(1, 64), (64, 1), (32, 32)}
    network = TorchRuntime(nn.Conv2d(3, 3, 1), means(spec).manifest)
    assert Segmenter(network, mode="official")(image).labels.shape == size


@pytest.mark.parametrize("final", ["bilinear", "cubic"])
@pytest.mark.parametrize("kind", ["logits", "probabilities"])
@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize("size", [(75, 91), (20, 33), (9, 200)])
def test_labels_are_those_of_both_resizes_one_behind_the_other(
    size: tuple[int, int], align_corners: bool, kind: str, final: str
) -> None:
    random = np.random.default_rng(0)
    spec = OfficialSpec(short=40, long=90, pad_multiple=8, final=final)
    output = OutputSpec(kind, align_corners=align_corners)

    def run(part: np.ndarray) -> np.ndarray:
        scores = torch.from_numpy(random.normal(0, 2, (7, part.shape[0] // 8, part.shape[1] // 8)))
        return (scores.softmax(0) if kind == "probabilities" else scores).float().numpy()

    image = np.zeros((*size, 3), np.uint8)
    labels, sure = official_mode.segment(image, spec, output, run, with_confidence=True)
    alone, nothing = official_mode.segment(image, spec, output, run, with_confidence=False)
    assert nothing is None
    assert alone.shape == labels.shape == size
    random = np.random.default_rng(0)
    scores = official_mode.scores_of_what_is_seen(image, spec, output, run)
    if final == "cubic":
        full = np.stack([cv2.resize(s, size[::-1], interpolation=cv2.INTER_CUBIC) for s in scores])
    else:
        full = resize_scores(scores, size, align_corners=align_corners)
    chosen = np.take_along_axis(full, labels[None].astype(np.int64), 0)[0]
    assert (full.max(0) - chosen).max() <= rounding.of_a_resize(full)
    share = torch.from_numpy(full).softmax(0).numpy() if kind == "logits" else full
    assert sure is not None
    assert np.abs(sure - 255 * share.max(0).clip(0, 1)).max() <= rounding.OF_A_SOFTMAX


def test_the_map_of_all_classes_never_has_the_images_size() -> None:
    peak, coarse = [], np.zeros((150, 8, 8), np.float32)
    for final in ("bilinear", "cubic"):
        spec = OfficialSpec(short=32, final=final)
        tracemalloc.start()
        image = np.zeros((512, 512, 3), np.uint8)
        official_mode.segment(image, spec, OutputSpec(), lambda _: coarse, with_confidence=True)
        peak.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert max(peak) < 150 * 512 * 512 * 4 / 8


def test_scores_that_are_no_numbers_are_sure_of_nothing() -> None:
    scores = np.full((3, 4, 4), np.nan, np.float32)
    for kind in ("logits", "probabilities", "masks"):
        labels, sure = official_mode.cubic_labels(scores, (8, 8), kind=kind, with_confidence=True)
        assert sure is not None
        assert not labels.any()
        assert not sure.any()


def test_a_network_of_labels_has_no_official_mode(make_model: Callable[..., Path]) -> None:
    path = make_model("argmax.onnx", official={"short": 32}, output={"kind": "labels"})
    with pytest.raises(ManifestError, match="gives labels, and the official mode resizes scores"):
        Segmenter.load(path, mode="official")


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"short": -1}, "must not be negative"),
        ({"multiple": 0}, "at least 1"),
        ({"short": 8193}, "up to 8192"),
        ({"long": 8193}, "up to 8192"),
        ({"pad_multiple": 8193}, "up to 8192"),
        ({"crop": [8193, 8], "stride": [8, 8]}, "up to 8192"),
        ({"pad_color": [0, 0]}, r"pad_color \[0, 0\] must be three values 0..255"),
        ({"pad_color": [0, 0, 256]}, "must be three values 0..255"),
        ({"crop": [64, 64], "stride": [65, 64]}, "stride.*up to crop"),
        ({"final": "nearest"}, "final 'nearest' must be one of bilinear, cubic"),
        ({"crop": [64]}, "crop"),
        ({"window": 3}, "unknown keys"),
    ],
)
def test_impossible_rules_are_refused(wrong: dict[str, object], message: str) -> None:
    card = {"classes": ["a"], "input": {"size": [8, 8]}, "output": {}, "official": wrong}
    with pytest.raises(ManifestError, match=message):
        Manifest.from_dict(card)


def test_every_variant_of_the_catalogue_is_described() -> None:
    for entry in catalogue.ENTRIES:
        prepared = catalogue.preparation(entry.arch, entry.dataset)
        assert prepared.size == entry.size
        assert prepared.official
    assert catalogue.preparation("topformer_small", "cityscapes").size == (512, 1024)
    with pytest.raises(ModelError, match="unknown architecture 'topformer_huge'.*setr_mla"):
        catalogue.preparation("topformer_huge", "ade20k")


def test_published_numbers_stand_beside_the_weights_that_gave_them() -> None:
    entry = catalogue.find("setr_mla", "pc59")
    assert entry is not None
    assert entry.miou == 55.01  # at batch 16; 54.39 is another file, trained at batch 8
    assert "1k5CwpKfpNUdAFWOuzwWz9PrRwiGS0Xu9" in str(entry.checkpoint)
    segformer = catalogue.find("segformer_b0", "ade20k")
    assert segformer is not None
    assert "not those that the links lead to" in segformer.miou_source

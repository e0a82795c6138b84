"""The official mode prepares, slides and resizes as the official code does."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import reference
import torch
import torch.nn.functional as F
from torch import nn

from seg_perception import catalogue, official
from seg_perception.decoding import resize_scores
from seg_perception.errors import ManifestError, ModelError
from seg_perception.manifest import InputSpec, Manifest, OfficialSpec, OutputSpec
from seg_perception.models import segvit, setr
from seg_perception.runtimes.torch import TorchRuntime
from seg_perception.segmenter import Segmenter

DATA = Path(__file__).parent / "data"
RULES = {  # long, short of the recorded preparations
    "down_256x64": (256, 64),
    "up_512x150": (512, 150),
    "longcap_160x128": (160, 128),
}


def spec_of(rule: str, multiple: int = 1) -> OfficialSpec:
    long, short = RULES[rule]
    return OfficialSpec(short=short, long=long, multiple=multiple)


def check_preparation(recorded: dict[str, np.ndarray], rule: str) -> None:
    picture = recorded["image_bgr"]
    kept = official.prepare(picture, spec_of(rule)).image
    assert (kept == recorded[f"{rule}|keep_ratio"]).all()
    aligned = official.prepare(picture, spec_of(rule, multiple=32)).image
    assert (aligned == recorded[f"{rule}|to_multiple32"]).all()


@pytest.mark.parametrize("rule", ["down_256x64", "longcap_160x128"])
def test_pictures_are_prepared_as_recorded(rule: str) -> None:
    check_preparation(dict(np.load(DATA / "official" / "preprocess.npz")), rule)


def test_every_recorded_preparation_comes_out(reference_folder: Path) -> None:
    recorded = dict(np.load(reference_folder / "preprocess.npz"))
    for rule in RULES:
        check_preparation(recorded, rule)
    spec = InputSpec((64, 96), mean=catalogue.MEAN, std=catalogue.STD)
    aligned = official.prepare(recorded["image_bgr"], spec_of("down_256x64", 32)).image
    fed = feed(spec, aligned[..., ::-1])
    assert np.abs(fed - recorded["down_256x64|norm_imagenet"]).max() <= 1e-6
    # HRFormer normalises BGR with the numbers of RGB.
    prepared = catalogue.preparation("hrformer_small_ocr_v2", "cityscapes")
    spec = InputSpec((97, 143), color=prepared.color, mean=prepared.mean, std=prepared.std)
    fed = feed(spec, recorded["image_bgr"])
    assert np.abs(fed - recorded["hrformer_norm_bgr"]).max() <= 1e-6


def feed(spec: InputSpec, picture: np.ndarray) -> np.ndarray:
    """Return what a network of this input gets of uint8 (h,w,3) in its colour order."""

    class Echo:
        manifest = Manifest(("a",), spec, OutputSpec(), official=OfficialSpec())
        provider = "cpu"

    return Segmenter(Echo(), mode="official").to_input(np.ascontiguousarray(picture))[0]  # type: ignore[arg-type]


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

    @torch.no_grad()
    def scores_of(window: np.ndarray) -> np.ndarray:
        x = torch.from_numpy(window.transpose(2, 0, 1)[None].copy())
        return np.asarray(network.scores(x)[0])

    picture = reference.picture(200, 300)[0].permute(1, 2, 0).numpy()
    spec = OfficialSpec(crop=(128, 128), stride=(85, 85))
    scores = resize_scores(official.slide(picture, spec, scores_of), (150, 225))
    golden = dict(np.load(DATA / "official" / "slide.npz"))
    key = f"{name}|slide_rescaled"
    expected = golden[key]
    difference = np.abs(reference.stored_part(golden, key, scores[None]) - expected).max()
    assert difference <= 1e-4 * expected.std()
    assert (scores.argmax(0) == golden[f"{name}|pred"][0]).all()


@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize("size", [(30, 41), (7, 5), (9, 13), (1, 1)])
def test_scores_are_resized_as_torch_does(size: tuple[int, int], align_corners: bool) -> None:
    scores = np.random.default_rng(0).normal(size=(5, 9, 13)).astype(np.float32)
    expected = F.interpolate(
        torch.from_numpy(scores)[None], size, mode="bilinear", align_corners=align_corners
    )[0].numpy()
    assert np.abs(resize_scores(scores, size, align_corners=align_corners) - expected).max() < 1e-5


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
def test_the_official_mode_answers_in_the_pictures_size(
    spec: OfficialSpec, halves: np.ndarray
) -> None:
    result = Segmenter(means(spec), mode="official")(halves)
    assert result.labels.shape == halves.shape[:2]
    assert result.confidence is not None
    assert (result.labels[:, :20] == 0).all()
    assert (result.labels[:, 28:] == 2).all()


def test_padding_is_never_picture() -> None:
    spec = OfficialSpec(pad_multiple=8, pad_color=(0, 250, 0))
    picture = np.full((33, 50, 3), (250, 0, 0), np.uint8)
    seen = official.prepare(picture, spec)
    assert seen.image.shape == (40, 56, 3)
    assert seen.inside == (33, 50)
    assert (seen.image[33:] == (0, 250, 0)).all()
    labels = Segmenter(means(spec), mode="official")(picture).labels
    assert labels.shape == (33, 50)
    assert (labels[:-4, :-4] == 0).all()  # nearer to the padding its scores are blended in


def test_the_mode_must_be_known_and_described() -> None:
    with pytest.raises(ModelError, match="'slow' is neither of fast, official"):
        Segmenter(means(OfficialSpec()), mode="slow")
    with pytest.raises(ManifestError, match="does not say how its official code tests it"):
        Segmenter(means(None), mode="official")


def test_a_file_of_one_size_says_which_picture_it_cannot_take(
    make_model: Callable[..., Path], halves: np.ndarray
) -> None:
    path = make_model(official={"short": 64})
    with pytest.raises(ModelError, match=r"needs an input of \(1, 64, 96, 3\).*as \.pt"):
        Segmenter.load(path, mode="official")(halves)
    same = make_model("same.onnx", official={"short": 32})
    labels = Segmenter.load(same, mode="official")(halves).labels
    assert (labels == Segmenter.load(same)(halves).labels).all()


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"short": -1}, "must not be negative"),
        ({"multiple": 0}, "at least 1"),
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

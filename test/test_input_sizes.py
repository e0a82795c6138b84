"""A network runs in the shape of the image where its file allows it, and labels stay exact."""

import math
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from seg_perception import images, input_sizes, weights
from seg_perception.errors import ManifestError, ModelError
from seg_perception.input_sizes import MAX_SIZES, Sizes, choose
from seg_perception.manifest import MAX_SIDE, InputSpec
from seg_perception.runtimes import Runtime
from seg_perception.runtimes.onnx_file import OnnxFile
from seg_perception.segmenter import Segmenter

Make = Callable[..., Path]
FREE = InputSpec((512, 640), multiple=64)
CARD = {"size": [32, 48], "layout": "NHWC", "color": "RGB", "dtype": "uint8"}


def noise(*size: int) -> np.ndarray:
    """Return an RGB image (H,W,3) whose classes change every few pixels."""
    return np.random.default_rng(0).integers(0, 256, (*size, 3)).astype(np.uint8)


@pytest.mark.parametrize(
    ("image", "size"),
    [
        ((480, 640), (512, 640)),
        ((512, 640), (512, 640)),
        ((1024, 1280), (512, 640)),
        ((720, 1280), (448, 768)),
        ((600, 1200), (384, 768)),
        ((300, 990), (320, 1024)),
        ((1280, 720), (768, 448)),
        ((500, 500), (576, 576)),
    ],
)
def test_the_size_is_near_the_images_shape_and_the_files_pixels(
    image: tuple[int, int], size: tuple[int, int]
) -> None:
    assert choose(FREE, image) == size


def test_no_size_is_nearer_than_the_one_that_is_chosen() -> None:
    def factor(size: tuple[int, int], image: tuple[int, int]) -> float:
        shape = math.log(size[1] / size[0] / (image[1] / image[0]))
        return abs(shape) + abs(math.log(math.prod(size) / (512 * 640)))

    sides = range(64, 1601, 64)
    for width in range(150, 1500, 13):
        image = (500, width)
        best = min(factor((h, w), image) for h in sides for w in sides)
        assert factor(choose(FREE, image), image) == pytest.approx(best)


def test_shapes_that_no_camera_has_stay_inside_of_what_an_input_may_be() -> None:
    for image in ((1, 1), (1, 100_000), (100_000, 1), (1, 500)):
        size = choose(FREE, image)
        assert all(64 <= side <= MAX_SIDE and side % 64 == 0 for side in size)
    assert choose(FREE, (1, 100_000)) == (64, 8192)


@pytest.mark.parametrize("name", weights.BUNDLED)
def test_the_bundled_models_run_in_the_shape_of_the_camera(name: str) -> None:
    segmenter = Segmenter.load(name)
    height, width = segmenter.input_size((270, 480))
    assert width / height == pytest.approx(16 / 9, rel=0.05)
    assert segmenter(noise(270, 480)).labels.shape == (270, 480)


def test_a_file_of_one_size_keeps_it() -> None:
    assert choose(replace(FREE, multiple=None), (100, 900)) == (512, 640)


@pytest.mark.parametrize("text", ["448", "448x", "x768", "0x64", "448 x 768", "Auto", "-64x64", ""])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(ModelError, match="write auto or HEIGHTxWIDTH"):
        input_sizes.parse(text)


def test_a_size_that_the_network_does_not_take_is_refused_with_one_that_it_does(
    make_model: Make,
) -> None:
    free = make_model(input={**CARD, "multiple": 16})
    for given, near in (("450x768", "448x768"), ("8x99999", "16x8192"), ("24x16", "16x16")):
        with pytest.raises(ModelError, match=f"{given}, .* multiples of 16 .* set auto or {near}"):
            Segmenter.load(free, input_size=given)
    fixed = make_model("fixed.onnx")
    with pytest.raises(ModelError, match="16x32, .* runs at 32x48 alone: set auto or 32x48"):
        Segmenter.load(fixed, input_size="16x32")
    assert Segmenter.load(fixed, input_size="32x48").manifest.input.size == (32, 48)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"multiple": 20}, "whole multiples of multiple 20"),
        ({"multiple": 0}, "whole multiples of multiple 0"),
        ({"multiple": 16, "resize": "keep_ratio_pad"}, "multiple is for resize: stretch"),
        ({"multiple": "all"}, "give a whole number of pixels"),
    ],
)
def test_a_card_whose_multiple_cannot_be_is_refused(
    changes: dict[str, object], reason: str, make_model: Make
) -> None:
    with pytest.raises(ManifestError, match=reason):
        Segmenter.load(make_model(input={**CARD, **changes}))


def test_a_graph_of_one_size_that_says_otherwise_is_refused(
    make_model: Make, tmp_path: Path
) -> None:
    text = make_model(input={**CARD, "name": "image"}).read_bytes()
    path = tmp_path / "changed.onnx"  # as many bytes: "name" becomes "multiple"
    before = b'"name": "image"}'
    assert text.count(before) == 1
    path.write_bytes(text.replace(before, b'"multiple": 16 }'.ljust(len(before))))
    with pytest.raises(ManifestError, match=r"takes \(1, 32, 48, 3\)"):
        Segmenter.load(path, input_size="16x64")


@pytest.mark.parametrize("size", [(90, 200), (60, 120), (50, 165), (165, 50)])
def test_labels_are_those_of_a_file_of_that_size(size: tuple[int, int], make_model: Make) -> None:
    free = Segmenter.load(make_model(input={**CARD, "multiple": 8}))
    chosen = free.input_size(size)
    assert chosen != (32, 48)
    fixed = Segmenter.load(make_model("fixed.onnx", input={**CARD, "size": list(chosen)}))
    same = Segmenter.load(make_model(input={**CARD, "multiple": 8}), input_size=chosen)
    results = [segmenter(noise(*size)) for segmenter in (free, fixed, same)]
    for result in results[1:]:
        assert (result.labels == results[0].labels).all()
        assert (result.confidence == results[0].confidence).all()
    assert len(np.unique(results[0].labels)) == 3


def test_the_size_follows_the_image_and_not_its_bytes(make_model: Make) -> None:
    segmenter = Segmenter.load(make_model(input={**CARD, "multiple": 16}))
    image = np.random.default_rng(0).integers(0, 256, (96, 256), np.uint8)  # nv12 of 64x256
    assert images.size_of(image, "nv12") == (64, 256)
    wide = images.to_rgb(image, "nv12")
    assert (segmenter(image, "nv12").labels == segmenter(wide).labels).all()
    assert segmenter(image, "nv12").labels.shape == (64, 256)


def test_another_file_in_the_place_of_the_running_one_is_not_mixed_in(make_model: Make) -> None:
    spec = {**CARD, "multiple": 16}
    path = make_model(input=spec)
    segmenter = Segmenter.load(make_model(input=spec, sha256=OnnxFile(path).weights_sha256()))
    make_model("model.onnx", input=spec, wide=4)
    segmenter(noise(32, 48))  # of the file's own size, which is open
    with pytest.raises(ModelError, match="damaged or changed"):
        segmenter(noise(16, 64))


def test_a_camera_that_changes_its_size_with_every_image_keeps_few_networks() -> None:
    built = []

    def set_up(size: tuple[int, int]) -> tuple[int, int]:
        built.append(size)
        return size

    sizes = Sizes(stand_in((64, 64)), set_up)  # type: ignore[arg-type]
    for width in range(1, 30):
        assert sizes.get((64, 64 + width)) == (64, 64 + width)
    assert len(sizes._kept) == MAX_SIZES
    built.clear()
    for width in (26, 27, 28, 29, 26):
        sizes.get((64, 64 + width))
    assert built == []  # the newest are kept
    sizes.get((64, 65))
    sizes.get((64, 64 + 26))
    sizes.get((64, 64 + 27))
    assert built == [(64, 65), (64, 64 + 27)]  # 27 was needed longest ago


def test_images_of_other_sizes_go_on_while_one_is_set_up() -> None:
    may_end = threading.Event()

    def set_up(size: tuple[int, int]) -> Runtime:
        may_end.wait()
        return stand_in(size)

    sizes = Sizes(stand_in((64, 64)), set_up)
    try:
        waiting = sizes.start((64, 128))
        assert waiting is not None
        assert not waiting.done()
        assert sizes.get((64, 64)).manifest.input.size == (64, 64)
        assert sizes.start((64, 64)) is None
        assert sizes.start((64, 128)) is waiting
    finally:
        may_end.set()
    assert sizes.get((64, 128)).manifest.input.size == (64, 128)


def stand_in(size: tuple[int, int]) -> Runtime:
    """Return what has a manifest with this input size, and nothing else."""

    class Manifest:
        input = InputSpec(size)

    class Network:
        manifest = Manifest

    return Network  # type: ignore[return-value]

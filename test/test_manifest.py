"""Manifests are complete, agree with their network, and say what to do when they do not."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.brightest import card, write_model

from seg_perception.cards import load_card
from seg_perception.errors import ManifestError, ModelError, ProviderError
from seg_perception.manifest import Manifest
from seg_perception.runtimes.onnx import OnnxRuntime


def test_a_card_survives_the_round_trip() -> None:
    manifest = Manifest.from_dict(card(void_ids=[7], metrics={"miou": 0.5}))
    assert Manifest.from_dict(manifest.to_dict()) == manifest
    assert Manifest.from_metadata({"seg_perception": manifest.to_json()}, where="x") == manifest


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"classes": []}, "0 classes"),
        ({"classes": ["a", "a", "b"]}, "given twice: ..a"),
        ({"palette": [[0, 0, 0]]}, "1 colours for 3 classes"),
        ({"groups": {"red": "flying"}}, "'flying'; choose one of other, drivable"),
        ({"groups": {"pink": "person"}}, "'pink', which is no class"),
        ({"void_ids": [300]}, "0..255"),
        ({"colour": "red"}, "unknown keys ..colour.*known are classes"),
        ({"input": {}}, "size"),
        ({"input": {"size": [0, 4]}}, "above 0"),
        ({"input": {"size": [4, 4], "color": "YUV"}}, "'YUV' must be one of RGB, BGR"),
        ({"input": {"size": [4, 4], "std": [1, 0, 1]}}, "std never 0"),
        ({"output": {"kind": "depth"}}, "'depth' must be one of logits"),
        ({"output": 3}, "output is a mapping"),
        ({"classes": "road"}, "classes: 'road'; give a list of names"),
        ({"classes": ["on", True, "off"]}, "classes: .*True.*in quotes where YAML"),
        ({"void_ids": 11}, "void_ids: 11; give a list of ids"),
        ({"palette": [[0, 0], [0, 0], [0, 0]]}, r"give a list of \[red, green, blue\]"),
        ({"palette": [[0, 0, 256]] * 3}, "palette holds a value outside 0..255"),
        ({"groups": ["red"]}, "give a mapping from class to group"),
        ({"name": 3}, "name: 3; give text"),
        ({"input": {"size": 512}}, r"size: 512; give \[height, width\]"),
        ({"input": {"size": [4, 4, 3]}}, r"size: .*give \[height, width\]"),
        ({"input": {"size": [4, 10**6]}}, "up to 8192"),
        ({"input": {"size": [4, 4], "scale": "1/255"}}, "'1/255'; give a number such as 0.0039"),
        ({"input": {"size": [4, 4], "scale": float("nan")}}, "scale: nan; give a number"),
        ({"input": {"size": [4, 4], "mean": 0.5}}, "mean: 0.5; give a list of three numbers"),
        ({"input": {"size": [4, 4], "mean": [1, 2]}}, "three numbers each"),
        ({"input": {"size": [4, 4], "pad_value": 0.5}}, "pad_value 0.5 must be a whole number"),
        ({"input": {"size": [4, 4], "dtype": "uint8", "scale": 0.1}}, "leave scale, mean and std"),
        ({"output": {"align_corners": "no"}}, "align_corners: 'no'; give true or false"),
    ],
)
def test_a_wrong_card_names_the_key(changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(ManifestError, match=reason):
        Manifest.from_dict(card(**changes))


def test_missing_keys_are_named() -> None:
    with pytest.raises(ManifestError, match="required keys ..input"):
        Manifest.from_dict({"classes": ["a"], "output": {}})


def test_a_yaml_card_is_read_or_its_fault_named(tmp_path: Path) -> None:
    path = tmp_path / "card.yaml"
    path.write_text("classes: [sky]\ninput: {size: [4, 8]}\noutput: {}\n")
    assert Manifest.from_card(path).input.shape == (1, 3, 4, 8)
    for content, reason in [
        (b"classes: [sky", "card.yaml is no YAML: while parsing"),
        (b"classes: \xff", "card.yaml cannot be read"),
        (b"- sky", "card.yaml: a manifest is a mapping of keys, not list"),
        (b"!!python/object/apply:os.getcwd []", "is no YAML: could not determine a constructor"),
    ]:
        path.write_bytes(content)
        with pytest.raises(ManifestError, match=reason):
            Manifest.from_card(path)
    with pytest.raises(ManifestError, match="absent.yaml cannot be read: .*No such file"):
        Manifest.from_card(tmp_path / "absent.yaml")


def test_label_spaces_map_classes_void_and_groups() -> None:
    manifest = Manifest.from_dict(card(void_ids=[1, 9]))
    model, groups = manifest.label_space("model"), manifest.label_space("groups")
    assert model.class_map() == [(0, "red"), (2, "blue")]
    assert list(model.lut[:4]) == [0, 255, 2, 255]
    assert list(groups.lut[:4]) == [4, 255, 0, 255]
    assert groups.class_map()[4] == (4, "person")
    with pytest.raises(ManifestError, match="'cars' is neither"):
        manifest.label_space("cars")


def test_models_without_a_palette_get_distinct_colours() -> None:
    manifest = Manifest.from_dict(card(palette=None))
    colours = manifest.label_space("model").colours[:3]
    assert len(np.unique(colours, axis=0)) == 3


def test_the_camvid_card_is_a_valid_manifest_but_for_the_network() -> None:
    whole = {**load_card("camvid"), "input": {"size": [1, 1]}, "output": {}}
    assert len(Manifest.from_dict(whole).classes) == 11
    with pytest.raises(ManifestError, match="'mars'; there are .*camvid"):
        load_card("mars")


def test_a_file_without_manifest_says_how_to_add_one(make_model: Callable[..., Path]) -> None:
    with pytest.raises(ManifestError, match="seg-perception import .*--manifest"):
        OnnxRuntime(make_model(manifest=False))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"input": {"size": [32, 48], "dtype": "uint8"}}, r"\(1, 3, 32, 48\) \(NCHW\)"),
        (
            {"input": {"size": [32, 48], "layout": "NHWC"}},
            "float32, the network takes uint8: say dtype: uint8",
        ),
        (
            {"classes": ["a", "b"], "palette": None, "groups": {}},
            "classes has 2 names, the network gives 3 channels",
        ),
        ({"output": {"kind": "labels"}}, "kind is labels"),
        ({"output": {"name": "masks"}}, "'masks' but the network's outputs are logits"),
    ],
)
def test_a_manifest_that_disagrees_is_refused(
    changes: dict[str, Any], reason: str, tmp_path: Path
) -> None:
    path = write_model(tmp_path / "m.onnx", card(**changes), size=(32, 48))
    with pytest.raises(ManifestError, match=reason):
        OnnxRuntime(path)


def test_files_that_are_no_models_are_refused(
    tmp_path: Path, make_model: Callable[..., Path]
) -> None:
    with pytest.raises(ModelError, match="no model file at .*default"):
        OnnxRuntime(tmp_path / "absent.onnx")
    text = tmp_path / "text.onnx"
    text.write_text("not a model")
    with pytest.raises(ModelError, match="11 bytes.*truncated, or not an ONNX"):
        OnnxRuntime(text)
    whole = make_model().read_bytes()
    cut = tmp_path / "cut.onnx"
    cut.write_bytes(whole[: len(whole) // 2])
    with pytest.raises((ModelError, ManifestError)):
        OnnxRuntime(cut)


def test_a_provider_that_is_not_active_is_an_error(make_model: Callable[..., Path]) -> None:
    with pytest.raises(ProviderError, match="'gpu'; use cpu, cuda"):
        OnnxRuntime(make_model(), provider="gpu")
    with pytest.raises(ProviderError, match="'cuda' is not in this ONNX Runtime"):
        OnnxRuntime(make_model(), provider="cuda")

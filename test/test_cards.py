"""Data-set cards: the classes and colours their authors gave, and groups no robot is hurt by."""

from collections import defaultdict
from importlib import resources

import pytest
import yaml

from seg_perception import cards
from seg_perception.cards import load_card
from seg_perception.labels import GROUPS
from seg_perception.manifest import Manifest
from seg_perception.models import DATASET_CLASSES

OFFICIAL = {
    "ade20k": {
        0: ("wall", [120, 120, 120]),
        2: ("sky", [6, 230, 230]),
        3: ("floor", [80, 50, 50]),
        6: ("road", [140, 140, 140]),
        7: ("bed", [204, 5, 255]),
        12: ("person", [150, 5, 61]),
        20: ("car", [0, 102, 200]),
        53: ("stairs", [255, 224, 0]),
        80: ("bus", [255, 0, 245]),
        109: ("swimming pool", [0, 184, 255]),
        127: ("bicycle", [255, 245, 0]),
        149: ("flag", [92, 0, 255]),
    },
    "cityscapes": {
        0: ("road", [128, 64, 128]),
        1: ("sidewalk", [244, 35, 232]),
        2: ("building", [70, 70, 70]),
        5: ("pole", [153, 153, 153]),
        8: ("vegetation", [107, 142, 35]),
        9: ("terrain", [152, 251, 152]),
        10: ("sky", [70, 130, 180]),
        11: ("person", [220, 20, 60]),
        12: ("rider", [255, 0, 0]),
        13: ("car", [0, 0, 142]),
        16: ("train", [0, 80, 100]),
        18: ("bicycle", [119, 11, 32]),
    },
    "pc59": {
        0: ("aeroplane", [180, 120, 120]),
        5: ("bicycle", [140, 140, 140]),
        13: ("car", [8, 255, 51]),
        25: ("floor", [9, 7, 230]),
        29: ("ground", [8, 255, 214]),
        36: ("person", [102, 8, 255]),
        40: ("road", [0, 255, 20]),
        44: ("sidewalk", [235, 12, 255]),
        46: ("sky", [0, 163, 255]),
        52: ("tree", [255, 224, 0]),
        58: ("wood", [31, 0, 255]),
    },
    "cocostuff10k": {
        0: ("person", [0, 192, 64]),
        2: ("car", [0, 64, 96]),
        10: ("fire hydrant", [128, 32, 192]),
        56: ("chair", [0, 128, 64]),
        79: ("toothbrush", [192, 160, 0]),
        80: ("banner", [0, 192, 0]),
        112: ("grass", [0, 32, 128]),
        128: ("pavement", [64, 128, 0]),
        137: ("road", [192, 128, 128]),
        145: ("sky-other", [64, 224, 64]),
        157: ("tree", [64, 160, 192]),
        170: ("wood", [64, 64, 0]),
    },
}
# Classes that share a colour in the palettes everybody uses.
SHARED: dict[str, list[set[str]]] = {
    "ade20k": [{"road", "skyscraper"}],
    "cityscapes": [],
    "pc59": [{"bicycle", "snow"}],
    "cocostuff10k": [
        {"person", "bicycle"},
        {"car", "fog"},
        {"motorcycle", "remote"},
        {"truck", "traffic light", "cloth"},
        {"parking meter", "broccoli"},
        {"bird", "oven"},
        {"cat", "apple"},
        {"horse", "dirt"},
    ],
    "camvid": [],
}
# Everything else has a group of its own: a class that nobody thought of would be `other`.
OTHER: dict[str, set[str]] = {
    "ade20k": {"ceiling", "sand", "light", "chandelier"},
    "cityscapes": set(),
    "pc59": {"ceiling", "snow"},
    "cocostuff10k": {"ceiling-other", "ceiling-tile", "fog", "mud", "sand", "snow", "waterdrops"},
    "camvid": set(),
}
WATER = ("water", "sea", "river", "lake", "swimming pool", "waterfall", "fountain", "water-other")


def manifest_of(dataset: str) -> Manifest:
    return Manifest.from_dict(
        {**load_card(dataset), "input": {"size": [512, 512]}, "output": {"kind": "logits"}}
    )


@pytest.mark.parametrize("dataset", DATASET_CLASSES)
def test_a_card_fits_the_networks_of_its_data_set(dataset: str) -> None:
    manifest = manifest_of(dataset)
    assert manifest.dataset == dataset
    assert manifest.attribution
    assert len(manifest.classes) == len(set(manifest.classes)) == DATASET_CLASSES[dataset]
    assert all(name == name.strip() for name in manifest.classes)
    assert manifest.palette is not None
    assert len(manifest.palette) == DATASET_CLASSES[dataset]
    assert all(len(colour) == 3 for colour in manifest.palette)
    assert all(0 <= part <= 255 for colour in manifest.palette for part in colour)


@pytest.mark.parametrize("dataset", DATASET_CLASSES)
def test_a_card_says_no_more_than_the_data_set_decides(dataset: str) -> None:
    """A card's keys win over those of a trained model, whose licence and source are its own."""
    known = {"dataset", "classes", "palette", "groups", "void_ids", "attribution"}
    assert set(load_card(dataset)) <= known


@pytest.mark.parametrize("dataset", OFFICIAL)
def test_ids_and_colours_are_the_official_ones(dataset: str) -> None:
    card = load_card(dataset)
    for i, (name, colour) in OFFICIAL[dataset].items():
        assert (card["classes"][i], card["palette"][i]) == (name, colour), i


@pytest.mark.parametrize("dataset", DATASET_CLASSES)
def test_colours_differ_but_where_the_official_palette_repeats_one(dataset: str) -> None:
    card = load_card(dataset)
    names: dict[tuple[int, ...], set[str]] = defaultdict(set)
    for name, colour in zip(card["classes"], card["palette"], strict=True):
        names[tuple(colour)].add(name)
    shared = [group for group in names.values() if len(group) > 1]
    assert sorted(map(sorted, shared)) == sorted(map(sorted, SHARED[dataset]))


@pytest.mark.parametrize("dataset", DATASET_CLASSES)
def test_every_class_but_the_harmless_has_a_group(dataset: str) -> None:
    card = load_card(dataset)
    assert set(card["groups"].values()) <= set(GROUPS) - {"other"}
    assert set(card["classes"]) - set(card["groups"]) == OTHER[dataset]


@pytest.mark.parametrize("dataset", DATASET_CLASSES)
def test_no_key_is_written_twice(dataset: str) -> None:
    """YAML would keep the last one in silence."""
    nodes = [yaml.compose(resources.files(cards).joinpath(f"{dataset}.yaml").read_text("utf-8"))]
    for node in nodes:
        if isinstance(node, yaml.MappingNode):
            keys = [key.value for key, _ in node.value]
            assert len(keys) == len(set(keys))
            nodes += [value for _, value in node.value]


@pytest.mark.parametrize("dataset", DATASET_CLASSES)
def test_no_robot_is_sent_into_water(dataset: str) -> None:
    groups = load_card(dataset)["groups"]
    for name in WATER:
        assert groups.get(name, "obstacle") == "obstacle"


def test_a_name_means_the_same_in_every_card() -> None:
    """Only `light` differs: ADE20K alone has a class of its own for lamps that stand about."""
    meanings: dict[str, set[str]] = defaultdict(set)
    for dataset in DATASET_CLASSES:
        card = load_card(dataset)
        for name in card["classes"]:
            meanings[name].add(card["groups"].get(name, "other"))
    assert {name for name, groups in meanings.items() if len(groups) > 1} == {"light"}


@pytest.mark.parametrize(
    ("dataset", "name", "group"),
    [
        ("ade20k", "rug", "drivable"),
        ("ade20k", "stairs", "obstacle"),
        ("ade20k", "windowpane", "obstacle"),
        ("ade20k", "ceiling", "other"),
        ("cityscapes", "rider", "person"),
        ("cityscapes", "terrain", "vegetation"),
        ("pc59", "pottedplant", "obstacle"),
        ("pc59", "track", "obstacle"),
        ("cocostuff10k", "pavement", "sidewalk"),
        ("cocostuff10k", "clouds", "sky"),
    ],
)
def test_a_planner_reads_the_group_of_a_class(dataset: str, name: str, group: str) -> None:
    manifest = manifest_of(dataset)
    space = manifest.label_space("groups")
    assert space.names[space.lut[manifest.classes.index(name)]] == group

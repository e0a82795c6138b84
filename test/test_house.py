"""The package's papers agree with each other."""

import re
import xml.etree.ElementTree as ElementTree
from dataclasses import fields
from importlib import metadata
from pathlib import Path

from make_reference import show

import seg_perception
from seg_perception.parameters import OccupancyParameters, SegmentationParameters, name_of

ROOT = Path(__file__).parent.parent


def test_versions_agree() -> None:
    manifest = ElementTree.parse(ROOT / "package.xml").getroot()
    version = manifest.findtext("version")
    assert version == seg_perception.__version__ == metadata.version("seg_perception")
    assert version in (ROOT / "CHANGELOG.rst").read_text()


def test_every_ros_package_that_is_imported_is_declared() -> None:
    manifest = ElementTree.parse(ROOT / "package.xml").getroot()
    declared = {e.text for e in manifest if e.tag.endswith("depend")}
    imported = set()
    for path in [
        *(ROOT / "seg_perception" / "nodes").glob("*.py"),
        *(ROOT / "launch").glob("*.py"),
    ]:
        imported |= set(re.findall(r"^\s*(?:from|import) (\w+)", path.read_text(), re.MULTILINE))
    ros = {n for n in imported if n.endswith("_msgs") or n in {"rclpy", "launch", "launch_ros"}}
    ros |= {n for n in imported if n in {"builtin_interfaces", "std_srvs", "ament_index_python"}}
    assert ros <= declared
    assert {"cv_bridge", "sensor_msgs_py", "tf2_ros", "vision_msgs", "launch_ros"} <= declared


def test_readme_lists_every_parameter_with_its_default() -> None:
    readme = (ROOT / "README.md").read_text()
    for node, parameters in (
        ("segmentation_node", SegmentationParameters),
        ("occupancy_node", OccupancyParameters),
    ):
        section = readme.partition(f"\n## {node}\n")[2].partition("\n## ")[0]
        table = section.partition("| parameter | default | meaning |\n|---|---|---|\n")[2]
        told: dict[str, str] = {}
        for names, text in re.findall(r"^\| (`.*?`) \|(.*?)\|", table, re.MULTILINE):
            found, defaults = re.findall(r"`(.*?)`", names), text.strip().split(", ")
            told |= zip(found, defaults * (len(found) // len(defaults)), strict=True)
        assert told == {name_of(f): show(f.default) for f in fields(parameters)}

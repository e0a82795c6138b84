"""The package's papers agree with each other."""

import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from importlib import metadata

from support.paths import ROOT

import seg_perception


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


def test_the_readme_fits_on_two_screens() -> None:
    text = (ROOT / "README.md").read_text("utf-8")
    assert len(text.splitlines()) <= 150
    assert len(text.encode()) <= 9000


def test_importing_the_package_is_free_and_gives_its_names() -> None:
    code = (
        "import sys, seg_perception\n"
        "assert not {'numpy', 'cv2', 'onnxruntime'} & set(sys.modules)\n"
        "from seg_perception import Segmenter\n"
        "assert {n: getattr(seg_perception, n).__name__ for n in seg_perception.__all__} == "
        "{n: n for n in seg_perception.__all__}\n"
        "try: seg_perception.Nothing\n"
        "except AttributeError as error: assert 'Nothing' in str(error)\n"
        "else: raise SystemExit('no error')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr

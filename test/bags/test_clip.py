"""The bundled clip is 101 images at 15 Hz with a truth for each."""

from importlib import resources
from pathlib import Path

import cv2
import numpy as np

from seg_perception import messages
from seg_perception.bags.bag import BagReader, deserialize

CLIP = Path(str(resources.files("seg_perception") / "clip"))


def test_the_clip_is_as_the_contract_says() -> None:
    with BagReader(CLIP / "bag") as bag:
        assert bag.topics == {
            "/camera/image/compressed": "sensor_msgs/msg/CompressedImage",
            "/camera/camera_info": "sensor_msgs/msg/CameraInfo",
        }
        images = [deserialize(m) for m in bag.raw(["/camera/image/compressed"])]
        infos = [deserialize(m) for m in bag.raw(["/camera/camera_info"])]
    stamps = np.array([messages.stamp_ns(p.header) for p in images])
    assert len(stamps) == len(infos) == 101
    assert np.abs(np.diff(stamps) - 1e9 / 15).max() <= 1
    assert {p.header.frame_id for p in images} == {"camera_optical"}
    assert {(i.width, i.height) for i in infos} == {(480, 360)}
    for stamp in stamps:
        truth = cv2.imread(str(CLIP / "truth" / f"{stamp}.png"), cv2.IMREAD_UNCHANGED)
        assert truth.shape == (360, 480)
        assert truth.max() <= 11


def test_the_clip_carries_its_attribution() -> None:
    assert "Brostow" in (CLIP / "README.md").read_text()

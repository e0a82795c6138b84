"""Messages of one image become a look; ids mean what the model says."""

from types import SimpleNamespace as Message

import numpy as np
import pytest
from support.brightest import card

from seg_perception.errors import GeometryError, ImageError
from seg_perception.labels import GROUPS
from seg_perception.manifest import Manifest
from seg_perception.monitor import LabelFrameMonitor
from seg_perception.occupancy.looks import MaskIds, read_label_frame
from seg_perception.occupancy.synchronizer import Match

MANIFEST = Manifest.from_dict(card(void_ids=[2]))  # red person, green vegetation, blue void


def image(array: np.ndarray, encoding: str = "mono8", padding: int = 0) -> Message:
    rows = np.pad(array, ((0, 0), (0, padding)), constant_values=77)
    header = Message(stamp=Message(sec=3, nanosec=7), frame_id="eye")
    return Message(
        header=header, height=array.shape[0], width=array.shape[1], encoding=encoding,
        step=rows.shape[1], data=rows.tobytes(),
    )  # fmt: skip


def depth_image(depth: np.ndarray, padding: int = 0) -> Message:
    """Return a message whose rows end with `padding` bytes of nonsense."""
    rows = depth.view(np.uint8).reshape(len(depth), -1)
    message = image(rows, {"f": "32FC1", "u": "16UC1"}[depth.dtype.kind], padding)
    message.width = depth.shape[1]
    message.is_bigendian = int(depth.dtype.byteorder == ">")
    return message


def info(width: int = 5, height: int = 4) -> Message:
    roi = Message(x_offset=0, y_offset=0, width=0, height=0, do_rectify=False)
    return Message(
        width=width, height=height, distortion_model="", d=[], binning_x=0, binning_y=0, roi=roi,
        k=[4.0, 0, 2, 0, 4, 2, 0, 0, 1], r=[0.0] * 9, p=[8.0, 0, 2, 0, 0, 8, 2, 0, 0, 0, 1, 0],
    )  # fmt: skip


def read(match: Match, space: str = "model", rectified: bool = False) -> object:
    ids = MaskIds(MANIFEST, space)
    return read_label_frame(match, ids, name="left", frame="eye", rectified=rectified)


def test_ids_of_classes_become_groups_and_others_unknown() -> None:
    labels = np.array([[0, 1, 2, 3, 255]] * 4, np.uint8)
    found = read(Match(image(labels, padding=3), None, info(), {}))
    assert found.groups[0].tolist() == [4, 6, 255, 255, 255]
    assert (found.name, found.frame, found.stamp) == ("left", "eye", 3_000_000_007)
    assert found.confidence is None
    assert (found.camera.width, found.camera.height, found.camera.fx) == (5, 4, 4.0)


def test_ids_of_groups_stay_and_others_are_unknown() -> None:
    labels = np.array([[0, 4, 7, 8, 255]] * 4, np.uint8)
    sure = np.full((4, 5), 9, np.uint8)
    found = read(Match(image(labels), image(sure, padding=2), info(), {}), "groups")
    assert found.groups[0].tolist() == [0, 4, 7, 255, 255]
    assert (found.confidence == 9).all()


def test_a_rectified_image_is_seen_through_p() -> None:
    labels = np.zeros((4, 5), np.uint8)
    assert read(Match(image(labels), None, info(), {}), rectified=True).camera.fx == 8.0


@pytest.mark.parametrize("kind", ["<f4", ">f4", "<u2", ">u2"])
@pytest.mark.parametrize("padding", [0, 3])
def test_depth_is_read_with_its_unit_order_of_bytes_and_step(kind: str, padding: int) -> None:
    labels = np.zeros((4, 5), np.uint8)
    depth = (np.arange(20).reshape(4, 5) * 100 + 7).astype(kind)
    sent = depth_image(depth, padding)
    found = read(Match(image(labels), None, info(), {}, sent)).depth
    assert found.dtype == (np.float32 if kind.endswith("f4") else np.uint16)
    assert (found == depth).all()
    assert found.flags.carray, "as the compiled code expects it"
    assert read(Match(image(labels), None, info(), {})).depth is None


def test_depth_that_cannot_be_read_is_named() -> None:
    good, depth = image(np.zeros((4, 5), np.uint8)), np.ones((4, 5), np.float32)

    def refused(match: str, sent: Message) -> None:
        with pytest.raises(ImageError, match=match):
            read(Match(good, None, info(), {}, sent))

    refused("depth is 'mono8'; send 32FC1 .m. or 16UC1 .mm.", image(np.ones((4, 5), np.uint8)))
    refused("depth is 6x4 but label_mask is 5x4: register", depth_image(np.ones((4, 6), "u2")))
    short = depth_image(depth)
    short.data = short.data[:-1]
    refused("79 bytes of data for 5x4 32FC1 with step 20 .needs 80.: .*truncated", short)
    narrow = depth_image(depth)
    narrow.step = 19
    refused("step 19 is less than 5 pixels of 32FC1 need .20 bytes.", narrow)
    huge = depth_image(depth)
    huge.width = 10**9
    refused("more than 50000000 pixels", huge)


def test_what_cannot_be_read_is_named() -> None:
    good, sure = image(np.zeros((4, 5), np.uint8)), image(np.zeros((4, 6), np.uint8))
    with pytest.raises(ImageError, match="label_mask is 'rgb8'; send mono8"):
        read(Match(image(np.zeros((4, 15), np.uint8), "rgb8"), None, info(), {}))
    with pytest.raises(ImageError, match="confidence is '32FC1'"):
        read(Match(good, image(np.zeros((4, 5), np.uint8), "32FC1"), info(), {}))
    with pytest.raises(ImageError, match="confidence is 6x4 but label_mask is 5x4"):
        read(Match(good, sure, info(), {}))
    with pytest.raises(GeometryError, match="no CameraInfo of frame 'eye' yet"):
        read(Match(good, None, None, {}))
    with pytest.raises(GeometryError, match="CameraInfo is of an image of 9x4"):
        read(Match(good, None, info(width=9), {}))


def test_names_are_compared_with_the_models() -> None:
    ids = MaskIds(MANIFEST, "model")
    assert ids.disagreement([(1, "green"), (0, "red")]) == ""
    assert "id 0 'road', the model calls it 'red'" in ids.disagreement([(0, "road"), (1, "green")])
    assert "id 1 'nothing'" in ids.disagreement([(0, "red")])
    assert "id 2 'blue', the model calls it 'nothing'" in ids.disagreement(
        [(0, "red"), (1, "green"), (2, "blue")]
    )
    groups = MaskIds(MANIFEST, "groups")
    assert groups.disagreement(enumerate(GROUPS)) == ""
    assert "give this node the model" in groups.disagreement([(0, "red"), (1, "green")])
    assert groups.groups.class_map() == list(enumerate(GROUPS))


def test_looks_that_are_skipped_are_counted_apart() -> None:
    monitor = LabelFrameMonitor()
    monitor.on_unplaced(1.0, "no pose")
    assert monitor.values(1.0)["last_error"] == "no pose"
    monitor.on_stale(2.0, "too old")
    values = monitor.values(2.0)
    assert (values["unplaced"], values["too_old"], values["last_error"]) == ("1", "1", "too old")
    assert monitor.last_error_time == 2.0

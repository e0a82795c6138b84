"""Both nodes in one process: each keeps its name, its parameters and its newest message."""

import signal
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from nav_msgs.msg import OccupancyGrid
from sensor_msgs.msg import CameraInfo, Image
from support.graph import Graph

from seg_perception.launch_arguments import HEARD
from seg_perception.messages import stamp_ns

SEGMENTATION, OCCUPANCY = "/segmentation_node", "/occupancy_node"
REMAPS = {f"occupancy_node:{name}": f"{SEGMENTATION}/{name}" for name in HEARD}
PLACED = {"pose_source": "parameters", "label_space": "groups", "camera_z": 1.2}
IMAGES, PERIOD = 12, 0.15
# The map takes as long as four images.
SLOW_MAP = f"""
import time
from seg_perception.nodes import perception_node
from seg_perception.occupancy.mapper import Mapper
update = Mapper.update
def slowly(*arguments):
    time.sleep({4 * PERIOD})
    return update(*arguments)
Mapper.update = slowly
perception_node.main()
"""


@pytest.fixture
def both(ros: Graph, make_model: Callable[..., Path]) -> list[str]:
    """Return the ROS arguments of both nodes."""
    parameters = {**PLACED, "model": make_model(), "camera_pitch": 0.3, "diagnostics_period": 0.2}
    given = [part for name, v in parameters.items() for part in ("-p", f"{name}:={v}")]
    remaps = [part for rule in REMAPS.items() for part in ("-r", ":=".join(rule))]
    return ["--ros-args", *given, *remaps]


def publish(ros: Graph, camera: object, info: object, image: np.ndarray) -> int:
    """Publish an image and its CameraInfo; return the stamp in ns."""
    message = ros.image_message(image)
    height, width = image.shape[:2]
    k = [40.0, 0.0, width / 2, 0.0, 40.0, height / 2, 0.0, 0.0, 1.0]
    info.publish(CameraInfo(header=message.header, height=height, width=width, k=k))
    camera.publish(message)
    return stamp_ns(message.header)


@pytest.mark.alone
def test_a_slow_map_does_not_hold_masks_back_and_takes_the_newest(
    ros: Graph, both: list[str], halves: np.ndarray
) -> None:
    process = ros.start("-c", SLOW_MAP, *both)
    masks = ros.collect(Image, f"{SEGMENTATION}/label_mask", depth=50)
    grids = ros.collect(OccupancyGrid, f"{OCCUPANCY}/grid/cost", depth=50)
    camera, info = ros.camera(), ros.camera(CameraInfo, "/camera_info")
    for name in (SEGMENTATION, OCCUPANCY):
        ros.name = name
        ros.wait(lambda: ros.state() == "active")
    ros.wait(lambda: camera.get_subscription_count() and info.get_subscription_count())
    while not grids:  # one side knows the other before that one knows it
        publish(ros, camera, info, halves)
        ros.spin(PERIOD)
    ros.spin(8 * PERIOD)
    masks.clear()
    grids.clear()

    stamps = []
    for _ in range(IMAGES):
        stamps.append(publish(ros, camera, info, halves))
        ros.spin(PERIOD)
    ros.wait(lambda: grids and stamp_ns(grids[-1].header) == stamps[-1])
    segmented = [stamp_ns(mask.header) for mask in masks]
    mapped = [stamp_ns(grid.header) for grid in grids]
    assert segmented == sorted(set(segmented) & set(stamps))
    assert mapped == sorted(set(mapped) & set(stamps))
    # A busy machine may lose some masks; the map takes every fourth or fewer, never a queue.
    assert len(segmented) > IMAGES * 2 / 3 > IMAGES / 2 >= len(mapped)

    process.send_signal(signal.SIGINT)
    process.send_signal(signal.SIGINT)  # of the terminal, and of launch
    assert process.wait(20) == 0
    assert "Traceback" not in ros.logs()


def test_one_node_that_cannot_configure_leaves_the_other_at_work(
    ros: Graph, both: list[str], halves: np.ndarray, tmp_path: Path
) -> None:
    file = tmp_path / "wrong.yaml"
    file.write_text("/occupancy_node:\n  ros__parameters: {base_frame: odom}\n")
    ros.start("-m", "seg_perception.nodes.perception_node", *both, "--params-file", str(file))
    masks = ros.collect(Image, f"{SEGMENTATION}/label_mask")
    ros.ask(ros.camera(), ros.image_message(halves), masks)
    ros.name = OCCUPANCY
    ros.wait(lambda: ros.state() == "unconfigured")
    assert "cannot configure: base_frame is 'odom' and odom_frame 'odom'" in ros.logs()

"""A recorded drive with two cameras and odometry, played into the real node: how right is its map?

python -m pytest -rP test/test_occupancy_bag.py    prints the IoU of each ground class
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from nav_msgs.msg import Odometry
from rclpy.serialization import serialize_message
from support import bounds
from support.graph import Graph
from support.rig import CAMERA, PLACED, Rig, best, grids, places
from support.world import OBSTACLE, Box, Pose2D, World, mounted

from seg_perception.bags.bag import BagWriter, RawMessage
from seg_perception.labels import GROUPS
from seg_perception.messages import stamp_ns

BOXES = (Box(7.0, -1.0, 7.6, 0.0, 1.2),)
MOUNTS = {"front": mounted(height=1.2), "left": mounted(height=1.0, yaw=0.9)}
PARAMETERS = {"front.camera_z": 1.2, "front.camera_pitch": 0.3, "left.camera_z": 1.0,
              "left.camera_pitch": 0.3, "left.camera_yaw": 0.9}  # fmt: skip
TYPES = {"Image": "sensor_msgs", "CameraInfo": "sensor_msgs", "Odometry": "nav_msgs"}
START, PERIOD, COUNT = 1_000_000_000_000, 100_000_000, 25


def write_drive(path: Path, rig: Rig) -> int:
    """Write the bag; return the stamp of its last images."""
    ground = World(BOXES)
    with BagWriter(path) as bag:

        def write(topic: str, message: Any, stamp: int) -> None:
            kind = type(message).__name__
            name = f"{TYPES[kind]}/msg/{kind}"
            bag.write(RawMessage(topic, name, stamp, bytes(serialize_message(message))))

        for i in range(COUNT):
            stamp = START + i * PERIOD
            place = Pose2D(0.15 * i, 0.01 * i, 0.008 * i)
            write("/odom", odometry(place, stamp), stamp)
            for name, mount in MOUNTS.items():
                frame = f"{name}_eye"
                seen = ground.image(CAMERA, mount, place)
                write(f"/{name}/camera_info", rig.info(stamp, frame=frame), stamp)
                write(f"/{name}/label_mask", rig.image(seen, stamp, frame), stamp)
    return stamp


def odometry(place: Pose2D, stamp: int) -> Odometry:
    message = Odometry(child_frame_id="base_link")
    message.header.frame_id = "odom"
    message.header.stamp.sec, message.header.stamp.nanosec = divmod(stamp, 1_000_000_000)
    message.pose.pose.position.x, message.pose.pose.position.y = place.x, place.y
    message.pose.pose.orientation.z = float(np.sin(place.yaw / 2))
    message.pose.pose.orientation.w = float(np.cos(place.yaw / 2))
    return message


def test_a_recorded_drive_gives_the_map_of_its_world(
    ros: Graph, make_model: Callable[..., Path], tmp_path: Path
) -> None:
    last = write_drive(tmp_path / "drive.mcap", Rig(ros))
    answers = grids(ros)
    fixed = {k: v for k, v in PLACED.items() if not k.startswith("camera_")}
    ros.start_node(
        model=make_model(), cameras=list(MOUNTS), use_sim_time=True, half_life=60.0,
        max_range=5.0, max_age=0.0, **fixed, **PARAMETERS,
    )  # fmt: skip
    ros.start(
        "-m", "seg_perception.live.player_node", str(tmp_path / "drive.mcap"),
        "--sent", str(tmp_path / "sent.json"), "--node", "occupancy_node", "--rate", "0.5",
    )  # fmt: skip
    ros.wait(lambda: answers["cost"] and stamp_ns(answers["cost"][-1].header) == last, 90)
    ros.wait(lambda: all(a and stamp_ns(a[-1].header) == last for a in answers.values()))

    found, (x, y) = best(answers), places(answers["cost"][-1])
    truth, seen = World(BOXES).ground(x, y), found >= 0
    ious = {}
    for group in np.unique(truth[seen & (found != OBSTACLE)]):
        here, there = (truth == group) & seen & (found != OBSTACLE), found == group
        ious[GROUPS[group]] = (here & there).sum() / (here | there).sum()
    for name, iou in ious.items():
        print(f"IoU {name}: {iou:.3f}")
    print(f"{seen.sum()} cells seen, mean IoU {np.mean(list(ious.values())):.3f}")
    assert seen.sum() > 3000
    assert len(ious) >= 3
    assert min(ious.values()) >= 0.95
    solid = found == OBSTACLE
    # The cell begins before a contact, which is in the row of pixels that meets the ground there.
    row = bounds.of_row(5.0, 1.0, CAMERA.fx)
    assert -0.1 < x[solid].min() - 0.05 - BOXES[0].x0 <= row
    assert (y[solid] > -1.2).all()
    assert (y[solid] < 0.2).all()

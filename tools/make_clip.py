"""Make the bundled clip from CamVid's val images: python tools/make_clip.py CAMVID/val OUT.

CamVid's camera calibration is not published: camera_info is an approximate pinhole of 60 degrees.
"""

import shutil
import sys
from pathlib import Path

import cv2
import numpy as np
from rosbags.rosbag2 import StoragePlugin, Writer

from seg_perception.bags.bag import STORE, message_class, serialize

RATE = 15
START_NS = 1_000_000_000_000
FRAME = "camera_optical"
FIELD_OF_VIEW = np.deg2rad(60)


def header(time_ns: int) -> object:
    seconds, nanoseconds = divmod(time_ns, 1_000_000_000)
    stamp = message_class("builtin_interfaces/msg/Time")(sec=seconds, nanosec=nanoseconds)
    return message_class("std_msgs/msg/Header")(stamp=stamp, frame_id=FRAME)


def camera_info(time_ns: int, height: int, width: int) -> object:
    focal = width / 2 / np.tan(FIELD_OF_VIEW / 2)
    k = np.array([focal, 0, width / 2, 0, focal, height / 2, 0, 0, 1.0])
    roi = message_class("sensor_msgs/msg/RegionOfInterest")(0, 0, 0, 0, False)
    return message_class("sensor_msgs/msg/CameraInfo")(
        header=header(time_ns),
        height=height,
        width=width,
        distortion_model="plumb_bob",
        d=np.zeros(5),
        k=k,
        r=np.eye(3).ravel(),
        p=np.array([focal, 0, width / 2, 0, 0, focal, height / 2, 0, 0, 0, 1.0, 0]),
        binning_x=0,
        binning_y=0,
        roi=roi,
    )


def main(source: Path, out: Path) -> None:
    shutil.rmtree(out / "bag", ignore_errors=True)
    shutil.rmtree(out / "truth", ignore_errors=True)
    (out / "truth").mkdir(parents=True)
    with Writer(out / "bag", version=9, storage_plugin=StoragePlugin.MCAP) as bag:
        kinds = {
            "/camera/image/compressed": "sensor_msgs/msg/CompressedImage",
            "/camera/camera_info": "sensor_msgs/msg/CameraInfo",
        }
        lines = {t: bag.add_connection(t, kind, typestore=STORE) for t, kind in kinds.items()}
        for i, path in enumerate(sorted((source / "images").glob("*.jpg"))):
            time_ns = START_NS + round(i * 1e9 / RATE)
            data = np.frombuffer(path.read_bytes(), np.uint8)
            height, width = cv2.imdecode(data, cv2.IMREAD_COLOR).shape[:2]
            image = message_class(kinds["/camera/image/compressed"])(
                header=header(time_ns), format="jpeg", data=data
            )
            contents = {
                "/camera/camera_info": camera_info(time_ns, height, width),
                "/camera/image/compressed": image,
            }
            for topic, message in contents.items():
                bag.write(lines[topic], time_ns, serialize(message, kinds[topic]))
            truth = source / "labels" / f"{path.stem}.png"
            shutil.copyfile(truth, out / "truth" / f"{time_ns}.png")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))

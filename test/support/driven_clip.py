"""The bundled clip as a robot that drives would record it."""

from importlib import resources
from pathlib import Path

import numpy as np

from seg_perception.bags.bag import BagReader, BagWriter, RawMessage, message_class, serialize
from seg_perception.bags.bag_topics import CAMERA_INFO
from seg_perception.offline.bag_poses import ODOMETRY

CLIP = Path(str(resources.files("seg_perception") / "clip" / "bag"))
PLACED = ["--model", "tiny", "--camera-z", "1.4", "--camera-pitch", "0.05", "--resolution", "0.2"]


def short_clip(path: Path, *, with_info: bool = True, with_odometry: bool = False) -> Path:
    """Write the first images of the bundled clip, and a robot that drives 1 m/s."""
    with BagReader(CLIP) as clip, BagWriter(path) as bag:
        records = [r for r in clip.raw() if with_info or r.type != CAMERA_INFO][:24]
        for record in records:
            if with_odometry:
                bag.write(odometry(record.time_ns, (record.time_ns - records[0].time_ns) / 1e9))
            bag.write(record)
    return path


def odometry(time_ns: int, x: float) -> RawMessage:
    """Return where the robot is, as a recorded message."""
    kind = {name: message_class(f"{name}") for name in (ODOMETRY, "std_msgs/msg/Header")}
    parts = {
        name: message_class(f"geometry_msgs/msg/{name}")
        for name in ("PoseWithCovariance", "Pose", "Point", "Quaternion", "TwistWithCovariance",
                     "Twist", "Vector3")
    }  # fmt: skip
    seconds, nanoseconds = divmod(time_ns, 1_000_000_000)
    stamp = message_class("builtin_interfaces/msg/Time")(seconds, nanoseconds)
    pose = parts["Pose"](parts["Point"](x, 0.0, 0.0), parts["Quaternion"](0.0, 0.0, 0.0, 1.0))
    still = parts["Twist"](parts["Vector3"](0.0, 0.0, 0.0), parts["Vector3"](0.0, 0.0, 0.0))
    message = kind[ODOMETRY](
        kind["std_msgs/msg/Header"](stamp, "odom"),
        "base_link",
        parts["PoseWithCovariance"](pose, np.zeros(36)),
        parts["TwistWithCovariance"](still, np.zeros(36)),
    )
    return RawMessage("/odom", ODOMETRY, time_ns, serialize(message, ODOMETRY))

"""A robot with cameras in a world: what it publishes for occupancy_node, and what comes back."""

import math
from typing import Any

import numpy as np
from nav_msgs.msg import OccupancyGrid, Odometry
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CameraInfo, Image, PointCloud2

from seg_perception.labels import GROUPS
from seg_perception.messages import fill_image
from seg_perception.occupancy.camera import Camera
from support.graph import Graph
from support.world import Pose2D, pinhole

NODE = "/occupancy_node"
LATCHED = QoSProfile(
    depth=1, reliability=ReliabilityPolicy.RELIABLE, durability=DurabilityPolicy.TRANSIENT_LOCAL
)
CAMERA = pinhole(320, 240, 250.0)
PLACED = {
    "executable": "occupancy_node",
    "pose_source": "parameters",
    "label_space": "groups",
    "camera_z": 1.2,
    "camera_pitch": 0.3,
}


class Rig:
    """Publishers of one robot's cameras and odometry."""

    def __init__(self, ros: Graph, *names: str) -> None:
        """Make the publishers; without names there is one camera."""
        self.ros = ros
        self._out: dict[str, Any] = {}
        for name in names or ("",):
            self.plug(name)

    def plug(self, name: str = "") -> None:
        """Make the publishers of a camera."""
        prefix = f"/{name}/" if name else "/"
        for kind, output in ((Image, "label_mask"), (CameraInfo, "camera_info")):
            self._out[f"{prefix}{output}"] = self.ros.camera(kind, f"{prefix}{output}")

    def unplug(self, name: str) -> None:
        """Destroy the publishers of a camera."""
        for topic in [t for t in self._out if t.startswith(f"/{name}/")]:
            self.ros.node.destroy_publisher(self._out.pop(topic))

    def publish(self, topic: str, message: Any) -> None:
        """Publish on a topic, whose publisher is made when it is missing."""
        if topic not in self._out:
            self._out[topic] = self.ros.camera(type(message), topic)
            self.wait()
        self._out[topic].publish(message)

    def wait(self) -> None:
        """Wait until the node hears every publisher."""
        self.ros.wait(lambda: all(p.get_subscription_count() for p in self._out.values()))
        self.ros.spin(0.5)  # this side knows its listeners before they know it

    def now(self) -> int:
        return int(self.ros.node.get_clock().now().nanoseconds)

    def image(self, image: np.ndarray, stamp: int, frame: str = "camera_optical") -> Image:
        """Return a message of a mask (uint8) or a depth (float32, uint16) with a stamp in ns."""
        encoding = {"uint8": "mono8", "float32": "32FC1", "uint16": "16UC1"}[image.dtype.name]
        message = fill_image(Image(), image, encoding, Image().header)
        _stamp(message.header, stamp, frame)
        return message

    def info(self, stamp: int, camera: Camera = CAMERA, frame: str = "camera_optical") -> Any:
        """Return the CameraInfo of a pinhole."""
        message = CameraInfo(width=camera.width, height=camera.height)
        message.k = [camera.fx, 0.0, camera.cx, 0.0, camera.fy, camera.cy, 0.0, 0.0, 1.0]
        message.p = [camera.fx, 0.0, camera.cx, 0.0, 0.0, camera.fy, camera.cy, 0.0,
                     0.0, 0.0, 1.0, 0.0]  # fmt: skip
        message.r = [1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0]
        message.distortion_model = "plumb_bob"
        message.d = [0.0] * 5
        _stamp(message.header, stamp, frame)
        return message

    def show(
        self,
        labels: np.ndarray,
        stamp: int = 0,
        *,
        name: str = "",
        confidence: np.ndarray | None = None,
        depth: np.ndarray | None = None,
        info: CameraInfo | None = None,
        frame: str = "camera_optical",
    ) -> int:
        """Publish one look, stamped in ns (0: now); return the stamp."""
        prefix, stamp = f"/{name}/" if name else "/", stamp or self.now()
        self.publish(f"{prefix}camera_info", info or self.info(stamp, frame=frame))
        if depth is not None:
            self.publish(f"{prefix}depth", self.image(depth, stamp, frame))
        self.ros.spin(0.03)  # camera_info and depth are there before the mask of their image
        self.publish(f"{prefix}label_mask", self.image(labels, stamp, frame))
        if confidence is not None:
            self.publish(f"{prefix}confidence", self.image(confidence, stamp, frame))
        return stamp

    def odometry(self, place: Pose2D, stamp: int, **frames: str) -> None:
        """Publish where the robot is."""
        message = Odometry(child_frame_id=frames.get("child", "base_link"))
        _stamp(message.header, stamp, frames.get("parent", "odom"))
        message.pose.pose.position.x = float(place.x)
        message.pose.pose.position.y = float(place.y)
        message.pose.pose.orientation.z = math.sin(place.yaw / 2)
        message.pose.pose.orientation.w = math.cos(place.yaw / 2)
        self.publish("/odom", message)

    def until(self, labels: np.ndarray, answers: list, **options: Any) -> Any:
        """Show looks until an answer to one of them comes; return it."""
        self.wait()
        before = len(answers)

        def answered() -> bool:
            self.show(labels, **options)
            self.ros.wait(lambda: len(answers) > before, 0.4, must=False)
            return len(answers) > before

        self.ros.wait(answered)
        return answers[-1]


def _stamp(header: Any, stamp: int, frame: str) -> None:
    header.stamp.sec, header.stamp.nanosec = divmod(stamp, 10**9)
    header.frame_id = frame


def grids(ros: Graph, *names: str) -> dict[str, list[OccupancyGrid]]:
    """Return the lists that grids come to, all of them without names."""
    answers: dict[str, list[OccupancyGrid]] = {}
    for name in names or (*GROUPS[:-1], "cost"):
        answers[name] = []
        ros.node.create_subscription(
            OccupancyGrid, f"{NODE}/grid/{name}", answers[name].append, LATCHED
        )
    return answers


def cells(message: OccupancyGrid) -> np.ndarray:
    """Return int8 (rows, columns)."""
    data = np.array(message.data, np.int8)
    return data.reshape(message.info.height, message.info.width)


def places(message: OccupancyGrid) -> tuple[np.ndarray, np.ndarray]:
    """Return x and y of the middle of every cell, in the grid's frame."""
    info = message.info
    y, x = np.mgrid[0 : info.height, 0 : info.width]
    return (
        info.origin.position.x + (x + 0.5) * info.resolution,
        info.origin.position.y + (y + 0.5) * info.resolution,
    )


def best(answers: dict[str, list[OccupancyGrid]]) -> np.ndarray:
    """Return the strongest group of every cell of the newest grids, -1 where none was seen."""
    shares = np.stack([cells(answers[name][-1]) for name in GROUPS[:-1]])
    return np.where(shares.max(0) < 0, -1, shares.argmax(0))


def points(message: PointCloud2) -> np.ndarray:
    """Return float32 (height, width, 3)."""
    flat = np.frombuffer(message.data, np.float32)
    return flat.reshape(message.height, message.width, 3)

"""A robot that drives: images into segmentation_node, its masks into occupancy_node."""

import subprocess
from pathlib import Path
from typing import Any

import numpy as np
from nav_msgs.msg import Odometry
from sensor_msgs.msg import CameraInfo, Image

from seg_perception.messages import stamp_ns
from support import graph
from support.graph import Graph
from support.rig import PLACED, Rig, grids
from support.world import Pose2D, pinhole

OBSERVER_GRACE_S = 20.0  # seconds for an answer on a busy machine
SPEED = 1.5  # m/s
SEGMENTATION, OCCUPANCY = "segmentation_node", "occupancy_node"
LINKS = {n: f"{graph.NODE}/{n}" for n in ("label_mask", "confidence", "camera_info")}


class Drive(Rig):
    """A camera, the two nodes between it and a planner, and what the planner hears.

    Odometry of a robot that moves is no more reliable than on a robot: where it is late, an image
    is not mapped.
    """

    def __init__(
        self,
        ros: Graph,
        model: str | Path,
        *,
        moves: bool = False,
        use_sim_time: bool = False,
        **parameters: object,
    ) -> None:
        """Listen to masks and grids; `parameters` are occupancy_node's."""
        self.ros = ros
        self._out: dict[str, Any] = {
            "/image": ros.camera(),
            "/camera_info": ros.camera(CameraInfo, "/camera_info"),
        }
        if moves:
            self._out["/odom"] = ros.camera(Odometry, "/odom")
        self.masks = ros.collect(Image, f"{graph.NODE}/label_mask", depth=100)
        self.grids = grids(ros)
        self.sent: list[int] = []  # stamps of images, ns
        self.nodes: dict[str, subprocess.Popen[bytes]] = {}
        both = {"model": model, "use_sim_time": use_sim_time}
        self._options: dict[str, dict[str, Any]] = {
            SEGMENTATION: both,
            OCCUPANCY: {**both, **PLACED, "label_space": "model", **parameters},
        }

    def start(self, *names: str) -> None:
        """Start nodes, again where they have ended."""
        for name in names or (SEGMENTATION, OCCUPANCY):
            remaps = LINKS if name == OCCUPANCY else {}
            self.nodes[name] = self.ros.start_node(
                remaps, **{"executable": name, **self._options[name]}
            )

    def send(self, image: np.ndarray, stamp: int = 0) -> int:
        """Publish an image, uint8 (H,W,3) RGB, where the robot is then; return its stamp in ns."""
        stamp = stamp or self.now()
        height, width = image.shape[:2]
        if "/odom" in self._out:
            seconds = stamp % (3600 * 10**9) / 1e9
            self.odometry(Pose2D(SPEED * seconds, 0.0, 0.0), stamp)
        self.publish("/camera_info", self.info(stamp, pinhole(width, height, 0.8 * width)))
        self.publish("/image", self.ros.image_message(image, stamp=stamp))
        self.sent.append(stamp)
        return stamp

    def is_masked(self, stamp: int, seconds: float = OBSERVER_GRACE_S) -> bool:
        """Wait for the mask of an image; return whether it came."""
        return self._came([self.masks], stamp, seconds)

    def is_mapped(self, stamp: int, seconds: float = OBSERVER_GRACE_S) -> bool:
        """Wait for all grids of an image; return whether they came."""
        return self._came(list(self.grids.values()), stamp, seconds)

    def until_mapped(self, image: np.ndarray) -> int:
        """Send images until one comes out as grids; return its stamp in ns."""
        self.wait()
        self.ros.wait(lambda: self.is_mapped(self.send(image), 0.5))
        return self.sent[-1]

    def forget(self) -> None:
        """Drop what was heard."""
        for heard in (self.masks, *self.grids.values()):
            heard.clear()

    def _came(self, outputs: list[list[Any]], stamp: int, seconds: float) -> bool:
        def are_there() -> bool:
            return all(any(stamp_ns(m.header) == stamp for m in heard) for heard in outputs)

        self.ros.wait(are_there, seconds, must=False)
        return are_there()


def memory_mb(process: "subprocess.Popen[bytes]") -> float:
    """Return RssAnon + RssFile of a process in MB."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    fields = dict(line.split(":", 1) for line in status.splitlines())
    return sum(int(fields[name].split()[0]) for name in ("RssAnon", "RssFile")) / 1024

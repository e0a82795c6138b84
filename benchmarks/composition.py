"""What do both nodes save in one process, and what does it cost?

python benchmarks/composition.py [--rounds N]    prints JSON: memory, and medians of ratios

Memory is PSS after warm-up: shared pages count by their share. Then both set-ups run side by side,
each in a ROS domain of its own; a round sends the same burst of images, 15 a second, to one and
then to the other, in an order drawn again. Ages are from the publish call to mask and to grid.
"""

import argparse
import json
import os
import random
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from importlib import resources
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import rclpy
from nav_msgs.msg import OccupancyGrid
from rclpy.executors import SingleThreadedExecutor
from rclpy.qos import QoSProfile
from sensor_msgs.msg import CameraInfo, Image

from seg_perception.bags.clip import bundled_images
from seg_perception.bench.bench import ratio
from seg_perception.launch_arguments import HEARD, message_environment, private_environment
from seg_perception.live.domains import reserved_domain
from seg_perception.live.processes import NodeProcess, running
from seg_perception.messages import fill_image, stamp_ns

SETUPS = {"apart": ("segmentation_node", "occupancy_node"), "composed": ("perception_node",)}
SIZE = (480, 640)
BURST, RATE = 5, 15.0
WARM_UP = 10  # bursts before anything counts
OBSERVER_GRACE_S = 60.0  # seconds for the nodes to come up
PARAMETERS = {"pose_source": "parameters", "camera_z": "1.2", "camera_pitch": "0.2"}
PROFILE = str(resources.files("seg_perception") / "fastdds.xml")


class Driver:
    """A camera of one set-up, and a listener to its masks and its cost grid."""

    def __init__(self, domain: int) -> None:
        self._context = rclpy.Context()
        rclpy.init(context=self._context, domain_id=domain)
        self._node = rclpy.create_node("driver", context=self._context)
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self._node)
        qos = QoSProfile(depth=5)
        self._images = self._node.create_publisher(Image, "/image", qos)
        self._infos = self._node.create_publisher(CameraInfo, "/camera_info", qos)
        self.heard: dict[str, dict[int, float]] = {"mask": {}, "grid": {}}
        for what, kind, topic in (
            ("mask", Image, "/segmentation_node/label_mask"),
            ("grid", OccupancyGrid, "/occupancy_node/grid/cost"),
        ):
            self._node.create_subscription(kind, topic, self._note(self.heard[what]), qos)

    def _note(self, heard: dict[int, float]) -> Any:
        def note(message: Any) -> None:
            heard.setdefault(stamp_ns(message.header), time.perf_counter())

        return note

    def burst(self, image: np.ndarray) -> dict[str, list[float]]:
        """Send images at their pace; return the ages in seconds of what came of them."""
        sent: dict[int, float] = {}
        started = time.perf_counter()
        for i in range(BURST):
            self._spin_until(started + i / RATE)
            message = fill_image(Image(), image, "bgr8", Image().header)
            message.header.stamp = self._node.get_clock().now().to_msg()
            message.header.frame_id = "camera"
            self._infos.publish(_camera_info(message.header))
            sent[stamp_ns(message.header)] = time.perf_counter()
            self._images.publish(message)
        self._spin_until(time.perf_counter() + 0.3)
        return {
            what: [heard[s] - at for s, at in sent.items() if s in heard]
            for what, heard in self.heard.items()
        }

    def close(self) -> None:
        """Leave the graph."""
        self._executor.shutdown()
        self._node.destroy_node()
        rclpy.shutdown(context=self._context)

    def _spin_until(self, moment: float) -> None:
        while (left := moment - time.perf_counter()) > 0:
            self._executor.spin_once(timeout_sec=left)


def _camera_info(header: Any) -> CameraInfo:
    height, width = SIZE
    k = [500.0, 0.0, width / 2, 0.0, 500.0, height / 2, 0.0, 0.0, 1.0]
    return CameraInfo(header=header, height=height, width=width, k=k)


@contextmanager
def set_up(name: str, image: np.ndarray) -> Iterator[tuple[Driver, list[NodeProcess]]]:
    """Run a set-up until its grids come, in a domain of its own."""
    with ExitStack() as stack:
        domain = stack.enter_context(reserved_domain())
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        remaps = [
            part for n in HEARD for part in ("-r", f"occupancy_node:{n}:=/segmentation_node/{n}")
        ]
        values = [part for n, v in PARAMETERS.items() for part in ("-p", f"{n}:={v}")]
        environment = {**private_environment(PROFILE, domain), "OMP_NUM_THREADS": "1"}
        nodes = [
            stack.enter_context(
                running(
                    f"seg_perception.nodes.{n}", folder, environment, "--ros-args", *values, *remaps
                )
            )
            for n in SETUPS[name]
        ]
        driver = Driver(domain)
        stack.callback(driver.close)
        deadline = time.monotonic() + OBSERVER_GRACE_S
        while not driver.burst(image)["grid"]:
            for node in nodes:
                node.check(must_run=True)
            if time.monotonic() > deadline:
                raise SystemExit(
                    f"{name}: no grid came in {OBSERVER_GRACE_S:g} s\n{nodes[-1].log_end()}"
                )
        for _ in range(WARM_UP):
            driver.burst(image)
        yield driver, nodes


def memory(nodes: list[NodeProcess]) -> dict[str, float]:
    """Return the megabytes of processes: PSS, and RSS, which counts shared pages again."""
    total = {"pss_mb": 0.0, "rss_mb": 0.0}
    for node in nodes:
        for line in Path(f"/proc/{node.pid}/smaps_rollup").read_text().splitlines():
            key, _, value = line.partition(":")
            if f"{key.lower()}_mb" in total:
                total[f"{key.lower()}_mb"] += int(value.split()[0]) / 1024
    return {key: round(value, 1) for key, value in total.items()}


def alternate(image: np.ndarray, rounds: int) -> dict[str, Any]:
    """Return the ratios of the ages, composed over apart, with both set-ups alive."""
    ages: dict[str, list[list[float]]] = {"mask": [], "grid": []}
    grids = dict.fromkeys(SETUPS, 0)
    with ExitStack() as stack:
        drivers = {name: stack.enter_context(set_up(name, image))[0] for name in SETUPS}
        for _ in range(rounds):
            seen = {}
            for name in random.sample(list(SETUPS), len(SETUPS)):
                seen[name] = drivers[name].burst(image)
                grids[name] += len(seen[name]["grid"])
            for what, found in ages.items():
                found.append([float(np.median(seen[name][what] or [np.nan])) for name in SETUPS])
    result: dict[str, Any] = {
        "grids_of_images": {n: f"{g}/{rounds * BURST}" for n, g in grids.items()}
    }
    for what, found in ages.items():
        apart, composed = np.array(found).T
        known = ~np.isnan(apart + composed)
        value, spread = ratio(composed[known] / apart[known])
        result[f"{what}_age_composed_over_apart"], result[f"{what}_age_spread"] = value, spread
        result[f"{what}_age_ms"] = {
            "apart": round(1000 * float(np.nanmedian(apart)), 1),
            "composed": round(1000 * float(np.nanmedian(composed)), 1),
        }
    return result


def main() -> None:
    """Print memory and ratios."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=40)
    rounds = parser.parse_args().rounds
    os.environ |= {**message_environment(PROFILE), "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST"}
    image = cv2.resize(bundled_images(1)[0], SIZE[::-1])
    used = {}
    for name in SETUPS:
        with set_up(name, image) as (_, nodes):
            used[name] = memory(nodes)
    print(json.dumps({"memory": used, **alternate(image, rounds)}, indent=2))


if __name__ == "__main__":
    main()

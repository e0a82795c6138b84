"""Time a real node next to the bare run of its network, in one process: for seg-perception bench.

python -m seg_perception.bench.bench_node MODEL ROUNDS prints [[node, bare], ...] in seconds.
"""

import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import Image
from std_msgs.msg import Header

from seg_perception.bench.bench import resized_images
from seg_perception.errors import SegPerceptionError
from seg_perception.messages import fill_image
from seg_perception.nodes.segmentation_node import SegmentationNode
from seg_perception.runtimes.onnx import OnnxRuntime

RELIABLE = QoSProfile(depth=1, reliability=ReliabilityPolicy.RELIABLE)
TIMEOUT = 60.0
WARM_UPS = 10


class TimedNode(SegmentationNode):
    """Note how long each image took: message received to mask published."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        super().__init__()

    def _process(self, *arguments: Any) -> None:
        started = time.perf_counter()
        super()._process(*arguments)
        self.seconds.append(time.perf_counter() - started)


class Bench:
    """A node, a camera and a listener to label_mask in one process."""

    def __init__(self, model: str) -> None:
        rclpy.init(args=["--ros-args", "-p", f"model:={model}"])
        self.node = TimedNode()
        self._camera = rclpy.create_node("camera")
        self._listener = rclpy.create_node("listener")
        self._executor = SingleThreadedExecutor()
        for node in (self.node, self._camera, self._listener):
            self._executor.add_node(node)
        self._publisher = self._camera.create_publisher(Image, "image", RELIABLE)
        self._masks = 0
        self._listener.create_subscription(
            Image, "/segmentation_node/label_mask", self._on_mask, RELIABLE
        )
        self._spin(lambda: self._publisher.get_subscription_count() > 0)
        self._spin(lambda: self._listener.count_publishers("/segmentation_node/label_mask") > 0)

    def segment(self, image: np.ndarray[Any, Any]) -> float:
        """Send one image through the node; return the seconds that the node took."""
        masks, done = self._masks, len(self.node.seconds)
        self._publisher.publish(fill_image(Image(), image, "bgr8", Header()))
        # The mask may be here before the node has noted its time.
        self._spin(lambda: self._masks > masks and len(self.node.seconds) > done)
        return self.node.seconds[-1]

    def end(self) -> None:
        """Close everything in order."""
        self._executor.shutdown()
        self.node.end()
        for node in (self.node, self._camera, self._listener):
            node.destroy_node()
        rclpy.try_shutdown()

    def _on_mask(self, message: Image) -> None:
        self._masks += 1

    def _spin(self, is_done: Any) -> None:
        end = time.monotonic() + TIMEOUT
        while not is_done():
            self._executor.spin_once(timeout_sec=0.1)
            if time.monotonic() > end:
                raise SegPerceptionError(f"the node gave no mask within {TIMEOUT:g} s")


def main() -> None:
    """Alternate the node and the bare run."""
    model, rounds = sys.argv[1], int(sys.argv[2])
    runtime = OnnxRuntime(Path(model))
    images = resized_images(runtime.manifest.input.size)
    inputs = [np.zeros(runtime.manifest.input.shape, runtime.manifest.input.dtype)]
    if runtime.manifest.input.layout == "NHWC" and inputs[0].dtype == np.uint8:
        inputs = [image[None] for image in images]
    bench = Bench(model)
    times = []
    for r in range(-WARM_UPS, rounds):
        started = time.perf_counter()
        runtime.run(inputs[r % len(inputs)])
        bare = time.perf_counter() - started
        node = bench.segment(images[r % len(images)])
        if r >= 0:
            times.append([node, bare])
    bench.end()
    print(json.dumps(times))


if __name__ == "__main__":
    main()

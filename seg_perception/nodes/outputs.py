"""What one camera of a node publishes."""

from collections.abc import Mapping
from typing import Any

from rclpy.lifecycle import LifecycleNode, LifecyclePublisher
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import Image
from std_msgs.msg import Header

from seg_perception.labels import LabelSpace
from seg_perception.messages import fill_image
from seg_perception.nodes.label_info import LabelInfo, label_info

RELIABLE = QoSProfile(depth=5, reliability=ReliabilityPolicy.RELIABLE)
LATCHED = QoSProfile(
    depth=1,
    reliability=ReliabilityPolicy.RELIABLE,
    durability=DurabilityPolicy.TRANSIENT_LOCAL,
)


class Outputs:
    """Publishers that speak while the node is active, each by its name below `~/<prefix>`.

    One of them, `label_info`, tells the names of the ids, where vision_msgs is installed.
    """

    def __init__(self, node: LifecycleNode, prefix: str, *, label_info: str) -> None:
        self._node, self._prefix, self._label_info = node, prefix, label_info
        self._publishers: dict[str, LifecyclePublisher[Any]] = {}

    def advertise(self, kinds: Mapping[str, type]) -> None:
        """Create the publishers of these messages that are missing, and destroy all others."""
        if LabelInfo is not None:
            kinds = {**kinds, self._label_info: LabelInfo}
        for name in set(self._publishers) - set(kinds):
            self._destroy(name)
        for name, kind in kinds.items():
            if name not in self._publishers:
                qos = LATCHED if name == self._label_info else RELIABLE
                topic = f"~/{self._prefix}{name}"
                self._publishers[name] = self._node.create_lifecycle_publisher(kind, topic, qos)

    def withdraw(self) -> None:
        """Destroy the publishers."""
        for name in list(self._publishers):
            self._destroy(name)

    def is_wanted(self, name: str) -> bool:
        """Return whether somebody listens to an output."""
        publisher = self._publishers.get(name)
        return publisher is not None and publisher.get_subscription_count() > 0

    def publish(self, name: str, message: Any) -> None:
        """Publish a message."""
        self._publishers[name].publish(message)

    def publish_image(self, name: str, image: Any, encoding: str, header: Header) -> None:
        """Publish an array as an Image."""
        self.publish(name, fill_image(Image(), image, encoding, header))

    def publish_label_info(
        self, space: LabelSpace, header: Header, *, threshold: float = 0.0
    ) -> None:
        """Tell the names of the ids, where vision_msgs is installed."""
        if self._label_info in self._publishers:
            self.publish(self._label_info, label_info(space, header, threshold=threshold))

    def _destroy(self, name: str) -> None:
        self._node.destroy_lifecycle_publisher(self._publishers.pop(name))

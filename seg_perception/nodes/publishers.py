"""What one camera of a node publishes."""

from collections.abc import Iterable, Mapping
from typing import Any

from rclpy.lifecycle import LifecycleNode, LifecyclePublisher
from sensor_msgs.msg import Image
from std_msgs.msg import Header

from seg_perception.labels import LabelSpace
from seg_perception.messages import fill_image
from seg_perception.nodes.label_info import LabelInfo, LabelInfoPublisher, label_info
from seg_perception.nodes.qos import RELIABLE


class Outputs:
    """Publishers that speak while the node is active, each by its name below `~/<prefix>`.

    One of them, `label_info`, publishes the names of the ids, where vision_msgs is installed.
    """

    def __init__(self, node: LifecycleNode, prefix: str, *, label_info: str) -> None:
        self._node, self._prefix, self._label_info = node, prefix, label_info
        self._publishers: dict[str, LifecyclePublisher[Any]] = {}
        self._names: LabelInfoPublisher | None = None
        self._sizes: dict[str, int] = {}  # bytes of the newest message

    def advertise(self, kinds: Mapping[str, type]) -> None:
        """Create the publishers of these messages that are missing, and destroy all others.

        That of the names is the first: a subscriber meets publishers in the order of creation.
        """
        if LabelInfo is not None and self._names is None:
            self._names = LabelInfoPublisher(self._node, f"~/{self._prefix}{self._label_info}")
        for name in set(self._publishers) - set(kinds):
            self._destroy(name)
        for name, kind in kinds.items():
            if name not in self._publishers:
                topic = f"~/{self._prefix}{name}"
                self._publishers[name] = self._node.create_lifecycle_publisher(
                    kind, topic, RELIABLE
                )

    def withdraw(self) -> None:
        """Destroy the publishers."""
        for name in list(self._publishers):
            self._destroy(name)
        if self._names is not None:
            self._names.destroy()
        self._names = None

    def is_holding(self) -> bool:
        """Return whether masks wait until a new subscriber has the names of their ids."""
        return self._names is not None and self._names.is_holding()

    def is_wanted(self, name: str) -> bool:
        """Return whether somebody listens to an output."""
        publisher = self._publishers.get(name)
        return publisher is not None and publisher.get_subscription_count() > 0

    def publish(self, name: str, message: Any) -> None:
        """Publish a message."""
        self._publishers[name].publish(message)
        self._sizes[name] = len(getattr(message, "data", ()))

    def frame_bytes(self) -> int:
        """Return the bytes of one frame of all outputs that somebody subscribes to."""
        sizes = tuple(self._sizes.items())  # the worker may add one meanwhile
        return sum(size for name, size in sizes if self.is_wanted(name))

    def publish_set(self, messages: Iterable[tuple[str, Any]]) -> bool:
        """Publish messages that need the names of ids; return False where a new subscriber does.

        Each is judged by itself: who subscribes meanwhile gets no whole set.
        """
        for name, message in messages:
            if self.is_holding():
                return False
            self.publish(name, message)
        return True

    def publish_image(self, name: str, image: Any, encoding: str, header: Header) -> None:
        """Publish an array as an Image."""
        self.publish(name, image_message(image, encoding, header))

    def publish_label_info(
        self, space: LabelSpace, header: Header, *, threshold: float = 0.0
    ) -> None:
        """Publish the names of the ids, where vision_msgs is installed."""
        if self._names is not None:
            self._names.publish(label_info(space, header, threshold=threshold))

    def _destroy(self, name: str) -> None:
        self._node.destroy_lifecycle_publisher(self._publishers.pop(name))


def image_message(image: Any, encoding: str, header: Header) -> Image:
    """Return an array as an Image."""
    message: Image = fill_image(Image(), image, encoding, header)
    return message

"""A subscription to the newest message, with a reliability that follows the publishers."""

from collections.abc import Callable
from typing import Any

from rclpy.callback_groups import CallbackGroup
from rclpy.exceptions import InvalidHandle
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile, ReliabilityPolicy
from rclpy.topic_endpoint_info import TopicEndpointInfo

from seg_perception.qos import REMEDIES, Endpoint, mismatch

POLICIES = {
    "reliable": ReliabilityPolicy.RELIABLE,
    "best_effort": ReliabilityPolicy.BEST_EFFORT,
}


class NewestSubscription:
    """Keep one subscription of depth 1; `refresh` makes it again when `auto` must change.

    `auto` is reliable only while every publisher of the topic offers it. ROS's own
    BEST_AVAILABLE decides once and stays reliable when a best-effort camera comes later.
    """

    def __init__(
        self,
        node: Node,
        kind: type,
        topic: str,
        callback: Callable[..., None],
        *,
        reliability: str,
        group: CallbackGroup,
        durability: DurabilityPolicy = DurabilityPolicy.VOLATILE,
    ) -> None:
        self._node, self._kind, self._callback, self._group = node, kind, callback, group
        self._choice, self._durability = reliability, durability
        self.topic = topic
        self._policy = self._wanted()
        self._subscription = self._create()

    def refresh(self) -> None:
        """Follow what the publishers offer now."""
        wanted = self._wanted()
        if wanted is self._policy:
            return
        self._node.get_logger().info(f"{self.topic}: subscribing {wanted.name.lower()}")
        self._policy = wanted
        self.destroy()
        self._subscription = self._create()

    def take(self) -> tuple[Any, dict[str, Any]] | None:
        """Return the waiting message and its info, as the executor would take it, or None."""
        subscription = self._subscription
        try:
            with subscription.handle:
                taken: tuple[Any, dict[str, Any]] | None = subscription.handle.take_message(
                    subscription.msg_type, subscription.raw
                )
        except InvalidHandle:  # it was just made again by `refresh`
            return None
        return taken

    def publishers(self) -> int:
        """Return how many publishers the topic has."""
        return int(self._node.count_publishers(self.topic))

    def mismatch(self) -> str:
        """Return why a publisher of the topic cannot be heard, or an empty string."""
        try:
            topic = self._subscription.topic_name
        except InvalidHandle:  # it was just ended next to the timer that asks
            return ""
        wanted = Endpoint(
            self._node.get_name(),
            type_name(self._kind),
            self._policy.name.lower(),
            self._durability.name.lower(),
        )
        for offered in publishers(self._node, topic):
            found = mismatch(topic, offered, wanted)
            if found is not None:
                return f"{found.text}: {REMEDIES[found.policy]}"
        return ""

    def destroy(self) -> None:
        """End the subscription."""
        self._node.destroy_subscription(self._subscription)

    def _create(self) -> Any:
        qos = QoSProfile(
            history=HistoryPolicy.KEEP_LAST,
            depth=1,
            reliability=self._policy,
            durability=self._durability,
        )
        return self._node.create_subscription(
            self._kind, self.topic, self._callback, qos, callback_group=self._group
        )

    def _wanted(self) -> ReliabilityPolicy:
        if self._choice != "auto":
            return POLICIES[self._choice]
        offers = self._node.get_publishers_info_by_topic(self.topic)
        if any(o.qos_profile.reliability is ReliabilityPolicy.BEST_EFFORT for o in offers):
            return ReliabilityPolicy.BEST_EFFORT
        return ReliabilityPolicy.RELIABLE


def publishers(node: Node, topic: str) -> list[Endpoint]:
    """Return what the publishers of a topic offer."""
    return [_end(info) for info in node.get_publishers_info_by_topic(topic)]


def subscribers(node: Node, topic: str) -> list[Endpoint]:
    """Return what the subscribers of a topic want."""
    return [_end(info) for info in node.get_subscriptions_info_by_topic(topic)]


def type_name(kind: type) -> str:
    """Return a message type's name as the graph has it, as in sensor_msgs/msg/Image."""
    return f"{kind.__module__.split('.')[0]}/msg/{kind.__name__}"


def _end(info: TopicEndpointInfo) -> Endpoint:
    qos = info.qos_profile
    name = f"{info.node_namespace}/{info.node_name}".lstrip("/")
    return Endpoint(
        name, info.topic_type, qos.reliability.name.lower(), qos.durability.name.lower()
    )

"""A subscription to the newest message, with a reliability that follows the publishers."""

from collections.abc import Callable
from typing import Any

from rclpy.callback_groups import CallbackGroup
from rclpy.exceptions import InvalidHandle
from rclpy.node import Node
from rclpy.qos import HistoryPolicy, QoSProfile, ReliabilityPolicy

POLICIES = {
    "reliable": ReliabilityPolicy.RELIABLE,
    "best_effort": ReliabilityPolicy.BEST_EFFORT,
}


class NewestSubscription:
    """Keep one subscription of depth 1; `refresh` makes it anew when `auto` must change.

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
    ) -> None:
        self._node, self._kind, self._callback, self._group = node, kind, callback, group
        self._choice = reliability
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
        except InvalidHandle:  # it was just made anew by `refresh`
            return None
        return taken

    def publishers(self) -> int:
        """Return how many publishers the topic has."""
        return int(self._node.count_publishers(self.topic))

    def mismatch(self) -> str:
        """Return why a publisher's offer cannot be received, or an empty string."""
        if self._policy is ReliabilityPolicy.BEST_EFFORT:
            return ""
        for offer in self._node.get_publishers_info_by_topic(self.topic):
            if offer.qos_profile.reliability is ReliabilityPolicy.BEST_EFFORT:
                return (
                    f"{offer.node_name} offers {self.topic} best effort but qos_reliability is "
                    "reliable: set it to auto or best_effort"
                )
        return ""

    def destroy(self) -> None:
        """End the subscription."""
        self._node.destroy_subscription(self._subscription)

    def _create(self) -> Any:
        qos = QoSProfile(history=HistoryPolicy.KEEP_LAST, depth=1, reliability=self._policy)
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

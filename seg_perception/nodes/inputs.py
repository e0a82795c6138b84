"""What one camera of a node hears."""

import time
from collections.abc import Callable

from rclpy.callback_groups import CallbackGroup
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy

from seg_perception.nodes.subscription import NewestSubscription

QUIET = 2.0  # seconds without a message before diagnostics warn


class Inputs:
    """Subscriptions to the newest messages, each by its name below `<prefix>`."""

    def __init__(self, node: Node, prefix: str) -> None:
        self._node, self._prefix = node, prefix
        self._subscriptions: dict[str, NewestSubscription] = {}

    def subscribe(
        self,
        name: str,
        kind: type,
        callback: Callable[..., None],
        *,
        reliability: str,
        durability: DurabilityPolicy = DurabilityPolicy.VOLATILE,
        group: CallbackGroup | None = None,
        suffix: str = "",
    ) -> None:
        """Subscribe to `name` as it is remapped, with `suffix` behind."""
        subscription = NewestSubscription(
            self._node,
            kind,
            self._node.resolve_topic_name(f"{self._prefix}{name}") + suffix,
            callback,
            reliability=reliability,
            durability=durability,
            group=group or self._node.default_callback_group,
        )
        # A new dict: timers of the executor's thread walk through the old one meanwhile.
        self._subscriptions = {**self._subscriptions, name: subscription}

    def get(self, name: str) -> NewestSubscription | None:
        """Return the subscription of a name, if there is one."""
        return self._subscriptions.get(name)

    def refresh(self) -> None:
        """Follow what the publishers offer now."""
        for subscription in self._subscriptions.values():
            subscription.refresh()

    def destroy(self) -> None:
        """End the subscriptions."""
        for subscription in self._subscriptions.values():
            subscription.destroy()
        self._subscriptions = {}

    def incompatible_publishers(self) -> list[str]:
        """Return why publishers of the inputs are not heard."""
        texts = (subscription.mismatch() for subscription in self._subscriptions.values())
        return [text for text in texts if text]

    def problem(self, name: str, noun: str, *, last: float) -> str:
        """Return why nothing comes in, or an empty string.

        `name` brings a `noun` again and again, the last time at `last` (steady seconds).
        """
        incompatible_publishers = self.incompatible_publishers()
        if incompatible_publishers:
            return incompatible_publishers[0]
        subscription = self.get(name)
        if subscription is None or time.monotonic() - last <= QUIET:
            return ""
        if subscription.publishers() == 0:
            return f"nobody publishes {subscription.topic}"
        return f"no {noun} on {subscription.topic} for {QUIET:g} s"

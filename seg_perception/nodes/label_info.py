"""LabelInfo: the names of a label space's ids, for subscribers that come at any time.

The one place that knows whether vision_msgs is installed.
"""

import time
from threading import Lock
from typing import Any

from rclpy.clock import Clock
from rclpy.clock_type import ClockType
from rclpy.duration import Duration
from rclpy.event_handler import PublisherEventCallbacks
from rclpy.lifecycle import LifecycleNode

from seg_perception.hold import HOLD, Hold
from seg_perception.labels import LabelSpace
from seg_perception.nodes.qos import LATCHED
from seg_perception.nodes.subscription import subscribers

try:
    from vision_msgs.msg import LabelInfo, VisionClass
except ImportError:
    LabelInfo = None

__all__ = ["MISSING", "LabelInfo", "LabelInfoPublisher", "label_info"]

REPEATS = 5  # of the names within a hold: on a busy machine a subscriber meets us late

MISSING = (
    "vision_msgs is not installed: ~/label_info is not published, so Nav2's semantic layer and "
    "rviz2 do not learn class names; install ros-<distro>-vision-msgs"
)


def label_info(space: LabelSpace, header: Any, *, threshold: float) -> Any:
    """Return a LabelInfo that lists every id of `space`; `threshold` is the minimum confidence."""
    return LabelInfo(
        header=header,
        class_map=[VisionClass(class_id=i, class_name=name) for i, name in space.class_map()],
        threshold=threshold,
    )


class LabelInfoPublisher:
    """Publish LabelInfo latched, again to each new subscriber, and say while masks must wait.

    Nav2's semantic layer dies of a mask that comes before the names, and with the message_filters
    of Kilted it subscribes volatile: what was latched never comes. Who does not subscribe to the
    names needs none, so a subscriber of the masks alone delays nobody.

    A volatile subscriber has HOLD seconds. One that is transient local gets the names from the
    middleware: masks wait until it has acknowledged them, which takes milliseconds.
    """

    def __init__(self, node: LifecycleNode, topic: str) -> None:
        self._node = node
        self._lock = Lock()  # events come in the executor's thread, masks from the worker's
        self._hold = Hold()
        self._message: Any = None
        self._known = 0  # subscribers that got the message
        self._until_acknowledged = False
        self._repeats = 0  # of the message that are still to come
        with self._lock:  # an event may come before the publisher is returned
            self._publisher: Any = node.create_lifecycle_publisher(
                LabelInfo,
                topic,
                LATCHED,
                event_callbacks=PublisherEventCallbacks(matched=self._on_matched),
            )
            self._again = node.create_timer(
                HOLD / REPEATS,
                self._repeat,
                clock=Clock(clock_type=ClockType.STEADY_TIME),
                autostart=False,
            )

    def publish(self, message: Any) -> None:
        """Publish the names of an active node; whoever is subscribed already is new to them."""
        with self._lock:
            self._message = message
            self._introduce()

    def is_holding(self) -> bool:
        """Return whether a subscriber may not have the names yet."""
        with self._lock:
            if not self._is_active():
                return False
            if self._publisher.get_subscription_count() > self._known:
                self._introduce()  # its event waits for the executor
            now = time.monotonic()
            if self._hold.is_on(now) and self._until_acknowledged and self._is_acknowledged():
                self._hold.end(now)
            return self._hold.is_on(now)

    def destroy(self) -> None:
        """Destroy the publisher."""
        with self._lock:
            self._node.destroy_timer(self._again)
            self._node.destroy_lifecycle_publisher(self._publisher)
            self._publisher = None

    def _is_active(self) -> bool:
        publisher = self._publisher
        return publisher is not None and publisher.is_activated and self._message is not None

    def _is_acknowledged(self) -> bool:
        return bool(self._publisher.wait_for_all_acked(Duration()))

    def _on_matched(self, status: Any) -> None:
        """Serve who came since the last event; one that came and left counts as well."""
        with self._lock:
            if not self._is_active():
                return
            if status.total_count_change > 0:
                self._introduce()
            else:
                self._known = min(self._known, self._publisher.get_subscription_count())
            if not self._known:
                self._hold.end(time.monotonic())

    def _introduce(self) -> None:
        """Publish the names, and hold the masks where somebody subscribes to them."""
        self._known = self._publisher.get_subscription_count()
        self._publisher.publish(self._message)
        if not self._known:
            return
        ends = subscribers(self._node, self._publisher.topic_name)
        self._until_acknowledged = len(ends) >= self._known and all(
            end.durability == "transient_local" for end in ends
        )
        self._hold.begin(time.monotonic())
        if not self._until_acknowledged:
            self._repeats = REPEATS
            self._again.reset()

    def _repeat(self) -> None:
        """Publish once more: a subscriber may meet this publisher later than it is met."""
        with self._lock:
            self._repeats -= 1
            if self._repeats <= 0:
                self._again.cancel()
            if self._is_active():
                self._publisher.publish(self._message)

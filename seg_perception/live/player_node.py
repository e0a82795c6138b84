"""Play a bag into the ROS graph: recorded bytes, recorded stamps, recorded pace, and /clock.

Waits for an active segmentation node and matched subscribers before the first image. Where asked
it writes [stamp, steady time of the publish call (CLOCK_MONOTONIC)] of each image, both in ns, so
that a recorder on the same machine can tell ages.
"""

import argparse
import json
import math
import os
import sys
import time
from collections.abc import Collection
from importlib import import_module
from pathlib import Path
from typing import Any

import rclpy
from lifecycle_msgs.msg import State
from lifecycle_msgs.srv import GetState
from rclpy.duration import Duration
from rclpy.executors import ExternalShutdownException
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile
from rosgraph_msgs.msg import Clock

from seg_perception import messages
from seg_perception.bags.bag import BagReader, RawMessage, deserialize
from seg_perception.bags.bag_topics import IMAGE_TYPES, describe_topics
from seg_perception.errors import DataError, SegPerceptionError

CLOCK_PERIOD_NS = 10_000_000
# A clock that was set while the bag was recorded leaves a gap of years: longer ones are shortened.
MAX_PAUSE_NS = 10_000_000_000
DEPTH = 10
CLOCK = "/clock"


class Player(Node):
    """Publish the messages of one open bag, read as they are due.

    `sent` holds the stamp and the steady time of the publish call of each image, in ns.
    """

    def __init__(self, bag: BagReader, topics: Collection[str] = ()) -> None:
        """Advertise `topics`, or all that the bag has."""
        super().__init__("player")
        self.sent: list[tuple[int, int]] = []
        self._bag = bag
        known = {
            t: kind for t, kind in bag.topics.items() if (not topics or t in topics) and t != CLOCK
        }
        self._images = [topic for topic, kind in known.items() if kind in IMAGE_TYPES]
        if not self._images:
            raise DataError(f"the bag has no images to play: {describe_topics(known)}")
        latched = {topic.name for topic in bag.described() if topic.is_latched}
        self._outputs = {
            topic: self.create_publisher(_class_of(topic, kind), topic, _qos(topic in latched))
            for topic, kind in known.items()
        }
        if bag.damage:
            self.get_logger().warning(bag.damage)
        self._time_ns = 0
        self._ticks = self.create_publisher(Clock, CLOCK, QoSProfile(depth=DEPTH))

    def wait_until_heard(
        self, node: str, listeners: int, timeout: float, heard: Collection[str] = ()
    ) -> None:
        """Return when `node` is active and each topic of `heard` has `listeners` subscribers.

        An empty `heard` is every topic of images.
        """
        topics = heard or self._images
        missing = [topic for topic in topics if topic not in self._outputs]
        if missing:
            raise DataError(f"the bag has no {missing[0]}, only {', '.join(self._outputs)}")
        client: Any = self.create_client(GetState, f"/{node}/get_state")
        deadline = time.monotonic() + timeout
        while not self._is_heard(client, topics, listeners):
            if time.monotonic() > deadline:
                raise SegPerceptionError(
                    f"after {timeout:g} s {node} is not active, or {', '.join(topics)} has less "
                    f"than {listeners} subscribers; look at its log and its remaps"
                )
            rclpy.spin_once(self, timeout_sec=0.05)

    def play(self, rate: float) -> None:
        """Publish everything at `rate` times the recorded pace."""
        due, before = time.monotonic_ns(), None
        for record in self._bag.raw(self._outputs):
            begin = record.time_ns if before is None else before
            begin = max(begin, record.time_ns - MAX_PAUSE_NS)
            due = self._run_clock(begin, record.time_ns, due, rate)
            before = record.time_ns
            if record.topic in self._images:
                self.sent.append((_stamp(record), time.monotonic_ns()))
            self._outputs[record.topic].publish(record.data)

    def finish(self, seconds: float) -> None:
        """Go on with the clock for a while and wait until the subscribers have everything."""
        for _ in range(int(seconds * 1e9 / CLOCK_PERIOD_NS)):
            self._publish_clock(self._time_ns + CLOCK_PERIOD_NS)
            time.sleep(CLOCK_PERIOD_NS / 1e9)
        for topic in self._images:
            if not self._outputs[topic].wait_for_all_acked(Duration(seconds=2)):
                self.get_logger().warning(f"a subscriber of {topic} did not take every message")

    def _is_heard(self, client: Any, topics: Collection[str], listeners: int) -> bool:
        counts = [self._outputs[topic].get_subscription_count() for topic in topics]
        if min(counts) < listeners:
            return False
        if not client.service_is_ready():
            return False
        future = client.call_async(GetState.Request())
        rclpy.spin_until_future_complete(self, future, timeout_sec=1.0)
        state = future.result()
        return state is not None and state.current_state.id == State.PRIMARY_STATE_ACTIVE

    def _run_clock(self, begin: int, end: int, due: int, rate: float) -> int:
        """Tick from `begin`, which is due at the steady time `due`, to `end`; return when that is.

        All in nanoseconds.
        """
        for tick in range(begin + CLOCK_PERIOD_NS, end, CLOCK_PERIOD_NS):
            _sleep_until(due + int((tick - begin) / rate))
            self._publish_clock(tick)
        due += int((end - begin) / rate)
        _sleep_until(due)
        self._publish_clock(end)
        return due

    def _publish_clock(self, time_ns: int) -> None:
        if not self.context.ok():  # a signal came; nothing else in this thread would notice
            raise ExternalShutdownException
        self._time_ns = time_ns
        message = Clock()
        message.clock.sec, message.clock.nanosec = divmod(time_ns, 1_000_000_000)
        self._ticks.publish(message)


def _class_of(topic: str, kind: str) -> Any:
    package, name = kind.split("/msg/")
    try:
        return getattr(import_module(f"{package}.msg"), name)
    except ImportError as error:
        raise DataError(
            f"{topic} is a {kind}, and {package} is not installed; install it, or leave the topic "
            "out of the bag (ros2 bag convert)"
        ) from error


def _qos(is_latched: bool) -> QoSProfile:
    """Return a profile that keeps for late subscribers what the recorded publisher kept."""
    kept = DurabilityPolicy.TRANSIENT_LOCAL if is_latched else DurabilityPolicy.VOLATILE
    return QoSProfile(depth=DEPTH, durability=kept)


def _stamp(record: RawMessage) -> int:
    """Return an image's stamp; that of bytes that are no message is when they were recorded."""
    try:
        return messages.stamp_ns(deserialize(record).header)
    except DataError:
        return record.time_ns


def _sleep_until(steady_ns: int) -> None:
    left = steady_ns - time.monotonic_ns()
    if left > 0:
        time.sleep(left / 1e9)


def main() -> None:
    """Play a bag."""
    parser = argparse.ArgumentParser(description="play a bag into the ROS graph")
    parser.add_argument("bag", type=Path)
    parser.add_argument("--topic", action="append", default=[], help="play it alone; repeatable")
    parser.add_argument("--sent", type=Path, help="JSON of publish times")
    parser.add_argument("--loop", action="store_true", help="start again at the end, until Ctrl-C")
    parser.add_argument("--node", default="segmentation_node", help="node to wait for")
    parser.add_argument("--listeners", type=int, default=1, help="subscribers to wait for")
    parser.add_argument(
        "--heard", action="append", default=[], metavar="TOPIC",
        help="what they subscribe to; repeatable (default: all images)",
    )  # fmt: skip
    parser.add_argument("--rate", type=float, default=1.0)
    parser.add_argument("--timeout", type=float, default=60.0)
    options = parser.parse_args()
    if not 0 < options.rate < math.inf:
        parser.error(f"--rate is {options.rate:g}; give a number above 0 (1 is as recorded)")
    rclpy.init()
    try:
        with BagReader(options.bag, mend=True) as bag:
            player = Player(bag, options.topic)
            player.wait_until_heard(options.node, options.listeners, options.timeout, options.heard)
            try:
                player.play(options.rate)
                while options.loop:
                    player.play(options.rate)
                player.finish(1.0)
            finally:
                if options.sent:
                    _write(options.sent, player.sent)
    except SegPerceptionError as error:
        sys.exit(f"player: {error}")
    except (KeyboardInterrupt, ExternalShutdownException):
        sys.exit("player: interrupted")
    finally:
        rclpy.try_shutdown()


def _write(path: Path, sent: list[tuple[int, int]]) -> None:
    temporary = path.with_suffix(".part")
    temporary.write_text(json.dumps(sent))
    os.replace(temporary, path)


if __name__ == "__main__":
    main()

"""Look at the running ROS graph for some seconds, and print what was seen as one line of JSON.

python -m seg_perception.doctor.probe_graph SECONDS [TOPIC ...]
"""

import json
import sys
import time
from collections.abc import Sequence
from typing import Any

import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.executors import ExternalShutdownException
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.time import Time
from rclpy.utilities import get_rmw_implementation_identifier
from rosgraph_msgs.msg import Clock

from seg_perception.doctor import identity, probe_nodes
from seg_perception.doctor.observation import (
    LinkSeen,
    NodeSeen,
    Observation,
    StatusSeen,
    TransformSeen,
)
from seg_perception.doctor.probe import Probe
from seg_perception.doctor.probe_camera import KINDS, CameraProbe
from seg_perception.doctor.probe_nodes import OwnNode
from seg_perception.nodes.poses import tf2_ros
from seg_perception.nodes.subscription import publishers, subscribers
from seg_perception.qos import Endpoint

SETTLED_S = 1.5  # seconds without news after which a graph counts as known
DISCOVERY_S = 7.0  # seconds until then at most; processes announce themselves every 3 s
MATCH_TIMEOUT_S = 2.0  # seconds at most until publishers know of the subscriptions, and images come
QUEUE = QoSProfile(depth=100, reliability=ReliabilityPolicy.BEST_EFFORT)


class Observer(Probe):
    """Subscribe to what the doctor judges."""

    def __init__(self) -> None:
        super().__init__("seg_perception_doctor")
        self._now: float | None = None  # /clock, seconds
        self._ticks = 0
        self._statuses: dict[tuple[bytes, str], StatusSeen] = {}  # by publisher and name
        self.node.create_subscription(Clock, "/clock", self._on_clock, QUEUE)
        self.node.create_subscription(DiagnosticArray, "/diagnostics", self._on_diagnostics, QUEUE)
        self._tf = tf2_ros.Buffer(node=self.node) if tf2_ros is not None else None
        if self._tf is not None:
            self._listener = tf2_ros.TransformListener(self._tf, self.node)

    def observe(self, seconds: float, topics: Sequence[str]) -> Observation:
        """Discover, then listen."""
        self._discover(topics)
        probes = [
            CameraProbe(self.node, topic, kind, lambda: self._now)
            for topic, kind in self._choose(topics).items()
        ]
        self.spin(MATCH_TIMEOUT_S, lambda: all(p.received for p in probes))
        self.spin(seconds)
        cameras = [p.seen(seconds) for p in probes]
        own = probe_nodes.find(self.node, self.spin)
        return Observation(
            rmw=get_rmw_implementation_identifier(),
            seconds=seconds,
            clock_publishers=[p.node for p in publishers(self.node, "/clock")],
            ticks=self._ticks,
            has_tf=self._tf is not None,
            are_named=bool(topics),
            cameras=cameras,
            transforms=self._transforms(own, probes),
            nodes=self._look_at(own),
            links=[self._link(topic) for topic in sorted(self._shared(own, probes))],
        )

    def _discover(self, topics: Sequence[str]) -> None:
        """Wait until what is looked for is there, and the graph changes no more."""
        started = changed = time.monotonic()
        known: object = None
        while time.monotonic() < started + DISCOVERY_S:
            self.spin(0.1)
            if time.monotonic() > changed + SETTLED_S and self._has_found(topics):
                return
            seen = (
                sorted(self.node.get_node_names_and_namespaces()),
                sorted(topic for topic, _ in self.node.get_topic_names_and_types()),
            )
            if seen != known:
                known, changed = seen, time.monotonic()

    def _has_found(self, topics: Sequence[str]) -> bool:
        """Return whether the named topics, or images and a node of ours, are there."""
        chosen = self._choose(topics)
        is_there = bool(chosen) and all(map(self.node.count_publishers, chosen))
        return is_there and bool(topics or probe_nodes.candidates(self.node))

    def _choose(self, topics: Sequence[str]) -> dict[str, str]:
        """Return topics of images and their types: those named, or all that are not our own."""
        known = {
            topic: kinds[0]
            for topic, kinds in self.node.get_topic_names_and_types()
            if kinds[0] in KINDS
        }
        named = {t if t.startswith("/") else f"/{t}": "" for t in topics}
        if named:
            return {t: known.get(t, next(iter(KINDS))) for t in named}
        ours = {name.lstrip("/") for name in probe_nodes.shown(self.node)}
        return {
            topic: kind
            for topic, kind in sorted(known.items())
            if not _is_derived(topic, known)
            and {p.node for p in publishers(self.node, topic)} - ours
        }

    def _shared(self, own: list[OwnNode], probes: list[CameraProbe]) -> set[str]:
        """Return the topics that cameras and our nodes have."""
        topics = {p.topic for p in probes}
        for own_node in own:
            topics.update(probe_nodes.topics(self.node, own_node.name))
        return topics

    def _link(self, topic: str) -> LinkSeen:
        mine = self.node.get_fully_qualified_name().lstrip("/")

        def others(ends: list[Endpoint]) -> list[Endpoint]:
            return [end for end in ends if end.node != mine]

        return LinkSeen(
            topic, others(publishers(self.node, topic)), others(subscribers(self.node, topic))
        )

    def _look_at(self, own: list[OwnNode]) -> list[NodeSeen]:
        """Return our nodes, each with what it says of itself."""
        senders = probe_nodes.senders(self.node, "/diagnostics")
        said = [(senders.get(who, ""), s) for (who, _), s in self._statuses.items()]

        def is_of(name: str, sender: str, status: StatusSeen) -> bool:
            short = name.rpartition("/")[2]
            return sender == name if sender else status.name.split(":")[0] == short

        return [
            NodeSeen(
                node.name,
                node.parameters["use_sim_time"] if node.parameters else None,
                [status for sender, status in said if is_of(node.name, sender, status)],
            )
            for node in own
        ]

    def _transforms(self, own: list[OwnNode], probes: list[CameraProbe]) -> list[TransformSeen]:
        """Look each camera up in the base_frame of each node that asks tf."""
        if self._tf is None:
            return []
        mappers = [node.parameters for node in own if node.kind == "occupancy_node"]
        frames = sorted({p.frame_id for p in probes} - {""})
        bases = identity.base_frames(mappers)
        return [_look_up(self._tf, base, frame) for base in bases for frame in frames]

    def _on_clock(self, message: Clock) -> None:
        self._ticks += 1
        self._now = message.clock.sec + message.clock.nanosec / 1e9

    def _on_diagnostics(self, message: DiagnosticArray, info: Any) -> None:
        who = bytes((info.get("publisher_gid") or {}).get("data", b""))  # older rclpy does not tell
        for s in message.status:
            state = next((v.value for v in s.values if v.key == "state"), "")
            level = s.level[0] if isinstance(s.level, bytes) else int(s.level)
            self._statuses[who, s.name] = StatusSeen(s.name, level, s.message, state)


def _look_up(tf: Any, base: str, frame: str) -> TransformSeen:
    """Ask tf for the newest place of a frame."""
    try:
        tf.lookup_transform(base, frame, Time())
    except tf2_ros.TransformException as error:
        return TransformSeen(base, frame, str(error))
    return TransformSeen(base, frame, "")


def _is_derived(topic: str, known: dict[str, str]) -> bool:
    """Return whether a topic is another one as image_transport packs it, or compressed depth."""
    raw, _, last = topic.rpartition("/")
    return last == "compressedDepth" or raw in known


def main() -> None:
    """Observe and print."""
    seconds, topics = float(sys.argv[1]), sys.argv[2:]
    rclpy.init()
    try:
        observer = Observer()
        print(json.dumps(observer.observe(seconds, topics).to_dict()))
        observer.node.destroy_node()
    except (KeyboardInterrupt, ExternalShutdownException):
        sys.exit(130)
    finally:
        rclpy.try_shutdown()


if __name__ == "__main__":
    main()

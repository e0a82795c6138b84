"""Running Nav2 nodes: what their parameters and topics mean; knows no ROS."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from seg_perception.doctor import nav2
from seg_perception.doctor.finding import Finding, error, ok, warning
from seg_perception.qos import REMEDIES, Endpoint, mismatch

DEFAULT_NODES = (
    "/local_costmap/local_costmap",
    "/global_costmap/global_costmap",
    "/collision_monitor",
)
# Periods of a cloud that a source must wait for at least: fewer, and it is stale between two.
PERIODS = 2.0


@dataclass(frozen=True)
class Nav2Topic:
    """A topic that a parameter names, both of its ends, and the rate of a cloud in Hz."""

    topic: str
    parameter: str
    publishers: list[Endpoint] = field(default_factory=list)
    subscribers: list[Endpoint] = field(default_factory=list)
    rate: float | None = None


@dataclass(frozen=True)
class Nav2Node:
    """A node as it answered; `parameters` are None where it did not."""

    name: str
    parameters: dict[str, Any] | None = None
    state: str = ""
    topics: list[Nav2Topic] = field(default_factory=list)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Nav2Node":
        """Return what JSON holds of a node."""
        topics = [
            Nav2Topic(
                t["topic"],
                t["parameter"],
                [Endpoint(*end) for end in t["publishers"]],
                [Endpoint(*end) for end in t["subscribers"]],
                t["rate"],
            )
            for t in values["topics"]
        ]
        return cls(values["name"], values["parameters"], values["state"], topics)


def check(nodes: list[Nav2Node], *, are_named: bool) -> Iterator[Finding]:
    """Judge nodes; of those that the user did not name at least one must be there."""
    for node in nodes:
        if node.parameters is not None:
            yield from map(nav2.titled, _check_node(node))
        elif are_named or all(other.parameters is None for other in nodes):
            yield error(
                "nav2", f"{node.name} does not answer",
                "it does not run in this ROS_DOMAIN_ID, or hangs",
                "start Nav2, give the costmap's name (ros2 node list), or --yaml FILE without it",
            )  # fmt: skip


def _check_node(node: Nav2Node) -> Iterator[Finding]:
    assert node.parameters is not None
    if node.state and node.state != "active":
        yield error(
            node.name, f"it is {node.state}", "it maps nothing and stops nothing in this state",
            "look at the log of Nav2's lifecycle manager",
        )  # fmt: skip
    is_monitor = "plugins" not in node.parameters
    judge = nav2.check_monitor if is_monitor else nav2.check_costmap
    yield from judge(node.name, node.parameters)
    for topic in node.topics:
        yield from _check_topic(node, topic)


def _check_topic(node: Nav2Node, topic: Nav2Topic) -> Iterator[Finding]:
    where = f"{topic.parameter} is {topic.topic}"
    if not topic.publishers:
        yield error(
            node.name, f"{where}, and nobody publishes it",
            "the layer waits for ever: nothing of it is in the costmap",
            "start occupancy_node, or correct the name (ros2 topic list)",
        )  # fmt: skip
        return
    short = node.name.lstrip("/")
    ends = [end for end in topic.subscribers if end.node == short]
    if not ends:
        yield error(
            node.name, f"{where}, and {node.name} does not subscribe to it",
            "the layer is not loaded, or another name is used inside", "look at its log",
        )  # fmt: skip
    for offered in topic.publishers:
        for wanted in ends:
            found = mismatch(topic.topic, offered, wanted)
            if found is not None:
                yield error(
                    node.name, f"{found.text} by {wanted.node}", "it gets nothing",
                    REMEDIES[found.policy],
                )  # fmt: skip
    yield from _check_rate(node, topic)


def _check_rate(node: Nav2Node, topic: Nav2Topic) -> Iterator[Finding]:
    """Compare a cloud's rate with the time after which the source calls it dead."""
    if topic.rate is None:
        return
    if topic.rate == 0:
        yield warning(
            node.name, f"{topic.topic} is silent", "the costmap is not current",
            "occupancy_node's diagnostics say why",
        )  # fmt: skip
        return
    at: Any = node.parameters
    *path, _ = topic.parameter.split(".")
    for part in path:
        at = at[part]
    limit = float(at.get("expected_update_rate", 0.0))
    if 0 < limit < PERIODS / topic.rate:
        yield warning(
            node.name,
            f"{topic.topic} comes at {topic.rate:.1f} Hz, and expected_update_rate is {limit:g} s",
            "the costmap is stale between two clouds, and the robot stutters",
            f"{'.'.join(path)}.expected_update_rate: {3 / topic.rate:.1f}",
        )  # fmt: skip
    else:
        yield ok(node.name, f"{topic.topic} comes at {topic.rate:.1f} Hz")

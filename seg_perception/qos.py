"""Whether what a topic's publisher offers reaches a subscriber; knows no ROS."""

from typing import NamedTuple

# From least to most, as DDS compares what is offered and what is wanted (DDS 1.4, 2.2.3).
RELIABILITY = ("best_effort", "reliable")
DURABILITY = ("volatile", "transient_local")

REMEDIES = {
    "type": "name the right topic, or set image_transport to what the camera sends",
    "reliability": "set qos_reliability to auto or best_effort, or let the publisher be reliable",
    "durability": "let the publisher be transient local",
}


class Endpoint(NamedTuple):
    """One end of a topic: a publisher with what it offers, or a subscriber with its wish."""

    node: str  # with its namespace, without the first slash
    kind: str  # as in sensor_msgs/msg/Image
    reliability: str
    durability: str


class Mismatch(NamedTuple):
    """What keeps a publisher's messages from a subscriber; `policy` is a key of REMEDIES."""

    policy: str
    text: str


def mismatch(topic: str, offered: Endpoint, wanted: Endpoint) -> Mismatch | None:
    """Return why a subscriber gets nothing of a publisher, or None; unknown policies match."""
    if offered.kind != wanted.kind:
        what = f"as {offered.kind}, but {wanted.kind} is wanted"
        return Mismatch("type", f"{offered.node} offers {topic} {what}")
    for policy, order in (("reliability", RELIABILITY), ("durability", DURABILITY)):
        has, needs = getattr(offered, policy), getattr(wanted, policy)
        if has in order and needs in order and order.index(has) < order.index(needs):
            what = f"{has}, but {needs} is wanted".replace("_", " ")
            return Mismatch(policy, f"{offered.node} offers {topic} {what}")
    return None

"""What was seen of a running ROS graph, as plain values: they travel as JSON between processes."""

from dataclasses import asdict, dataclass, field
from typing import Any

from seg_perception.qos import Endpoint


@dataclass(frozen=True)
class CameraInfoSeen:
    """The newest CameraInfo next to a camera's images; `fx` is K[0], pixels."""

    fx: float
    width: int
    height: int
    frame_id: str


@dataclass(frozen=True)
class CameraSeen:
    """One topic of images, heard for `seconds`; times in seconds.

    `sent` counts by the publishers' sequence numbers, None where the middleware has none. `stamp`,
    `arrived` (system clock) and `simulated` (/clock then, None without) are the newest image's.
    `unreadable` says why the newest image cannot be decoded.
    """

    topic: str
    kind: str
    seconds: float
    publishers: list[Endpoint] = field(default_factory=list)
    received: int = 0
    sent: int | None = None
    span: float = 0.0
    encoding: str = ""
    width: int = 0
    height: int = 0
    frame_id: str = ""
    unreadable: str = ""
    stamp: float = 0.0
    arrived: float = 0.0
    simulated: float | None = None
    info_topic: str = ""
    info_publishers: int = 0
    info: CameraInfoSeen | None = None


@dataclass(frozen=True)
class StatusSeen:
    """One diagnostic status; levels 0 ok, 1 warning, 2 error."""

    name: str
    level: int
    message: str
    state: str


@dataclass(frozen=True)
class NodeSeen:
    """One of this package's nodes, by its full name; `use_sim_time` is None without an answer."""

    name: str
    use_sim_time: bool | None
    statuses: list[StatusSeen]


@dataclass(frozen=True)
class TransformSeen:
    """A look-up in tf; `failure` is empty where tf knows the place of `child` in `parent`."""

    parent: str
    child: str
    failure: str


@dataclass(frozen=True)
class LinkSeen:
    """Both ends of a topic that is ours or a camera's."""

    topic: str
    publishers: list[Endpoint]
    subscribers: list[Endpoint]


@dataclass(frozen=True)
class Observation:
    """A graph as one process saw it for some seconds."""

    rmw: str
    seconds: float
    clock_publishers: list[str]
    ticks: int  # messages on /clock
    has_tf: bool
    are_named: bool  # the cameras, by the user; else they are all that were found
    cameras: list[CameraSeen]
    transforms: list[TransformSeen]  # of the cameras, in each frame that a map is made in
    nodes: list[NodeSeen]
    links: list[LinkSeen]

    def to_dict(self) -> dict[str, Any]:
        """Return what JSON can hold."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "Observation":
        """Return what `to_dict` was made of."""
        return cls(
            **{
                **values,
                "cameras": [_camera(c) for c in values["cameras"]],
                "transforms": [TransformSeen(**t) for t in values["transforms"]],
                "nodes": [_node(n) for n in values["nodes"]],
                "links": [_link(link) for link in values["links"]],
            }
        )


def _camera(values: dict[str, Any]) -> CameraSeen:
    info = CameraInfoSeen(**values["info"]) if values["info"] else None
    return CameraSeen(**{**values, "info": info, "publishers": _ends(values["publishers"])})


def _node(values: dict[str, Any]) -> NodeSeen:
    return NodeSeen(**{**values, "statuses": [StatusSeen(**s) for s in values["statuses"]]})


def _link(values: dict[str, Any]) -> LinkSeen:
    return LinkSeen(values["topic"], _ends(values["publishers"]), _ends(values["subscribers"]))


def _ends(values: list[list[str]]) -> list[Endpoint]:
    return [Endpoint(*end) for end in values]

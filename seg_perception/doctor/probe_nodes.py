"""This package's nodes in a graph: found by what they show, and by the parameters they tell."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from rcl_interfaces.msg import ParameterType, ParameterValue
from rcl_interfaces.srv import GetParameters
from rclpy.node import Node, NodeNameNonExistentError
from rclpy.parameter import parameter_value_to_python

from seg_perception.doctor import identity

ANSWER_TIMEOUT_S = 4.0  # seconds that all nodes together have to tell their parameters

Spin = Callable[[float, Callable[[], bool]], None]  # handle messages for seconds, or until done


class OwnNode(NamedTuple):
    """A node of ours; `parameters` are None where it did not answer."""

    name: str
    kind: str
    parameters: dict[str, Any] | None


def shown(node: Node) -> list[str]:
    """Return the full names of the nodes that show to be ours; one before configure may not."""
    return [n for n in _names(node) if identity.shown_kind(n, *_offers(node, n))]


def candidates(node: Node) -> list[str]:
    """Return the full names of the nodes that may be ours."""
    return [n for n in _names(node) if identity.is_candidate(n, *_offers(node, n))]


def find(node: Node, spin: Spin) -> list[OwnNode]:
    """Ask all candidates for their parameters at once, and return those that are ours."""
    names = candidates(node)
    told = _ask(node, spin, names)
    found = []
    for name in names:
        answers = told[name]
        kind = identity.told_kind(answers) or identity.shown_kind(name, *_offers(node, name))
        if kind:
            found.append(OwnNode(name, kind, answers.get(kind) or None))
    return found


def topics(node: Node, name: str) -> set[str]:
    """Return the topics that a node publishes or hears."""
    space, _, short = name.rpartition("/")
    try:
        heard = node.get_subscriber_names_and_types_by_node(short, space or "/")
    except NodeNameNonExistentError:  # it ended meanwhile
        heard = []
    return {topic for topic, _ in (*_offers(node, name)[1], *heard)}


def senders(node: Node, topic: str) -> dict[bytes, str]:
    """Return the full names of the nodes that publish a topic, by their publishers' ids."""
    return {
        bytes(info.endpoint_gid): full_name(info.node_name, info.node_namespace)
        for info in node.get_publishers_info_by_topic(topic)
    }


def full_name(name: str, space: str) -> str:
    """Return a node's name with its namespace."""
    return f"{space.rstrip('/')}/{name}"


def _ask(node: Node, spin: Spin, names: Sequence[str]) -> dict[str, dict[str, dict[str, Any]]]:
    """Return what each node answers to the question for the parameters of each kind."""
    clients: dict[str, Any] = {
        name: node.create_client(GetParameters, f"{name}/get_parameters") for name in names
    }
    asked: set[str] = set()
    futures: dict[tuple[str, str], Any] = {}

    def have_answered() -> bool:
        for name, client in clients.items():
            if name not in asked and client.service_is_ready():
                asked.add(name)
                for kind, wanted in identity.PARAMETERS.items():
                    request = GetParameters.Request(names=wanted)
                    futures[name, kind] = client.call_async(request)
        return len(asked) == len(names) and all(f.done() for f in futures.values())

    spin(ANSWER_TIMEOUT_S, have_answered)
    answers: dict[str, dict[str, dict[str, Any]]] = {name: {} for name in names}
    for (name, kind), future in futures.items():
        if future.done():
            answers[name][kind] = _values(identity.PARAMETERS[kind], future.result().values)
    for client in clients.values():
        node.destroy_client(client)
    return answers


def _values(names: Sequence[str], values: Sequence[ParameterValue]) -> dict[str, Any]:
    """Return parameters by name; nothing where one of them is not declared."""
    if not values or any(v.type == ParameterType.PARAMETER_NOT_SET for v in values):
        return {}
    return {n: parameter_value_to_python(v) for n, v in zip(names, values, strict=True)}


def _names(node: Node) -> list[str]:
    names = set(node.get_node_names_and_namespaces())
    return sorted(full_name(name, space) for name, space in names)


def _offers(node: Node, name: str) -> tuple[set[tuple[str, str]], set[tuple[str, str]]]:
    """Return the services and the topics that a node has, each with its types."""
    space, _, short = name.rpartition("/")
    try:
        services = node.get_service_names_and_types_by_node(short, space or "/")
        topics = node.get_publisher_names_and_types_by_node(short, space or "/")
    except NodeNameNonExistentError:  # it ended meanwhile
        return set(), set()
    return _pairs(services), _pairs(topics)


def _pairs(ends: Sequence[tuple[str, list[str]]]) -> set[tuple[str, str]]:
    return {(name, kind) for name, kinds in ends for kind in kinds}

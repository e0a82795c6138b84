"""ROS parameters declared from the dataclasses of parameters.py."""

from collections.abc import Callable
from dataclasses import fields
from typing import Any, TypeVar

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor
from rclpy.exceptions import InvalidParameterTypeException, InvalidParameterValueException
from rclpy.node import Node
from rclpy.parameter import Parameter

from seg_perception.parameters import Change, Spec, name_of, specs

Parameters = TypeVar("Parameters")


def declare(node: Node, parameters: type, *, prefix: str = "") -> dict[str, str]:
    """Declare every parameter; return what is wrong with values given at start, by name.

    `prefix` stands before every name. A wrong value leaves its default behind and the node alive,
    so that diagnostics can tell.
    """
    problems: dict[str, str] = {}
    for entry in fields(parameters):
        spec: Spec = entry.metadata["spec"]
        name = prefix + name_of(entry)
        descriptor = _descriptor(spec, entry.default)
        try:
            value = _declare(node, name, entry.default, descriptor)
            problem = spec.problem(name, value)
        except (InvalidParameterTypeException, InvalidParameterValueException) as error:
            problem = f"parameter {name}: {error}"
            _declare(node, name, entry.default, descriptor, ignore_override=True)
        if problem:
            problems[name] = problem
    return problems


def read(node: Node, parameters: type[Parameters], *, prefix: str = "") -> Parameters:
    """Return the current values as one frozen object."""
    known: Any = parameters  # a dataclass
    values = {f.name: node.get_parameter(prefix + name_of(f)).value for f in fields(known)}
    return parameters(**{k: tuple(v) if isinstance(v, list) else v for k, v in values.items()})


def refuse_bad_values(
    parameters: type, is_configured: Callable[[], bool], *, prefix: str = ""
) -> Callable[[list[Any]], str]:
    """Return a check that says which value is out of range, or which change comes too late."""
    known = {prefix + name: spec for name, spec in specs(parameters).items()}

    def check(changes: list[Any]) -> str:
        for change in changes:
            spec = known.get(change.name)
            if spec is None:
                continue
            reason = spec.problem(change.name, change.value)
            if not reason and spec.change is Change.UNCONFIGURED and is_configured():
                reason = f"{change.name} can be set only {spec.change.value}"
            if reason:
                return reason
        return ""

    return check


def _declare(
    node: Node, name: str, default: Any, descriptor: ParameterDescriptor, **options: bool
) -> Any:
    """Declare one parameter and return its value at start."""
    if not isinstance(default, tuple):
        return node.declare_parameter(name, default, descriptor, **options).value
    # rclpy cannot tell the type of an empty list.
    kind = Parameter.Type.STRING_ARRAY
    value: Any = node.declare_parameter(name, kind, descriptor, **options).value
    if value is None:
        value = list(default)
        node.set_parameters([Parameter(name, kind, value)])
    return value


def _descriptor(spec: Spec, default: Any) -> ParameterDescriptor:
    descriptor = ParameterDescriptor(
        description=spec.text,
        read_only=spec.change is Change.START,
        additional_constraints="; ".join(
            part
            for part in (
                f"one of {', '.join(spec.choices)}" if spec.choices else "",
                f"set {spec.change.value}",
            )
            if part
        ),
    )
    if spec.low is None or spec.high is None:
        return descriptor
    if isinstance(default, float):
        descriptor.floating_point_range = [
            FloatingPointRange(from_value=float(spec.low), to_value=float(spec.high))
        ]
    else:
        descriptor.integer_range = [
            IntegerRange(from_value=int(spec.low), to_value=int(spec.high), step=1)
        ]
    return descriptor

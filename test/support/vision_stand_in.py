"""A stand-in for vision_msgs where it is not installed: its messages travel as another type.

A LabelInfo is sent as a DiagnosticArray, so that a node's publisher, its quality of service and the
middleware are the real ones.
"""

from typing import Any, NamedTuple

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus


class VisionClass(NamedTuple):
    """An id and its name."""

    class_id: int
    class_name: str


class Kind(type(DiagnosticArray)):  # type: ignore[misc]
    """Makes rclpy take LabelInfo for the type that it is sent as."""

    def __instancecheck__(cls, message: object) -> bool:
        return isinstance(message, DiagnosticArray)


class LabelInfo(metaclass=Kind):
    """Names of ids; the message is a DiagnosticArray of name, id and threshold."""

    def __new__(cls, header: Any, class_map: list[VisionClass], threshold: float) -> Any:
        listed = [
            DiagnosticStatus(
                name=c.class_name, message=str(c.class_id), hardware_id=str(float(threshold))
            )
            for c in class_map
        ]
        return DiagnosticArray(header=header, status=listed)

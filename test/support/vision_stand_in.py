"""A stand-in for vision_msgs where it is not installed: its messages travel as another type.

A LabelInfo is sent as a DiagnosticArray, so that a node's publisher, its quality of service and the
middleware are the real ones. As in the real messages, fields have keywords, all have defaults, ids
are 16 bits on the wire and the threshold 32; what is received has other fields.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from std_msgs.msg import Header


@dataclass(kw_only=True)
class VisionClass:
    """An id and its name."""

    class_id: int = 0
    class_name: str = ""


class Kind(type(DiagnosticArray)):  # type: ignore[misc]
    """Makes rclpy take LabelInfo for the type that it is sent as."""

    def __instancecheck__(cls, message: object) -> bool:
        return isinstance(message, DiagnosticArray)


class LabelInfo(metaclass=Kind):
    """Names of ids; the message is a DiagnosticArray of name, id and threshold."""

    def __new__(
        cls,
        *,
        header: Any = None,
        class_map: Sequence[VisionClass] = (),
        threshold: float = 0.0,
    ) -> Any:
        sent = str(float(np.float32(threshold)))
        listed = [
            DiagnosticStatus(name=c.class_name, message=str(c.class_id & 0xFFFF), hardware_id=sent)
            for c in class_map
        ]
        return DiagnosticArray(header=header or Header(), status=listed)

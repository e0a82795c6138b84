"""Diagnostic messages from plain values."""

from collections.abc import Mapping

from builtin_interfaces.msg import Time
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue


def diagnostic(
    stamp: Time, name: str, level: bytes, message: str, values: Mapping[str, str]
) -> DiagnosticArray:
    """Return an array of one status."""
    status = DiagnosticStatus(
        level=level,
        name=name,
        message=message,
        hardware_id="",
        values=[KeyValue(key=key, value=value) for key, value in values.items()],
    )
    array = DiagnosticArray(status=[status])
    array.header.stamp = stamp
    return array

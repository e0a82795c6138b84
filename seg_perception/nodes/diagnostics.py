"""Diagnostic messages from plain values."""

from collections.abc import Mapping, Sequence

from builtin_interfaces.msg import Time
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue


def status(name: str, level: bytes, message: str, values: Mapping[str, str]) -> DiagnosticStatus:
    """Return one status."""
    return DiagnosticStatus(
        level=level,
        name=name,
        message=message,
        hardware_id="",
        values=[KeyValue(key=key, value=value) for key, value in values.items()],
    )


def diagnostics(stamp: Time, states: Sequence[DiagnosticStatus]) -> DiagnosticArray:
    """Return an array of states."""
    array = DiagnosticArray(status=list(states))
    array.header.stamp = stamp
    return array

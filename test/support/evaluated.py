"""What a report says that does not depend on how it was made."""

from typing import Any

MEASURED = ("stage_ms", "stage_p95_ms", "rate_hz", "peak_memory_mb", "verdicts")


def scores(report: dict[str, Any]) -> dict[str, Any]:
    """Return what must not depend on how a recording was counted."""
    return {key: value for key, value in report.items() if key not in MEASURED}

"""What the doctor says: one finding a question, from well to broken."""

from typing import NamedTuple

LEVELS = ("ok", "note", "warning", "error")


class Finding(NamedTuple):
    """What was found, what it means and what to do; the last two are empty where all is well."""

    level: str
    check: str
    found: str
    means: str = ""
    do: str = ""


def ok(check: str, found: str) -> Finding:
    """Return that all is well."""
    return Finding("ok", check, found)


def note(check: str, found: str, means: str, do: str = "") -> Finding:
    """Return what is worth knowing and may stay as it is."""
    return Finding("note", check, found, means, do)


def warning(check: str, found: str, means: str, do: str) -> Finding:
    """Return what will hurt some uses."""
    return Finding("warning", check, found, means, do)


def error(check: str, found: str, means: str, do: str) -> Finding:
    """Return what keeps the nodes from their work."""
    return Finding("error", check, found, means, do)

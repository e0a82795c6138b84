"""Shared memory that killed nodes leave behind."""

from collections.abc import Iterator
from pathlib import Path

import pytest


def mapped(segments: set[Path]) -> set[Path]:
    """Return those shared-memory files that a running process holds."""
    held: set[Path] = set()
    for maps in Path("/proc").glob("[0-9]*/maps"):
        try:
            text = maps.read_text()
        except OSError:  # the process ended meanwhile
            continue
        held |= {s for s in segments if str(s) in text}
    return held


@pytest.fixture
def clean_memory() -> Iterator[None]:
    """Remove the 64 MB that a killed process leaves behind; others' stay untouched."""
    segments = "fastdds_" + "[0-9a-f]" * 16
    before = set(Path("/dev/shm").glob(segments))
    yield
    new = set(Path("/dev/shm").glob(segments)) - before
    for left in new - mapped(new):
        for file in (left, left.with_name(f"{left.name}_el")):
            file.unlink(missing_ok=True)  # another test's node may have ended just now

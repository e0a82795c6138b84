"""Findings for people."""

import textwrap
from collections import Counter
from collections.abc import Iterator, Sequence

from seg_perception.doctor.finding import LEVELS, Finding

COLOURS = {"ok": "green", "note": "cyan", "warning": "yellow", "error": "bold red"}
WIDTH = 100
MARGIN = " " * 24


def print_findings(findings: Sequence[Finding]) -> None:
    """Print findings, in colours where rich is installed and the output is a terminal."""
    lines = [pair for finding in findings for pair in _lines(finding)]
    count = Counter(f.level for f in findings)
    summary = ", ".join(f"{count[level]} {level}" for level in reversed(LEVELS) if count[level])
    try:
        from rich.console import Console
        from rich.text import Text
    except ImportError:
        print("\n".join([*(head + text for _, head, text in lines), summary]))
        return
    console = Console(soft_wrap=True)
    for level, head, text in lines:
        console.print(Text.assemble((head, COLOURS[level]), text))
    console.print(Text(summary))


def _lines(finding: Finding) -> Iterator[tuple[str, str, str]]:
    """Yield level, margin and text of each line."""
    head = f"{finding.level:<8}{finding.check:<16}"
    for text in (finding.found, finding.means and f"means: {finding.means}",
                 finding.do and f"do: {finding.do}"):  # fmt: skip
        room = WIDTH - len(MARGIN)
        for line in textwrap.wrap(text, room, break_long_words=False, break_on_hyphens=False):
            yield finding.level, head, line
            head = MARGIN

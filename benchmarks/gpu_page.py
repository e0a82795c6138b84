"""The page benchmarks/gpu.md: what gpu.py measures, and what came out."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

PAGE = Path(__file__).with_name("gpu.md")
NONE = "None yet: no GPU has been at hand, so nothing is known of any card.\n"
RESULTS = "## Results"
COLUMNS = {
    "setting": "",
    "ms": "ms",
    "network ms": "ms_network",
    "eager fp32 / this": "eager_over",
    "torch's default / this": "eager_default_over",
    "agreement": "agreement",
    "peak MiB": "peak_mib",
    "share of product": "share_of_product",
}


def page(result: Mapping[str, Any] | None, *, enough: float) -> str:
    """Return benchmarks/gpu.md with the results of a run; `enough` is the agreement of the best."""
    head = PAGE.read_text("utf-8").split(RESULTS)[0] + RESULTS + "\n\n"
    if result is None:
        return head + NONE
    card = result["machine"]
    lines = [
        f"{card.get('name', card['device'])}, torch {card['torch']}, {result['rounds']} rounds."
    ]
    for name, case in result["cases"].items():
        lines += ["", f"### {name}: {case['arch']}, {case['dataset']}, {case['weights']}", ""]
        lines += [f"| {' | '.join(COLUMNS)} |", f"|{'---|' * len(COLUMNS)}"]
        for setting, found in case["settings"].items():
            cells = [str(found.get(key, "")) for key in COLUMNS.values() if key]
            lines.append(f"| {setting} | {' | '.join(cells)} |")
        lines += [f"\n{setting} failed: {why}" for setting, why in case["failed"].items()]
        lines += ["", f"Best with {enough:.1%} of the labels: {_in_words(case['best'])}."]
    for setting, faster in result["shrunk_over_plain"].items():
        if not setting.endswith("_spread"):
            lines += ["", f"SegViT-L over Shrunk, {setting}: {faster}."]
    return head + "\n".join(lines) + "\n"


def _in_words(best: Mapping[str, Any] | None) -> str:
    if best is None:
        return "none"
    return f"{best['setting']}, {best['eager_over']} times faster than eager fp32"

"""The configuration of Nav2 that the package brings."""

from typing import Any

import yaml

from support.paths import ROOT

CONFIG = ROOT / "config" / "nav2_costmap.yaml"
LOADED = yaml.safe_load(CONFIG.read_text())


def without_package() -> dict[str, Any]:
    """Return the parameters that stand in comments."""
    lines = CONFIG.read_text().splitlines()
    first = next(i for i, line in enumerate(lines) if line.strip().startswith("# plugins:"))
    last = next(i for i in range(first, len(lines)) if not lines[i].strip())
    block = [line.replace("# ", "", 1) for line in lines[first:last]]
    return dict(yaml.safe_load("\n".join(block)))

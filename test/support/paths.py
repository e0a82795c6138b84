"""Where things of the repository are."""

from pathlib import Path

ROOT = Path(__file__).parents[2]
TESTS = ROOT / "test"
DATA = TESTS / "data"
SUPPORT = TESTS / "support"

"""What a mapper is told: free to import, so that parameters need nothing else of this folder."""

from collections.abc import Mapping
from dataclasses import dataclass, field

LETHAL = 100
COSTS = {
    "other": 50,
    "drivable": 0,
    "sidewalk": 30,
    "obstacle": LETHAL,
    "person": LETHAL,
    "vehicle": LETHAL,
    "vegetation": 70,
    "sky": 0,
}


@dataclass(frozen=True)
class Settings:
    """What a mapper is told once. Lengths in metres, times in seconds."""

    resolution: float = 0.1
    width: float = 20.0
    height: float = 20.0
    half_life: float = 2.0
    max_range: float = 20.0
    max_jump: float = 2.0  # a stamp older than the newest by more is a new beginning
    min_pixels: int = 3  # things smaller than this along a ray are label noise
    costs: Mapping[str, int] = field(default_factory=lambda: dict(COSTS))

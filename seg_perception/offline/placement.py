"""Where a camera is on its robot, as a user says it; free to import."""

from typing import NamedTuple


class Placement(NamedTuple):
    """Where a camera is on its robot, as far as the user says; the rest is for the bag to say.

    `mount` is x, y, z in metres, roll, pitch, yaw in radians, as occupancy_node's parameters.
    """

    mount: tuple[float, float, float, float, float, float] | None = None
    base_frame: str | None = None
    odom_frame: str | None = None
    rectified: bool = False

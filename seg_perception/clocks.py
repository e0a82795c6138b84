"""Whether the stamps of images and the clock of their reader are of one time."""

LIMIT = 5.0  # seconds between a stamp and the clock that no slow camera explains


class StampWatch:
    """Remember the newest image's stamp next to the clock that received it, both in ns."""

    def __init__(self) -> None:
        self._newest: tuple[int, int] | None = None
        self._is_told = False

    def on_image(self, stamp: int, clock: int) -> None:
        """Note an image."""
        self._newest = stamp, clock

    def problem(self, *, is_simulated: bool) -> str:
        """Return how stamps and clock disagree, or an empty string."""
        if self._newest is None:
            return ""
        return disagreement(*self._newest, is_simulated=is_simulated)

    def first_warning(self, *, is_simulated: bool) -> str:
        """Return the first problem, and an empty string ever after."""
        problem = "" if self._is_told else self.problem(is_simulated=is_simulated)
        self._is_told |= bool(problem)
        return problem


def disagreement(stamp: int, clock: int, *, is_simulated: bool, limit: float = LIMIT) -> str:
    """Return what to do about a stamp and a clock, in ns, `limit` seconds apart, or nothing."""
    seconds = (clock - stamp) / 1e9
    if is_simulated and not clock:
        return (
            "use_sim_time is true and /clock says nothing: the node's clock stands at 0; play the "
            "bag with --clock, or set use_sim_time to false"
        )
    if abs(seconds) <= limit:
        return ""
    what = (
        f"the image is stamped {stamp / 1e9:.3f} s and the clock says {clock / 1e9:.3f} s, "
        f"{abs(seconds):.3f} s {'later' if seconds > 0 else 'earlier'}"
    )
    if not stamp:
        return f"{what}: set the stamp in the camera's driver"
    if is_simulated:
        return f"{what}: use_sim_time is true, so play camera and /clock from one bag"
    return (
        f"{what}: play a bag with --clock and set use_sim_time to true, or set the clock of the "
        "camera's computer"
    )

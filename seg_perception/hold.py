"""When masks wait, so that whoever newly subscribes gets the names of their ids first."""

HOLD = 1.0  # seconds that a new subscriber has to process the names
CREDIT = 5.0  # seconds that masks may wait in a row


class Hold:
    """A pause of the masks; times are steady-clock seconds.

    Subscribers that come and go for ever must not silence a node. A second of hold costs a second
    of credit, a second without one gives it back, and without credit no hold begins: masks wait
    for at most CREDIT seconds in a row, and in the long run for at most half of the time.
    """

    def __init__(self) -> None:
        self._until = float("-inf")
        self._credit = CREDIT  # once the hold has ended

    def begin(self, now: float) -> bool:
        """Hold until HOLD seconds from now; return whether the credit allows it."""
        credit = min(CREDIT, self._credit + max(0.0, now - self._until))
        cost = now + HOLD - max(now, self._until)
        if cost > credit:
            return False
        self._until, self._credit = now + HOLD, credit - cost
        return True

    def end(self, now: float) -> None:
        """End the hold before its time, and get back what it did not use."""
        if self.is_on(now):
            self._credit += self._until - now
            self._until = now

    def is_on(self, now: float) -> bool:
        """Return whether masks wait."""
        return now < self._until

"""When the live estimate is refreshed: seldom, so that no frame waits for it, and at once when all are there."""

SHARE = 0.25  # of a processor, of what refreshes may take while frames come


class Pace:
    """Refreshes that take `share` of a processor, and none that would keep the last frame waiting."""

    def __init__(self, share: float = SHARE) -> None:
        self._share = share
        self._took_s = 0.0
        self._next_s = 0.0

    def took(self, began_s: float, ended_s: float, worked_s: float) -> None:
        """One has ended, of which a processor worked for `worked_s`; for the rest it waited for one."""
        self._took_s = ended_s - began_s
        self._next_s = max(ended_s, began_s + worked_s / self._share)

    def allows(self, now_s: float, last_in_s: float) -> bool:
        """Whether one may begin; the last frame is expected in so many seconds, if these are not over."""
        return now_s >= self._next_s and not 0 < last_in_s < self._took_s

"""What is told of work that goes on: the share done, and a line that ends with the time left of all of it."""

from collections.abc import Callable
from time import monotonic

Progress = Callable[[float, str], None]


class TimeLeft:
    """A `Progress` that adds the seconds left to the lines it passes on, by the pace since it was told first: what
    was done before, by a process that was killed, says nothing of it."""

    def __init__(self, tell: Progress) -> None:
        self._tell = tell
        self._first: tuple[float, float] | None = None

    def __call__(self, share: float, text: str) -> None:
        now_s = monotonic()
        began_s, before = self._first = self._first or (now_s, share)
        if share > before:
            text = f"{text}, {(now_s - began_s) * (1 - share) / (share - before):.0f} s left"
        self._tell(share, text)

    def part(self, first: float, whole: float, label: str) -> "TimeLeft":
        """Of one step: its shares lie from `first` on among `whole`, and its lines begin with `label`."""
        return _Part(self, first, whole, label)


class _Part(TimeLeft):
    def __init__(self, of: TimeLeft, first: float, whole: float, label: str) -> None:
        self._of, self._begun, self._whole, self._label = of, first, whole, label

    def __call__(self, share: float, text: str) -> None:
        self._of((self._begun + share) / self._whole, f"{self._label}{text}")

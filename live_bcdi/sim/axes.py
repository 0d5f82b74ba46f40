"""A motor as it is: it takes its time, has limits, backlash, and stops a little beside where it says."""

from dataclasses import dataclass

import numpy as np

from ..types import ScanError

FREE = (-float("inf"), float("inf"))


@dataclass(kw_only=True, slots=True)
class Axis:
    """One motor, in degrees or micrometres (`unit` "um"); times are those of the beamline's clock, in seconds.

    The readback goes evenly to the target at `speed`. What is moved follows it with play: it stays until the
    readback is `backlash` / 2 ahead of it (the play operator of hysteresis), and stops `beside` it, which
    whoever starts the motor draws with the standard deviation `repeatability`.
    """

    name: str
    unit: str = "deg"
    limits: tuple[float, float] = FREE
    speed: float = 1.0
    backlash: float = 0.0
    repeatability: float = 0.0
    beside: float = 0.0
    begin: float = 0.0
    target: float = 0.0
    begin_s: float = 0.0
    end_s: float = 0.0
    driven: float = 0.0

    def check(self, target: float) -> None:
        """Raise ScanError for a target that is no number or beyond the limits."""
        low, high = self.limits
        if not np.isfinite(target):
            raise ScanError(f"{self.name} cannot be moved to {target}; give a finite number")
        if not low <= target <= high:
            raise ScanError(f"{self.name} cannot be moved to {target:.6g}: its limits are {low:g} and {high:g}")

    def place(self, position: float, now_s: float) -> None:
        """Stand somewhere at once, in the middle of the play. Raises ScanError as `check`."""
        self.check(position)
        self.begin = self.target = self.driven = float(position)
        self.end_s, self.beside = now_s, 0.0

    def start(self, target: float, now_s: float, *, within_s: float | None = None, beside: float = 0.0) -> float:
        """Begin to move, evenly within a time where one is given; the time at which it will stand."""
        self.check(target)
        self.driven = self.driven_at(now_s) - self.beside
        self.begin, self.beside = self.readback_at(now_s), beside
        self.target, self.begin_s = float(target), now_s
        duration_s = abs(target - self.begin) / self.speed if within_s is None else within_s
        self.end_s = now_s + duration_s
        return self.end_s

    def readback_at(self, time_s: float) -> float:
        if time_s >= self.end_s:
            return self.target
        share = max(time_s - self.begin_s, 0.0) / (self.end_s - self.begin_s)
        return self.begin + share * (self.target - self.begin)

    def driven_at(self, time_s: float) -> float:
        """Where the crystal or the detector is carried."""
        readback, half = self.readback_at(time_s), self.backlash / 2
        return float(np.clip(self.driven, readback - half, readback + half)) + self.beside

    def halt(self, now_s: float) -> None:
        """Stop where it is."""
        if now_s < self.end_s:
            self.start(self.readback_at(now_s), now_s, within_s=0.0, beside=self.beside)

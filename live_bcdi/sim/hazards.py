"""What goes wrong at a beamline while time goes by: drift, thermal kicks, beam trips. All of it from a seed."""

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from ..types import ScanError
from .crystals import Floats

HORIZON_S = 48 * 3600.0  # random events are drawn this far; later nothing new goes wrong
FULL_MA = 100.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Hazards:
    """How much goes wrong; zero, the default, is nothing.

    The holder goes off at `drift_um_per_h` and turns at `drift_mdeg_per_h`, each in one direction that the seed
    chooses. It is kicked every `kick_every_s` seconds on average, by about `kick_um` and `kick_mdeg` along each
    axis, and comes back with the time constant `relaxing_s`. Every `trip_every_s` on average there is no beam
    for about `trip_s`. The ring loses current with the lifetime `lifetime_s` and is topped up every `top_up_s`.
    `flicker` is the relative standard deviation of the beam's intensity from one exposure to the next, and each
    motor stops `repeatability` (degrees; 1000 times that in micrometres, of the stage) from where its readback
    says, and turns back only after `backlash` of the same units.
    """

    drift_um_per_h: float = 0.0
    drift_mdeg_per_h: float = 0.0
    kick_every_s: float = 0.0
    kick_um: float = 0.0
    kick_mdeg: float = 0.0
    relaxing_s: float = 600.0
    trip_every_s: float = 0.0
    trip_s: float = 120.0
    lifetime_s: float = 0.0
    top_up_s: float = 180.0
    flicker: float = 0.0
    repeatability: float = 0.0
    backlash: float = 0.0

    def __post_init__(self) -> None:
        for name in self.__slots__:
            value = getattr(self, name)
            if not (np.isfinite(value) and value >= 0):
                raise ScanError(f"hazards: {name} is a number that is not negative, not {value}")


ROUGH = Hazards(
    drift_um_per_h=4.0,
    drift_mdeg_per_h=20.0,
    kick_every_s=1800.0,
    kick_um=1.5,
    kick_mdeg=8.0,
    trip_every_s=4 * 3600.0,
    lifetime_s=10 * 3600.0,
    flicker=0.01,
    repeatability=2e-4,
    backlash=2e-3,
)
"""A bad day: what a plan is to survive."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Kick:
    """The holder jumps by `shift_um` (3,) and turns by `turn_mdeg` (3,) at `time_s`; what of it comes back does
    with `relaxing_s`, which is infinite where it stays."""

    time_s: float
    shift_um: Floats
    turn_mdeg: Floats
    relaxing_s: float


@dataclass(kw_only=True)
class Course:
    """The hazards of one seed, played over the beamline's clock, in seconds."""

    hazards: Hazards
    seed: int
    kicks: list[Kick] = field(default_factory=list)

    def __post_init__(self) -> None:
        random = np.random.default_rng([self.seed, 21])
        directions = random.normal(size=(2, 3))
        self._shift, self._turn = directions / np.linalg.norm(directions, axis=1, keepdims=True)
        for time_s in _arrivals(self.hazards.kick_every_s, random):
            shift, turn = random.normal(size=(2, 3))
            self.kicks.append(
                Kick(
                    time_s=time_s,
                    shift_um=shift * self.hazards.kick_um,
                    turn_mdeg=turn * self.hazards.kick_mdeg,
                    relaxing_s=self.hazards.relaxing_s,
                )
            )

    def shift_um(self, time_s: float) -> Floats:
        """How far the holder has gone, (3,), in its own frame."""
        steady = self._shift * (self.hazards.drift_um_per_h * time_s / 3600)
        return np.asarray(steady + sum(_left(kick, time_s) * kick.shift_um for kick in self.kicks))

    def turn_mdeg(self, time_s: float) -> Floats:
        """How far the holder has turned, a rotation vector (3,) in its own frame."""
        steady = self._turn * (self.hazards.drift_mdeg_per_h * time_s / 3600)
        return np.asarray(steady + sum(_left(kick, time_s) * kick.turn_mdeg for kick in self.kicks))

    @cached_property
    def trips(self) -> Floats:
        """Beginning and end of each time without beam, (n, 2)."""
        random = np.random.default_rng([self.seed, 22])
        begin = np.array(_arrivals(self.hazards.trip_every_s, random))
        return np.stack([begin, begin + random.exponential(self.hazards.trip_s, len(begin))], axis=-1)

    def current_ma(self, time_s: float) -> float:
        """Of the storage ring; zero while there is no beam."""
        dark = any(begin <= time_s < end for begin, end in self.trips)
        return 0.0 if dark else FULL_MA * self._decayed(time_s)

    def _decayed(self, time_s: float) -> float:
        """Share of the current since the last top-up."""
        life_s = self.hazards.lifetime_s
        return float(np.exp(-(time_s % self.hazards.top_up_s) / life_s)) if life_s else 1.0

    def beam_s(self, begin_s: float, end_s: float) -> float:
        """Seconds of beam between two times, as if the current were full: trips are exact, the current that of the
        middle."""
        dark_s = sum(max(min(end, end_s) - max(begin, begin_s), 0.0) for begin, end in self._merged)
        return max(end_s - begin_s - dark_s, 0.0) * self._decayed((begin_s + end_s) / 2)

    @cached_property
    def _merged(self) -> list[tuple[float, float]]:
        """Trips without overlaps."""
        merged: list[tuple[float, float]] = []
        for begin, end in self.trips:
            if merged and begin <= merged[-1][1]:
                merged[-1] = (merged[-1][0], max(merged[-1][1], float(end)))
            else:
                merged.append((float(begin), float(end)))
        return merged


def _left(kick: Kick, time_s: float) -> float:
    """The share of a kick that is left."""
    return 0.0 if time_s < kick.time_s else float(np.exp(-(time_s - kick.time_s) / kick.relaxing_s))


def _arrivals(every_s: float, random: np.random.Generator) -> list[float]:
    """Times of a Poisson process up to the horizon; none where `every_s` is zero."""
    if not every_s:
        return []
    count = int(3 * HORIZON_S / every_s) + 20
    times = np.cumsum(random.exponential(every_s, count))
    return [float(time) for time in times[times < HORIZON_S]]

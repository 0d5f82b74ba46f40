"""A beamline that is not there: motors with backlash, a field of crystals that drift, a beam that trips, a
detector.

Where a peak appears is `geometry.py`'s to say; what a crystal scatters is `pattern.Pattern`'s. Nothing here
knows of bluesky, and time is simulated: moves and exposures cost it, and nothing else does. The same seed and
the same calls give the same counts.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from ..config import CircleConfig, Config, direction
from ..geometry import (
    bragg_turns_deg,
    chain_matrix,
    pixel_of,
    q_lab_invA,
    rocking_circle,
    wavelength_angstrom,
    with_rocking_angle,
)
from ..types import Geometry, ScanError, Vector
from .axes import FREE, Axis
from .crystals import Floats
from .field import Beam, Field, Grain, Pixels, Pose
from .hazards import Course, Hazards, Kick
from .scattering import DISTANCE_M, ENERGY_KEV

DEG_A_S, UM_A_S = 1.0, 50.0
UM_A_DEG = 1e3  # of backlash and repeatability, which the hazards have in degrees
MONITOR_HZ = 1e6  # at full current without attenuation
FILTERS = (0.5, 0.25, 0.0625, 0.00390625)  # what each lets through

# An exposure in which motors move is the mean of places this far apart: in fringes, of which intensity has no
# shorter period than one, and in widths of the beam.
_FRINGES, _EDGE = 0.5, 0.1
_MOST_PLACES = 4000


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Exposure:
    """`counts` (rows, columns), the sum of `acquisitions`; `monitor` counts what went on to the sample, behind
    attenuators and shutter. From `begin_s` to `end_s` on the beamline's clock. `saturated`: whether an acquisition
    was full in some pixel."""

    counts: NDArray[np.int32]
    monitor: float
    begin_s: float
    end_s: float
    acquisitions: int
    saturated: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Miss:
    """How far a grain is from where it should be: `rocking_deg` is the turn of the rocking circle that puts it
    into Bragg's condition (NaN where none does), `row` and `column` where its peak then is on the detector,
    `across_um` how far it lies from the middle of the beam, along the detector's columns and rows with the arm
    at zero."""

    rocking_deg: float
    row: float
    column: float
    across_um: tuple[float, float]


class Beamline:
    """The diffractometer of a configuration, `shape` (rows, columns) of its detector around the arm's pixel, and a
    field of crystals.

    The beam is Gaussian, `beam_um` wide at half of its maximum along the detector's columns and rows (with the
    arm at zero), and passes where the circles' axes meet, which is `centre_um` (lab) away. Positions are by the
    names of the configuration's motors, in degrees and, of the stage, micrometres.
    """

    def __init__(
        self,
        config: Config,
        field: Field,
        *,
        shape: tuple[int, int] = (128, 128),
        hazards: Hazards | None = None,
        beam_um: tuple[float, float] = (12.0, 12.0),
        centre_um: Vector = (0.0, 0.0, 0.0),
        seed: int = 0,
    ) -> None:
        self.config, self.field, self.shape = config, field, shape
        across = np.array([direction(config.detector.columns), direction(config.detector.rows)])
        self.beam = Beam(width_um=beam_um, across=across)
        self.centre_um = centre_um
        self.course = Course(hazards=hazards or Hazards(), seed=seed)
        self.axes = {circle.motor: self._axis(circle) for circle in config.diffractometer.axes}
        self.time_s = 0.0
        self.dose_s = 0.0  # seconds of full beam on the sample
        self.shutter_open = True
        self.filters_in: frozenset[int] = frozenset()
        self._random = np.random.default_rng([seed, 23])
        self._pixels: tuple[Geometry, Pixels] | None = None

    def _axis(self, circle: CircleConfig) -> Axis:
        um = circle in self.config.diffractometer.stage
        scale = UM_A_DEG if um else 1.0
        return Axis(
            name=circle.motor,
            unit="um" if um else "deg",
            limits=circle.limits or FREE,
            speed=UM_A_S if um else DEG_A_S,
            backlash=self.course.hazards.backlash * scale,
            repeatability=self.course.hazards.repeatability * scale,
        )

    # motors and time

    def axis(self, name: str) -> Axis:
        """Raises ScanError where there is none of that name."""
        if name not in self.axes:
            raise ScanError(f"no motor {name!r} at {self.config.beamline}; there are {', '.join(self.axes)}")
        return self.axes[name]

    def place(self, positions: Mapping[str, float]) -> None:
        """Put motors somewhere at once, in the middle of their play: how a beamline is found in the morning.
        Raises ScanError as `begin` does."""
        for name, position in positions.items():
            self.axis(name).place(position, self.time_s)

    def begin(self, name: str, target: float, *, within_s: float | None = None) -> float:
        """Begin a motion; the time at which it ends. The clock does not go on. Raises ScanError for a motor that
        is not there, a target that is no number, and one beyond the limits; nothing has moved then."""
        axis = self.axis(name)
        axis.check(target)
        beside = float(self._random.normal(0, axis.repeatability)) if axis.repeatability else 0.0
        return axis.start(target, self.time_s, within_s=within_s, beside=beside)

    def move(self, targets: Mapping[str, float]) -> None:
        """Move motors together and wait for the last. None moves where one target is refused (ScanError)."""
        for name, target in targets.items():
            self.axis(name).check(target)
        for name, target in targets.items():
            self.begin(name, target)
        self.settle()

    def settle(self) -> None:
        """Wait until every motor stands."""
        self.until(max(axis.end_s for axis in self.axes.values()))

    def wait(self, seconds: float) -> None:
        self.until(self.time_s + seconds)

    def until(self, time_s: float) -> None:
        """Let the clock go on to a time; one that has passed changes nothing."""
        self.time_s = max(self.time_s, time_s)

    def readback(self, name: str) -> float:
        return self.axis(name).readback_at(self.time_s)

    @property
    def positions(self) -> dict[str, float]:
        """The readbacks of all motors."""
        return {name: axis.readback_at(self.time_s) for name, axis in self.axes.items()}

    def geometry(self) -> Geometry:
        """As the readbacks say: what a plan knows."""
        return self._geometry(self.positions)

    def _geometry(self, positions: Mapping[str, float]) -> Geometry:
        distance_m = self.config.detector.distance_m or DISTANCE_M
        geometry = self.config.geometry(positions, energy_kev=ENERGY_KEV, distance_m=distance_m)
        rows, columns = self.shape
        return replace(geometry, arm_pixel=(float(rows // 2), float(columns // 2)))

    # the beam

    @property
    def current_ma(self) -> float:
        """Of the storage ring, now."""
        return self.course.current_ma(self.time_s)

    @property
    def transmission(self) -> float:
        """Of the attenuators."""
        return _passed(self.filters_in)

    def attenuate(self, transmission: float) -> float:
        """Put in the filters that let through the most that is not more than `transmission`, or all of them; what
        they let through. Raises ScanError for what is not above 0 and at most 1."""
        if not 0 < transmission <= 1:
            raise ScanError(f"attenuators let through more than 0 and at most 1, not {transmission}")
        every = range(len(FILTERS))
        choices = [frozenset(each for each in every if number >> each & 1) for number in range(2 ** len(FILTERS))]
        allowed = [choice for choice in choices if _passed(choice) <= transmission * (1 + 1e-9)]
        self.filters_in = max(allowed, key=_passed, default=frozenset(every))
        return self.transmission

    # the sample

    def kick(self, kick: Kick) -> None:
        """Let something happen to the holder: heat, gas, a door."""
        self.course.kicks.append(kick)

    def replace_grain(self, number: int, grain: Grain) -> None:
        """Let a crystal become another one: the next state of an experiment."""
        grains = list(self.field.grains)
        grains[number] = grain
        self.field = replace(self.field, grains=tuple(grains))

    def illumination(self, grain: Grain) -> float:
        """The beam's intensity on a grain, 1 in its middle, now."""
        return self.beam.at(self._pose(self._driven(self.time_s), self.time_s).place_um(grain))

    def miss(self, grain: Grain) -> Miss:
        """How far a grain really is from the beam, Bragg's condition and the detector's middle, now."""
        positions = self._driven(self.time_s)
        pose, geometry = self._pose(positions, self.time_s), self._geometry(positions)
        across = self.beam.across @ pose.place_um(grain)
        turns = bragg_turns_deg(geometry, pose.h_invA(grain))
        turn = float(turns[0]) if len(turns) else float("nan")
        row, column = (float("nan"), float("nan")) if not len(turns) else _peak(geometry, pose.h_invA(grain), turn)
        return Miss(rocking_deg=turn, row=row, column=column, across_um=(float(across[0]), float(across[1])))

    def _driven(self, time_s: float) -> dict[str, float]:
        """Where the motors really are."""
        return {name: axis.driven_at(time_s) for name, axis in self.axes.items()}

    def _pose(self, positions: Mapping[str, float], time_s: float) -> Pose:
        circles = chain_matrix(self._geometry(positions).sample)
        stage = self.course.shift_um(time_s)
        for axis in self.config.diffractometer.stage:
            stage = stage + positions[axis.motor] * np.array(direction(axis.axis))
        drifted = Rotation.from_rotvec(np.deg2rad(1e-3 * self.course.turn_mdeg(time_s))).as_matrix()
        return Pose(turn=circles @ drifted, origin_um=np.array(self.centre_um) + circles @ stage)

    # the detector

    def expose(
        self, seconds: float, *, acquisitions: int = 1, turning: tuple[str, float] | None = None
    ) -> Exposure:
        """Count for `seconds`, in `acquisitions` of equal length that are summed, whether motors move or not.
        `turning`: a motor, and where it turns to evenly meanwhile. The clock goes on by that much. Raises
        ScanError for a time or a number that is none, and where the motor is refused."""
        if not (np.isfinite(seconds) and seconds > 0 and acquisitions >= 1):
            raise ScanError(
                f"an exposure is longer than 0 s, in 1 acquisition or more, not {seconds}, {acquisitions}"
            )
        begin_s = self.time_s
        if turning is not None:
            self.begin(*turning, within_s=seconds)
        flicker = max(1 + self.course.hazards.flicker * self._random.normal(), 0.0)
        end_s = begin_s + seconds
        beam_s = self.course.beam_s(begin_s, end_s) * self.transmission * self.shutter_open * flicker
        mean = self._mean_rate(begin_s, end_s) * beam_s
        mean += self.field.background_hz * seconds
        for row, column in self.field.dead:
            mean[row, column] = 0.0
        counts, saturated = self._counted(mean / acquisitions, acquisitions)
        self.dose_s += beam_s
        self.until(end_s)
        return Exposure(
            counts=counts,
            monitor=float(self._random.poisson(MONITOR_HZ * beam_s)),
            begin_s=begin_s,
            end_s=end_s,
            acquisitions=acquisitions,
            saturated=saturated,
        )

    def _mean_rate(self, begin_s: float, end_s: float) -> Floats:
        """Counts a second in the full beam, (rows, columns); while motors move the mean over their way."""
        places = self._places(begin_s, end_s)
        middles = begin_s + (np.arange(places) + 0.5) / places * (end_s - begin_s)
        rates = [self._rate(float(time_s)) for time_s in middles]
        return np.asarray(np.mean(rates, axis=0))

    def _places(self, begin_s: float, end_s: float) -> int:
        """Into how many an exposure is divided for what moves meanwhile."""
        fringe_deg, edge_um = _FRINGES * self.field.finest_deg(), _EDGE * min(self.beam.width_um)
        steps = [
            abs(axis.readback_at(end_s) - axis.readback_at(begin_s))
            / (edge_um if axis.unit == "um" else fringe_deg)
            for axis in self.axes.values()
        ]
        return int(np.clip(np.ceil(max(steps)), 1, _MOST_PLACES))

    def _rate(self, time_s: float) -> Floats:
        positions = self._driven(time_s)
        pixels = self._seen(self._geometry(positions))
        return pixels.rate_hz(self.field, self._pose(positions, time_s), self.beam)

    def _seen(self, geometry: Geometry) -> Pixels:
        """Kept while the arm stands."""
        if self._pixels is None or self._pixels[0].arm != geometry.arm:
            self._pixels = geometry, Pixels(q_lab_invA(geometry, *np.indices(self.shape)))
        return self._pixels[1]

    def _counted(self, mean: Floats, acquisitions: int) -> tuple[NDArray[np.int32], bool]:
        """Poisson counts; a pixel that is full stops counting until the next acquisition."""
        limit = self.config.detector.saturation_counts
        brightest = float(mean.max())
        if limit is None or brightest + 10 * np.sqrt(brightest) + 10 < limit:
            return self._random.poisson(mean * acquisitions).astype(np.int32), False
        each = self._random.poisson(mean, (acquisitions, *self.shape))
        return np.minimum(each, int(limit)).sum(axis=0).astype(np.int32), bool((each >= limit).any())


def _passed(filters: frozenset[int]) -> float:
    return float(np.prod([FILTERS[each] for each in filters]))


def _peak(geometry: Geometry, h_invA: Floats, turn_deg: float) -> tuple[float, float]:
    """Row and column of the reflection h once the rocking circle has turned."""
    turned = with_rocking_angle(geometry, rocking_circle(geometry).angle_deg + turn_deg)
    h = chain_matrix(turned.sample) @ chain_matrix(geometry.sample).T @ h_invA
    length = 2 * np.pi / wavelength_angstrom(geometry.energy_kev)
    row, column = pixel_of(turned, length * np.asarray(geometry.beam_direction) + h)
    return float(row), float(column)

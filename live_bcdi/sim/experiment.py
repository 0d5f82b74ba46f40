"""An experiment on the virtual beamline: a crystal that is charged and discharged, and jolted at every step."""

from dataclasses import dataclass, replace

import numpy as np

from ..config import Config
from ..geometry import q_lab_invA
from .beamline import Beamline
from .crystals import Truth, inner_points
from .hazards import Hazards, Kick
from .pattern import pattern_of
from .scattering import OVERSAMPLING, bragg_geometry
from .scenes import virtual_beamline
from .series import charge_and_discharge

# A day as days are: the crystal goes off by several widths of its peak in an hour, if nobody follows it.
HAZARDS = Hazards(
    drift_um_per_h=4.0, drift_mdeg_per_h=60.0, flicker=0.01, repeatability=1e-4, backlash=2e-3, lifetime_s=36000.0
)
_JOLT_UM, _JOLT_MDEG = 0.5, 15.0
_ASIDE_NM = 0.01
_FRINGES = 16  # on each side: all that the detector sees


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Step:
    """A state of the experiment: the crystal as it is then, whose lattice is strained by `strain`
    against the first's and whose brightest pixel would count `peak_hz` without strain, and what the change of
    state does to the holder."""

    volts: float
    strain: float
    truth: Truth
    peak_hz: float
    kick: Kick

    def begin(self, beamline: Beamline) -> None:
        """Put the crystal into this state, now. Takes a second or two."""
        pattern = pattern_of(self.truth, fringes=_FRINGES)
        rate_hz = self.peak_hz * pattern.brightness
        beamline.replace_grain(0, replace(beamline.field.grains[0], pattern=pattern, rate_hz=rate_hz))
        beamline.kick(replace(self.kick, time_s=beamline.time_s))


def charging(
    config: Config, *, states: int, shape: tuple[int, int] = (96, 96), peak_hz: float = 2e5, seed: int = 0
) -> tuple[Beamline, list[Step]]:
    """A virtual beamline, aligned for a crystal without strain, and the states that it is taken through
    (`series.charge_and_discharge`). `peak_hz` is what its brightest pixel counts in the full beam before any
    strain. Raises ScanError for fewer than three states."""
    geometry = bragg_geometry(config, shape)
    beamline = virtual_beamline(
        config, shape=shape, fringe_pixels=OVERSAMPLING, strain="none", hazards=HAZARDS, seed=seed
    )
    random = np.random.default_rng([seed, 41])
    there = charge_and_discharge(geometry, q_lab_invA(geometry, *geometry.arm_pixel), states=states, seed=seed)
    strains = [mean_strain(state.truth) for state in there]
    steps = []
    for state, strain in zip(there, strains):
        shift, turn = random.normal(size=(2, 3))
        kick = Kick(time_s=0.0, shift_um=shift * _JOLT_UM, turn_mdeg=turn * _JOLT_MDEG, relaxing_s=float("inf"))
        relative = (1 + strain) / (1 + strains[0]) - 1
        steps.append(Step(volts=state.volts, strain=relative, truth=state.truth, peak_hz=peak_hz, kick=kick))
    return beamline, steps


def mean_strain(truth: Truth) -> float:
    """Mean of d u_h / d x_h over the crystal, from how its phase goes on along h.

    By the theorem of the mean of a gradient that is where the centre of mass of the diffraction pattern is, and so
    what the spacing of a measured peak says, whatever its shape.
    """
    h = np.asarray(truth.h_invA)
    length = float(np.linalg.norm(h))
    points, aside_nm = inner_points(truth), _ASIDE_NM * h / length
    turn = np.angle(np.exp(1j * (truth.phase_at(points + aside_nm) - truth.phase_at(points - aside_nm))))
    return float(-turn.mean() / (2 * 10 * _ASIDE_NM * length))

"""Virtual beamlines to train on: a gold crystal that is a little beside where it should be, and what surrounds
it."""

from functools import lru_cache

import numpy as np
from scipy.spatial.transform import Rotation

from ..config import Config
from ..geometry import chain_matrix, q_lab_invA
from ..types import Geometry
from .beamline import Beamline
from .crystals import Floats, random_truth
from .field import Field, Grain, Ring
from .hazards import Hazards
from .parts import vector
from .pattern import Pattern, pattern_of
from .scattering import bragg_geometry, scan_steps

BACKGROUND_HZ = 0.02
POWDER_HZ = 5.0
DEAD = 1e-3  # of the pixels
_NEIGHBOUR_UM, _NEIGHBOUR_DEG, _NEIGHBOUR_RATE = (5.0, 40.0), (0.2, 4.0), (0.1, 0.6)


def virtual_beamline(
    config: Config,
    *,
    misaligned_deg: float = 0.0,
    misplaced_um: float = 0.0,
    neighbours: int = 0,
    powder: bool = False,
    hazards: Hazards | None = None,
    shape: tuple[int, int] = (128, 128),
    fringe_pixels: float = 5.0,
    peak_hz: float = 2e5,
    beam_um: tuple[float, float] = (12.0, 12.0),
    kind: str = "faceted",
    strain: str = "weak",
    seed: int = 0,
) -> Beamline:
    """A beamline whose motors stand where gold's (111) is in the middle of the detector, for a crystal that is
    where it should be.

    The crystal, `field.grains[0]`, is turned and shifted from there by up to `misaligned_deg` and `misplaced_um`
    (uniform in two balls). It is as wide as makes `fringe_pixels` pixels a fringe, at least, and its brightest
    pixel counts `peak_hz` in the full beam. `neighbours` are of its kind, weaker and up to 40 um and 4 degrees
    off; `powder` is a ring through the same reflection. Every seed has its own crystals, hazards and counting
    noise.
    """
    random = np.random.default_rng([seed, 31])
    geometry = bragg_geometry(config, shape)
    made = (kind, strain, fringe_pixels)
    home = chain_matrix(geometry.sample)
    turned = Rotation.from_rotvec(np.deg2rad(_in_ball(misaligned_deg, random))).as_matrix()
    crystal = Grain(
        pattern=_pattern(geometry, *made, seed=int(random.integers(4))),
        position_um=vector(_in_ball(misplaced_um, random)),
        turn=home.T @ turned,
        rate_hz=peak_hz,
    )
    others = tuple(_neighbour(crystal, _pattern(geometry, *made, seed=k % 4), random) for k in range(neighbours))
    d_angstrom = float(2 * np.pi / np.linalg.norm(crystal.pattern.h_invA))
    dead = random.integers(shape, size=(round(DEAD * shape[0] * shape[1]), 2))
    field = Field(
        grains=(crystal, *others),
        rings=(Ring(d_angstrom=d_angstrom, rate_hz=POWDER_HZ),) if powder else (),
        background_hz=BACKGROUND_HZ,
        dead=tuple((int(row), int(column)) for row, column in dead),
    )
    beamline = Beamline(config, field, shape=shape, hazards=hazards, beam_um=beam_um, seed=seed)
    beamline.place({circle.motor: circle.angle_deg for circle in (*geometry.sample, *geometry.arm)})
    return beamline


@lru_cache(maxsize=16)
def _pattern(geometry: Geometry, kind: str, strain: str, fringe_pixels: float, *, seed: int) -> Pattern:
    h, steps = q_lab_invA(geometry, *geometry.arm_pixel), scan_steps(geometry)
    return pattern_of(random_truth(h, steps, strain=strain, oversampling=fringe_pixels, seed=seed, kind=kind))


def _neighbour(crystal: Grain, pattern: Pattern, random: np.random.Generator) -> Grain:
    away_um = _direction(random) * random.uniform(*_NEIGHBOUR_UM)
    turned = Rotation.from_rotvec(np.deg2rad(_direction(random) * random.uniform(*_NEIGHBOUR_DEG))).as_matrix()
    return Grain(
        pattern=pattern,
        position_um=vector(np.asarray(crystal.position_um) + away_um),
        turn=turned @ crystal.turn,
        rate_hz=crystal.rate_hz * random.uniform(*_NEIGHBOUR_RATE),
    )


def _direction(random: np.random.Generator) -> Floats:
    drawn = random.normal(size=3)
    return np.asarray(drawn / np.linalg.norm(drawn))


def _in_ball(radius: float, random: np.random.Generator) -> Floats:
    return _direction(random) * radius * float(np.cbrt(random.uniform()))

"""What is on the holder and around it, and what all of it scatters into a detector."""

from dataclasses import dataclass

import numpy as np

from ..types import Vector
from .crystals import Floats
from .pattern import Pattern


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Grain:
    """One crystal on the holder.

    `turn` (3, 3) takes its vectors, as `pattern` has them, to the holder's frame (all circles at zero), where it
    lies at `position_um`. Its planes are `strain` farther apart than the pattern's. In the full beam the
    brightest pixel counts `rate_hz`.
    """

    pattern: Pattern
    position_um: Vector
    turn: Floats
    rate_hz: float
    strain: float = 0.0

    @property
    def h_invA(self) -> Floats:
        """Its reflection in the holder's frame, (3,)."""
        return np.asarray(self.turn @ self.pattern.h_invA / (1 + self.strain))


@dataclass(frozen=True, kw_only=True, slots=True)
class Ring:
    """Powder around the crystals: `rate_hz` counts a pixel on a cone of spacing `d_angstrom`, Gaussian in |q|
    with the relative standard deviation `width`."""

    d_angstrom: float
    rate_hz: float
    width: float = 1e-3


@dataclass(frozen=True, kw_only=True, slots=True)
class Field:
    """What is in the beam's reach; `background_hz` counts in every pixel, `dead` (row, column) count nothing."""

    grains: tuple[Grain, ...]
    rings: tuple[Ring, ...] = ()
    background_hz: float = 0.0
    dead: tuple[tuple[int, int], ...] = ()

    def finest_deg(self) -> float:
        """The least angle between two fringes of any grain, seen from the origin of reciprocal space."""
        angles = [each.pattern.fringe_invA / np.linalg.norm(each.h_invA) for each in self.grains]
        return float(np.rad2deg(min(angles, default=1.0)))


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Pose:
    """How the holder stands in the lab: its vectors turned by `turn` (3, 3), its origin at `origin_um` (3,)."""

    turn: Floats
    origin_um: Floats

    def place_um(self, grain: Grain) -> Floats:
        """Where a grain is in the lab, (3,)."""
        return np.asarray(self.origin_um + self.turn @ np.asarray(grain.position_um))

    def h_invA(self, grain: Grain) -> Floats:
        """Where its reflection points in the lab, (3,)."""
        return np.asarray(self.turn @ grain.h_invA)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Beam:
    """A Gaussian beam, `width_um` wide at half of its maximum along two directions `across` (2, 3) of the lab."""

    width_um: tuple[float, float]
    across: Floats

    def at(self, place_um: Floats) -> float:
        """Intensity at a place (3,) in the lab, 1 in the middle."""
        return float(np.exp(-4 * np.log(2) * np.sum((self.across @ place_um / self.width_um) ** 2)))


class Pixels:
    """The q of every pixel, (rows, columns, 3) in inverse ångström, and what is scattered into them."""

    def __init__(self, q_invA: Floats) -> None:
        self.q_invA = q_invA
        self._length = np.linalg.norm(q_invA, axis=-1)
        self._middle = q_invA.mean(axis=(0, 1))
        self._radius = float(np.linalg.norm(q_invA - self._middle, axis=-1).max())

    def rate_hz(self, field: Field, pose: Pose, beam: Beam) -> Floats:
        """Counts a second in the full beam, (rows, columns), without background."""
        rate = np.zeros(self.q_invA.shape[:2])
        for ring in field.rings:
            off = self._length * ring.d_angstrom / (2 * np.pi) - 1
            rate += ring.rate_hz * np.exp(-0.5 * (off / ring.width) ** 2)
        for grain in field.grains:
            self._add(rate, grain, pose, grain.rate_hz * beam.at(pose.place_um(grain)))
        return rate

    def _add(self, rate: Floats, grain: Grain, pose: Pose, peak_hz: float) -> None:
        """A strained crystal has its pattern about its own peak."""
        h = pose.h_invA(grain)
        near = self._within(grain.pattern.reach_invA, h) if peak_hz > 0 else None
        if near is not None:
            crystal = (self.q_invA[near] - h) @ (pose.turn @ grain.turn)
            rate[near] += peak_hz * grain.pattern.at(crystal + grain.pattern.h_invA)

    def _within(self, reach: float, h: Floats) -> tuple[slice, slice] | None:
        """Rows and columns between which all pixels within `reach` of h lie; None where there is none."""
        if np.linalg.norm(h - self._middle) > self._radius + reach:
            return None
        within = ((self.q_invA - h) ** 2).sum(axis=-1) < reach**2
        rows, columns = np.flatnonzero(within.any(axis=1)), np.flatnonzero(within.any(axis=0))
        if not len(rows):
            return None
        return slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1)

"""What a refinement brings down: misfit of the fitted pixels and total variation, with its gradient by S."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ..geometry import Floats
from ..types import BoolArray, ComplexArray, FloatArray, ScanError
from .detector import FarField
from .frames import Frames, Settings
from .loss import ANSCOMBE, Loss, constant_background, fitted_pixels, total_variation
from .transport import Passage, Transport

Batch = slice | NDArray[np.intp]

_ZERO = 1e-6  # of an |S| of one: below, its direction is not looked at
_SLOWER = 0.3  # than voxels, angles: while the crystal is not right yet, a frame would run to another fringe
_FARTHEST = 2.0  # standard deviations of the prior: beyond are only fringes that look alike


@dataclass(frozen=True, kw_only=True, slots=True)
class Crystal:
    """What is varied: S, where it may be (`support`), the frames' offsets in radians; and what then fits best, the
    scale of the intensities and a constant background, in counts where the response is one."""

    density: ComplexArray
    support: BoolArray
    offsets_rad: Floats
    scale: float = 1.0
    background: float = 0.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Slope:
    """The objective's `value`, and its gradients by S, dL/dRe S + i dL/dIm S, and by the offsets in radians."""

    value: float
    density: ComplexArray
    offsets: Floats


class Objective:
    """The misfit of `frames`, given a forward model. All misfits are a pixel."""

    def __init__(
        self, frames: Frames, far_field: FarField, transport: Transport, s0: FloatArray, settings: Settings
    ) -> None:
        self._frames, self._far, self._transport, self._settings = frames, far_field, transport, settings
        if far_field.pixels != frames.counts.shape[1:]:
            raise ScanError(
                f"a far field of pixels {far_field.pixels} does not go with frames {frames.counts.shape}"
            )
        self._s0, self._loss = s0, Loss(settings.loss)
        self._fitted, self._free = fitted_pixels(frames.used, settings.free_share, settings.seed)
        self._response = np.broadcast_to(np.asarray(frames.response, float), frames.counts.shape)
        self._given = np.broadcast_to(np.asarray(frames.background, float), frames.counts.shape)

    @property
    def frames(self) -> int:
        return len(self._frames.counts)

    def electrons(self, density: ComplexArray) -> FloatArray:
        """s0 of this S."""
        return self._s0 if self._settings.electrons == "given" else np.minimum(np.abs(density), 1)

    @property
    def turns(self) -> bool:
        """Whether angles are free."""
        return self._settings.angle_prior_rad is not None

    @property
    def farthest_rad(self) -> float:
        return _FARTHEST * (self._settings.angle_prior_rad or 0.0)

    def slope(self, crystal: Crystal, batch: Batch) -> Slope:
        """The objective of some frames, its gradient by S zero outside the support."""
        passage = self._passage(crystal, batch)
        counts, fitted, response = self._frames.counts[batch], self._fitted[batch], self._response[batch]
        amplitudes = self._far.amplitudes(passage.eh)
        found = self._far.intensities_of(amplitudes)
        expected = crystal.scale * response * found + self._level(crystal, batch)
        pixels = max(1, int(np.count_nonzero(fitted)))
        misfit = float(self._loss.values(expected, counts)[fitted].sum()) / pixels
        by = np.where(fitted, crystal.scale * response * self._loss.slopes(expected, counts), 0) / pixels
        gradient = passage.pull_back(None, self._far.pull_back(passage.eh, by, amplitudes))
        weight = self._settings.smoothing / int(np.count_nonzero(self._fitted))
        variation, by_variation = total_variation(crystal.density)
        downhill = gradient.density + weight * by_variation
        if self._settings.electrons == "amplitude":
            downhill = downhill + self._by_electrons(crystal.density, gradient.s0)
        held, by_offsets = self._prior(crystal.offsets_rad[batch])
        by_offsets = by_offsets / pixels + np.sum(gradient.delta_q * self._frames.turning[batch], axis=1)
        spread = np.zeros(self.frames)
        spread[batch] = by_offsets if self.turns else 0
        return Slope(
            value=misfit + weight * variation + held / pixels,
            density=np.where(crystal.support, downhill, 0),
            offsets=spread,
        )

    def _prior(self, offsets: Floats) -> tuple[float, Floats]:
        """What the prior adds to a sum of losses, and its slope."""
        if self._settings.angle_prior_rad is None:
            return 0.0, np.zeros(len(offsets))
        weight = self._loss.of_a_nat / self._settings.angle_prior_rad**2
        return float(0.5 * weight * np.sum(offsets**2)), weight * offsets

    def judged(self, crystal: Crystal) -> tuple[Crystal, float, float]:
        """With the best scale and background; the misfits of the fitted and of the free pixels."""
        found = self._response * self._far.intensities(self._passage(crystal, slice(None)).eh)
        counts, fitted = self._frames.counts, self._fitted
        if not np.isfinite(found).all():
            raise ScanError("the refinement diverged: take a smaller step")
        if not found[fitted].any():
            raise ScanError("nothing of the crystal is left: give a smaller shrink_threshold, or less smoothing")
        if self._settings.background == "constant":
            unexplained, seen = counts - self._response * self._given, self._response[fitted]
            level = constant_background(found[fitted], unexplained[fitted], crystal.background, seen)
            crystal = replace(crystal, background=level)
        level_of_all = self._level(crystal, slice(None))
        scale = self._loss.scale(found[fitted], counts[fitted], level_of_all[fitted])
        each = self._loss.values(scale * found + level_of_all, counts)
        return replace(crystal, scale=scale), float(each[fitted].mean()), float(each[self._free].mean())

    def paces(self, crystal: Crystal) -> Floats:
        """Radians of each frame by which the objective changes about as much as by a tenth of that in a voxel:
        steps in which voxels and angles come down together. By Gauss and Newton, from how the frame's amplitudes
        change with its angle; those of a voxel hold its share of all counts."""
        prior = self._settings.angle_prior_rad
        if prior is None:
            return np.zeros(self.frames)
        here, there = (self._roots(crystal, turn) for turn in (0.0, 0.01 * prior))
        slope = np.where(self._fitted, (there - here) / (0.01 * prior), 0)
        known = 4 * np.sum(slope**2, axis=tuple(range(1, slope.ndim))) + 1 / prior**2
        voxel = 2 * self._frames.counts[self._fitted].sum() / np.sum(np.abs(crystal.density) ** 2)
        return np.asarray(_SLOWER * np.sqrt(voxel / known))

    def _roots(self, crystal: Crystal, turn: float) -> FloatArray:
        """sqrt(e + 3/8) with all angles off by `turn`."""
        off = replace(crystal, offsets_rad=crystal.offsets_rad + turn)
        found = self._response * self._far.intensities(self._passage(off, slice(None)).eh)
        return np.asarray(np.sqrt(crystal.scale * found + self._level(crystal, slice(None)) + ANSCOMBE))

    def _passage(self, crystal: Crystal, batch: Batch) -> Passage:
        departures = self._frames.delta_q + crystal.offsets_rad[:, None] * self._frames.turning
        density = crystal.density
        return self._transport.march(density, self.electrons(density), departures[batch])

    def _level(self, crystal: Crystal, batch: Batch) -> FloatArray:
        return np.asarray(self._response[batch] * (self._given[batch] + crystal.background))

    @staticmethod
    def _by_electrons(density: ComplexArray, by_s0: FloatArray) -> ComplexArray:
        """The gradient by S through s0 = min(|S|, 1)."""
        modulus = np.abs(density)
        inside = (modulus > _ZERO) & (modulus < 1)
        return np.asarray(np.where(inside, by_s0 * density / np.where(inside, modulus, 1), 0))

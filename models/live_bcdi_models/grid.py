"""From a pattern of any shape to the network's `EDGE` voxels an axis, and from its object back to the measured
voxels.

A pattern that is sampled more finely than the network was shown is binned, one that goes further out is cut, one
that goes less far is padded with voxels that were not measured. Cutting makes the object's voxels larger, binning
its field of view smaller. Both grids have their peak, or their object, at n//2.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from scipy import fft, ndimage

from live_bcdi.phasing import Pattern
from live_bcdi.phasing.align import with_ramp
from live_bcdi.phasing.automatic import inverted, traits_of
from live_bcdi.phasing.kernels_numpy import Object
from live_bcdi.phasing.metrics import centred_transform
from live_bcdi.types import BoolArray, FloatArray, Vector

from .simulator import EDGE, LEAST, MOST

_ROOM = 2.4  # oversampling that binning leaves at least: a crystal that is estimated too small still fits
_KNOWN = 0.5  # share of a bin that must have been measured


@dataclass(frozen=True, kw_only=True, slots=True)
class Grid:
    """How a pattern of `shape` becomes the network's: `bins` voxels are summed along each axis, and `oversampling`
    is what is then left, as estimated from the pattern."""

    shape: tuple[int, int, int]
    bins: tuple[int, int, int]
    oversampling: Vector

    @classmethod
    def of(cls, pattern: Pattern) -> Self:
        """The grid on which the network sees as much of a pattern as it can."""
        first, second, third = pattern.intensity.shape
        shape = (first, second, third)
        found = traits_of(mirrored(pattern)).oversampling
        bins = [max(1, min(int(value / _ROOM), -(-n // EDGE))) for value, n in zip(found, shape)]
        left = [float(np.clip(value / by, LEAST, MOST)) for value, by in zip(found, bins)]
        return cls(shape=shape, bins=(bins[0], bins[1], bins[2]), oversampling=(left[0], left[1], left[2]))

    def seen(self, pattern: Pattern) -> Pattern:
        """The pattern as the network sees it. What is partly measured in a bin stands for the rest of it."""
        known = self._binned(~pattern.mask) / np.prod(self.bins)
        counts = self._binned(np.where(pattern.mask, 0, pattern.intensity))
        mask = known < _KNOWN
        return Pattern(
            intensity=np.where(mask, 0, counts / np.maximum(known, _KNOWN)).astype(np.float32), mask=mask
        )

    def _binned(self, values: NDArray[Any]) -> FloatArray:
        starts = [n // 2 - by // 2 - EDGE // 2 * by for n, by in zip(self.shape, self.bins)]
        stops = [start + EDGE * by for start, by in zip(starts, self.bins)]
        around = [(max(0, -start), max(0, stop - n)) for start, stop, n in zip(starts, stops, self.shape)]
        padded = np.pad(np.asarray(values, np.float32), around)
        cut = padded[
            tuple(slice(max(start, 0), max(start, 0) + EDGE * by) for start, by in zip(starts, self.bins))
        ]
        first, second, third = self.bins
        found: FloatArray = cut.reshape(EDGE, first, EDGE, second, EDGE, third).sum((1, 3, 5))
        return found

    def measured_object(self, density: Object) -> Object:
        """An object of the network's grid on that of the measured pattern: its transform is zero beyond what the
        network saw."""
        wide = with_ramp(_fitted(density, [EDGE * by for by in self.bins]), self._slopes())
        return _inverse(_fitted(centred_transform(wide), self.shape))

    def network_object(self, density: Object) -> Object:
        """The inverse of `measured_object`, of an object of the measured pattern's shape."""
        sizes = [EDGE * by for by in self.bins]
        wide = _inverse(_fitted(centred_transform(density), sizes))
        first, second, third = self._slopes()
        return np.asarray(_fitted(with_ramp(wide, (-first, -second, -third)), (EDGE,) * 3), np.complex64)

    def _slopes(self) -> Vector:
        """An even number of voxels has its middle between two: half a step of q is a ramp across the object."""
        first, second, third = (2 * np.pi * ((by - 1) / 2 - by // 2) / (EDGE * by) for by in self.bins)
        return first, second, third

    def measured_map(self, values: FloatArray) -> FloatArray:
        """Real values of the network's grid on that of the measured pattern, linear between voxels; those of the
        edge beyond it."""
        steps = [EDGE * by / n for by, n in zip(self.bins, self.shape)]
        first = [EDGE // 2 - step * (n // 2) for step, n in zip(steps, self.shape)]
        found: FloatArray = ndimage.affine_transform(
            values, steps, first, output_shape=self.shape, order=1, mode="nearest"
        )
        return found


def _inverse(transform: Object) -> Object:
    return np.asarray(np.fft.fftshift(fft.ifftn(np.fft.ifftshift(transform))), np.complex64)


def mirrored(pattern: Pattern) -> Pattern:
    """With what was not measured as on the other side of the peak, where that was: of a scan under way half the
    pattern is not there, and the crystal would seem as large as the field."""
    intensity, mask = (inverted(each) for each in (pattern.intensity, pattern.mask))
    filled = np.where(pattern.mask & ~mask, intensity, pattern.intensity)
    return Pattern(intensity=filled, mask=pattern.mask & mask)


def _fitted(array: Object, shape: Sequence[int]) -> Object:
    """Cut or padded with zeros to `shape`, n//2 on n//2."""
    for axis, (n, m) in enumerate(zip(array.shape, shape)):
        start = n // 2 - m // 2
        if start > 0 or m < n:
            array = array.take(range(start, start + m), axis)
        elif m > n:
            around = [(0, 0)] * 3
            around[axis] = (-start, m - n + start)
            array = np.pad(array, around)
    return array


def scaled(density: Object, pattern: Pattern) -> Object:
    """The object at the scale of the counts: the least squares of its moduli to the measured ones."""
    modulus = np.abs(centred_transform(density))[~pattern.mask]
    wanted = np.sqrt(pattern.intensity[~pattern.mask])
    scale = float(modulus @ wanted) / max(float(modulus @ modulus), 1e-30)
    return np.asarray(density * np.float32(scale), np.complex64)


def known_part(mask: BoolArray | None, measured: BoolArray | None, shape: tuple[int, ...]) -> BoolArray:
    """True where a voxel of a (rocking, row, column) pattern must not be used: masked, or of a step that is not
    there."""
    unused = np.zeros(shape, bool) if mask is None else np.asarray(mask, bool)
    return unused if measured is None else unused | ~np.asarray(measured, bool)[:, None, None]

"""Intensity of other crystals, found by what it lacks: a mirror image on the other side of the Bragg peak.

A weakly strained crystal's pattern is nearly centrosymmetric about its Bragg peak; its fringes come in pairs. A
blob that has no partner is another crystal's (the asymmetry test of Pelzer et al., J. Synchrotron Rad. (2021), and
of cohere's alien removal, with counting statistics in place of tuned thresholds).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from .types import BoolArray, FloatArray, Vector

# Counts are compared over boxes of this edge, with the brightest such box near the mirror point.
_BOX = 5
_MIRROR_REACH = 9
# A strained crystal's fringes differ from their partners; on S0054, off the peak, by up to 2.2 and an alien by 16.
_FACTOR = 5.0
# A threshold that Poisson noise crosses once in 10^9 boxes, for volumes of 10^7.
_SIGMA = 6.0
# Within this share of the way to the volume's edge strain may make any asymmetry.
_CORE = 0.15


@dataclass(frozen=True, kw_only=True, slots=True)
class Alien:
    """One blob: its centre (rocking, row, column), counts above the mirror image, number of voxels masked."""

    centre: Vector
    counts: float
    voxels: int


def find_aliens(intensity: FloatArray, mask: BoolArray, centre: Vector) -> tuple[BoolArray, tuple[Alien, ...]]:
    """Voxels (rocking, row, column) of other crystals, and a line for each; brightest first.

    `intensity` are counts, `mask` is True where they must not be used, `centre` is the Bragg peak. What has no
    measured mirror point is left alone. A crystal so strained that its fringes differ more than fivefold from
    their partners is a crystal for which this must stay off.
    """
    counts = np.where(mask, 0, intensity).astype(np.float32)
    boxed = ndimage.uniform_filter(counts, _BOX, mode="constant") * _BOX**3
    partner, seen = _mirrored(boxed, ~mask, centre)
    excess = boxed - _FACTOR * partner
    strong = seen & (excess > _SIGMA * np.sqrt(boxed + _FACTOR**2 * partner + 1))
    strong &= ~_core(intensity.shape, centre)
    # the box that tells is as wide as the blob or wider: what it covers belongs to it
    labels, count = ndimage.label(ndimage.binary_dilation(strong, iterations=_BOX // 2))
    found = [_alien(labels == k + 1, counts - partner / _BOX**3) for k in range(count)]
    return np.asarray(labels > 0), tuple(sorted(found, key=lambda alien: -alien.counts))


def _mirrored(
    boxed: NDArray[np.float32], usable: BoolArray, centre: Vector
) -> tuple[NDArray[np.float32], BoolArray]:
    """The brightest box near the mirror point of every voxel, and whether that point was measured."""
    near = ndimage.maximum_filter(boxed, _MIRROR_REACH)
    offset = 2 * np.asarray(centre)
    flip = -np.eye(3)
    partner = ndimage.affine_transform(near, flip, offset=offset, order=0, cval=0)
    seen = ndimage.affine_transform(usable.astype(np.uint8), flip, offset=offset, order=0, cval=0)
    return partner, np.asarray(seen == 1)


def _core(shape: tuple[int, ...], centre: Vector) -> BoolArray:
    distance = [
        (np.arange(n) - middle) / (_CORE * max(middle, n - 1 - middle)) for n, middle in zip(shape, centre)
    ]
    squares = np.meshgrid(*[axis**2 for axis in distance], indexing="ij", sparse=True)
    return np.asarray(sum(squares) < 1)


def _alien(blob: BoolArray, above: FloatArray) -> Alien:
    weights = np.where(blob, np.maximum(above, 0), 0)
    row = ndimage.center_of_mass(weights)
    return Alien(
        centre=(float(row[0]), float(row[1]), float(row[2])),
        counts=float(weights.sum()),
        voxels=int(np.count_nonzero(blob)),
    )

"""The images of one crystal through an experiment, in one frame: that of the first.

What a diffraction pattern does not fix is made the same for all: the place, the twin, the phase's ramp and offset;
and the crystal's rotation, where the goniometer or the scattering vectors tell it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.registration import phase_cross_correlation

from ..phasing.align import with_ramp, without_ramp
from ..types import BoolArray, ComplexArray, FloatArray, LabImage, ScanError, Vector

SHARE = 0.5  # of the states, that have a voxel of the common support
CORE_SHARE = 0.25  # of the voxels, the deepest, where the phase is set to that of the first state
_MARGIN = 4  # voxels about all crystals
_UPSAMPLING = 20  # the shift is then known to 1/20 voxel
_TURN_SEEN = 0.1  # voxels at the rim; what turns less is not interpolated again
_ALIKE_VOXELS = 2.0  # about which two objects are compared; from 1.5 to 4 no twin is mistaken
_INSIDE = 0.5


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class AlignedSeries:
    """A series on one grid of cubic voxels along the first state's lab axes, its centre of mass near n//2.

    `density` (states, x, y, z) has the first state's mean phase slope over `support`, the voxels that at least
    half of the states have, in one piece, and its phase in the core (`CORE_SHARE`): a pattern tells neither.
    `supports` (states, x, y, z) is what each state has itself. `origin_nm` is where voxel n//2 lies, from voxel
    n//2 of the first image. `h_invA` (states, 3), in the first's frame, is the scattering vector of the mean
    lattice: the image's `q_centre_invA` with the mean slope of its phase, each voxel of `support` counting alike.
    `twin` says which were turned into their twins, `shift_nm` by how much each was moved from its centre of mass,
    `rotations` (states, 3, 3) how each was turned; `correlation` is that of its amplitude with the first's.
    """

    density: NDArray[np.complex64]
    supports: BoolArray
    support: BoolArray
    voxel_nm: float
    origin_nm: Vector
    h_invA: NDArray[np.float64]
    twin: tuple[bool, ...]
    shift_nm: tuple[Vector, ...]
    rotations: NDArray[np.float64]
    correlation: tuple[float, ...]


def align_series(images: Sequence[LabImage], *, rotations: FloatArray | None = None) -> AlignedSeries:
    """The images in the frame of the first, with which the others are compared for their place and their twin.

    `rotations` (states, 3, 3) take lab vectors of each image to the first's where the goniometer is known to have
    turned the crystal. Without them it is the least rotation that takes h to the first's h: nothing shows a
    rotation about h. Raises ScanError for fewer than two images, one without a crystal, or no common voxel.
    """
    if len(images) < 2:
        raise ScanError(f"a series is two results at least, not {len(images)}")
    for number, image in enumerate(images):
        if not image.support.any() or not np.isfinite(image.density).all():
            raise ScanError(f"state {number} has no crystal: its support is empty, or its density not finite")
    turns = _turns(images) if rotations is None else np.asarray(rotations, np.float64)
    if turns.shape != (len(images), 3, 3):
        raise ScanError(f"a rotation a state is ({len(images)}, 3, 3) numbers, not {turns.shape}")
    frame = _frame(images, turns)
    placed = [_Placed.of(*frame.at(images[0], turns[0]))]
    first = np.abs(placed[0].density)
    for image, turn in zip(images[1:], turns[1:]):
        tries = [_moved_onto(first, frame, image, turn, sign) for sign in (1, -1)]
        best = max(tries, key=lambda each: _likeness(placed[0].density, each.density))
        density, support = frame.at(image, turn, shift_nm=best.shift_nm, sign=best.sign)
        placed.append(replace(best, density=density, support=support))
    return _in_phase(images, turns, placed, frame)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class _Placed:
    """An image in the frame, moved by `shift_nm`; of `sign` -1 its twin."""

    density: ComplexArray
    support: BoolArray
    shift_nm: NDArray[np.float64]
    sign: int

    @classmethod
    def of(cls, density: ComplexArray, support: BoolArray) -> "_Placed":
        return cls(density=density, support=support, shift_nm=np.zeros(3), sign=1)


def _turns(images: Sequence[LabImage]) -> NDArray[np.float64]:
    """The least rotations that take each h to the first; none where the rim would not show it."""
    first = images[0].q_centre_invA / np.linalg.norm(images[0].q_centre_invA)
    turns = []
    for image in images:
        own = image.q_centre_invA / np.linalg.norm(image.q_centre_invA)
        reach = np.linalg.norm(np.ptp(np.argwhere(image.support), axis=0)) / 2
        seen = float(np.linalg.norm(np.cross(own, first))) * reach > _TURN_SEEN
        turns.append(_least_rotation(own, first) if seen else np.eye(3))
    return np.stack(turns)


def _least_rotation(start: NDArray[np.float64], end: NDArray[np.float64]) -> NDArray[np.float64]:
    """Of unit vectors that are not opposite (Rodrigues' formula)."""
    x, y, z = np.cross(start, end)
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.asarray(np.eye(3) + cross + cross @ cross / (1 + start @ end), np.float64)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class _Frame:
    """Where images are put: `shape` voxels of `voxel_nm`, voxel n//2 at `origin_nm` from the centre of mass."""

    shape: tuple[int, int, int]
    voxel_nm: float
    origin_nm: NDArray[np.float64]

    def at(
        self,
        image: LabImage,
        turn: NDArray[np.float64],
        *,
        shift_nm: NDArray[np.float64] | None = None,
        sign: int = 1,
        order: int = 3,
    ) -> tuple[ComplexArray, BoolArray]:
        """Density and support of an image, turned, or for `sign` -1 its twin, and moved by `shift_nm`."""
        moved = self.origin_nm - (0 if shift_nm is None else shift_nm)
        matrix = sign * turn.T * (self.voxel_nm / image.voxel_nm)
        middle = (_centre_nm(image) + sign * turn.T @ moved) / image.voxel_nm + _middle(image.support.shape)
        offset = middle - matrix @ _middle(self.shape)

        def put(array: NDArray[Any], order: int) -> NDArray[Any]:
            return np.asarray(ndimage.affine_transform(array, matrix, offset, self.shape, order=order))

        density = put(image.density.astype(np.complex128), order).astype(np.complex64)
        support = put(image.support.astype(np.float32), 1) > _INSIDE
        return (density if sign == 1 else density.conj()), np.asarray(support)


def _centre_nm(image: LabImage) -> NDArray[np.float64]:
    """Centre of mass of the support, from voxel n//2: noise in the amplitude does not move it."""
    away = np.array(ndimage.center_of_mass(image.support)) - _middle(image.support.shape)
    return np.asarray(away * image.voxel_nm, np.float64)


def _middle(shape: Sequence[int]) -> NDArray[np.int_]:
    return np.array(shape) // 2


def _frame(images: Sequence[LabImage], turns: NDArray[np.float64]) -> _Frame:
    """The coarsest voxels of the images, room for all and their twins; the first one's own voxels, if alike."""
    voxel_nm = max(image.voxel_nm for image in images)
    reach = np.zeros(3)
    for image, turn in zip(images, turns):
        off = (np.argwhere(image.support) - _middle(image.support.shape)) * image.voxel_nm - _centre_nm(image)
        reach = np.maximum(reach, np.abs(off @ turn.T).max(axis=0))
    x, y, z = (2 * (int(np.ceil(length / voxel_nm - 1e-3)) + _MARGIN) for length in reach)
    off_voxel = _centre_nm(images[0]) / voxel_nm
    return _Frame(shape=(x, y, z), voxel_nm=voxel_nm, origin_nm=(np.rint(off_voxel) - off_voxel) * voxel_nm)


def _moved_onto(
    first: FloatArray, frame: _Frame, image: LabImage, turn: NDArray[np.float64], sign: int
) -> _Placed:
    """Where its amplitude correlates best with the first's; linear between the voxels, to choose by."""
    density, support = frame.at(image, turn, sign=sign, order=1)
    shift, _, _ = phase_cross_correlation(  # type: ignore[no-untyped-call]
        first, np.abs(density), upsample_factor=_UPSAMPLING, normalization=None
    )
    shift_nm = np.asarray(shift, np.float64) * frame.voxel_nm
    density, support = frame.at(image, turn, shift_nm=shift_nm, sign=sign, order=1)
    return _Placed(density=density, support=support, shift_nm=shift_nm, sign=sign)


def _likeness(density: ComplexArray, other: ComplexArray) -> float:
    """sum |A B* under a Gaussian| over their sizes, whatever ramp is between them: 1 for the same object.

    Summed as it is, A B* is nearly nothing for a state with a dislocation and one without, about which it turns
    once; then the twin was taken in 2 of 20 simulated cases, and by this in none. Nor is the state before better
    to compare with than the first: a wall that goes past the middle is near its own twin (1 of 16).
    """
    flat, _ = without_ramp(np.asarray(density * other.conj(), np.complex64))
    near = np.abs(ndimage.gaussian_filter(flat, _ALIKE_VOXELS))
    return float(near.sum() / (np.linalg.norm(density) * np.linalg.norm(other)))


def _in_phase(
    images: Sequence[LabImage], turns: NDArray[np.float64], placed: Sequence[_Placed], frame: _Frame
) -> AlignedSeries:
    supports = np.stack([each.support for each in placed])
    support = _largest_piece(supports.mean(axis=0) >= SHARE)
    if not (support & supports.all(axis=0)).any():
        raise ScanError("the states have no voxel in common: they do not show one crystal")
    core = core_of(support)
    densities, h_invA = [], []
    own = mean_slope(placed[0].density, support)
    for each, image, turn in zip(placed, images, turns):
        product = each.density * placed[0].density.conj()
        slope = mean_slope(product, support)
        flat = with_ramp(np.asarray(product, np.complex64), _negative(slope))
        offset = np.angle(flat[core].sum(dtype=np.complex128))
        densities.append(with_ramp(each.density, _negative(slope)) * np.complex64(np.exp(-1j * offset)))
        h_invA.append(turn @ image.q_centre_invA + (own + slope) / (10 * frame.voxel_nm))
    first = np.abs(placed[0].density)
    return AlignedSeries(
        density=np.stack(densities).astype(np.complex64),
        supports=supports,
        support=support,
        voxel_nm=frame.voxel_nm,
        origin_nm=_vector(_centre_nm(images[0]) + frame.origin_nm),
        h_invA=np.stack(h_invA),
        twin=tuple(each.sign == -1 for each in placed),
        shift_nm=tuple(_vector(each.shift_nm) for each in placed),
        rotations=turns,
        correlation=tuple(_correlation(first, np.abs(each.density), support) for each in placed),
    )


def mean_slope(density: ComplexArray, support: BoolArray) -> NDArray[np.float64]:
    """The mean step of the phase to the next voxel of the support, (3,) in rad: each step counts alike, whatever
    the amplitudes, and a step is below pi."""
    slopes = np.zeros(3)
    for axis in range(3):
        here, there = [slice(None)] * 3, [slice(None)] * 3
        here[axis], there[axis] = slice(None, -1), slice(1, None)
        both = support[tuple(here)] & support[tuple(there)]
        steps = np.angle(density[tuple(there)][both] * density[tuple(here)][both].conj())
        slopes[axis] = steps.mean() if len(steps) else 0.0
    return slopes


def core_of(support: BoolArray) -> BoolArray:
    """The deepest `CORE_SHARE` of the voxels."""
    depth = ndimage.distance_transform_edt(np.pad(support, 1))[1:-1, 1:-1, 1:-1]
    return np.asarray(support & (depth >= np.quantile(depth[support], 1 - CORE_SHARE)))


def _largest_piece(support: BoolArray) -> BoolArray:
    labels, count = ndimage.label(support)
    sizes = np.bincount(labels.ravel())[1:]
    return np.asarray(labels == 1 + np.argmax(sizes)) if count else support


def _correlation(first: FloatArray, other: FloatArray, support: BoolArray) -> float:
    """sum AB / sqrt(sum A^2 sum B^2) over the voxels about the crystal."""
    near = ndimage.binary_dilation(support, iterations=2)
    one, two = first[near].astype(np.float64), other[near].astype(np.float64)
    return float(one @ two / np.sqrt((one @ one) * (two @ two)))


def _negative(slope: NDArray[np.float64]) -> Vector:
    return _vector(-slope)


def _vector(values: NDArray[np.float64]) -> Vector:
    return float(values[0]), float(values[1]), float(values[2])

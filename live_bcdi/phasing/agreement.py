"""How far aligned starts agree: in their modes, by resolution (FSC, PRTF), in their size, and voxel by voxel.

Starts are those that `phase_pattern` gives: aligned, the best first. After `Guide` they are not independent, and
all that is said here is an upper limit of how well they agree.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from ..types import Agreement, BoolArray, FloatArray, Resolution, ScanError, ShellCorrelation
from .kernels_numpy import Object
from .metrics import crossing_nm, gram_matrix, shell_transfer, shells, sum_by_shell

_CRYSTAL = 0.3  # of the maximum amplitude, as in `strain.py`
_THRESHOLDS = {"0.5": 0.5, "1/7": 1 / 7}


@dataclass(frozen=True, kw_only=True, slots=True)
class Modes:
    """Orthogonal modes of n starts: all their `weights` (n,), falling, 1 in sum, and the first of the modes
    themselves, `objects` (modes, rocking, row, column). |mode|^2 summed over all n is the mean of |start|^2."""

    objects: NDArray[np.complex64]
    weights: NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, slots=True)
class Uncertainty:
    """Standard deviations over the starts, (rocking, row, column): `amplitude` relative to the mean object's
    maximum, `phase_rad` about the mean object's phase (wrapped differences, NaN where the mean is zero)."""

    amplitude: NDArray[np.float32]
    phase_rad: NDArray[np.float32]


def consensus(
    starts: Sequence[Object], intensity: FloatArray, mask: BoolArray, q_steps_invA: NDArray[np.float64] | None
) -> tuple[Agreement | None, Resolution | None]:
    """All that several starts say together, and their PRTF against the centred `intensity` where `mask` is False.

    Without `q_steps_invA` (no geometry) there are no resolutions; one start has a PRTF alone. It takes two Fourier
    transforms, and at most four complex64 volumes besides the starts.
    """
    correlation, resolution = None, None
    if q_steps_invA is not None:
        correlation, resolution = _by_shell(starts, intensity, mask, q_steps_invA)
    if len(starts) < 2:
        return None, resolution
    gram = gram_matrix(starts)
    first = _modes(starts, gram, 1)
    spread = _uncertainty(starts, gram)
    agreement = Agreement(
        mode=first.objects[0],
        weights=first.weights,
        amplitude_std=spread.amplitude,
        phase_std_rad=spread.phase_rad,
        correlation=correlation,
    )
    return agreement, resolution


def modes(starts: Sequence[Object], count: int = 1) -> Modes:
    """The first `count` orthogonal modes: the singular vectors of the matrix of all starts, from the eigenvectors
    of their n x n overlaps (Favre-Nicolin et al., Sci. Rep. 10, 2664 (2020)).

    Each has the phase of the first start. Raises ScanError without starts, or for a `count` that is not 1 to n.
    """
    if not 1 <= count <= len(starts):
        raise ScanError(f"{len(starts)} starts have 1 to {len(starts)} modes, not {count}")
    return _modes(starts, gram_matrix(starts), count)


def _modes(starts: Sequence[Object], gram: NDArray[np.complex128], count: int) -> Modes:
    values, vectors = np.linalg.eigh(gram)
    shares = vectors[:, ::-1][:, :count].T.copy()
    # <first start, mode> is the eigenvalue times the first share: made real here
    shares *= np.exp(-1j * np.angle(shares[:, :1])) / np.sqrt(len(starts))
    objects = np.zeros((count, *starts[0].shape), np.complex64)
    for mode, share in zip(objects, shares):
        for start, part in zip(starts, share.astype(np.complex64)):
            mode += part * start
    return Modes(objects=objects, weights=np.maximum(values[::-1], 0) / values.sum())


def halves(starts: Sequence[Object]) -> tuple[Object, Object]:
    """Means of the starts of even and of odd rank, so that neither half has all the good ones."""
    _check_several(starts)
    return _mean(starts[::2]), _mean(starts[1::2])


def _mean(starts: Sequence[Object]) -> Object:
    total = np.array(starts[0], np.complex64)
    for start in starts[1:]:
        total += start
    total /= len(starts)
    return total


def shell_correlation(first: Object, second: Object, q_steps_invA: NDArray[np.float64]) -> ShellCorrelation:
    """FSC(q) = |sum F G*| / sqrt(sum |F|^2 sum |G|^2) over shells of |q| one (the largest) step wide, out to the
    corners of the array, as the PRTF (Harauz & van Heel, Optik 73, 146 (1986)). `q_steps_invA` (3, 3) has one
    step an axis as columns. Thresholds: 0.5, 1/7 and the half-bit curve (van Heel & Schatz, J. Struct. Biol. 151,
    250 (2005), Eq. 17).
    """
    shell, width = shells(first.shape, q_steps_invA)
    # a shift of the origin turns F and G by the same phases, which F G* does not see
    return _correlation(fft.fftn(first), fft.fftn(second), fft.ifftshift(shell), width)


def _by_shell(
    starts: Sequence[Object], intensity: FloatArray, mask: BoolArray, q_steps_invA: NDArray[np.float64]
) -> tuple[ShellCorrelation | None, Resolution]:
    """FSC and PRTF of the starts from the transforms of the two halves alone: transforming is linear."""
    shell, width = shells(intensity.shape, q_steps_invA)
    if len(starts) < 2:
        alone = fft.fftshift(np.abs(fft.fftn(starts[0])))
        return None, shell_transfer(alone, intensity, mask, (shell, width), alone=True)
    even, odd = (fft.fftn(half, overwrite_x=True) for half in halves(starts))
    correlation = _correlation(even, odd, fft.ifftshift(shell), width)
    share = np.float32((len(starts) + 1) // 2 / len(starts))
    even *= share
    odd *= 1 - share
    even += odd
    del odd
    mean = fft.fftshift(np.abs(even))
    return correlation, shell_transfer(mean, intensity, mask, (shell, width))


def _correlation(a: Object, b: Object, shell: NDArray[np.intp], width: float) -> ShellCorrelation:
    real = sum_by_shell(shell, ((f * g.conj()).real for f, g in zip(a, b)))
    imaginary = sum_by_shell(shell, ((f * g.conj()).imag for f, g in zip(a, b)))
    powers = [sum_by_shell(shell, (np.abs(f) ** 2 for f in each)) for each in (a, b)]
    norm = np.sqrt(powers[0] * powers[1])
    voxels = np.bincount(shell.ravel())
    correlation = np.divide(np.hypot(real, imaginary), norm, out=np.zeros_like(norm), where=norm > 0)
    q = width * np.arange(len(correlation), dtype=np.float64)
    limits = {**_THRESHOLDS, "half-bit": half_bit(voxels)}
    return ShellCorrelation(
        q_invA=q,
        correlation=correlation,
        voxels=voxels,
        # a shell of few voxels correlates by chance, or not at all: 0 and 1 are taken as seen
        resolution_nm={name: crossing_nm(q, correlation - limit, first=2) for name, limit in limits.items()},
    )


def half_bit(voxels: NDArray[np.int64]) -> NDArray[np.float64]:
    """The correlation at which each half has half a bit a voxel, in shells of n `voxels`:
    (0.2071 + 1.9102 / sqrt n) / (1.2071 + 0.9102 / sqrt n); 1 at most, where a shell is too small to tell."""
    root = np.sqrt(np.maximum(voxels, 1))
    return np.minimum((0.2071 + 1.9102 / root) / (1.2071 + 0.9102 / root), 1.0)


def support_stability(starts: Sequence[Object]) -> float:
    """Mean over all pairs of (voxels in both) / (voxels in either), of those above 0.3 of each start's maximum
    amplitude: 1 where all have the same crystal."""
    _check_several(starts)
    crystals = [_crystal(each) for each in starts]
    pairs = [(a, b) for k, a in enumerate(crystals) for b in crystals[k + 1 :]]
    return float(np.mean([np.count_nonzero(a & b) / np.count_nonzero(a | b) for a, b in pairs]))


def _crystal(density: Object) -> BoolArray:
    amplitude = np.abs(density)
    return np.asarray(amplitude > _CRYSTAL * amplitude.max())


def uncertainty(starts: Sequence[Object]) -> Uncertainty:
    """Per voxel, over the starts, each scaled to the best's norm and turned to its phase first. n - 1 in the
    denominator."""
    _check_several(starts)
    return _uncertainty(starts, gram_matrix(starts))


def _uncertainty(starts: Sequence[Object], gram: NDArray[np.complex128]) -> Uncertainty:
    shape = starts[0].shape
    amplitude, phase = np.empty(shape, np.float32), np.empty(shape, np.float32)
    largest = 0.0
    for plane, scaled in enumerate(_scaled_planes(starts, gram)):
        mean = scaled.mean(axis=0)
        modulus = np.abs(mean)
        largest = max(largest, float(modulus.max()))
        amplitude[plane] = np.abs(scaled).std(axis=0, ddof=1)
        turned = np.square(np.angle(scaled * mean.conj())).sum(axis=0)
        phase[plane] = np.where(modulus > 0, np.sqrt(turned / (len(starts) - 1)), np.nan)
    amplitude /= largest
    return Uncertainty(amplitude=amplitude, phase_rad=phase)


def _scaled_planes(starts: Sequence[Object], gram: NDArray[np.complex128]) -> Iterator[Object]:
    """Plane by plane along the first axis, (n, row, column): the starts with the best's norm and phase."""
    norms = np.sqrt(gram.diagonal().real)
    turn = np.exp(1j * np.angle(gram[:, 0]))  # of <start, best>
    factors = (turn * norms[0] / norms).astype(np.complex64).reshape(-1, 1, 1)
    for planes in zip(*starts):
        yield factors * np.stack(planes)


def _check_several(starts: Sequence[Object]) -> None:
    if len(starts) < 2:
        raise ScanError("agreement needs at least two starts that ended with a finite object")

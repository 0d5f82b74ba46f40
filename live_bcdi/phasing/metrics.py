"""How good a retrieved object is. Definitions and their sources are in docs/explanation.md."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from ..types import BoolArray, FloatArray, Resolution
from .align import overlap
from .kernels_numpy import Object


def centred_transform(density: Object, threads: int = 1) -> NDArray[np.complex64]:
    """A(q) = sum S exp(-i q.r) with zero frequency and the object's origin at n//2."""
    shifted = fft.fftn(np.fft.ifftshift(density), workers=threads)
    return np.asarray(np.fft.fftshift(shifted), np.complex64)


def chi(modulus: FloatArray, intensity: FloatArray, mask: BoolArray) -> float:
    """sum((|F| - sqrt(I))^2) / sum(I) over measured voxels, as cohere reports it."""
    use = ~mask
    measured = np.asarray(intensity[use], np.float64)
    return float(np.sum((modulus[use] - np.sqrt(measured)) ** 2) / measured.sum())


def chi_operando(modulus: FloatArray, intensity: FloatArray, mask: BoolArray) -> float:
    """Serban et al. (2024), Eq. 1, with |D| and |R| read as intensities: sum((sqrt(D) - sqrt(R))^2) / sum(R).

    It differs from `chi` in its denominator only: the calculated intensity, not the measured one.
    """
    use = ~mask
    calculated = np.asarray(modulus[use], np.float64)
    return float(np.sum((calculated - np.sqrt(intensity[use])) ** 2) / np.sum(calculated**2))


def poisson_deviance(modulus: FloatArray, intensity: FloatArray, use: BoolArray) -> float:
    """Mean of 2 (c - I + I ln(I / c)) over the voxels `use`, with c = |F|^2: about 1 where the misfit is
    counting noise alone, minus twice the log-likelihood apart from a constant of the data.

    One hundredth of a count is added to c, which a voxel of no counts would else make infinite.
    """
    counts = np.asarray(intensity[use], np.float64)
    expected = np.asarray(modulus[use], np.float64) ** 2 + 0.01
    ratio = np.where(counts > 0, counts, 1.0) / expected
    terms = expected - counts + counts * np.log(np.where(counts > 0, ratio, 1.0))
    return float(2 * terms.mean())


def sharpness(density: Object) -> float:
    """sum |S|^4 of an object scaled to sum |S|^2 = 1 a voxel of its size: low for an even amplitude."""
    power = np.abs(density).astype(np.float64) ** 2
    return float(power.size * np.sum(power**2) / np.sum(power) ** 2)


def first_mode(starts: Sequence[Object]) -> float:
    """Weight of the first mode of aligned objects: the largest eigenvalue of their Gram matrix over its trace.

    1 where all are equal up to scale, 1/n where n have nothing in common (Favre-Nicolin et al., Sci. Rep. 10,
    2664 (2020)).
    """
    gram = np.array([[overlap(a, b) for b in starts] for a in starts])
    return float(np.linalg.eigvalsh(gram)[-1] / np.trace(gram).real)


def transfer_function(
    starts: Sequence[Object], intensity: FloatArray, mask: BoolArray, q_steps_invA: NDArray[np.float64]
) -> Resolution:
    """PRTF of aligned starts by shells of |q - q_centre|: sum |mean F| / sum sqrt(I) over measured voxels
    (Chapman et al., JOSA A 23, 1179 (2006)); the resolution is the full period 2 pi / q at 1/e."""
    mean = np.mean([centred_transform(start) for start in starts], axis=0)
    indices = np.meshgrid(*[np.arange(n) - n // 2 for n in intensity.shape], indexing="ij")
    offset = np.stack(indices, axis=-1) @ q_steps_invA.T
    length = np.linalg.norm(offset, axis=-1)
    width = np.linalg.norm(q_steps_invA, axis=0).max()
    shell = np.rint(length / width).astype(int)
    use = ~mask
    counts = np.bincount(shell[use])
    amplitude = np.bincount(shell[use], np.sqrt(intensity[use], dtype=np.float64))
    agreement = np.bincount(shell[use], np.abs(mean[use]))
    filled = (counts > 0) & (amplitude > 0)
    q = width * np.arange(len(counts))[filled]
    prtf = agreement[filled] / amplitude[filled]
    return Resolution(q_invA=q, prtf=prtf, resolution_nm=_resolution_nm(q, prtf, alone=len(starts) < 2))


def _resolution_nm(q: NDArray[np.float64], prtf: NDArray[np.float64], *, alone: bool) -> float:
    if alone:
        return float("nan")
    below = np.flatnonzero(prtf < np.exp(-1))
    if not len(below):
        return float(2 * np.pi / q[-1] / 10)
    last = max(int(below[0]), 1)
    fraction = (prtf[last - 1] - np.exp(-1)) / max(prtf[last - 1] - prtf[last], 1e-12)
    at = q[last - 1] + np.clip(fraction, 0, 1) * (q[last] - q[last - 1])
    return float(2 * np.pi / at / 10) if at > 0 else float("nan")

"""How good a retrieved object is. Definitions and their sources are in docs/explanation.md."""

from collections.abc import Iterable, Sequence
from typing import Any

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
    counting noise alone, minus twice the log-likelihood apart from a constant of the data."""
    return float(deviance(modulus[use], intensity[use]).mean())


def deviance(modulus: FloatArray, intensity: FloatArray) -> NDArray[np.float64]:
    """2 (c - I + I ln(I / c)) of each voxel, with c = |F|^2. One hundredth of a count is added to c, which a voxel
    of no counts would else make infinite."""
    counts = np.asarray(intensity, np.float64)
    expected = np.asarray(modulus, np.float64) ** 2 + 0.01
    ratio = np.where(counts > 0, counts, 1.0) / expected
    return 2 * (expected - counts + counts * np.log(np.where(counts > 0, ratio, 1.0)))


def sharpness(density: Object) -> float:
    """sum |S|^4 of an object scaled to sum |S|^2 = 1 a voxel of its size: low for an even amplitude."""
    power = np.abs(density).astype(np.float64) ** 2
    return float(power.size * np.sum(power**2) / np.sum(power) ** 2)


def gram_matrix(starts: Sequence[Object]) -> NDArray[np.complex128]:
    """<start j, start k>, (n, n), summed plane by plane in double precision: no copy of a whole start is made."""
    gram = np.zeros((len(starts), len(starts)), np.complex128)
    for planes in zip(*starts):
        for j, first in enumerate(planes):
            for k in range(j, len(planes)):
                gram[j, k] += overlap(first, planes[k])
    above = np.triu(gram, 1)
    return np.diag(gram.diagonal()) + above + above.conj().T


def first_mode(starts: Sequence[Object]) -> float:
    """Weight of the first mode of aligned objects: the largest eigenvalue of their Gram matrix over its trace.

    1 where all are equal up to scale, 1/n where n have nothing in common (Favre-Nicolin et al., Sci. Rep. 10,
    2664 (2020)). `agreement.modes` has all of them.
    """
    gram = gram_matrix(starts)
    return float(np.linalg.eigvalsh(gram)[-1] / np.trace(gram).real)


def shells(shape: tuple[int, ...], q_steps_invA: NDArray[np.float64]) -> tuple[NDArray[np.intp], float]:
    """The shell of |q - q_centre| that each voxel of a centred array is in, and the shells' width in 1/ångström:
    the largest of the three steps, the columns of `q_steps_invA` (3, 3)."""
    metric = q_steps_invA.T @ q_steps_invA
    width = float(np.sqrt(metric.diagonal().max()))
    index = np.meshgrid(*[np.arange(n) - n // 2 for n in shape], indexing="ij", sparse=True)
    square = sum(metric[j, k] * index[j] * index[k] for j in range(3) for k in range(3))
    length = np.sqrt(np.maximum(square, 0))
    length /= width
    return np.rint(length, out=length).astype(np.intp), width


def sum_by_shell(shell: NDArray[np.intp], planes: Iterable[NDArray[Any]]) -> NDArray[np.float64]:
    """Sum over each shell of an array that comes plane by plane, so that no copy of it is made."""
    count = int(shell.max()) + 1
    total = np.zeros(count)
    for where, values in zip(shell, planes):
        total += np.bincount(where.ravel(), values.ravel(), minlength=count)
    return total


def transfer_function(
    starts: Sequence[Object], intensity: FloatArray, mask: BoolArray, q_steps_invA: NDArray[np.float64]
) -> Resolution:
    """PRTF of aligned starts by shells of |q - q_centre|: sum |mean F| / sum sqrt(I) over measured voxels
    (Chapman et al., JOSA A 23, 1179 (2006)); the resolution is the full period 2 pi / q at 1/e, and at 0.5."""
    mean = np.abs(centred_transform(np.mean(starts, axis=0)))
    return shell_transfer(mean, intensity, mask, shells(intensity.shape, q_steps_invA), alone=len(starts) < 2)


def shell_transfer(
    mean: FloatArray,
    intensity: FloatArray,
    mask: BoolArray,
    by: tuple[NDArray[np.intp], float],
    *,
    alone: bool = False,
) -> Resolution:
    """`transfer_function` from |mean F| and what `shells` gives; one start `alone` has no resolution."""
    shell, width = by
    amplitude = sum_by_shell(shell, (np.sqrt(np.where(m, 0, i)) for i, m in zip(intensity, mask)))
    found = sum_by_shell(shell, (np.where(m, 0, f) for f, m in zip(mean, mask)))
    filled = (sum_by_shell(shell, (~m for m in mask)) > 0) & (amplitude > 0)
    q = width * np.flatnonzero(filled).astype(np.float64)
    prtf = found[filled] / amplitude[filled]
    limits = (np.exp(-1), 0.5)
    e_nm, half_nm = (float("nan") if alone else crossing_nm(q, prtf - limit) for limit in limits)
    return Resolution(q_invA=q, prtf=prtf, resolution_nm=e_nm, half_nm=half_nm)


def crossing_nm(q: NDArray[np.float64], above: NDArray[np.float64], first: int = 1) -> float:
    """Full period 2 pi / q in nm where `above`, linear between shells, first falls below zero; shells before the
    `first` do not count. The last shell's where it never does, NaN where there is none."""
    below = np.flatnonzero(above[first:] < 0) + first
    if not len(below):
        return float(2 * np.pi / q[-1] / 10) if len(q) and q[-1] > 0 else float("nan")
    last = int(below[0])
    before = max(float(above[last - 1]), 0.0)
    share = before / (before - float(above[last]))
    at = q[last - 1] + share * (q[last] - q[last - 1])
    return float(2 * np.pi / at / 10) if at > 0 else float("nan")

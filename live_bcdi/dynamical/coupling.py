"""What a voxel does to the two beams: the exponential of a 2 x 2 matrix, and its derivative. Compiled.

exp [[a0 s0, b S*], [c S, ah s0]] = e^t [[C + d H, b S* H], [c S H, C - d H]] with t, d = s0 (a0 +- ah) / 2,
w = d^2 + b c |S|^2, C = cosh sqrt w, H = sinh sqrt w / sqrt w. Both are entire in w, so no root is taken: their
series, for w / 4^doublings, and C(4w) = 2 C^2 - 1, H(4w) = C H.
"""

from math import factorial
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from ..types import ComplexArray, FloatArray

Parts = tuple[complex, complex, complex, complex]
Matrix = tuple[complex, complex, complex, complex]
_FAST = {"reassoc", "contract", "nsz", "arcp"}  # not nnan: a NaN must show itself
_TERMS = 8  # of the series: 1e-16 where |w| <= 1/4, the most that `doublings` leaves
_COSH = tuple(1.0 / factorial(2 * n) for n in range(_TERMS))
_SINHC = tuple(1.0 / factorial(2 * n + 1) for n in range(_TERMS + 1))


def doublings(generator: ComplexArray, density: ComplexArray, s0: FloatArray) -> int:
    """How often |w| must be divided by four to be below 1/4 in every voxel."""
    a0, ah, b, c = generator
    largest = abs(b * c) * float(np.abs(density).max(initial=0.0)) ** 2
    largest += abs(a0 - ah) ** 2 / 4 * float(np.abs(s0).max(initial=0.0)) ** 2
    return max(0, int(np.ceil(np.log2(max(4 * largest, 1e-300)) / 2)))


@njit(nogil=True, cache=True, fastmath=_FAST)
def cosh_sinhc(w: complex, times: int) -> tuple[complex, complex, complex]:
    """C, H and dH/dw at w."""
    v = w * 0.25**times
    cosh, sinhc, slope = 0j, 0j, 0j
    for n in range(_TERMS - 1, -1, -1):
        cosh = cosh * v + _COSH[n]
        sinhc = sinhc * v + _SINHC[n]
        slope = slope * v + (n + 1) * _SINHC[n + 1]
    for _ in range(times):
        slope = 0.25 * (slope * cosh + 0.5 * sinhc * sinhc)
        sinhc = sinhc * cosh
        cosh = 2 * cosh * cosh - 1
    return cosh, sinhc, slope


@njit(nogil=True, cache=True, fastmath=_FAST)
def growth(s0: float, generator: ComplexArray) -> complex:
    """e^t"""
    return complex(np.exp(0.5 * s0 * (generator[0] + generator[1])))


@njit(nogil=True, cache=True, fastmath=_FAST)
def parts(density: complex, s0: float, generator: ComplexArray, times: int) -> Parts:
    """d, C, H and dH/dw: what the exponential, its inverse and its derivative are made of, with `growth`."""
    d = 0.5 * s0 * (generator[0] - generator[1])
    size = density.real * density.real + density.imag * density.imag
    cosh, sinhc, slope = cosh_sinhc(d * d + generator[2] * generator[3] * size, times)
    return d, cosh, sinhc, slope


@njit(nogil=True, cache=True, fastmath=_FAST)
def matrix(density: complex, generator: ComplexArray, grows: complex, made: Parts) -> Matrix:
    """The exponential, row by row."""
    d, cosh, sinhc, _ = made
    even, odd, step = grows * cosh, grows * sinhc * d, grows * sinhc
    return even + odd, step * generator[2] * np.conj(density), step * generator[3] * density, even - odd


@njit(nogil=True, cache=True, fastmath=_FAST)
def inverse(density: complex, generator: ComplexArray, grows: complex, made: Parts) -> Matrix:
    """Of `matrix`: the exponential of what is negative."""
    d, cosh, sinhc, slope = made
    return matrix(density, -generator, 1 / grows, (-d, cosh, sinhc, slope))


@njit(nogil=True, cache=True, fastmath=_FAST)
def pull_back(
    density: complex, generator: ComplexArray, grows: complex, made: Parts, by_matrix: Any
) -> tuple[complex, float]:
    """dL/dS and dL/ds0 from dL/d(each element) of `matrix`; complex ones are dL/dRe + i dL/dIm."""
    a0, ah, b, c = generator[0], generator[1], generator[2], generator[3]
    g11, g12, g21, g22 = by_matrix
    d, cosh, sinhc, slope = made
    split = np.conj(grows) * (g11 - g22)
    up, down = grows * b * sinhc, grows * c * sinhc
    by_t = np.conj(grows * cosh) * (g11 + g22) + np.conj(d * sinhc) * split
    by_t += np.conj(up * np.conj(density)) * g12 + np.conj(down * density) * g21
    by_h = np.conj(d) * split
    by_h += np.conj(grows) * (np.conj(b) * density * g12 + np.conj(c * density) * g21)
    by_w = np.conj(0.5 * sinhc * grows) * (g11 + g22) + np.conj(slope) * by_h
    by_d = np.conj(sinhc) * split + 2 * np.conj(d) * by_w
    by_density = up * np.conj(g12) + np.conj(down) * g21 + 2 * density * (np.conj(b * c) * by_w).real
    by_s0 = 0.5 * (np.conj(a0 + ah) * by_t).real + 0.5 * (np.conj(a0 - ah) * by_d).real
    return by_density, by_s0


@njit(nogil=True, cache=True)
def matrices(
    density: ComplexArray, s0: FloatArray, generator: ComplexArray, times: int, out: NDArray[Any]
) -> None:
    """`matrix` of every voxel of a plane, out[k, i, j], k = 0..3; with `generator` negated their inverses."""
    for i in range(density.shape[0]):
        for j in range(density.shape[1]):
            made = parts(density[i, j], s0[i, j], generator, times)
            four = matrix(density[i, j], generator, growth(s0[i, j], generator), made)
            out[0, i, j], out[1, i, j], out[2, i, j], out[3, i, j] = four


@njit(nogil=True, cache=True)
def pull_back_plane(
    density: ComplexArray, s0: FloatArray, generator: ComplexArray, times: int, by_matrix: NDArray[Any]
) -> tuple[ComplexArray, FloatArray]:
    """`pull_back` of every voxel of a plane from by_matrix[k, i, j]."""
    by_density, by_s0 = np.empty_like(density), np.empty_like(s0)
    for i in range(density.shape[0]):
        for j in range(density.shape[1]):
            four = (by_matrix[0, i, j], by_matrix[1, i, j], by_matrix[2, i, j], by_matrix[3, i, j])
            made, grows = parts(density[i, j], s0[i, j], generator, times), growth(s0[i, j], generator)
            by_density[i, j], by_s0[i, j] = pull_back(density[i, j], generator, grows, made, four)
    return by_density, by_s0

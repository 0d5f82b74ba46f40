"""The loops of the CPU kernels, compiled. They release the interpreter, so that threads run abreast."""

import numpy as np
from numba import njit
from numpy.typing import NDArray

from ..types import BoolArray
from .kernels_numpy import Amplitude, Object

Floats = NDArray[np.float32]
_FAST = {"reassoc", "contract", "nsz", "arcp"}  # not nnan: a NaN must show itself
TILE = 8  # complex64 in a line of the cache; the compiler keeps a tile of 8 x 8 in registers
_CHUNK = 256  # values that are summed in single precision; a loop over so many is made of SIMD instructions


@njit(nogil=True, cache=True)
def _turn_tile(source: Object, target: Object, i: int, j: int, first: int) -> None:
    for jj in range(j, j + TILE):
        row = target[jj, first + i : first + i + TILE]
        for ii in range(TILE):
            row[ii] = source[i + ii, jj]


@njit(nogil=True, cache=True)
def _turn_edges(source: Object, target: Object, first: int) -> None:
    """What is in no whole tile."""
    n, m = source.shape
    for j in range(m):
        for i in range(n - n % TILE if j < m - m % TILE else 0, n):
            target[j, first + i] = source[i, j]


@njit(nogil=True, cache=True)
def gather(source: Object, target: Object) -> None:
    """target[j, i] = source[i, j], in the order of a source whose rows are far apart."""
    n, m = source.shape
    for i in range(0, n - n % TILE, TILE):
        for j in range(0, m - m % TILE, TILE):
            _turn_tile(source, target, i, j, 0)
    _turn_edges(source, target, 0)


@njit(nogil=True, cache=True)
def scatter(source: Object, target: Object, first: int) -> None:
    """target[j, first + i] = source[i, j], in the order of a target whose rows are far apart."""
    n, m = source.shape
    for j in range(0, m - m % TILE, TILE):
        for i in range(0, n - n % TILE, TILE):
            _turn_tile(source, target, i, j, first)
    _turn_edges(source, target, first)


@njit(nogil=True, cache=True)
def turn(planes: Object, turned: Object) -> None:
    for k in range(len(planes)):
        gather(planes[k], turned[k])


@njit(nogil=True, cache=True, fastmath=_FAST)
def set_modulus(transform: Object, amplitude: Amplitude, scale: np.float32) -> np.float64:
    """Moduli set, phases kept, everything scaled, of flat arrays; returns the misfit."""
    total = np.float64(0)
    for begin in range(0, amplitude.size, _CHUNK):
        values, moduli = transform[begin : begin + _CHUNK], amplitude[begin : begin + _CHUNK]
        part = np.float32(0)
        for k in range(moduli.size):
            re, im, wanted = values[k].real, values[k].imag, moduli[k]
            modulus = np.sqrt(re * re + im * im)
            free = wanted < 0
            factor = scale if free else scale * wanted / max(modulus, np.float32(1e-30))
            # a zero has no phase: take phase 0, as the numpy kernel does
            set_re = scale * max(wanted, np.float32(0)) if modulus == 0 else re * factor
            values[k] = complex(set_re, im * factor)
            miss = np.float32(0) if free else modulus - wanted
            part += miss * miss
        total += part
    return total


@njit(nogil=True, cache=True, fastmath=_FAST)
def mix(density: Object, projected: Object, support: BoolArray, weights: Floats) -> None:
    a, b, c, d = weights
    for k in range(density.size):
        inside = support[k]
        p = a if inside else c
        o = b if inside else d
        density[k] = p * projected[k] + o * density[k]


@njit(nogil=True, cache=True, fastmath=_FAST)
def mix_bands(density: Object, projected: Object, support: BoolArray, bands: Floats) -> None:
    upper, lower, between, feedback = bands
    for k in range(density.size):
        p, o = projected[k], density[k]
        along = p.real * o.real + p.imag * o.imag
        power = o.real * o.real + o.imag * o.imag
        if support[k] and along >= upper * power:
            density[k] = p
        elif support[k] and along >= lower * power:
            density[k] = o + between * p
        else:
            density[k] = o - feedback * p


@njit(nogil=True, cache=True, fastmath=_FAST)
def phase_sum(density: Object, support: BoolArray) -> np.complex128:
    """sum S |S| in the support."""
    total = np.complex128(0)
    for k in range(density.size):
        if support[k]:
            value = density[k]
            total += value * np.sqrt(value.real * value.real + value.imag * value.imag)
    return total


@njit(nogil=True, cache=True)
def count_above(smoothed: Floats, level: np.float32) -> int:
    count = 0
    for k in range(smoothed.size):
        count += smoothed[k] > level
    return count


@njit(nogil=True, cache=True, fastmath=_FAST)
def clip_phase(density: Object, support: BoolArray, middle: float, half_width: float) -> None:
    turn = np.complex64(np.exp(1j * middle))
    above = np.complex64(np.exp(1j * half_width))
    for k in range(density.size):
        if not support[k]:
            continue
        value = density[k] * np.conj(turn)
        phase = np.arctan2(value.imag, value.real)
        if abs(phase) > half_width:
            ray = above if phase > 0 else np.conj(above)
            length = value.real * ray.real + value.imag * ray.imag
            density[k] = max(length, np.float32(0)) * ray * turn


@njit(nogil=True, cache=True, fastmath=_FAST)
def smooth_plane(plane: Object, taps: Floats, lines: Floats, out: Floats) -> None:
    """|plane| convolved along both axes, periodic; `lines` (rows, columns) is scratch."""
    rows, columns = plane.shape
    half = taps.size // 2
    around = np.empty(columns + 2 * half, np.float32)
    line = around[half : half + columns]
    for i in range(rows):
        values = plane[i]
        for j in range(columns):
            line[j] = np.sqrt(values[j].real * values[j].real + values[j].imag * values[j].imag)
        for k in range(half):
            around[k] = line[(k - half) % columns]
            around[half + columns + k] = line[k % columns]
        lines[i] = 0
        for t in range(taps.size):
            for j in range(columns):
                lines[i, j] += taps[t] * around[t + j]
    for i in range(rows):
        out[i] = 0
        for t in range(taps.size):
            source = (i + t - half) % rows
            for j in range(columns):
                out[i, j] += taps[t] * lines[source, j]


@njit(nogil=True, cache=True, fastmath=_FAST)
def smooth_rocking(planes: Floats, taps: Floats, index: int, out: Floats) -> None:
    """Plane `index` of the convolution of `planes` along the rocking axis, periodic."""
    depth, rows, columns = planes.shape
    half = taps.size // 2
    for i in range(rows):
        out[i] = 0
        for t in range(taps.size):
            source = (index + t - half) % depth
            for j in range(columns):
                out[i, j] += taps[t] * planes[source, i, j]

"""Fused kernels for the CPU: FFTW for the transforms, numba for everything between them.

The array is walked twice an iteration, in pieces that stay in the cache. A plane (row, column) has its 2-D
transform in place. A slab (rocking, column) at one row is copied to a small transposed buffer, transformed
along the rocking axis, given the measured moduli, transformed back and written home; so the modulus projection
never touches main memory by itself. Plans are FFTW's ESTIMATE ones, which depend on nothing but the shape, and
each piece has its own partial sum: the result is the same bit for bit for any number of threads.

ESTIMATE chooses badly for a strided axis (0.1 s instead of 5 ms at 96 x 128 x 128), hence the buffer.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from threading import Lock
from typing import Any

import numpy as np
import pyfftw
from numba import njit
from numpy.typing import NDArray

from ..types import BoolArray
from .kernels_numpy import SUPPORT_SHARES, Amplitude, Bands, Mix, Object, taper_axes, tapered
from .support import level_of_share

_FAST = {"reassoc", "contract", "nsz", "arcp"}  # not nnan: a NaN must show itself
_BLOCK = 16  # transposed copies go by blocks whose lines fit the first-level cache
_planner = Lock()


@njit(nogil=True, cache=True, fastmath=_FAST)
def _to_columns(slab: Object, buffer: Object) -> None:
    depth, width = slab.shape
    for i in range(0, depth, _BLOCK):
        for j in range(0, width, _BLOCK):
            for jj in range(j, min(j + _BLOCK, width)):
                for ii in range(i, min(i + _BLOCK, depth)):
                    buffer[jj, ii] = slab[ii, jj]


@njit(nogil=True, cache=True, fastmath=_FAST)
def _from_columns(buffer: Object, slab: Object) -> None:
    depth, width = slab.shape
    for i in range(0, depth, _BLOCK):
        for j in range(0, width, _BLOCK):
            for ii in range(i, min(i + _BLOCK, depth)):
                for jj in range(j, min(j + _BLOCK, width)):
                    slab[ii, jj] = buffer[jj, ii]


@njit(nogil=True, cache=True, fastmath=_FAST)
def _set_modulus(transform: NDArray[np.float32], amplitude: Amplitude, scale: np.float32) -> np.float64:
    """`transform` is (n, 2), `amplitude` (n,): moduli set, phases kept, everything scaled; returns the misfit."""
    total = np.float64(0)
    for k in range(amplitude.size):
        re, im, wanted = transform[k, 0], transform[k, 1], amplitude[k]
        modulus = np.sqrt(re * re + im * im)
        free = wanted < 0
        factor = scale if free else scale * wanted / max(modulus, np.float32(1e-30))
        # a zero has no phase: take phase 0, as the numpy kernel does
        transform[k, 0] = scale * wanted if (modulus == 0 and not free) else re * factor
        transform[k, 1] = im * factor
        miss = np.float32(0) if free else modulus - wanted
        total += miss * miss
    return total


@njit(nogil=True, cache=True, fastmath=_FAST)
def _mix(density: Object, projected: Object, support: BoolArray, weights: NDArray[np.float32]) -> None:
    a, b, c, d = weights
    for k in range(density.size):
        inside = support[k]
        p = a if inside else c
        o = b if inside else d
        density[k] = p * projected[k] + o * density[k]


@njit(nogil=True, cache=True, fastmath=_FAST)
def _mix_bands(density: Object, projected: Object, support: BoolArray, bands: NDArray[np.float32]) -> None:
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
def _phase_sum(density: Object, support: BoolArray) -> np.complex128:
    """sum S |S| in the support."""
    total = np.complex128(0)
    for k in range(density.size):
        if support[k]:
            value = density[k]
            total += value * np.sqrt(value.real * value.real + value.imag * value.imag)
    return total


@njit(nogil=True, cache=True)
def _count_above(smoothed: NDArray[np.float32], level: np.float32) -> int:
    count = 0
    for k in range(smoothed.size):
        count += smoothed[k] > level
    return count


@njit(nogil=True, cache=True, fastmath=_FAST)
def _clip_phase(density: Object, support: BoolArray, middle: float, half_width: float) -> None:
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
def _smooth_plane(
    plane: Object, taps: NDArray[np.float32], lines: NDArray[np.float32], out: NDArray[np.float32]
) -> None:
    """|plane| convolved along both axes, periodic; `lines` (rows, columns) is scratch."""
    rows, columns = plane.shape
    half = taps.size // 2
    line = np.empty(columns, np.float32)
    for i in range(rows):
        for j in range(columns):
            value = plane[i, j]
            line[j] = np.sqrt(value.real * value.real + value.imag * value.imag)
        for j in range(columns):
            total = np.float32(0)
            if half <= j < columns - half:
                for t in range(taps.size):
                    total += taps[t] * line[j + t - half]
            else:
                for t in range(taps.size):
                    total += taps[t] * line[(j + t - half) % columns]
            lines[i, j] = total
    for i in range(rows):
        out[i] = 0
        for t in range(taps.size):
            source = (i + t - half) % rows
            for j in range(columns):
                out[i, j] += taps[t] * lines[source, j]


@njit(nogil=True, cache=True, fastmath=_FAST)
def _smooth_rocking(
    planes: NDArray[np.float32], taps: NDArray[np.float32], index: int, out: NDArray[np.float32]
) -> None:
    """Plane `index` of the convolution of `planes` along the rocking axis, periodic."""
    depth, rows, columns = planes.shape
    half = taps.size // 2
    out[...] = 0
    for t in range(taps.size):
        source = (index + t - half) % depth
        for i in range(rows):
            for j in range(columns):
                out[i, j] += taps[t] * planes[source, i, j]


def gaussian_taps(sigma: float) -> NDArray[np.float32]:
    """Normalised Gaussian to three sigma, as scipy.ndimage cuts it with truncate=3."""
    half = int(3.0 * sigma + 0.5)
    taps = np.exp(-0.5 * (np.arange(-half, half + 1) / sigma) ** 2)
    return np.asarray(taps / taps.sum(), np.float32)


def _planes(array: NDArray[Any]) -> NDArray[Any]:
    """(starts * rocking, row, column) of a contiguous array, without a copy."""
    return array.reshape(-1, *array.shape[2:])


class _Worker:
    """One thread's plans and its slab buffer."""

    def __init__(self, shape: tuple[int, int, int]) -> None:
        depth, rows, columns = shape
        plane = pyfftw.empty_aligned((rows, columns), np.complex64)
        self.buffer = pyfftw.empty_aligned((columns, depth), np.complex64)
        aligned = rows * columns * 8 % pyfftw.simd_alignment == 0
        flags = ("FFTW_ESTIMATE",) if aligned else ("FFTW_ESTIMATE", "FFTW_UNALIGNED")
        self.plane_forward = _plan(plane, (0, 1), "FFTW_FORWARD", flags)
        self.plane_inverse = _plan(plane, (0, 1), "FFTW_BACKWARD", flags)
        self.column_forward = _plan(self.buffer, (1,), "FFTW_FORWARD", ("FFTW_ESTIMATE",))
        self.column_inverse = _plan(self.buffer, (1,), "FFTW_BACKWARD", ("FFTW_ESTIMATE",))


def _plan(array: Object, axes: tuple[int, ...], direction: str, flags: tuple[str, ...]) -> pyfftw.FFTW:
    with _planner:
        return pyfftw.FFTW(array, array, axes=axes, direction=direction, flags=flags, threads=1)


class Kernels:
    """`PhasingKernels` for one pattern; an instance serves one retrieval at a time."""

    def __init__(self, amplitude: Amplitude, threads: int = 1) -> None:
        self._shape: tuple[int, int, int] = amplitude.shape
        shifted = np.fft.ifftshift(amplitude)
        self._measured = np.ascontiguousarray(shifted.transpose(1, 2, 0), np.float32)
        self._amplitude = self._measured
        self._moduli: Amplitude | None = None  # `_amplitude` in the order of the others, where it was asked for
        self._workers = [_Worker(self._shape) for _ in range(max(1, threads))]
        self._pool = ThreadPoolExecutor(len(self._workers)) if len(self._workers) > 1 else None
        self._scale = np.float32(1 / amplitude.size)

    def empty(self, starts: int) -> Object:
        return np.asarray(pyfftw.zeros_aligned((starts, *self._shape), np.complex64))

    def put(self, array: NDArray[Any]) -> NDArray[Any]:
        return array

    def get(self, array: NDArray[Any]) -> NDArray[Any]:
        return array

    def settle(self) -> None:
        """There is nothing to wait for."""

    def project(self, density: Object, out: Object) -> NDArray[np.float64]:
        rows = self._shape[1]
        errors = np.zeros((len(density), rows))

        def modulus(worker: _Worker, slabs: range) -> None:
            buffer = worker.buffer
            floats = buffer.view(np.float32).reshape(-1, 2)
            for slab in slabs:
                start, i = divmod(slab, rows)
                _to_columns(out[start, :, i], buffer)
                worker.column_forward.execute()
                errors[start, i] = _set_modulus(floats, self._amplitude[i].reshape(-1), self._scale)
                worker.column_inverse.execute()
                _from_columns(buffer, out[start, :, i])

        self._forward_planes(density, out)
        self._share(modulus, errors.size)
        self._inverse_planes(out)
        return np.asarray(errors.sum(axis=1))

    def transform(self, density: Object, out: Object) -> None:
        self._forward_planes(density, out)

        def forward(worker: _Worker, slabs: range) -> None:
            for slab in slabs:
                start, i = divmod(slab, self._shape[1])
                _to_columns(out[start, :, i], worker.buffer)
                worker.column_forward.execute()
                _from_columns(worker.buffer, out[start, :, i])

        self._share(forward, len(out) * self._shape[1])

    def inverse(self, transform: Object, out: Object) -> None:
        def inverse(worker: _Worker, slabs: range) -> None:
            for slab in slabs:
                start, i = divmod(slab, self._shape[1])
                _to_columns(transform[start, :, i], worker.buffer)
                worker.column_inverse.execute()
                np.multiply(worker.buffer, self._scale, out=worker.buffer)
                _from_columns(worker.buffer, out[start, :, i])

        self._share(inverse, len(out) * self._shape[1])
        self._inverse_planes(out)

    def moduli(self) -> Amplitude:
        if self._moduli is None:
            self._moduli = np.ascontiguousarray(self._amplitude.transpose(2, 0, 1))
        return self._moduli

    def _forward_planes(self, density: Object, out: Object) -> None:
        """out = density, its planes transformed."""
        before, after = _planes(density), _planes(out)

        def forward(worker: _Worker, planes: range) -> None:
            plan = worker.plane_forward
            for i in planes:
                after[i] = before[i]
                plan.update_arrays(after[i], after[i])
                plan.execute()

        self._share(forward, len(after))

    def _inverse_planes(self, out: Object) -> None:
        after = _planes(out)

        def inverse(worker: _Worker, planes: range) -> None:
            plan = worker.plane_inverse
            for i in planes:
                plan.update_arrays(after[i], after[i])
                plan.execute()

        self._share(inverse, len(after))

    def mix(self, density: Object, projected: Object, support: BoolArray, weights: Mix) -> None:
        factors = np.asarray(weights, np.float32)
        d, p, s = _planes(density), _planes(projected), _planes(support)
        self._each(lambda i: _mix(d[i].reshape(-1), p[i].reshape(-1), s[i].reshape(-1), factors), len(d))

    def mix_bands(self, density: Object, projected: Object, support: BoolArray, bands: Bands) -> None:
        limits = np.asarray(bands, np.float32)
        d, p, s = _planes(density), _planes(projected), _planes(support)
        self._each(lambda i: _mix_bands(d[i].reshape(-1), p[i].reshape(-1), s[i].reshape(-1), limits), len(d))

    def mean_phase(self, density: Object, support: BoolArray) -> NDArray[np.float64]:
        d, s = _planes(density), _planes(support)
        sums = self._each(lambda i: _phase_sum(d[i].reshape(-1), s[i].reshape(-1)), len(d))
        return np.asarray(np.angle(np.reshape(sums, (len(density), -1)).sum(axis=1)))

    def clip_phase(
        self, density: Object, support: BoolArray, middle: NDArray[np.float64], half_width: float
    ) -> None:
        d, s, centre = _planes(density), _planes(support), np.repeat(middle, density.shape[1])
        self._each(lambda i: _clip_phase(d[i].reshape(-1), s[i].reshape(-1), centre[i], half_width), len(d))

    def taper(self, width: float | None) -> None:
        self._moduli = None
        if width is None:
            self._amplitude = self._measured
            return
        depth, rows, columns = taper_axes(self._shape, width)
        self._amplitude = tapered(self._measured, [rows, columns, depth])

    def smooth(self, density: Object, sigma: float) -> NDArray[np.float32]:
        taps = gaussian_taps(sigma)
        lines = np.empty(density.shape, np.float32)
        out = np.empty(density.shape, np.float32)
        before, between, after = _planes(density), _planes(lines), _planes(out)
        depth = density.shape[1]

        def within(_: _Worker, planes: range) -> None:
            scratch = np.empty(self._shape[1:], np.float32)
            for i in planes:
                _smooth_plane(before[i], taps, scratch, between[i])

        self._share(within, len(before))
        self._each(lambda i: _smooth_rocking(lines[i // depth], taps, i % depth, after[i]), len(after))
        return out

    def level_of_share(self, smoothed: NDArray[np.float32], share: float) -> NDArray[np.float32]:
        return level_of_share(smoothed, share)

    def tighten(self, smoothed: NDArray[np.float32], level: NDArray[np.float32], support: BoolArray) -> None:
        planes, depth = _planes(smoothed), smoothed.shape[1]
        counts = self._each(lambda i: _count_above(planes[i].reshape(-1), level[i // depth]), len(planes))
        share = np.reshape(counts, (len(smoothed), depth)).sum(axis=1) / smoothed[0].size
        usable = (share > SUPPORT_SHARES[0]) & (share < SUPPORT_SHARES[1])
        for start in np.flatnonzero(usable):
            np.greater(smoothed[start], level[start], out=support[start])

    def _each(self, work: Callable[[int], Any], count: int) -> list[Any]:
        """`work` for every index, the results in order."""
        results: list[Any] = [None] * count

        def some(_: _Worker, indices: range) -> None:
            for i in indices:
                results[i] = work(i)

        self._share(some, count)
        return results

    def _share(self, work: Callable[[_Worker, range], object], count: int) -> None:
        """Give each worker its run of the pieces, and wait."""
        if self._pool is None:
            work(self._workers[0], range(count))
            return
        edges = np.linspace(0, count, len(self._workers) + 1).astype(int)
        runs = [range(start, stop) for start, stop in pairwise(edges)]
        for done in [self._pool.submit(work, worker, run) for worker, run in zip(self._workers, runs)]:
            done.result()

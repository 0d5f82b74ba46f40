"""Fused kernels for the CPU: FFTW for the transforms, numba for everything between them (`loops.py`).

FFTW's ESTIMATE plans depend on nothing but the shape, but are good for one thing only: contiguous lines from one
buffer to another (a strided axis takes 20 times as long, a plane of 256 x 256 ten times as long as a measured
plan; `docs/benchmarks.md`). So every axis is made such lines, by transposed copies of pieces that stay in the
cache. The array is walked three times a projection:

- some planes: lines along columns, turned, lines along rows; written as (column, row),
- some lines along the rocking axis, gathered: transformed, given the measured moduli, transformed
  back, written home,
- some planes: lines along rows, turned, lines along columns.

What a piece is depends on the shape alone, and each has its own partial sum: the result is the same bit for
bit for any number of threads.

pyFFTW is imported where plans are made: it brings dask along, a second of a service that transforms nothing.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from threading import Lock
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..types import BoolArray
from . import loops
from .kernels_numpy import SUPPORT_SHARES, Amplitude, Bands, Mix, Object, taper_axes, tapered
from .support import level_of_share

if TYPE_CHECKING:
    import pyfftw

_PIECE = 256 * 1024  # bytes: the four buffers and arrays of a step fit the second-level cache
_planner = Lock()


def gaussian_taps(sigma: float) -> NDArray[np.float32]:
    """Normalised Gaussian to three sigma, as scipy.ndimage cuts it with truncate=3."""
    half = int(3.0 * sigma + 0.5)
    taps = np.exp(-0.5 * (np.arange(-half, half + 1) / sigma) ** 2)
    return np.asarray(taps / taps.sum(), np.float32)


def _planes(array: NDArray[Any]) -> NDArray[Any]:
    """(starts * rocking, row, column) of a contiguous array, without a copy."""
    return array.reshape(-1, *array.shape[2:])


def _planes_at_once(shape: tuple[int, int, int]) -> int:
    """The most whose bytes are a piece; they divide the rocking axis. A pair at least where one is not aligned."""
    depth, rows, columns = shape
    least = 2 if rows * columns % 2 and depth % 2 == 0 else 1
    wanted = max(least, _PIECE // (8 * rows * columns))
    return max(n for n in range(least, depth + 1, least) if depth % n == 0 and n <= wanted)


def _flat(array: NDArray[Any]) -> NDArray[Any]:
    """(starts * rocking, voxels of a plane) of a contiguous array, without a copy."""
    return array.reshape(array.shape[0] * array.shape[1], -1)


class _Worker:
    """One thread's plans and buffers: `planes` and `turned` for some planes, `lines` and `spectra` for some lines
    along the rocking axis."""

    def __init__(self, shape: tuple[int, int, int]) -> None:
        import pyfftw

        depth, rows, columns = shape
        planes = _planes_at_once(shape)
        self.planes = pyfftw.empty_aligned((planes, rows, columns), np.complex64)
        self.turned = pyfftw.empty_aligned((planes, columns, rows), np.complex64)
        self.rows = _there_and_back(_like_numpys(self.planes), self.planes)
        self.columns = _there_and_back(self.turned, _like_numpys(self.turned))
        lines = max(1, _PIECE // (8 * depth * loops.TILE)) * loops.TILE
        self.lines = pyfftw.zeros_aligned((lines, depth), np.complex64)  # of the last piece some are not filled
        self.spectra = pyfftw.zeros_aligned((lines, depth), np.complex64)
        self.rocking = _there_and_back(self.lines, self.spectra)


def _like_numpys(array: Object) -> Object:
    """One as an argument may be, for planning: of the shape of `array`, aligned to 16 bytes and not to more."""
    import pyfftw

    return np.asarray(pyfftw.empty_aligned(array.size + 2, np.complex64)[2:].reshape(array.shape))


def _there_and_back(given: Object, transform: Object) -> "tuple[pyfftw.FFTW, pyfftw.FFTW]":
    """Plans for contiguous lines, from `given` to `transform` and back."""
    import pyfftw

    aligned = given.nbytes % 16 == 0
    flags = ("FFTW_ESTIMATE",) if aligned else ("FFTW_ESTIMATE", "FFTW_UNALIGNED")
    axis = (given.ndim - 1,)
    with _planner:
        return (
            pyfftw.FFTW(given, transform, axes=axis, direction="FFTW_FORWARD", flags=flags, threads=1),
            pyfftw.FFTW(transform, given, axes=axis, direction="FFTW_BACKWARD", flags=flags, threads=1),
        )


class Kernels:
    """`PhasingKernels` for one pattern; an instance serves one retrieval at a time."""

    def __init__(self, amplitude: Amplitude, threads: int = 1) -> None:
        self._shape: tuple[int, int, int] = amplitude.shape
        shifted = np.fft.ifftshift(amplitude)
        self._measured = np.ascontiguousarray(shifted.T, np.float32)
        self._amplitude = self._measured
        self._moduli: Amplitude | None = None  # as others see `_amplitude`, where it was asked for
        self._workers = [_Worker(self._shape) for _ in range(max(1, threads))]
        self._pool = ThreadPoolExecutor(len(self._workers)) if len(self._workers) > 1 else None
        self._scale = np.float32(1 / amplitude.size)

    def empty(self, starts: int) -> Object:
        import pyfftw

        return np.asarray(pyfftw.zeros_aligned((starts, *self._shape), np.complex64))

    def put(self, array: NDArray[Any]) -> NDArray[Any]:
        return array

    def get(self, array: NDArray[Any]) -> NDArray[Any]:
        return array

    def settle(self) -> None:
        """There is nothing to wait for."""

    def project(self, density: Object, out: Object) -> NDArray[np.float64]:
        misfits = self._with_moduli(density, out)
        self._inverse_planes(out)
        return misfits

    def transform(self, density: Object, out: Object) -> None:
        def forward(worker: _Worker, volume: Object, lines: slice) -> None:
            loops.gather(volume[:, lines], worker.lines)
            worker.rocking[0].execute()
            loops.scatter(worker.spectra[: lines.stop - lines.start], volume, lines.start)

        self._forward_planes(density, out)
        self._along_rocking(out, forward)

        def turn(worker: _Worker, i: int) -> None:
            loops.turn(turned[i], worker.planes)
            planes[i] = worker.planes

        planes, turned = self._pieces(out), self._turned(out)
        self._each(turn, len(planes))

    def inverse(self, transform: Object, out: Object) -> None:
        def turn(worker: _Worker, i: int) -> None:
            loops.turn(planes[i], worker.turned)
            turned[i] = worker.turned

        planes, turned = self._pieces(transform), self._turned(out)
        self._each(turn, len(planes))

        def inverse(worker: _Worker, volume: Object, lines: slice) -> None:
            loops.gather(volume[:, lines], worker.spectra)
            worker.rocking[1].execute()
            np.multiply(worker.lines, self._scale, out=worker.lines)
            loops.scatter(worker.lines[: lines.stop - lines.start], volume, lines.start)

        self._along_rocking(out, inverse)
        self._inverse_planes(out)

    def moduli(self) -> Amplitude:
        if self._moduli is None:
            self._moduli = np.ascontiguousarray(self._amplitude.T)
        return self._moduli

    def mix(self, density: Object, projected: Object, support: BoolArray, weights: Mix) -> None:
        factors = np.asarray(weights, np.float32)
        d, p, s = _flat(density), _flat(projected), _flat(support)
        self._each(lambda _, i: loops.mix(d[i], p[i], s[i], factors), len(d))

    def mix_bands(self, density: Object, projected: Object, support: BoolArray, bands: Bands) -> None:
        limits = np.asarray(bands, np.float32)
        d, p, s = _flat(density), _flat(projected), _flat(support)
        self._each(lambda _, i: loops.mix_bands(d[i], p[i], s[i], limits), len(d))

    def mean_phase(self, density: Object, support: BoolArray) -> NDArray[np.float64]:
        d, s = _flat(density), _flat(support)
        sums = self._each(lambda _, i: loops.phase_sum(d[i], s[i]), len(d))
        return np.asarray(np.angle(np.reshape(sums, (len(density), -1)).sum(axis=1)))

    def clip_phase(
        self, density: Object, support: BoolArray, middle: NDArray[np.float64], half_width: float
    ) -> None:
        d, s, centre = _flat(density), _flat(support), np.repeat(middle, density.shape[1])
        self._each(lambda _, i: loops.clip_phase(d[i], s[i], centre[i], half_width), len(d))

    def taper(self, width: float | None) -> None:
        self._moduli = None
        if width is None:
            self._amplitude = self._measured
            return
        self._amplitude = tapered(self._measured, taper_axes(self._shape, width)[::-1])

    def smooth(self, density: Object, sigma: float) -> NDArray[np.float32]:
        taps = gaussian_taps(sigma)
        lines = np.empty(density.shape, np.float32)
        out = np.empty(density.shape, np.float32)
        before, between, after = _planes(density), _planes(lines), _planes(out)
        depth = density.shape[1]

        def within(_: _Worker, planes: range) -> None:
            scratch = np.empty(self._shape[1:], np.float32)
            for i in planes:
                loops.smooth_plane(before[i], taps, scratch, between[i])

        self._share(within, len(before))
        self._each(lambda _, i: loops.smooth_rocking(lines[i // depth], taps, i % depth, after[i]), len(after))
        return out

    def level_of_share(self, smoothed: NDArray[np.float32], share: float) -> NDArray[np.float32]:
        return level_of_share(smoothed, share)

    def tighten(self, smoothed: NDArray[np.float32], level: NDArray[np.float32], support: BoolArray) -> None:
        planes, depth = _flat(smoothed), smoothed.shape[1]
        counts = self._each(lambda _, i: loops.count_above(planes[i], level[i // depth]), len(planes))
        share = np.reshape(counts, (len(smoothed), depth)).sum(axis=1) / smoothed[0].size
        usable = (share > SUPPORT_SHARES[0]) & (share < SUPPORT_SHARES[1])
        for start in np.flatnonzero(usable):
            np.greater(smoothed[start], level[start], out=support[start])

    def _pieces(self, array: NDArray[Any]) -> NDArray[Any]:
        """(pieces, planes, row, column) of a contiguous array, without a copy."""
        return array.reshape(-1, *self._workers[0].planes.shape)

    def _turned(self, array: Object) -> Object:
        """The same memory, written as (pieces, planes, column, row)."""
        return array.reshape(-1, *self._workers[0].turned.shape)

    def _forward_planes(self, density: Object, out: Object) -> None:
        """`out`, turned, = the planes of `density`, transformed."""
        planes, turned = self._pieces(density), self._turned(out)

        def forward(worker: _Worker, i: int) -> None:
            along_columns, along_rows = worker.columns[0], worker.rows[0]
            along_rows.update_arrays(planes[i], worker.planes)
            along_rows.execute()
            loops.turn(worker.planes, worker.turned)
            along_columns.update_arrays(worker.turned, turned[i])
            along_columns.execute()

        self._each(forward, len(planes))

    def _inverse_planes(self, out: Object) -> None:
        """The way back, in place."""
        planes, turned = self._pieces(out), self._turned(out)

        def inverse(worker: _Worker, i: int) -> None:
            along_columns, along_rows = worker.columns[1], worker.rows[1]
            along_columns.update_arrays(turned[i], worker.turned)
            along_columns.execute()
            loops.turn(worker.turned, worker.planes)
            along_rows.update_arrays(worker.planes, planes[i])
            along_rows.execute()

        self._each(inverse, len(planes))

    def _with_moduli(self, density: Object, out: Object) -> NDArray[np.float64]:
        """`out`, turned, = planes of `density` transformed, with the measured moduli along the rocking axis, too;
        returns the misfits."""
        amplitude = self._amplitude.reshape(-1, self._shape[0])

        def modulus(worker: _Worker, volume: Object, lines: slice) -> float:
            count = lines.stop - lines.start
            loops.gather(volume[:, lines], worker.lines)
            worker.rocking[0].execute()
            misfit = loops.set_modulus(
                worker.spectra[:count].reshape(-1), amplitude[lines].reshape(-1), self._scale
            )
            worker.rocking[1].execute()
            loops.scatter(worker.lines[:count], volume, lines.start)
            return float(misfit)

        self._forward_planes(density, out)
        misfits = self._along_rocking(out, modulus)
        return np.asarray(np.reshape(misfits, (len(out), -1)).sum(axis=1))

    def _along_rocking(self, out: Object, work: Callable[[_Worker, Object, slice], Any]) -> list[Any]:
        """`work` for some lines of a start after the other, given as (rocking, line); the results in order."""
        volumes = out.reshape(len(out), self._shape[0], -1)
        lines, at_once = volumes.shape[2], len(self._workers[0].lines)
        pieces = -(-lines // at_once)

        def some(worker: _Worker, piece: int) -> Any:
            start, i = divmod(piece, pieces)
            return work(worker, volumes[start], slice(i * at_once, min((i + 1) * at_once, lines)))

        return self._each(some, len(out) * pieces)

    def _each(self, work: Callable[[_Worker, int], Any], count: int) -> list[Any]:
        """`work` for every index, the results in order."""
        results: list[Any] = [None] * count

        def some(worker: _Worker, indices: range) -> None:
            for i in indices:
                results[i] = work(worker, i)

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

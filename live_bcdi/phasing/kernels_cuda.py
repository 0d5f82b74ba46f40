"""Fused kernels for CUDA: cuFFT for the transforms, the kernels of kernels.cu for everything between them.

An iteration is two transforms, one kernel that sets the moduli and sums the misfit, and one that mixes. All starts
go through each together. Arrays stay on the device and are C-contiguous; misfits, levels and counts too, until
somebody calls `get`, so nothing here waits for the device or copies to it. The same input gives the same bits on
one device and number of starts; cuFFT may choose another algorithm, and so another rounding, for another number.

This is the one place that imports cupy. `devices.py` says whether it can be used.
"""

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import cupy as cp
import numpy as np
from cupy.cuda import cufft
from cupyx.scipy.fft import get_fft_plan
from numpy.typing import NDArray

from ..types import BoolArray
from .kernels_numpy import SUPPORT_SHARES, Amplitude, Bands, Mix, Object
from .support import place_of_share

_THREADS = 256  # a block, at most MOST_THREADS of kernels.cu
_BLOCKS = 1024  # a start, at most: one start alone fills a large device
_AXES = (1, 2, 3)
SOURCE = Path(__file__).with_name("kernels.cu")


@cache
def _function(name: str) -> Any:
    return cp.RawModule(code=SOURCE.read_text()).get_function(name)


def device_count() -> int:
    """CUDA devices that this process sees. Raises what cupy raises where there is no driver."""
    return int(cp.cuda.runtime.getDeviceCount())


def free_bytes() -> int:
    """Memory that a retrieval could have. Raises RuntimeError, or what cupy raises, where kernels cannot run."""
    _function("mix")
    pool = cp.get_default_memory_pool()
    return int(cp.cuda.runtime.memGetInfo()[0]) + int(pool.free_bytes())


def transforms_alone(shape: tuple[int, ...]) -> Callable[[], None]:
    """Forward and inverse transform of a complex64 array by cuFFT with one plan for both, in place, to be timed.
    The device may still be at it when a call returns."""
    array = cp.zeros(shape, cp.complex64)
    plan = get_fft_plan(array, axes=tuple(range(len(shape))))

    def both() -> None:
        plan.fft(array, array, cufft.CUFFT_FORWARD)
        plan.fft(array, array, cufft.CUFFT_INVERSE)

    return both


class Kernels:
    """`PhasingKernels` for one pattern, for any number of starts; `threads` is the host's, and not used."""

    def __init__(self, amplitude: Amplitude, threads: int = 1) -> None:
        self._shape: tuple[int, int, int] = amplitude.shape
        self._voxels = np.uint32(amplitude.size)
        self._blocks = min(-(-amplitude.size // _THREADS), _BLOCKS)
        self._scale = np.float32(1 / amplitude.size)
        self._measured: Amplitude = cp.asarray(np.fft.ifftshift(amplitude), np.float32)
        self._amplitude: Amplitude = self._measured
        self._plans: dict[int, Any] = {}

    def empty(self, starts: int) -> Object:
        zeros: Object = cp.zeros((starts, *self._shape), np.complex64)
        return zeros

    def put(self, array: NDArray[Any]) -> NDArray[Any]:
        on_device: NDArray[Any] = cp.asarray(array)
        return on_device

    def get(self, array: NDArray[Any]) -> NDArray[Any]:
        return np.asarray(cp.asnumpy(array))

    def settle(self) -> None:
        cp.cuda.get_current_stream().synchronize()

    def project(self, density: Object, out: Object) -> NDArray[np.float64]:
        partial = self._partial(len(density))
        self.transform(density, out)
        arguments = (out, self._amplitude, partial, self._scale, self._voxels)
        self._launch("set_modulus", len(out), *arguments)  # scales, too
        self._plan(out).fft(out, out, cufft.CUFFT_INVERSE)
        return self._totals(partial)

    def transform(self, density: Object, out: Object) -> None:
        self._plan(density).fft(density, out, cufft.CUFFT_FORWARD)

    def inverse(self, transform: Object, out: Object) -> None:
        self._plan(transform).fft(transform, out, cufft.CUFFT_INVERSE)
        out *= self._scale

    def moduli(self) -> Amplitude:
        return self._amplitude

    def mix(self, density: Object, projected: Object, support: BoolArray, weights: Mix) -> None:
        arguments = (density, projected, support, self._voxels, *map(np.float32, weights))
        self._launch("mix", len(density), *arguments)

    def mix_bands(self, density: Object, projected: Object, support: BoolArray, bands: Bands) -> None:
        arguments = (density, projected, support, self._voxels, *map(np.float32, bands))
        self._launch("mix_bands", len(density), *arguments)

    def mean_phase(self, density: Object, support: BoolArray) -> NDArray[np.float64]:
        partial = self._partial(len(density), 2)
        self._launch("phase_sum", len(density), density, support, partial, self._voxels)
        total = self._totals(partial).reshape(-1, 2)
        phase: NDArray[np.float64] = cp.arctan2(total[:, 1], total[:, 0])
        return phase

    def clip_phase(
        self, density: Object, support: BoolArray, middle: NDArray[np.float64], half_width: float
    ) -> None:
        centre = cp.ascontiguousarray(middle, np.float64)
        self._launch("clip_phase", len(density), density, support, centre, np.float32(half_width), self._voxels)

    def taper(self, width: float | None) -> None:
        self._amplitude = self._measured
        if width is not None:
            self._amplitude = cp.empty(self._shape, np.float32)
            lengths = map(np.uint32, self._shape)
            self._launch("taper", 1, self._measured, self._amplitude, np.float32(width), *lengths)

    def smooth(self, density: Object, sigma: float) -> NDArray[np.float32]:
        half = int(3.0 * sigma + 0.5)  # three sigma, as scipy.ndimage cuts it with truncate=3
        taps = cp.exp(-0.5 * (cp.arange(-half, half + 1, dtype=np.float64) / sigma) ** 2)
        taps = (taps / taps.sum()).astype(np.float32)
        before: NDArray[np.float32] = cp.abs(density)
        after: NDArray[np.float32] = cp.empty(density.shape, np.float32)
        stride = 1
        for length in reversed(self._shape):
            settings = (np.int32(half), np.uint32(length), np.uint32(stride), self._voxels)
            self._launch("smooth", len(density), before, after, taps, *settings)
            before, after = after, before
            stride *= length
        return before

    def level_of_share(self, smoothed: NDArray[np.float32], share: float) -> NDArray[np.float32]:
        size = int(self._voxels)
        enough = np.float64(size - place_of_share(size, share))
        found, partial = cp.zeros(len(smoothed), np.uint32), self._partial(len(smoothed))
        for place in reversed(range(31)):
            bit = np.uint32(1 << place)
            self._launch("count_bit", len(smoothed), smoothed, found, partial, bit, self._voxels)
            self._each_row("keep_bit", len(smoothed), partial, found, np.uint32(self._blocks), bit, enough)
        level: NDArray[np.float32] = found.view(np.float32)
        return level

    def tighten(self, smoothed: NDArray[np.float32], level: NDArray[np.float32], support: BoolArray) -> None:
        starts, partial = len(smoothed), self._partial(len(smoothed))
        level = cp.ascontiguousarray(level, np.float32)
        self._launch("count_above", starts, smoothed, level, partial, self._voxels)
        fewest, most = (np.float64(share * int(self._voxels)) for share in SUPPORT_SHARES)
        count = self._totals(partial)
        self._launch("tighten", starts, smoothed, level, count, support, fewest, most, self._voxels)

    def _plan(self, density: Object) -> Any:
        """cuFFT's plan for so many starts, with its work area."""
        starts = len(density)
        if starts not in self._plans:
            self._plans[starts] = get_fft_plan(density, axes=_AXES)
        return self._plans[starts]

    def _partial(self, starts: int, parts: int = 1) -> NDArray[np.float64]:
        """What the blocks of each start sum up, before `_totals`."""
        partial: NDArray[np.float64] = cp.empty((starts * parts, self._blocks), np.float64)
        return partial

    def _totals(self, partial: NDArray[np.float64]) -> NDArray[np.float64]:
        total: NDArray[np.float64] = cp.empty(len(partial), np.float64)
        self._each_row("sum_rows", len(partial), partial, total, np.uint32(partial.shape[1]))
        return total

    def _launch(self, name: str, starts: int, *arguments: Any) -> None:
        _function(name)((self._blocks, starts), (_THREADS,), arguments)

    def _each_row(self, name: str, rows: int, *arguments: Any) -> None:
        _function(name)((1, rows), (_THREADS,), arguments)

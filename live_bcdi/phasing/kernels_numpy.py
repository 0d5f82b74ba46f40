"""The readable kernels: what every faster one is tested against.

`Kernels` is bound to one measured pattern: the amplitude sqrt(I), centred (zero frequency at n//2), negative where
the voxel is free (masked). Objects are complex64 with an arbitrary origin of their own; they, supports and misfits
have a leading axis of starts, (starts, rocking, row, column), and may live on a device.
"""

from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy import fft, ndimage

from ..types import BoolArray
from .support import level_of_share

Object = NDArray[np.complex64]
Amplitude = NDArray[np.float32]


class Mix(NamedTuple):
    """Weights of the new object: inside the support `inside_projected * P + inside_object * O`, outside it the
    same with the other two. ER, HIO, RAAR and charge flipping differ in these four numbers only."""

    inside_projected: float
    inside_object: float
    outside_projected: float
    outside_object: float


class Bands(NamedTuple):
    """Where the support takes P, by t = Re(P O*) / |O|^2, the part of P along O: P where t is `upper` or more,
    O + `between` * P from `lower` to `upper`, and O - `feedback` * P below and outside the support."""

    upper: float
    lower: float
    between: float
    feedback: float


class PhasingKernels(Protocol):
    """What an engine needs of a machine. Nothing but `get` and `settle` waits for a device."""

    def empty(self, starts: int) -> Object:
        """Zeros for so many starts."""

    def put(self, array: NDArray[Any]) -> NDArray[Any]:
        """An array of the host on the machine."""

    def get(self, array: NDArray[Any]) -> NDArray[Any]:
        """An array of the machine on the host."""

    def settle(self) -> None:
        """Wait until all that was asked is done."""

    def project(self, density: Object, out: Object) -> NDArray[np.float64]:
        """out = the nearest object with the measured moduli, phases kept, free voxels untouched; returns, a start,
        sum((|F| - sqrt(I))^2) of `density` over the measured voxels."""

    def transform(self, density: Object, out: Object) -> None:
        """out = F(q) = sum S exp(-i q.r), zero frequency first, not scaled; `out` may be `density`."""

    def inverse(self, transform: Object, out: Object) -> None:
        """out = the object whose `transform` it is; `out` may be `transform`."""

    def moduli(self) -> Amplitude:
        """The moduli that `project` gives now, (rocking, row, column), zero frequency first, negative where
        free. Not to be written to."""

    def mix(self, density: Object, projected: Object, support: BoolArray, weights: Mix) -> None:
        """Real-space update, in place in `density`."""

    def mix_bands(self, density: Object, projected: Object, support: BoolArray, bands: Bands) -> None:
        """Real-space update that depends on the sign of P along O, in place in `density`."""

    def mean_phase(self, density: Object, support: BoolArray) -> NDArray[np.float64]:
        """Phase of sum S |S| over the support, radians, a start."""

    def clip_phase(
        self, density: Object, support: BoolArray, middle: NDArray[np.float64], half_width: float
    ) -> None:
        """In the support, the nearest value whose phase is within `half_width` of its start's `middle` (radians),
        in place."""

    def taper(self, width: float | None) -> None:
        """From now on the measured moduli times exp(-k^2 / 2 width^2), k in units of each axis's Nyquist
        frequency; None for the measured moduli themselves."""

    def smooth(self, density: Object, sigma: float) -> NDArray[np.float32]:
        """|density| convolved with a periodic Gaussian of `sigma` voxels."""

    def level_of_share(self, smoothed: NDArray[np.float32], share: float) -> NDArray[np.float32]:
        """Of each start, the value with `share` (0 to 1) of the volume above it; (starts,). None is negative."""

    def tighten(self, smoothed: NDArray[np.float32], level: NDArray[np.float32], support: BoolArray) -> None:
        """support = smoothed > its start's level, in place; the old one stays where that is nearly nothing or
        nearly all (`SUPPORT_SHARES`)."""


# A support beyond these shares of the volume constrains nothing, or nothing is left.
SUPPORT_SHARES = (1e-5, 0.5)
_AXES = (1, 2, 3)


def per_start(values: NDArray[Any]) -> NDArray[Any]:
    """(starts,) for use with (starts, rocking, row, column)."""
    return values[:, None, None, None]


def taper_axes(shape: tuple[int, ...], width: float) -> list[NDArray[np.float32]]:
    """The three factors of a centred Gaussian of `width` Nyquist frequencies, zero frequency first."""
    return [np.exp(-0.5 * (2 * fft.fftfreq(n) / width) ** 2).astype(np.float32) for n in shape]


def tapered(amplitude: Amplitude, factors: list[NDArray[np.float32]]) -> Amplitude:
    """`amplitude` times the outer product of three factors, one an axis; free voxels stay free."""
    weights = factors[0][:, None, None] * factors[1][:, None] * factors[2]
    return np.where(amplitude < 0, amplitude, amplitude * weights).astype(np.float32)


class Kernels:
    """`PhasingKernels` with numpy and scipy."""

    def __init__(self, amplitude: Amplitude, threads: int = 1) -> None:
        self._measured = self._amplitude = np.fft.ifftshift(amplitude)
        self._threads = threads

    def empty(self, starts: int) -> Object:
        return np.zeros((starts, *self._amplitude.shape), np.complex64)

    def put(self, array: NDArray[Any]) -> NDArray[Any]:
        return array

    def get(self, array: NDArray[Any]) -> NDArray[Any]:
        return array

    def settle(self) -> None:
        """There is nothing to wait for."""

    def project(self, density: Object, out: Object) -> NDArray[np.float64]:
        transform = fft.fftn(density, axes=_AXES, workers=self._threads)
        modulus = np.abs(transform)
        measured = self._amplitude >= 0
        misfit = np.where(measured, modulus - self._amplitude, 0).astype(np.float64)
        phase = np.divide(transform, modulus, out=np.ones_like(transform), where=modulus > 0)
        np.copyto(transform, self._amplitude * phase, where=measured)
        out[...] = fft.ifftn(transform, axes=_AXES, workers=self._threads)
        return np.asarray(np.sum(misfit**2, axis=_AXES))

    def transform(self, density: Object, out: Object) -> None:
        out[...] = fft.fftn(density, axes=_AXES, workers=self._threads)

    def inverse(self, transform: Object, out: Object) -> None:
        out[...] = fft.ifftn(transform, axes=_AXES, workers=self._threads)

    def moduli(self) -> Amplitude:
        return self._amplitude

    def mix(self, density: Object, projected: Object, support: BoolArray, weights: Mix) -> None:
        a, b, c, d = (np.float32(weight) for weight in weights)
        density[...] = np.where(support, a * projected + b * density, c * projected + d * density)

    def mix_bands(self, density: Object, projected: Object, support: BoolArray, bands: Bands) -> None:
        along = projected.real * density.real + projected.imag * density.imag
        power = density.real**2 + density.imag**2
        upper, lower, between, feedback = (np.float32(each) for each in bands)
        inside = np.where(along >= lower * power, density + between * projected, density - feedback * projected)
        inside = np.where(along >= upper * power, projected, inside)
        density[...] = np.where(support, inside, density - feedback * projected)

    def mean_phase(self, density: Object, support: BoolArray) -> NDArray[np.float64]:
        total = np.sum(density * np.abs(density) * support, axis=_AXES, dtype=np.complex128)
        return np.asarray(np.angle(total))

    def clip_phase(
        self, density: Object, support: BoolArray, middle: NDArray[np.float64], half_width: float
    ) -> None:
        centre = per_start(middle)
        phase = np.angle(density * np.exp(-1j * centre))
        beyond = support & (np.abs(phase) > half_width)
        length = np.abs(density) * np.maximum(np.cos(np.abs(phase) - half_width), 0)
        np.copyto(
            density,
            length * np.exp(1j * (centre + np.sign(phase) * half_width)),
            where=beyond,
            casting="same_kind",
        )

    def taper(self, width: float | None) -> None:
        shape = self._measured.shape
        self._amplitude = self._measured if width is None else tapered(self._measured, taper_axes(shape, width))

    def smooth(self, density: Object, sigma: float) -> NDArray[np.float32]:
        blurred = ndimage.gaussian_filter(np.abs(density), sigma, mode="wrap", truncate=3.0, axes=_AXES)
        return np.asarray(blurred)

    def level_of_share(self, smoothed: NDArray[np.float32], share: float) -> NDArray[np.float32]:
        return level_of_share(smoothed, share)

    def tighten(self, smoothed: NDArray[np.float32], level: NDArray[np.float32], support: BoolArray) -> None:
        above = smoothed > per_start(level)
        share = np.count_nonzero(above, axis=_AXES) / above[0].size
        usable = (share > SUPPORT_SHARES[0]) & (share < SUPPORT_SHARES[1])
        np.copyto(support, above, where=per_start(usable))

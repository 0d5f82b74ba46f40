"""The readable kernels: what every faster one is tested against.

`Kernels` is bound to one measured pattern. The object is complex64 with its own arbitrary origin; the pattern
is the amplitude sqrt(I), centred (zero frequency at n//2), negative where the voxel is free (masked).
"""

from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy import fft, ndimage

from ..types import BoolArray

Object = NDArray[np.complex64]
Amplitude = NDArray[np.float32]


class Mix(NamedTuple):
    """Weights of the new object: inside the support `inside_projected * P + inside_object * O`, outside it the
    same with the other two. ER, HIO, RAAR and charge flipping differ in these four numbers only."""

    inside_projected: float
    inside_object: float
    outside_projected: float
    outside_object: float


class PhasingKernels(Protocol):
    """What an engine needs of a machine."""

    def empty(self) -> Object: ...

    def project(self, density: Object, out: Object) -> float:
        """out = the nearest object with the measured moduli, phases kept, free voxels untouched; returns
        sum((|F| - sqrt(I))^2) of `density` over the measured voxels."""

    def mix(self, density: Object, projected: Object, support: BoolArray, weights: Mix) -> None:
        """Real-space update, in place in `density`."""

    def smooth(self, density: Object, sigma: float) -> NDArray[np.float32]:
        """|density| convolved with a periodic Gaussian of `sigma` voxels."""


class Kernels:
    """`PhasingKernels` with numpy and scipy."""

    def __init__(self, amplitude: Amplitude, threads: int = 1) -> None:
        self._amplitude = np.fft.ifftshift(amplitude)
        self._threads = threads

    def empty(self) -> Object:
        return np.zeros(self._amplitude.shape, np.complex64)

    def project(self, density: Object, out: Object) -> float:
        transform = fft.fftn(density, workers=self._threads)
        modulus = np.abs(transform)
        measured = self._amplitude >= 0
        error = float(np.sum((modulus - self._amplitude)[measured].astype(np.float64) ** 2))
        phase = np.divide(transform, modulus, out=np.ones_like(transform), where=modulus > 0)
        np.copyto(transform, self._amplitude * phase, where=measured)
        out[...] = fft.ifftn(transform, workers=self._threads)
        return error

    def mix(self, density: Object, projected: Object, support: BoolArray, weights: Mix) -> None:
        a, b, c, d = (np.float32(weight) for weight in weights)
        density[...] = np.where(support, a * projected + b * density, c * projected + d * density)

    def smooth(self, density: Object, sigma: float) -> NDArray[np.float32]:
        return np.asarray(ndimage.gaussian_filter(np.abs(density), sigma, mode="wrap", truncate=3.0))

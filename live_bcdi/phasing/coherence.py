"""The coherence kernel of a beam from the pattern and the present object, by the Richardson-Lucy iteration.

gamma is where the likelihood of Poisson counts I of mean gamma * |F|^2 + b is highest, gamma >= 0: each step

    gamma(k) <- gamma(k) sum_q w(q) |F(q - k)|^2 I(q) / c(q)  /  sum_q w(q) |F(q - k)|^2

raises it (Richardson 1972; Lucy 1974; Shepp & Vardi, IEEE Trans. Med. Imaging 1, 113 (1982)), with w = 0 where a
voxel is free, which is not the same as a count of 0. Only the middle of the pattern is used, where the counts are.
gamma is symmetric here: its odd part would trade against a shift of the pattern, a phase ramp of the object.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..types import BoolArray
from .kernels_numpy import Object, PhasingKernels, per_start
from .model import Floats, Models, with_coherence

_AXES = (1, 2, 3)


@dataclass(frozen=True, kw_only=True, slots=True)
class Window:
    """The middle of a pattern: `roi` voxels an axis, and `reach` more on either side for gamma to reach out."""

    roi: tuple[int, ...]
    reach: tuple[int, ...]

    def indices(self, shape: tuple[int, ...]) -> list[NDArray[np.intp]]:
        """Of each axis, zero frequency first, those of the widened middle."""
        return [
            np.arange(-(roi // 2) - reach, roi - roi // 2 + reach) % n
            for roi, reach, n in zip(self.roi, self.reach, shape)
        ]


def window(shape: tuple[int, ...], roi: int, reach: int) -> Window:
    """A window that fits: gamma reaches out a quarter of an axis at most, and the middle takes what is left."""
    short = tuple(max(0, min(reach, (n - 1) // 4)) for n in shape)
    return Window(roi=tuple(min(roi, n - 2 * r) for n, r in zip(shape, short)), reach=short)


def estimate(
    kernels: PhasingKernels,
    models: Models,
    density: Object,
    support: BoolArray,
    *,
    sigma: float,
    iterations: int,
    middle: Window,
) -> Models:
    """`models` with the gamma of the objects in their supports after some iterations; the first time they begin at
    a Gaussian of `sigma` voxels, later where they ended."""
    transform = kernels.empty(len(density))
    transform[...] = density * support
    kernels.transform(transform, transform)
    places = [kernels.put(each) for each in middle.indices(transform.shape[1:])]
    power = _middle(transform.real**2 + transform.imag**2, places).astype(np.float64)
    inner = tuple(slice(r, r + n) for n, r in zip(middle.roi, middle.reach))
    moduli = _middle(kernels.moduli()[None], places)[(slice(None), *inner)].astype(np.float64)
    gamma = models.coherence
    if gamma is None or gamma.shape[1:] != tuple(2 * r + 1 for r in middle.reach):
        first = gaussian(middle.reach, sigma)
        gamma = kernels.put(np.repeat(first[None], len(density), axis=0))
    level = models.background
    floor = np.zeros_like(power[:, 0, 0, 0]) if level is None else level
    used = (moduli >= 0).astype(np.float64)
    gamma = richardson_lucy(power, moduli**2, used, gamma, background=floor, iterations=iterations)
    return with_coherence(kernels, models, gamma)


def richardson_lucy(
    power: Floats, counts: Floats, weights: Floats, gamma: Floats, *, background: Floats, iterations: int
) -> Floats:
    """gamma (starts, 2 r + 1 an axis) after some steps of the iteration above, of sum 1.

    `power` is |F|^2 (starts, n + 2 r an axis), `counts` and `weights` are those of its middle (1, n an axis).
    """
    lengths = power.shape[1:]
    box = (slice(None), *(slice(0, length) for length in gamma.shape[1:]))
    inner = (slice(None), *(slice(length - 1, None) for length in gamma.shape[1:]))
    spectrum = np.fft.rfftn(power, axes=_AXES)

    def seen(kernel: Floats) -> Floats:
        """gamma * |F|^2 in the middle: what wraps around is outside."""
        both: Floats = np.fft.irfftn(np.fft.rfftn(kernel, lengths, axes=_AXES) * spectrum, lengths, axes=_AXES)
        return both[inner]

    def back(values: Floats) -> Floats:
        """Its adjoint, symmetric."""
        padded = np.zeros_like(power)
        padded[inner] = values
        both: Floats = np.fft.irfftn(np.fft.rfftn(padded, axes=_AXES) * spectrum.conj(), lengths, axes=_AXES)
        found: Floats = both[box] + np.flip(both[box], _AXES)
        return found

    total = back(np.broadcast_to(weights, (len(power), *weights.shape[1:])))
    for _ in range(iterations):
        expected = np.maximum(seen(gamma), 0) + per_start(background)
        gamma = gamma * np.maximum(back(weights * counts / np.maximum(expected, 1e-9)), 0) / total
    normalised: Floats = gamma / per_start(np.sum(gamma, axis=_AXES))
    return normalised


def gaussian(reach: tuple[int, ...], sigma: float) -> NDArray[np.float64]:
    """A Gaussian of `sigma` voxels on (2 reach + 1) voxels an axis, of sum 1."""
    profiles = [np.exp(-0.5 * (np.arange(-r, r + 1) / sigma) ** 2) for r in reach]
    product = np.einsum("a,b,c->abc", *profiles)
    return np.asarray(product / product.sum())


def _middle(values: Floats, places: list[NDArray[np.intp]]) -> Floats:
    for axis, place in enumerate(places):
        values = np.take(values, place, axis=axis + 1)
    return values

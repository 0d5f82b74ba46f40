"""The ambiguities of phase retrieval, removed: shift, twin, global phase. None of them changes a modulus."""

from collections.abc import Iterable

import numpy as np
from scipy import fft

from ..types import BoolArray, FloatArray
from .kernels_numpy import Object

_LOW = 64
_STEPS = (1 / 2, 1 / 4, 1 / 8)  # of a voxel of the low frequencies, towards the peak between them


def twin(density: Object) -> Object:
    """conj(S(-r)) about n//2: the other object with the same moduli."""
    flipped = np.conj(density[::-1, ::-1, ::-1])
    # reversing an even axis sends n//2 to n//2 - 1
    return np.roll(flipped, [1 - n % 2 for n in density.shape], axis=(0, 1, 2))


def rolled_to_centre(density: Object, support: BoolArray) -> tuple[Object, BoolArray]:
    """The object rolled by whole voxels to have the centre of mass of |S|^2 at n//2.

    The object's array is periodic, and so is the centre of mass taken here: the angle of the first harmonic.
    """
    power = np.abs(density) ** 2
    shift = []
    for axis, n in enumerate(density.shape):
        profile = power.sum(axis=tuple(k for k in range(3) if k != axis), dtype=np.float64)
        angle = np.angle(np.sum(profile * np.exp(2j * np.pi * np.arange(n) / n)))
        shift.append(int(np.rint(n // 2 - angle * n / (2 * np.pi))))
    rolled = np.roll(density, shift, axis=(0, 1, 2)), np.roll(support, shift, axis=(0, 1, 2))
    return rolled[0], rolled[1]


def canonical(density: Object, support: BoolArray) -> tuple[Object, BoolArray]:
    """Centred, of the two twins always the same one, and with zero mean phase.

    A scan cannot tell the twins apart. The choice is the one whose phase, less its mean and slope, has a
    non-negative third moment: an odd function of the object, so exactly one of two different twins has it.
    """
    density, support = rolled_to_centre(density, support)
    if _phase_skewness(density) < 0:
        density, support = rolled_to_centre(twin(density), _reversed(support))
    return np.asarray(density * np.exp(-1j * mean_phase(density)), np.complex64), support


def mean_phase(density: Object) -> float:
    """Phase of sum S |S|, radians."""
    return float(np.angle(np.sum(density * np.abs(density), dtype=np.complex128)))


def _reversed(support: BoolArray) -> BoolArray:
    return np.roll(support[::-1, ::-1, ::-1], [1 - n % 2 for n in support.shape], axis=(0, 1, 2))


def phase_slopes(density: Object) -> tuple[float, float, float]:
    """Mean phase gradient, radians a voxel along each axis, weighted by |S|^2; nothing is unwrapped."""
    slopes = [
        float(np.angle(np.sum(np.roll(density, -1, axis) * np.conj(density), dtype=np.complex128)))
        for axis in range(3)
    ]
    return slopes[0], slopes[1], slopes[2]


def without_ramp(density: Object) -> tuple[Object, tuple[float, float, float]]:
    """The object with its mean phase gradient taken out about n//2, and that gradient (radians a voxel)."""
    slopes = phase_slopes(density)
    return with_ramp(density, (-slopes[0], -slopes[1], -slopes[2])), slopes


def with_ramp(density: Object, slopes: tuple[float, float, float]) -> Object:
    """The object times a phase of `slopes` radians a voxel about n//2: its pattern moves by slope * n / 2 pi."""
    axes = [np.exp(1j * slope * (np.arange(n) - n // 2)) for slope, n in zip(slopes, density.shape)]
    return np.asarray(density * axes[0][:, None, None] * axes[1][:, None] * axes[2], np.complex64)


def _phase_skewness(density: Object) -> float:
    flat, _ = without_ramp(density)
    weight = np.abs(flat).astype(np.float64)
    phase = np.angle(flat * np.exp(-1j * np.angle(np.sum(flat * weight))))
    return float(np.sum(weight * phase**3))


def aligned_to(reference: Object, density: Object) -> Object:
    """`aligned_all` of one object."""
    return aligned_all(reference, [density])[0]


def aligned_all(reference: Object, densities: Iterable[Object]) -> list[Object]:
    """Each object, or its twin if that matches better, moved (to a tenth of a voxel) and turned in phase onto
    `reference`: the transform is multiplied by a linear phase, so the moduli stay."""
    target = fft.fftn(reference)
    return [_aligned(reference, target, density) for density in densities]


def _aligned(reference: Object, target: Object, density: Object) -> Object:
    """The shift is looked for on the low frequencies, where large volumes have all that it takes."""
    transform = fft.fftn(density)
    low_target, low = _low(target), _low(transform)
    # the twin's transform is the conjugate one, but for a shift
    shifts = [_shift_onto(low_target, each, reference.shape) for each in (low, low.conj())]
    matches = [
        abs(overlap(low_target, _moved(each, shift, reference.shape)))
        for each, shift in zip((low, low.conj()), shifts)
    ]
    best = int(np.argmax(matches))
    chosen = transform if best == 0 else transform.conj()
    image = fft.ifftn(_moved(chosen, shifts[best], reference.shape))
    return np.asarray(image * np.exp(-1j * np.angle(overlap(reference, image))), np.complex64)


def overlap(first: Object, second: Object) -> complex:
    """<first, second>. Not BLAS's, whose last bits depend on its threads."""
    return complex(np.sum(np.conj(first) * second, dtype=np.complex128))


def _low(transform: Object) -> Object:
    """At most the `_LOW` lowest frequencies of each axis, zero frequency first."""
    kept = (np.r_[0 : (m + 1) // 2, n - m // 2 : n] for n, m in ((n, min(n, _LOW)) for n in transform.shape))
    return transform[np.ix_(*kept)]


def _moved(transform: Object, shift: list[float], shape: tuple[int, ...]) -> Object:
    """Times the linear phase that moves its object by `shift` voxels of `shape`."""
    waves = [
        np.exp(-2j * np.pi * step / n * fft.fftfreq(m, 1 / m)).astype(np.complex64)
        for step, n, m in zip(shift, shape, transform.shape)
    ]
    return np.asarray(transform * waves[0][:, None, None] * waves[1][:, None] * waves[2], np.complex64)


def _shift_onto(target: Object, transform: Object, shape: tuple[int, ...]) -> list[float]:
    """Voxels of `shape` at which the correlation with the target peaks."""
    product = target * np.conj(transform)
    correlation = np.abs(fft.ifftn(product))
    peak = tuple(map(int, np.unravel_index(np.argmax(correlation), correlation.shape)))
    places = [float(k) + _vertex(correlation, peak, axis) for axis, k in enumerate(peak)]
    # a parabola through points that are further apart than a voxel is off by a quarter of one
    for step in _STEPS if correlation.shape != shape else ():
        near = _around(product, places, step)
        places = [place + step * _vertex(near, (1, 1, 1), axis) for axis, place in enumerate(places)]
    return [place * n / m for place, n, m in zip(places, shape, correlation.shape)]


def _around(product: Object, places: list[float], step: float) -> FloatArray:
    """The modulus of the correlation `step` before, at and after the places along each axis, (3, 3, 3), by its
    Fourier sum (Guizar-Sicairos, Thurman & Fienup, Opt. Lett. 33, 156 (2008)). Not BLAS's, as in `overlap`."""
    for place, m in zip(places, product.shape):
        at = place + step * np.array([-1.0, 0.0, 1.0])
        waves = np.exp(2j * np.pi / m * np.outer(at, fft.fftfreq(m, 1 / m))).astype(np.complex64)
        product = np.einsum("abc,xa->bcx", product, waves)
    return np.abs(product)


def _vertex(correlation: FloatArray, peak: tuple[int, ...], axis: int) -> float:
    """Offset of the parabola's top through the peak and its two neighbours."""
    line = np.take(
        correlation[tuple(slice(None) if k == axis else p for k, p in enumerate(peak))],
        [peak[axis] - 1, peak[axis], peak[axis] + 1],
        mode="wrap",
    )
    curvature = float(line[0] - 2 * line[1] + line[2])
    return float(np.clip(0.5 * (line[0] - line[2]) / curvature, -0.5, 0.5)) if curvature < 0 else 0.0

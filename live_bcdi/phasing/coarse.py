"""The same retrieval on larger voxels: the middle of the pattern alone, for a fraction of the work.

The middle 1 / `by` of each axis of a pattern is the pattern of the same object in the same field of view, on
voxels `by` times as large: the oversampling stays, the resolution goes.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from scipy import fft

from ..types import BoolArray, ScanError
from .engine import Pattern, Retrieval, Start, check_fits
from .kernels_numpy import Object

_SHORTEST = 8  # an object of fewer voxels an axis is none


def retrieve_coarse(
    pattern: Pattern,
    by: int,
    starts: Sequence[Start],
    retrieve: Callable[[Pattern, Sequence[Start]], list[Retrieval]],
) -> list[Retrieval]:
    """What `retrieve` finds on the middle 1 / `by` of `pattern`, at full resolution: its moduli are zero beyond,
    and `chi` is that of the whole pattern. Raises ScanError where too little is left, or a start does not fit the
    pattern."""
    for start in starts:
        check_fits(start, pattern.intensity.shape)
    small = _middle(pattern, by)
    ends = retrieve(small, [_coarser(start, small.intensity.shape) for start in starts])
    beyond = pattern.total_counts - small.total_counts
    return [_finer(end, pattern, small, beyond) for end in ends]


def _middle(pattern: Pattern, by: int) -> Pattern:
    whole = pattern.intensity.shape
    shape = tuple(n // by for n in whole)
    if min(shape) < _SHORTEST:
        raise ScanError(f"recipe: Coarse(by={by}) leaves {shape} of {whole} voxels; leave it out")
    inner = _inner(whole, shape)
    return Pattern(intensity=pattern.intensity[inner], mask=pattern.mask[inner])


def _inner(whole: tuple[int, ...], shape: tuple[int, ...]) -> tuple[slice, ...]:
    """Where the middle of `shape` lies in the whole: n//2 on n//2."""
    return tuple(slice(n // 2 - m // 2, n // 2 - m // 2 + m) for n, m in zip(whole, shape))


def _coarser(start: Start, shape: tuple[int, ...]) -> Start:
    initial = None
    if start.initial is not None:
        transform = np.fft.fftshift(fft.fftn(start.initial))
        middle = transform[_inner(start.initial.shape, shape)]
        initial = np.asarray(fft.ifftn(np.fft.ifftshift(middle)), np.complex64)
    support = None if start.support is None else _nearest(start.support, shape)
    return replace(start, initial=initial, support=support)


def _finer(end: Retrieval, pattern: Pattern, small: Pattern, beyond: float) -> Retrieval:
    whole = pattern.intensity.shape
    chi = (end.chi * small.total_counts + beyond) / pattern.total_counts
    return replace(end, density=_padded(end.density, whole), support=_nearest(end.support, whole), chi=chi)


def _padded(density: Object, shape: tuple[int, ...]) -> Object:
    """The object on smaller voxels, its transform zero beyond what it had."""
    transform = np.zeros(shape, np.complex64)
    transform[_inner(shape, density.shape)] = np.fft.fftshift(fft.fftn(density))
    return np.asarray(fft.ifftn(np.fft.ifftshift(transform)), np.complex64)


def _nearest(support: BoolArray, shape: tuple[int, ...]) -> BoolArray:
    """The same field of view in other voxels."""
    places = (np.rint(np.arange(m) * (n / m)).astype(int) % n for n, m in zip(support.shape, shape))
    return support[np.ix_(*places)]

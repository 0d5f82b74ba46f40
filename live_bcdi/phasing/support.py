"""Where the object is: the first guess from the pattern, and its tightening."""

import numpy as np
from numpy.typing import NDArray
from scipy import fft, ndimage
from skimage import filters

from ..types import BoolArray, FloatArray


def autocorrelation_support(
    intensity: FloatArray, mask: BoolArray, *, threshold: float = 0.04, margin: float = 1.3
) -> BoolArray:
    """First support of a centred pattern, centred: half the autocorrelation's extent, times `margin`.

    The autocorrelation of an object is twice as wide as the object (for a convex one, exactly its difference
    body), so the voxels r with |autocorrelation(2 r / margin)| above `threshold` of its peak hold the object.
    Strain lowers the tail of the autocorrelation, hence the margin.
    """
    known = np.where(mask, 0, intensity).astype(np.float32)
    correlation = np.fft.fftshift(np.abs(fft.ifftn(np.fft.ifftshift(known))))
    above = correlation > threshold * correlation.max()
    labels, _ = ndimage.label(above)
    centre = tuple(n // 2 for n in intensity.shape)
    hull = labels == labels[centre]
    scale = 2.0 / margin
    offset = [c - scale * c for c in centre]
    half = ndimage.affine_transform(hull.astype(np.uint8), [scale] * 3, offset, order=0, cval=0)
    return np.asarray(ndimage.binary_dilation(half > 0))


def otsu_level(smoothed: NDArray[np.float32]) -> float:
    """The level that splits the values with the largest variance between the two groups (Otsu, IEEE Trans.
    Syst. Man Cybern. 9, 62 (1979)); the maximum where all are equal, so that nothing is above it."""
    if smoothed.max() == smoothed.min():
        return float(smoothed.max())
    return float(filters.threshold_otsu(smoothed))  # type: ignore[no-untyped-call]


def level_of_share(smoothed: NDArray[np.float32], share: float) -> NDArray[np.float32]:
    """Of each start, the value with `share` (0 to 1) of the volume above it; (starts,)."""
    flat = smoothed.reshape(len(smoothed), -1)
    place = place_of_share(flat.shape[1], share)
    return np.partition(flat, place, axis=1)[:, place]


def place_of_share(size: int, share: float) -> int:
    """Among `size` values in rising order, the place of the one with `share` of them above it."""
    return min(max(size - round(share * size) - 1, 0), size - 1)

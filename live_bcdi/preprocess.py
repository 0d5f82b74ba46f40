"""A recorded scan into what phase retrieval sees: masks, monitor, centre, crop, bin. Pure functions.

Nothing is rolled around: where the peak is off the middle, the volume is padded with masked voxels.
"""

from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from . import geometry
from .aliens import find_aliens
from .cleaning import background_counts, flashes, without_background
from .types import BoolArray, DiffractionVolume, FloatArray, FrameArray, RockingScan, ScanError

Shape = tuple[int, int, int]

# Neighbours that count this often leave a working pixel at zero with probability e^-14: less than one in
# a megapixel.
_DEAD_EXPECTED = 14.0
# A hot pixel counts in most frames what its neighbours do not in any: this many times their median.
_HOT_FACTOR, _HOT_COUNTS = 10.0, 10.0
# A pixel that sees less than this share of the median pixel is not corrected but masked.
_NO_RESPONSE = 0.1
# Below this share of the median monitor there was no beam worth the name.
_BEAM_LOST = 0.1
# Lengths whose transforms FFTW does well without measuring, and that halve at least four times.
_GOOD_LENGTHS = (16, 32, 48, 64, 96, 128, 192, 256, 384, 512)
_DEFAULT_LONGEST = 128


def dead_pixels(intensity: FrameArray) -> BoolArray:
    """(row, column) True where a pixel never counts over the scan although the pixels around it do."""
    totals = intensity.sum(axis=0, dtype=np.float64)
    counting = totals > 0
    window = (7, 7)
    filled = ndimage.uniform_filter(counting.astype(np.float64), window, mode="reflect")
    around = ndimage.uniform_filter(totals, window, mode="reflect") / np.maximum(filled, 1e-9)
    # at least a quarter of the window must count: else it is the dark outside of the pattern
    return np.asarray(~counting & (around >= _DEAD_EXPECTED) & (filled >= 0.25))


def hot_pixels(intensity: FrameArray, have: BoolArray | None = None) -> BoolArray:
    """(row, column) True where the median over the scan is far above that of every pixel around."""
    median = np.median(intensity if have is None else intensity[have], axis=0)
    ring = np.ones((3, 3), bool)
    ring[1, 1] = False
    around = ndimage.median_filter(median, footprint=ring, mode="reflect")
    return np.asarray(median > np.maximum(_HOT_FACTOR * around, _HOT_COUNTS))


def monitor_scale(monitor: FloatArray, have: BoolArray) -> tuple[NDArray[np.float64], BoolArray]:
    """What to multiply each frame with, and which frames had beam.

    A monitor that scatters less than counting noise is not a count of photons: dividing by it frame by frame
    adds noise, so it is smoothed over the scan (a Gaussian of 5 frames). One that scatters more follows the
    beam and is used as it is.
    """
    values = np.asarray(monitor, np.float64)
    usable = have & np.isfinite(values)
    if not usable.any() or np.median(values[usable]) <= 0:
        return np.ones(len(values)), have
    with_beam = usable & (values > _BEAM_LOST * np.median(values[usable]))
    index = np.arange(len(values))
    filled = np.interp(index, index[with_beam], values[with_beam])
    mean = filled.mean()
    # neighbours' differences hold the scatter and not the drift
    scatter = np.diff(filled).std() / np.sqrt(2)
    if scatter <= np.sqrt(mean):
        filled = ndimage.gaussian_filter1d(filled, 5.0, mode="nearest")
    no_reading = have & ~np.isfinite(values)
    return mean / filled, with_beam | no_reading


def find_centre(intensity: FloatArray, mask: BoolArray) -> tuple[float, float, float]:
    """Centre of mass of the Bragg peak: of the component above a tenth of the smoothed maximum that holds it.

    Smoothing over 3 x 3 x 3 voxels keeps a hot voxel from being the maximum. Raises ScanError without counts.
    """
    smooth = ndimage.uniform_filter(np.where(mask, 0, intensity).astype(np.float32), 3, mode="constant")
    if not smooth.max() > 0:
        raise ScanError("the scan has no counts outside its mask; check the detector and the bad pixels")
    labels, _ = ndimage.label(smooth > 0.1 * smooth.max())
    peak = labels[np.unravel_index(np.argmax(smooth), smooth.shape)]
    row = ndimage.center_of_mass(smooth, labels, peak)
    return float(row[0]), float(row[1]), float(row[2])


def crop_centred(
    intensity: FloatArray, mask: BoolArray, centre: tuple[int, int, int], shape: Shape
) -> tuple[NDArray[np.float32], BoolArray]:
    """The box of `shape` with raw voxel `centre` at n//2; masked where it leaves the data."""
    volume = np.zeros(shape, np.float32)
    free = np.ones(shape, bool)
    source, target = [], []
    for length, middle, wanted in zip(intensity.shape, centre, shape):
        first = middle - wanted // 2
        lower, upper = max(first, 0), min(first + wanted, length)
        source.append(slice(lower, upper))
        target.append(slice(lower - first, upper - first))
    volume[tuple(target)] = intensity[tuple(source)]
    free[tuple(target)] = mask[tuple(source)]
    volume[free] = 0
    return volume, free


def bin_volume(
    intensity: NDArray[np.float32], mask: BoolArray, factors: Shape
) -> tuple[NDArray[np.float32], BoolArray]:
    """Sums over blocks of `factors` voxels; a block with any masked voxel is masked.

    The axes must be multiples of the factors. Raises ScanError otherwise.
    """
    if any(n % f for n, f in zip(intensity.shape, factors)):
        raise ScanError(f"a volume of {intensity.shape} cannot be binned by {factors}; crop to a multiple")
    blocks = [size for n, f in zip(intensity.shape, factors) for size in (n // f, f)]
    free = mask.reshape(blocks).any(axis=(1, 3, 5))
    summed = intensity.reshape(blocks).sum(axis=(1, 3, 5), dtype=np.float32)
    return np.where(free, np.float32(0), summed), np.asarray(free)


def rocking_grid_deg(angles_deg: FloatArray, have: BoolArray) -> tuple[float, float]:
    """Angle of frame 0 and mean step of the scan, from the frames there are.

    Raises ScanError where they are not on an even, monotonic grid of angles.
    """
    index = np.flatnonzero(have)
    if len(index) < 3:
        raise ScanError(f"a rocking scan needs at least 3 frames; there are {len(index)}")
    angles = np.asarray(angles_deg, np.float64)[index]
    if not np.isfinite(angles).all():
        raise ScanError("some frames have no angle; mark them as missing")
    step, start = np.polyfit(index, angles, 1)
    if step == 0 or (np.diff(angles) * np.sign(step) <= 0).any():
        raise ScanError("the rocking angles do not go one way; sort the frames or drop the repeated ones")
    worst = np.abs(angles - (start + step * index)).max()
    if worst > abs(step) / 2:
        raise ScanError(
            f"the rocking angles are off an even grid by {worst:.2g} deg at a step of {abs(step):.2g} deg; "
            "interpolate the frames onto even angles first"
        )
    return float(start), float(step)


def scan_mask(scan: RockingScan, have: BoolArray) -> BoolArray:
    """True for voxels not to be used: bad, dead, hot, flashing, saturated, negative (gap codes), missing."""
    intensity = scan.intensity
    pixels = dead_pixels(intensity) | hot_pixels(intensity, have)
    if scan.bad_pixels is not None:
        pixels = pixels | scan.bad_pixels
    if scan.flatfield is not None:
        pixels = pixels | ~(scan.flatfield > _NO_RESPONSE)
    mask = np.broadcast_to(pixels, intensity.shape) | ~have[:, None, None] | (intensity < 0)
    mask = mask | flashes(intensity)
    if scan.saturation_counts is not None:
        mask = mask | (intensity >= scan.saturation_counts)
    return np.asarray(mask)


def diffraction_volume(
    scan: RockingScan,
    *,
    shape: Shape | None = None,
    binning: Shape | None = None,
    aliens: bool = False,
    background: float | Literal["corners"] = 0.0,
) -> DiffractionVolume:
    """The centred, masked, monitor-corrected volume of a scan, with its place in reciprocal space.

    `shape` is that of the result, after `binning`; both have defaults from the data (`default_shape`).
    `aliens` masks intensity of other crystals (`find_aliens`); `background` is taken off every voxel, in counts or
    as the scan's own corners have it.
    Raises ScanError for uneven angles, NaN counts, a scan without counts.
    """
    have = np.ones(len(scan.intensity), bool) if scan.have is None else np.asarray(scan.have, bool)
    grid_deg = rocking_grid_deg(scan.angles_deg, have)
    if not np.isfinite(scan.intensity).all():
        raise ScanError(f"{scan.name}: frames hold NaN or infinite counts; set them to 0 and mark bad_pixels")
    scale = np.ones(len(have))
    if scan.monitor is not None:
        scale, have = monitor_scale(scan.monitor, have)
    mask = scan_mask(scan, have)
    response = 1.0 if scan.flatfield is None else np.where(scan.flatfield > _NO_RESPONSE, scan.flatfield, 1.0)
    intensity = np.where(mask, 0, scan.intensity * scale[:, None, None] / response).astype(np.float32)
    centre = find_centre(intensity, mask)
    if aliens:
        mask = mask | find_aliens(intensity, mask, centre)[0]
    if background:
        level = background_counts(intensity, mask) if background == "corners" else float(background)
        intensity = without_background(intensity, level)
    middle = (round(centre[0]), round(centre[1]), round(centre[2]))
    factors = binning or (1, 1, 1)
    size = shape or default_shape(scan.intensity.shape, middle, factors)
    whole = (size[0] * factors[0], size[1] * factors[1], size[2] * factors[2])
    volume, free = bin_volume(*crop_centred(intensity, mask, middle, whole), factors)
    return _placed(scan, volume, free, (middle, factors), grid_deg)


def _placed(
    scan: RockingScan,
    volume: NDArray[np.float32],
    free: BoolArray,
    box: tuple[tuple[int, int, int], Shape],
    grid_deg: tuple[float, float],
) -> DiffractionVolume:
    # with even factors the centre of voxel n//2 is half a raw voxel beyond the middle
    raw = [middle + (factor - 1) / 2 for middle, factor in zip(*box)]
    first, step = grid_deg
    at_centre = geometry.with_rocking_angle(scan.geometry, first + step * raw[0])
    steps = geometry.q_steps_invA(at_centre, step, raw[1], raw[2]) * np.asarray(box[1], np.float64)
    return DiffractionVolume(
        intensity=volume,
        mask=free,
        centre=(raw[0], raw[1], raw[2]),
        q_centre_invA=geometry.q_lab_invA(at_centre, raw[1], raw[2]),
        q_steps_invA=steps,
    )


def default_shape(raw: tuple[int, ...], middle: tuple[int, int, int], factors: Shape) -> Shape:
    """The largest good FFT lengths that the data reach on both sides of the peak, 128 at most; a scan that
    stops short on one side of the peak is padded to what it has on the other."""
    reach = [2 * max(centre, length - 1 - centre) for length, centre in zip(raw, middle)]
    lengths = [good_length(min(n // factor, _DEFAULT_LONGEST)) for n, factor in zip(reach, factors)]
    return lengths[0], lengths[1], lengths[2]


def good_length(longest: int) -> int:
    """The largest length up to `longest` that transforms fast (the smallest there is below that)."""
    return max((n for n in _GOOD_LENGTHS if n <= longest), default=_GOOD_LENGTHS[0])

"""A recorded scan into what phase retrieval sees: masks, monitor, centre, crop, bin. Pure functions.

Nothing is rolled around: where the peak is off the middle, the volume is padded with masked voxels.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from . import geometry
from .aliens import Alien, find_aliens
from .cleaning import (
    background_counts,
    dead_pixels,
    flashes,
    hot_pixels,
    stale_frames,
    unreadable,
    without_background,
)
from .config import Centring, Preprocessing
from .types import BoolArray, DiffractionVolume, FloatArray, RockingScan, ScanError, Vector

Shape = tuple[int, int, int]

# A pixel that sees less than this share of the median pixel is not corrected but masked.
_NO_RESPONSE = 0.1
# Below this share of the median monitor there was no beam worth the name.
_BEAM_LOST = 0.1
_DEFAULTS = Preprocessing()
_SHORTEST = 16
_DEFAULT_LONGEST = 128


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


def find_centre(intensity: FloatArray, mask: BoolArray, centring: Centring = "robust") -> Vector:
    """Where the Bragg peak is, as (rocking, row, column), fractional.

    "robust": centre of mass of the component above a tenth of the smoothed maximum that holds it; smoothing over
    3 x 3 x 3 voxels keeps a hot voxel from being the maximum. "maximum": the brightest voxel. "mass": centre of
    mass of all counts; a background pulls it to the middle of the frames. Raises ScanError without counts.
    """
    counts = np.where(mask, 0, intensity).astype(np.float32)
    if not counts.max() > 0:
        raise ScanError("the scan has no counts outside its mask; check the detector and the bad pixels")
    if centring == "maximum":
        found = np.unravel_index(np.argmax(counts), counts.shape)
    elif centring == "mass":
        found = ndimage.center_of_mass(counts.astype(np.float64))
    else:
        smooth = ndimage.uniform_filter(counts, 3, mode="constant")
        labels, _ = ndimage.label(smooth > 0.1 * smooth.max())
        peak = labels[np.unravel_index(np.argmax(smooth), smooth.shape)]
        found = ndimage.center_of_mass(smooth, labels, peak)
    return float(found[0]), float(found[1]), float(found[2])


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


def scan_mask(scan: RockingScan, have: BoolArray) -> tuple[BoolArray, dict[str, int]]:
    """True for voxels not to be used, and how many pixels or voxels each reason names (some have several)."""
    intensity = scan.intensity
    lost = unreadable(intensity)
    counts = np.where(lost, 0, intensity) if lost.any() else intensity
    bad = np.zeros(intensity.shape[1:], bool) if scan.bad_pixels is None else scan.bad_pixels
    if scan.flatfield is not None:
        bad = bad | ~(scan.flatfield > _NO_RESPONSE)
    limit = np.inf if scan.saturation_counts is None else scan.saturation_counts
    pixels = {"bad": bad, "dead": dead_pixels(counts), "hot": hot_pixels(counts, have)}
    voxels = {"flashing": flashes(counts), "saturated": counts >= limit, "unreadable": lost}
    mask = np.repeat(~have, intensity[0].size).reshape(intensity.shape)
    for found in (*pixels.values(), *voxels.values()):
        mask |= found
    return mask, {name: int(np.count_nonzero(found)) for name, found in {**pixels, **voxels}.items()}


@dataclass(frozen=True, kw_only=True, slots=True)
class Report:
    """What preprocessing did to a scan.

    `masked` counts pixels (bad, dead, hot), voxels (flashing, saturated, unreadable, alien) and frames (missing,
    without beam, read twice); `aliens` are the blobs; `background_counts` went off every voxel; `kept` is the
    share of the counts that lies in the volume.
    """

    masked: Mapping[str, int]
    aliens: tuple[Alien, ...]
    background_counts: float
    centre: Vector
    frames: tuple[int, ...]
    shape: tuple[int, ...]
    binning: Shape
    kept: float

    def lines(self) -> dict[str, str]:
        """As text, for `Reconstruction.provenance`."""
        count = self.masked
        pixels = ", ".join(f"{count[name]} {name}" for name in ("bad", "dead", "hot"))
        voxels = ", ".join(f"{count[name]} {name}" for name in ("flashing", "saturated", "unreadable", "alien"))
        places = "; ".join(
            f"{alien.counts:.0f} counts at " + ", ".join(f"{c:.0f}" for c in alien.centre) for alien in self.aliens
        )
        centre = ", ".join(f"{c:.2f}" for c in self.centre)
        binned = "" if self.binning == (1, 1, 1) else f" binned by {_times(self.binning)}"
        return {
            "masked": f"{pixels} pixels; {voxels} voxels; {count['missing']} frames missing,"
            f" {count['without beam']} without beam, {count['read twice']} read twice",
            "aliens": places or "none found or not looked for",
            "background": f"{self.background_counts:.4g} counts a voxel",
            "volume": f"{_times(self.shape)} of {_times(self.frames)}{binned}, peak at {centre},"
            f" with {100 * self.kept:.2f} % of the counts",
        }


def _times(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))


def diffraction_volume(scan: RockingScan, settings: Preprocessing = _DEFAULTS) -> DiffractionVolume:
    """The centred, masked, corrected volume of a scan, with its place in reciprocal space.

    Raises ScanError for uneven angles, NaN counts, a scan without counts.
    """
    return prepare(scan, settings)[0]


def prepare(scan: RockingScan, settings: Preprocessing = _DEFAULTS) -> tuple[DiffractionVolume, Report]:
    """`diffraction_volume`, and what was done. `settings.dark` is not looked at: see `cleaning.without_dark`."""
    have = np.ones(len(scan.intensity), bool) if scan.have is None else np.asarray(scan.have, bool)
    grid_deg = rocking_grid_deg(scan.angles_deg, have)
    if not np.isfinite(scan.intensity).all():
        raise ScanError(f"{scan.name}: frames hold NaN or infinite counts; set them to 0 and mark bad_pixels")
    used = as_set(scan, settings)
    found = _cleaned(used, have, settings)
    intensity, mask, centre, level = found.intensity, found.mask, found.centre, found.background_counts
    if level:
        intensity = without_background(intensity, level)
    total = float(intensity.sum(where=~mask, dtype=np.float64))
    if not total > 0:
        raise ScanError(
            f"{scan.name}: a background of {level:g} counts a voxel leaves nothing; give a smaller one"
        )
    if settings.centring != "robust":
        centre = find_centre(intensity, mask, settings.centring)
    volume = _boxed(used, intensity, mask, (centre, grid_deg, settings))
    report = Report(
        masked=found.masked,
        aliens=found.aliens,
        background_counts=level,
        centre=centre,
        frames=scan.intensity.shape,
        shape=volume.intensity.shape,
        binning=settings.binning or (1, 1, 1),
        kept=float(volume.intensity.sum(dtype=np.float64)) / total,
    )
    return volume, report


def as_set(scan: RockingScan, settings: Preprocessing) -> RockingScan:
    """The scan without a flat field or monitor that `settings` do not use."""
    return replace(
        scan,
        flatfield=scan.flatfield if settings.flatfield else None,
        monitor=scan.monitor if settings.monitor else None,
    )


def as_phased(scan: RockingScan, settings: Preprocessing) -> tuple[RockingScan, float]:
    """`as_set`, with -1, no reading, for all that `prepare` masks, whatever for; and the background that it takes
    off, in counts by monitor and flat field. For a model of the counts themselves."""
    used = as_set(scan, settings)
    have = np.ones(len(scan.intensity), bool) if scan.have is None else np.asarray(scan.have, bool)
    found = _cleaned(used, have, settings)
    marked = np.where(found.mask, -1, used.intensity).astype(np.float32)
    return replace(used, intensity=marked), found.background_counts


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class _Cleaned:
    """Counts by monitor and flat field, what is not to be used of them and why, and what goes off them."""

    intensity: NDArray[np.float32]
    mask: BoolArray
    masked: dict[str, int]
    centre: Vector
    aliens: tuple[Alien, ...]
    background_counts: float


def _cleaned(used: RockingScan, have: BoolArray, settings: Preprocessing) -> _Cleaned:
    intensity, mask, masked = _corrected(used, have)
    centre = find_centre(intensity, mask)
    aliens: tuple[Alien, ...] = ()
    masked["alien"] = 0
    if settings.aliens:
        strange, aliens = find_aliens(intensity, mask, centre)
        masked["alien"] = int(np.count_nonzero(strange))
        mask = mask | strange
    level = background_counts(intensity, mask) if settings.background == "corners" else float(settings.background)
    return _Cleaned(
        intensity=intensity, mask=mask, masked=masked, centre=centre, aliens=aliens, background_counts=level
    )


def _corrected(scan: RockingScan, have: BoolArray) -> tuple[NDArray[np.float32], BoolArray, dict[str, int]]:
    """Counts by monitor and flat field, 0 where masked; the mask, and how many of what it masks."""
    scale, beam = np.ones(len(have)), have
    if scan.monitor is not None:
        scale, beam = monitor_scale(scan.monitor, have)
    stale = stale_frames(scan)
    mask, masked = scan_mask(scan, beam & ~stale)
    response = 1.0 if scan.flatfield is None else np.where(scan.flatfield > _NO_RESPONSE, scan.flatfield, 1.0)
    intensity = np.where(mask, 0, scan.intensity * scale[:, None, None] / response).astype(np.float32)
    masked["missing"] = int(np.count_nonzero(~have))
    masked["without beam"] = int(np.count_nonzero(have & ~beam))
    masked["read twice"] = int(np.count_nonzero(beam & stale))
    return intensity, mask, masked


def _boxed(
    scan: RockingScan,
    intensity: NDArray[np.float32],
    mask: BoolArray,
    how: tuple[Vector, tuple[float, float], Preprocessing],
) -> DiffractionVolume:
    centre, grid_deg, settings = how
    middle = (round(centre[0]), round(centre[1]), round(centre[2]))
    factors = settings.binning or (1, 1, 1)
    size = settings.shape or default_shape(intensity.shape, middle, factors)
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
    """Good FFT lengths that hold all that the data reach on both sides of the peak, 128 at most; a scan that stops
    short on one side of the peak is padded to what it has on the other, and all that is not data is masked."""
    reach = [2 * max(centre, length - 1 - centre) for length, centre in zip(raw, middle)]
    lengths = [min(good_length(-(-n // factor)), _DEFAULT_LONGEST) for n, factor in zip(reach, factors)]
    return lengths[0], lengths[1], lengths[2]


def good_length(shortest: int) -> int:
    """The smallest even length from `shortest` (and 16) with no prime factor above 7: such cost at most 1.4 times
    what powers of two do, a voxel, and primes 4 to 6 times (benchmarks/fft_lengths.py); one is in every 20 %."""
    length = max(shortest + shortest % 2, _SHORTEST)
    while not _is_smooth(length):
        length += 2
    return length


def _is_smooth(length: int) -> bool:
    for factor in (2, 3, 5, 7):
        while length % factor == 0:
            length //= factor
    return length == 1

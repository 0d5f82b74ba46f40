"""The angles of a scan once its crystal has been retrieved: object and angles are refined together."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy import ndimage

from ..geometry import q_steps_invA
from ..preprocess import monitor_scale, scan_mask
from ..types import BoolArray, DiffractionVolume, Reconstruction, RockingScan, ScanError, TrackingResult
from .band import Floats
from .likelihood import FLOOR, Complex, Fit, Grid, Joint, Prior
from .regrid import even_angles
from .scan import box_of, pinned
from .shift import with_shifts

_FINER = 1.3  # voxels than those of the retrieval: what the crystal scatters beyond the frames has to go somewhere
_ITERATIONS = 200
_GAIN = 0.01  # relative scatter of the intensity that the monitor does not show
_SHIFT_PX = 0.2  # how far a pattern lies, at a guess, from where it belongs on the detector
_BEYOND = 2.5  # times the jitter: one crystal, coherently lit, is no model of these frames
_LEAST_JITTER = 0.05  # steps: a prior that lets the frames speak
_DRAWS = 4  # scans drawn from the fit, for the error bars
_ALIKE = 4.0  # frames: how far about one the draws are averaged
_JUMP = 1.0  # steps: what stands farther off was found so by itself, and jitters about that place


@dataclass(frozen=True, kw_only=True, slots=True)
class _Frames:
    """The frames that are there: counts (frames, rows, columns), True where `used`, angles in steps from the
    pattern's middle, with what they jumped by (`jumped`), and `scale` to one monitor reading; `have` says which of
    the scan's they are."""

    counts: Floats
    used: BoolArray
    nominal: Floats
    jumped: Floats
    scale: Floats
    have: BoolArray


def refine_angles(
    scan: RockingScan, result: Reconstruction, tracking: TrackingResult, *, seed: int = 0
) -> TrackingResult:
    """`tracking` with the angles at which one crystal in the support of `result` explains all frames best.

    `result` is of `phase` or `reconstruct`, of the scan regridded by `tracking` or of the scan itself. Object,
    angles and intensities maximise the Poisson likelihood together, with the prior that offsets scatter by
    `tracking.jitter_steps` about the file's angles (Calvo-Almazan et al. 2019), or about where `tracking` found a
    frame that is more than a step off. Scans drawn from the fit and its prior, with `seed`, and fitted again give
    the error bars. Where `tracking` corrected nothing it is returned as it is; and
    with a reason, where the offsets found are far beyond its jitter: then one crystal, coherently lit, does not
    explain the frames.

    Raises ScanError where scan, result and tracking do not belong together.
    """
    if len(tracking.angles_deg) != len(scan.intensity):
        raise ScanError(
            f"{scan.name}: {len(scan.intensity)} frames, but the tracking is of {len(tracking.angles_deg)}"
        )
    if not tracking.corrected:
        return tracking
    frames, lengths, centre = _placed(scan, result, tracking)
    have = frames.have
    grid, voxels = _finer(result, lengths, centre)
    smear = abs((scan.angular_blur_deg or 0.0) / tracking.step_deg)
    jitter = max(tracking.jitter_steps, _LEAST_JITTER)
    prior = Prior(jitter=jitter, shift=_SHIFT_PX, gain=_GAIN, smear_steps=smear)
    joint = Joint(frames.counts, frames.used, frames.nominal, frames.scale, grid=grid, prior=prior)
    fit = joint.solved(_scaled(joint, frames, voxels, tracking.found_steps[have] - frames.jumped), _ITERATIONS)
    moved = float(np.sqrt(np.mean(pinned(fit.motion[0], frames.nominal) ** 2)))
    if moved > _BEYOND * jitter:
        why = f"the object wants angles off by {moved:.2g} steps, the frames {jitter:.2g}: not refined with it"
        return replace(tracking, reason=f"{tracking.reason}; {why}")
    return _result(tracking, scan, frames, fit, _spread(joint, prior, frames, fit, seed))


def _placed(
    scan: RockingScan, result: Reconstruction, tracking: TrackingResult
) -> tuple[_Frames, tuple[float, float, float], tuple[float, float]]:
    """The frames of a box about the peak, the periods of the result's pattern in raw frames and pixels, and the
    pixel of the box that is at the pattern's middle."""
    have = np.isfinite(tracking.angles_deg)
    start, step = even_angles(scan.angles_deg, have)
    shape, middle = _middle(scan, result, step)
    mask, _ = scan_mask(scan, have)
    rows, columns = box_of(np.where(mask, 0, scan.intensity)[have])
    scale = np.ones(len(have)) if scan.monitor is None else monitor_scale(scan.monitor, have)[0]
    found = tracking.found_steps[have]
    jumped = np.where(np.abs(found) > _JUMP, found, 0.0)
    frames = _Frames(
        counts=np.asarray(scan.intensity[have][:, rows, columns], np.float64),
        used=~mask[have][:, rows, columns],
        nominal=(np.asarray(scan.angles_deg, np.float64)[have] - start) / step - middle[0] + jumped,
        jumped=jumped,
        scale=scale[have],
        have=have,
    )
    return frames, shape, (middle[1] - rows.start, middle[2] - columns.start)


def _middle(
    scan: RockingScan, result: Reconstruction, step_deg: float
) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
    """In raw frames and pixels: the periods of the result's pattern, and where its voxel n//2 is."""
    shape = result.density.shape
    if result.volume is None:
        if shape != scan.intensity.shape:
            raise ScanError(f"{scan.name}: frames are {scan.intensity.shape}, but the result is of {shape}")
        return _three(shape), _three([n // 2 for n in shape])
    binned = _binning(scan, result.volume, step_deg)
    # `centre` is of a block of raw voxels where the volume was binned
    return _three([n * by for n, by in zip(shape, binned)]), result.volume.centre


def _three(values: Sequence[float]) -> tuple[float, float, float]:
    return float(values[0]), float(values[1]), float(values[2])


def _binning(scan: RockingScan, volume: DiffractionVolume, step_deg: float) -> list[int]:
    raw = q_steps_invA(scan.geometry, step_deg, volume.centre[1], volume.centre[2])
    ratio = np.linalg.norm(volume.q_steps_invA, axis=0) / np.linalg.norm(raw, axis=0)
    return [max(1, round(float(value))) for value in ratio]


def _finer(
    result: Reconstruction, lengths: tuple[float, float, float], centre: tuple[float, float]
) -> tuple[Grid, Complex]:
    """The retrieved object on voxels `_FINER`, and its support: its transform, with nothing beyond."""
    shape = result.density.shape
    finer = [int(np.ceil(_FINER * n)) for n in shape]
    made, places = np.asarray(result.density, np.complex128), []
    for axis, (few, many) in enumerate(zip(shape, finer)):
        old, new = np.arange(few) - few // 2, np.arange(many) - many // 2
        there = np.exp(-2j * np.pi / few * np.outer(old, old)) / few
        back = np.exp(2j * np.pi / many * np.outer(new, old))
        made = np.moveaxis(np.tensordot(back @ there, made, (1, axis)), 0, axis)
        places.append(new * few / many + few // 2)
    inside = np.stack(np.meshgrid(*places, indexing="ij"))
    support = ndimage.map_coordinates(result.support.astype(np.float32), inside, order=1) > 0.5
    if not support.any():
        raise ScanError("the result has no support to refine angles with")
    box = ndimage.find_objects(support.astype(np.int8))[0]
    first = _three([each.start - many // 2 for each, many in zip(box, finer)])
    grid = Grid(
        support=support[box],
        first=(int(first[0]), int(first[1]), int(first[2])),
        lengths=_three([length * many / few for length, few, many in zip(lengths, shape, finer)]),
        centre=centre,
    )
    return grid, made[box][support[box]]


def _scaled(joint: Joint, frames: _Frames, voxels: Complex, offsets: Floats) -> Fit:
    start = Fit(voxels=voxels, motion=np.stack([offsets, *np.zeros((3, len(offsets)))]))
    light = float((joint.expected(start) - FLOOR)[frames.used].sum())
    if not light > 0:
        raise ScanError("the result has no object to refine angles with")
    return replace(start, voxels=voxels * np.sqrt(float(frames.counts[frames.used].sum()) / light))


def _spread(joint: Joint, prior: Prior, frames: _Frames, fit: Fit, seed: int) -> Floats:
    """Standard deviations of the motion (4, frames): the bound with the object known, times how much more fits to
    scans drawn from this one scatter about it, less shift and stretch.

    With the counts the place about which the prior wants the motion is drawn too. Of what is normal such fits
    scatter as the posterior does (Papandreou & Yuille 2010): a warp that the object could take on as well, which
    noise alone would not move, is as unsure as the prior leaves it.
    """
    known = np.sqrt(np.diagonal(joint.known(fit), axis1=1, axis2=2).T)
    random, expected, ratios = np.random.default_rng(seed), joint.expected(fit), []
    for _ in range(_DRAWS):
        about = fit.motion + random.normal(size=fit.motion.shape) / np.sqrt(prior.precision())
        again = joint.of(random.poisson(expected).astype(np.float64), about).solved(fit, _ITERATIONS)
        moved = [pinned(each, frames.nominal) for each in again.motion - fit.motion]
        ratios.append((moved / known) ** 2)
    ratio = ndimage.gaussian_filter1d(np.mean(ratios, axis=0), _ALIKE, axis=1, mode="nearest")
    return np.asarray(known * np.sqrt(np.maximum(1.0, ratio)), np.float64)


def _result(
    tracking: TrackingResult, scan: RockingScan, frames: _Frames, fit: Fit, spread: Floats
) -> TrackingResult:
    def whole(values: Floats) -> Floats:
        made = np.full((len(values), len(frames.have)), np.nan)
        made[:, frames.have] = values
        return made

    offsets, rows, columns = (pinned(each, frames.nominal) for each in fit.motion[:3])
    found = whole(np.stack([offsets + frames.jumped, rows, columns, np.exp(fit.motion[3])]))
    std = whole(spread)
    refined = replace(
        tracking,
        angles_deg=np.asarray(scan.angles_deg + tracking.step_deg * found[0], np.float64),
        offset_steps=found[0],
        found_steps=found[0],
        std_steps=std[0],
        gain=found[3],
        jitter_steps=float(np.sqrt(np.mean(offsets**2 + spread[0] ** 2))),
        reason=f"{tracking.reason}; refined with the object",
    )
    return with_shifts(scan, refined, found[1:3], std[1:3])

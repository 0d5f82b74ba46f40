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
_ROUND, _ROUNDS = 100, 4  # iterations, and how often frames are looked for at other angles
_ITERATIONS = 150
_GAIN = 0.01  # relative scatter of the intensity that the monitor does not show
_SHIFT_PX = 0.2  # how far a pattern lies, at a guess, from where it belongs on the detector
_BEYOND = 2.5  # times the jitter: one crystal, coherently lit, is no model of these frames
_LEAST_JITTER = 0.05  # steps: a prior that lets the frames speak
_DRAWS = (3, 5)  # from the posterior, for the sizes of the priors and for the error bars
_ALIKE = 4.0  # frames: how far about one the draws are averaged
_JUMP, _RARE = 1.0, 4.0  # steps and times the jitter: what stands farther off jitters about that place
_REACH, _PLACES = 3.0, 41  # times the jitter, and how many places there, where a frame is looked for
_FAR = 0.5  # steps: what is found farther off was in another minimum
_SIZES = np.geomspace(0.01, 2.0, 30)  # times the width of a prior
_BLUR, _LIT = 1.0, 0.2  # voxels, and of the largest: below it the object is noise


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
    frame that is more than a step, and four times that, off. The priors of shifts and gains are then made as wide
    as these scatter, the support is tightened about the object found, and all is fitted again. Error bars are of
    draws from the posterior of object and motion, with `seed`, and an allowance for what that second fit changed.
    Where `tracking` corrected nothing it is returned as it is; and with a reason, where the offsets found are far
    beyond its jitter: then one crystal, coherently lit, does not explain the frames.

    Raises ScanError where scan, result and tracking do not belong together.
    """
    if len(tracking.angles_deg) != len(scan.intensity):
        raise ScanError(
            f"{scan.name}: {len(scan.intensity)} frames, but the tracking is of {len(tracking.angles_deg)}"
        )
    if not tracking.corrected:
        return tracking
    frames, lengths, centre = _placed(scan, result, tracking)
    grid, voxels = _finer(result, lengths, centre)
    smear = abs((scan.angular_blur_deg or 0.0) / tracking.step_deg)
    jitter = max(tracking.jitter_steps, _LEAST_JITTER)
    prior = Prior(jitter=jitter, shift=_SHIFT_PX, gain=_GAIN, smear_steps=smear)
    offsets = tracking.found_steps[frames.have] - frames.jumped
    joint = _joint(frames, grid, prior)
    fit = _settled(joint, _scaled(joint, frames, voxels, offsets), prior)
    moved = float(np.sqrt(np.mean(pinned(fit.motion[0], frames.nominal) ** 2)))
    if moved > _BEYOND * jitter:
        why = f"the object wants angles off by {moved:.2g} steps, the frames {jitter:.2g}: not refined with it"
        return replace(tracking, reason=f"{tracking.reason}; {why}")
    random = np.random.default_rng(seed)
    drawn = joint.drawn(fit, _DRAWS[0], random)
    prior = _sized(fit, prior, frames, _spread(joint.known(fit), frames, drawn))
    grid, voxels = _tighter(grid, fit.voxels)
    joint = _joint(frames, grid, prior)
    better = joint.solved(replace(fit, voxels=voxels), _ITERATIONS)
    known, drawn = joint.known(better), joint.drawn(better, _DRAWS[1], random)
    changed = _spread(known, frames, (better.motion - fit.motion)[None])
    return _result(tracking, scan, frames, better, np.hypot(_spread(known, frames, drawn), changed))


def _joint(frames: _Frames, grid: Grid, prior: Prior) -> Joint:
    return Joint(frames.counts, frames.used, frames.nominal, frames.scale, grid=grid, prior=prior)


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
    jumped = np.where(np.abs(found) > max(_JUMP, _RARE * tracking.jitter_steps), found, 0.0)
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


def _settled(joint: Joint, fit: Fit, prior: Prior) -> Fit:
    """Object and motion in turn with a search for frames that this object explains far better elsewhere."""
    places = np.linspace(-_REACH, _REACH, _PLACES) * prior.jitter
    for _ in range(_ROUNDS):
        fit = joint.solved(fit, _ROUND)
        elsewhere = joint.sought(fit, places)
        if np.abs(elsewhere.motion[0] - fit.motion[0]).max() < _FAR:
            break
        fit = elsewhere
    return fit


def _sized(fit: Fit, prior: Prior, frames: _Frames, spread: Floats) -> Prior:
    """The priors of shifts and gains as wide as the frames show them to scatter: where there is nothing of the
    kind, room for it only makes the angles less sure."""
    rows, columns = (pinned(each, frames.nominal) for each in fit.motion[1:3])
    gains = fit.motion[3] - fit.motion[3].mean()
    shift = _width(np.stack([rows, columns]), spread[1:3], prior.shift)
    return replace(prior, shift=shift, gain=_width(gains, spread[3], prior.gain))


def _width(found: Floats, spread: Floats, width: float) -> float:
    """Of values with standard deviations `spread` under a prior of `width`: the mean of the likely widths, all
    alike beforehand on a scale of logarithms. Without that prior the values are `told`, with variance `noise`."""
    noise = 1 / np.maximum(spread**-2 - width**-2, 1e-3 * width**-2)
    told = found * noise / (noise * width**2 / (noise + width**2))
    variances = (_SIZES * width) ** 2
    each = [-0.5 * float((np.log(v + noise) + told**2 / (v + noise)).sum()) for v in variances]
    return float(np.sqrt(np.average(variances, weights=np.exp(np.array(each) - max(each)))))


def _tighter(grid: Grid, voxels: Complex) -> tuple[Grid, Complex]:
    """The support without what holds only noise, as by shrink-wrap (Marchesini et al. 2003)."""
    box = np.zeros(grid.support.shape, np.complex128)
    box[grid.support] = voxels
    light = ndimage.gaussian_filter(np.abs(box), _BLUR, mode="constant")
    support = grid.support & (light > _LIT * light.max())
    return replace(grid, support=support), box[support]


def _spread(known: Floats, frames: _Frames, moved: Floats) -> Floats:
    """Standard deviations (4, frames) of a motion that scatters as `moved` (number, 4, frames) does, less shift
    and stretch: those of the covariances `known`, of an object that is known, times how much more that is in the
    mean of the frames nearby, and not less."""
    single = np.sqrt(np.diagonal(known, axis1=1, axis2=2).T)
    pinned_down = np.array([[pinned(each, frames.nominal) for each in one] for one in moved])
    ratio = np.mean((pinned_down / single) ** 2, axis=0)
    smooth = ndimage.gaussian_filter1d(ratio, _ALIKE, axis=1, mode="nearest")
    return np.asarray(single * np.sqrt(np.maximum(1.0, smooth)), np.float64)


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

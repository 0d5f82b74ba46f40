"""How the crystal moved within one scan, from the frames themselves."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import linalg, ndimage

from ..cleaning import stale_frames
from ..preprocess import monitor_scale, scan_mask
from ..types import FrameArray, RockingScan, ScanError, TrackingResult
from .band import Band, Floats, band_of, cutoff_of
from .centroid import centroid
from .fit import Blocks, Knowledge, Look, evidences, knowledge, look, looks, posterior, without_gains
from .jumps import jumps
from .slips import slip

_BOX = 96  # pixels of the detector about the peak, at most
_BLOCK = 3  # pixels: an oversampled fringe is that wide
_MOST_BLOCKS = 600
_FEWEST_FRAMES = 12
_MOST_FRAMES = 500  # 20 to 100 s; the cost goes with the cube of their number
_ROUNDS, _SETTLED = 4, 0.1  # at most; until angles change by less of their error bars, root mean square
_MOST_TERMS = 0.6  # of the frames: of crystals that are oversampled less than four times still ones seem to move
_BLUR = (1.0, 0.7, 0.7)  # of the variance, frames and blocks: counts are no weight for themselves
_JITTERS = tuple(np.geomspace(0.02, 2.0, 13))  # steps, root mean square
_MEMORIES = (0.0, 0.5, 0.9, 0.98)  # correlation of a frame's offset with the one before
_GAINS = (0.003, 0.02, 0.1)  # relative scatter of the intensity that the monitor does not show
_LIKELY = 5.0  # logarithm of the evidence: 150 to 1
_DRAWS = 8
_ROUGH = 0.2  # cycles a step, at most: frames out of order look like fine fringes
_CLEARLY = 0.3  # steps of jitter that are worth correcting in any case
_RETRIES = 4
_TRUSTED = 1.0  # steps: beyond it the model, linear about each angle, is not


@dataclass(frozen=True, kw_only=True, slots=True)
class _Motion:
    """Offsets in steps and gains, (2 frames,), their covariance, and what explains them."""

    mean: Floats
    covariance: Floats
    jitter: float
    memory: float
    evidence: float


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Found:
    """What moved within a scan, before it is decided whether that is to be corrected."""

    angles_deg: Floats
    have: NDArray[np.bool_]
    step_deg: float
    cutoff: float
    displaced: tuple[Floats, Floats]
    places: tuple[Floats, ...]
    blocks: Blocks
    nominal: Floats
    band: Band
    still: Look
    motion: _Motion
    model: "_Model"

    def undecided(self) -> TrackingResult:
        """With the angles, and nothing corrected but frames that were displaced."""
        return _result(self, corrected=False, reason="motion, if it is any, is being tested")

    def decided(self, seed: int) -> TrackingResult:
        corrected, reason = _decide(
            self.blocks, self.nominal, self.band, (self.still, self.motion, self.model), seed
        )
        return _result(self, corrected=corrected, reason=reason)


def track_scan(scan: RockingScan, *, cutoff: float | None = None, seed: int = 0) -> TrackingResult:
    """Where the crystal stood in each frame (`TrackingResult`), for scans whose motor tells the angles roughly.

    Each frame is a slice through a volume that is band-limited along the rocking axis: `cutoff` cycles a step, the
    crystal's extent over that of the rocking axis, measured where it is not given. The angles are those at which
    such a volume fits best, with a prior of a random walk that returns to the file's angle, whose size and memory
    are those of highest evidence. Frames that are a step off and more, as those out of order, and all that follow
    on a slip of the crystal, are brought near first. The angles count as corrected where there are such frames, or
    where that evidence is strong, and above that of eight scans drawn, with `seed`, from the model of a crystal
    that stands still; below 0.3 step also only where scans drawn with the motion that was found would gain by it.
    A slow warp is found and not corrected.

    Raises ScanError for scans with few frames or more than 500, without counts, or of a crystal that the steps do
    not oversample.
    """
    return look_at(scan, cutoff=cutoff).decided(seed)


def look_at(scan: RockingScan, *, cutoff: float | None = None) -> "Found":
    """What `track_scan` finds before it decides what is to be corrected. Raises ScanError as that does."""
    have = np.ones(len(scan.intensity), bool) if scan.have is None else np.asarray(scan.have, bool)
    scale, have = (np.ones(len(have)), have) if scan.monitor is None else monitor_scale(scan.monitor, have)
    have = have & np.isfinite(scan.angles_deg) & ~stale_frames(scan)
    if np.count_nonzero(have) < _FEWEST_FRAMES:
        raise ScanError(f"{scan.name}: tracking needs at least {_FEWEST_FRAMES} frames with beam and angle")
    if (frames := np.count_nonzero(have)) > _MOST_FRAMES:
        raise ScanError(
            f"{scan.name}: {frames} frames are more than the {_MOST_FRAMES} that tracking takes, as its time grows"
            " with the cube of their number; track those about the peak"
        )
    angles = np.asarray(scan.angles_deg, np.float64)
    step_deg = float(np.median(np.diff(angles[have])))
    if step_deg == 0:
        raise ScanError(f"{scan.name}: the rocking angle stands still")
    nominal = (angles[have] - np.median(angles[have])) / step_deg
    mask, _ = scan_mask(scan, have)
    rows, columns = box_of(np.where(mask, 0, scan.intensity)[have])
    blocks = _blocks(scan.intensity[have][:, rows, columns], ~mask[have][:, rows, columns], scale[have])
    rough = min(cutoff_of(blocks.counts), _ROUGH) if cutoff is None else cutoff
    slipped, jumped = _displaced(blocks, nominal, rough)
    nominal = nominal + slipped
    in_order = np.argsort(nominal + jumped, kind="stable")
    cutoff = cutoff_of(blocks.counts[in_order]) if cutoff is None else cutoff
    band = band_of(nominal, cutoff)
    if band.terms > _MOST_TERMS * len(nominal):
        raise ScanError(
            f"{scan.name}: the rocking steps are too coarse for this crystal to tell motion; halve them"
        )
    nominal = nominal + jumped
    still = look(blocks, nominal, np.ones(len(nominal)), band)
    motion, model = _moved(blocks, nominal, band, still)
    places = _places(scan.intensity[:, rows, columns], mask[:, rows, columns], (rows.start, columns.start))
    return Found(
        angles_deg=angles,
        have=have,
        step_deg=step_deg,
        cutoff=cutoff,
        displaced=(slipped, jumped),
        places=places,
        blocks=blocks,
        nominal=nominal,
        band=band,
        still=still,
        motion=motion,
        model=model,
    )


def box_of(counts: FrameArray) -> tuple[slice, slice]:
    """Rows and columns about the peak of the summed frames, multiples of a block."""
    image = ndimage.uniform_filter(counts.sum(axis=0, dtype=np.float64), 5)
    if not image.max() > 0:
        raise ScanError("the scan has no counts outside its mask; check the detector and the bad pixels")
    found = []
    for length, peak in zip(image.shape, np.unravel_index(int(image.argmax()), image.shape)):
        size = min(length, _BOX) // _BLOCK * _BLOCK
        start = int(np.clip(peak - size // 2, 0, length - size))
        found.append(slice(start, start + size))
    return found[0], found[1]


def _blocks(counts: FrameArray, used: NDArray[np.bool_], scale: Floats) -> Blocks:
    """The brightest blocks of the box, their frames scaled to one monitor reading; a masked pixel ends a block's
    use in that frame."""
    shape = (len(counts), counts.shape[1] // _BLOCK, _BLOCK, counts.shape[2] // _BLOCK, _BLOCK)
    summed = np.where(used, counts, 0).astype(np.float64).reshape(shape).sum(axis=(2, 4)) * scale[:, None, None]
    good = used.reshape(shape).all(axis=(2, 4))
    filled = ndimage.gaussian_filter(np.where(good, summed, 0), _BLUR)
    smooth = filled / np.maximum(ndimage.gaussian_filter(good.astype(np.float64), _BLUR), 1e-3)
    flat = len(counts), -1
    total = np.where(good.sum(axis=0) > len(counts) // 2, smooth.sum(axis=0), 0).ravel()
    pick = np.argsort(total)[::-1][:_MOST_BLOCKS]
    pick = pick[total[pick] > 0]
    return Blocks(
        counts=summed.reshape(flat)[:, pick],
        used=np.asarray(good).reshape(flat)[:, pick],
        variance=np.asarray(smooth).reshape(flat)[:, pick] * scale[:, None],
        scale=scale,
    )


def _displaced(blocks: Blocks, nominal: Floats, cutoff: float) -> tuple[Floats, Floats]:
    """By how many steps a slip of the crystal moved the frames, and by how many each jumped. Frames about a slip
    may look as if they jumped: it counts if fewer do then, or if there is one in spite of them."""
    walks, band = [_walk(len(nominal), memory) for memory in _MEMORIES], band_of(nominal, cutoff)
    jumped = jumps(blocks.counts, blocks.used, nominal, cutoff)
    if band.terms > _MOST_TERMS * len(nominal):
        return np.zeros(len(nominal)), jumped
    slipped = slip(blocks, nominal, band, walks)
    if slipped.any():
        again = jumps(blocks.counts, blocks.used, nominal + slipped, cutoff)
        if not jumped.any() or np.count_nonzero(again) < np.count_nonzero(jumped):
            return slipped, again
    if not jumped.any():
        return np.zeros(len(nominal)), jumped
    return slip(blocks, nominal + jumped, band, walks), jumped


def _slip_told(slipped: Floats, frames: NDArray[np.intp]) -> str:
    """The largest of its steps."""
    steps = np.diff(slipped) - np.median(np.diff(slipped))
    largest = int(np.abs(steps).argmax())
    return f"the crystal slips by {steps[largest]:.1f} steps before frame {frames[largest + 1]}"


def _prior(frames: int, jitter: float, memory: float, gain: float) -> Floats:
    """Covariance of offsets and gains: the walk delta_k = memory delta_(k-1) + noise, and independent gains."""
    return np.asarray(linalg.block_diag(jitter**2 * _walk(frames, memory), gain**2 * np.eye(frames)), np.float64)


def _walk(frames: int, memory: float) -> Floats:
    """Covariance of a walk of variance 1."""
    return np.asarray(linalg.toeplitz(memory ** np.arange(frames)), np.float64)


def _explained(known: Knowledge) -> _Motion:
    """The posterior under the prior of highest evidence; the evidence is over that of a still crystal. One
    eigensystem serves all sizes of the jitter: the gains, which are independent, are integrated out first."""
    frames, still, tried = len(known.vector) // 2, -np.inf, []
    for gain in _GAINS:
        told, alone = without_gains(known, gain)
        still = max(still, alone)
        for memory in _MEMORIES:
            evidence = alone + evidences(told, _walk(frames, memory), np.square(_JITTERS))
            tried += [(value, jitter, memory, gain) for value, jitter in zip(evidence.tolist(), _JITTERS)]
    evidence, jitter, memory, gain = max(tried)
    mean, covariance, _ = posterior(known, _prior(frames, jitter, memory, gain))
    return _Motion(mean=mean, covariance=covariance, jitter=jitter, memory=memory, evidence=evidence - still)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Model:
    """The counts `expected` of a crystal whose offsets and gains are `here`, (2 frames,)."""

    here: Floats
    expected: Floats


def _moved(blocks: Blocks, nominal: Floats, band: Band, still: Look) -> tuple[_Motion, _Model]:
    """The motion, and the model that fits as well as it; `still` is the look at the nominal angles."""
    frames, here, seen = len(nominal), np.zeros(2 * len(nominal)), still
    for number in range(_ROUNDS):
        if number:
            seen = look(blocks, nominal + here[:frames], 1 + here[frames:], band)
        motion = _explained(knowledge(seen, here))
        model, here = _Model(here=here, expected=seen.expected), _trusted(motion.mean, nominal)
        change = (here - model.here)[:frames] ** 2 / np.diag(motion.covariance)[:frames]
        if change.mean() < _SETTLED**2:
            break
    return replace(motion, mean=here), model


def _trusted(found: Floats, nominal: Floats) -> Floats:
    frames, here = len(nominal), np.clip(found, -_TRUSTED, _TRUSTED)
    here[:frames] = pinned(here[:frames], nominal)
    return here


def pinned(offsets: Floats, nominal: Floats) -> Floats:
    """Less shift and stretch, which the frames do not show."""
    slope, shift = np.polyfit(nominal, offsets, 1)
    return np.asarray(offsets - slope * nominal - shift)


def _decide(
    blocks: Blocks, nominal: Floats, band: Band, found: tuple[Look, _Motion, _Model], seed: int
) -> tuple[bool, str]:
    """`found` are the look at the nominal angles and what came of it."""
    look_still, motion, moved = found
    if motion.evidence < _LIKELY:
        return False, f"no motion seen: log evidence {motion.evidence:.1f}, {_LIKELY:g} is asked for"
    still = _Model(here=np.zeros(2 * len(nominal)), expected=look_still.expected)
    drawn = _drawn(blocks, nominal, band, (still, _DRAWS), np.random.default_rng(seed))
    most = max(each.evidence for each in drawn)
    compared = f"log evidence {motion.evidence:.1f}, at most {most:.1f} in {_DRAWS} scans drawn of a still crystal"
    if motion.evidence <= most:
        return False, f"no motion: {compared}"
    if motion.memory == max(_MEMORIES):
        return False, (
            f"a slow warp of {motion.jitter:.2f} steps: the crystal's shape, background and partial coherence "
            "look like it"
        )
    if motion.jitter < _CLEARLY:
        left = _left(blocks, nominal, band, moved, seed)
        if left >= 1:
            return False, f"motion seen, but correcting it would multiply the angles' error by {left:.1f}"
    return True, f"motion seen: {compared}"


def _left(blocks: Blocks, nominal: Floats, band: Band, moved: _Model, seed: int) -> float:
    """By what correction would multiply the error of the angles, were the motion what was found: scans are drawn
    from its model and tracked. Root mean squares, by counts."""
    true, light = moved.here[: len(nominal)], blocks.counts.sum(axis=1)
    drawn = _drawn(blocks, nominal, band, (moved, _RETRIES), np.random.default_rng([seed, 1]))
    wrong = [(_trusted(each.mean, nominal)[: len(nominal)] - true) ** 2 for each in drawn]
    before = float(np.average(true**2, weights=light))
    return float(np.sqrt(np.average(np.mean(wrong, axis=0), weights=light) / max(before, 1e-12)))


def _drawn(
    blocks: Blocks, nominal: Floats, band: Band, of: tuple[_Model, int], random: np.random.Generator
) -> list[_Motion]:
    """What is found in scans drawn from a model, so many: the last of the rounds, from the truth, as what is far
    from it is not corrected by draws."""
    (model, number), frames = of, len(nominal)
    counts = [blocks.drawn(model.expected, random) for _ in range(number)]
    seen = looks(blocks, counts, nominal + model.here[:frames], 1 + model.here[frames:], band)
    return [_explained(knowledge(each, model.here)) for each in seen]


def _places(counts: FrameArray, mask: NDArray[np.bool_], corner: tuple[int, int]) -> tuple[Floats, ...]:
    kept = np.where(mask, 0, counts).astype(np.float64)
    return (*centroid(kept.sum(axis=2), corner[0]), *centroid(kept.sum(axis=1), corner[1]))


def _result(seen: Found, *, corrected: bool, reason: str) -> TrackingResult:
    have, motion, places = seen.have, seen.motion, seen.places
    frames = int(np.count_nonzero(have))

    def spread(values: Floats) -> Floats:
        whole = np.full(len(have), np.nan)
        whole[have] = values
        return whole

    slipped, jumped = seen.displaced
    found = spread(slipped + jumped + motion.mean[:frames])
    offset = found if corrected else spread(slipped + jumped)
    if jumped.any():
        reason = f"{np.count_nonzero(jumped)} frames stand a step or more from the file's angle; {reason}"
    if slipped.any():
        reason = f"{_slip_told(slipped, np.flatnonzero(have))}; {reason}"
    return TrackingResult(
        angles_deg=np.where(have, seen.angles_deg + seen.step_deg * offset, np.nan),
        offset_steps=offset,
        found_steps=found,
        std_steps=spread(np.sqrt(np.diag(motion.covariance)[:frames])),
        gain=spread(1 + motion.mean[frames:]),
        row=places[0],
        row_std=places[1],
        column=places[2],
        column_std=places[3],
        step_deg=seen.step_deg,
        cutoff=seen.cutoff,
        jitter_steps=motion.jitter,
        log_evidence=motion.evidence,
        corrected=corrected or bool(jumped.any() or slipped.any()),
        reason=reason,
    )

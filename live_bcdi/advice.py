"""What to change in a scan, and why: rules on measured facts, the worst first. No clock, no files, no sockets.

Each threshold is argued where it stands. Where a rule speaks of fringes, it takes the crystal for a slab, whose
curve is (sin x / x)^2: zeros 2.26 half-widths apart, first fringe 4.7 % of the peak, third 0.8 %.
"""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from .types import BoolArray, FloatArray

Level = Literal["error", "warning", "info"]
LEVELS: tuple[Level, ...] = ("error", "warning", "info")

# The retrieval masks frames with less than this share of the median monitor (`preprocess.monitor_scale`).
BEAM_LOST = 0.1
# Without a monitor: two frames and more with a hundredth of what is beside them. Between two fringes that are
# sampled at all, one frame alone can be so dark.
DARK, DARK_FRAMES, DARK_BESIDE_COUNTS = 0.01, 2, 100.0
STANDS_OUT = 5.0  # standard deviations of counting noise
# A peak has been passed on a side where it came down to a tenth and nothing higher follows for five half-widths:
# after a fringe, which is half as wide as the peak, the next one towards the peak would have. (Of one that begins
# above its half, the width is not known.)
FELL, PASSED_HALF_WIDTHS = 0.1, 5.0
CUT_OFF = 0.05  # of the peak: the first fringe is not within the range
WANTED_HALF_WIDTHS = 7.0  # hold three fringes
OFF_CENTRE = 0.25  # of the range, or of the region: a sixth costs nothing (docs/success.md, "off-centre")
# At the rim of a region that holds less than three fringes: such an image has seven points across the crystal.
RIM = 0.01
# Below 2, phases are not determined; docs/success.md measures from 3 on.
LEAST_OVERSAMPLING, GOOD_OVERSAMPLING = 2.0, 3.0
# Strain by the asymmetry of the pattern, which is about 0.02, 0.07 and 0.15 for the three kinds there
# (`phasing.automatic.Traits`), and counts by how many of 20 crystals were found with them.
WEAK, STRONG = 0.04, 0.1
NEEDED = {
    "weak": (1e4, "with 1e4 counts 19 of 20 such simulated crystals were found, and fewer were not tried"),
    "medium": (1e5, "with 1e4 counts 9 of 20 such simulated crystals were found, with 1e5 19"),
    "strong": (1e6, "with 1e5 counts 4 of 20 such simulated crystals were found, with 1e6 18"),
}
# Of 14 simulated scans with 2e6 photons, weak and strong strain, no chi of a start was over 1.04 times the best,
# and no first mode below 0.99; of 7 strongly strained ones with 1e5, of which one in five is found, 3 and 4 were
# beyond these. S0054 has 1.01 and 0.989.
CHI_RATIO, FIRST_MODE = 1.06, 0.98
COARSE_RESOLUTION = 3.0  # times what the measured range allows; S0054 has 2 by its worst figure


@dataclass(frozen=True, kw_only=True, slots=True)
class Advice:
    """One sentence of `what` to do, and `why`, with the numbers. `rule` names it for programs."""

    rule: str
    level: Level
    what: str
    why: str


@dataclass(frozen=True, kw_only=True, slots=True)
class PatternFacts:
    """What a pattern shows before it is retrieved (`phasing.automatic.Traits`)."""

    counts: float
    oversampling: tuple[float, float, float]
    asymmetry: float


@dataclass(frozen=True, kw_only=True, slots=True)
class ScanFacts:
    """A scan so far. `angles_deg`, `totals` (counts of each frame), `monitor` (NaN where there is none) and `have`
    have one value a planned frame; `peak` is (row, column) of the brightest pixel of a detector of `shape`, and
    `rim_counts` the highest count at the region's rim, a single hot pixel apart. `ended` is after a stop; a scan
    that was aborted has not had its planned end.
    """

    angles_deg: FloatArray
    totals: FloatArray
    have: BoolArray
    monitor: FloatArray
    planned_deg: tuple[float, float]
    shape: tuple[int, int]
    peak: tuple[int, int]
    peak_counts: float
    rim_counts: float
    saturated: int = 0
    saturation_counts: float | None = None
    ended: bool = False
    pattern: PatternFacts | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class ResultFacts:
    """A refined result: `resolution_nm` is the largest of the figures for where its phases cease to be reproduced,
    `limit_nm` the full period at the end of what was measured, `first_mode` the weight of what its starts have in
    common; NaN where not known."""

    pattern: PatternFacts
    chi_starts: tuple[float, ...] = ()
    first_mode: float = math.nan
    resolution_nm: float = math.nan
    limit_nm: float = math.nan


@dataclass(frozen=True, kw_only=True, slots=True)
class Curve:
    """A rocking curve's peak above its lowest frame: `centre_deg` and `half_width_deg` at half of it, and what is
    left of it at its two ends; `fell` says on which sides, below and above, it has been passed."""

    centre_deg: float
    half_width_deg: float
    low_deg: float
    high_deg: float
    low_share: float
    high_share: float
    fell: tuple[bool, bool]


def advise_scan(facts: ScanFacts) -> tuple[Advice, ...]:
    """What a scan's frames say, while it runs and in the end; the worst first."""
    said = [_saturated(facts), _beam(facts), _no_peak(facts), _rim(facts), _off_region(facts)]
    curve = curve_of(facts)
    if curve is not None:
        said += _range(facts, curve)
        if all(curve.fell) and facts.pattern is not None:
            said += advise_pattern(facts.pattern)
    return _sorted(said)


def advise_result(facts: ResultFacts) -> tuple[Advice, ...]:
    """What a retrieval says of its scan, and of itself; the worst first."""
    return _sorted([*advise_pattern(facts.pattern), _scatter(facts), _resolution(facts)])


def advise_pattern(pattern: PatternFacts) -> list[Advice | None]:
    """What a whole pattern says of the step, the distance and the exposure."""
    return [_step(pattern), _distance(pattern), _counts(pattern)]


def _sorted(said: list[Advice | None]) -> tuple[Advice, ...]:
    return tuple(sorted((each for each in said if each), key=lambda each: LEVELS.index(each.level)))


def curve_of(facts: ScanFacts) -> Curve | None:
    """The rocking curve's peak; None before it stands out of the counting noise."""
    order = np.argsort(facts.angles_deg[facts.have], kind="stable")
    angles, totals = facts.angles_deg[facts.have][order], facts.totals[facts.have][order]
    if len(totals) < 3 or not _stands_out(totals):
        return None
    signal = (totals - totals.min()) / np.ptp(totals)
    top = int(np.argmax(signal))
    low, high = _run_above(signal, top, 0.5)
    part = slice(low, high + 1)
    step = float(angles[-1] - angles[0]) / (len(angles) - 1)
    half_width = max(float(angles[high] - angles[low] + step) / 2, step)
    passed = PASSED_HALF_WIDTHS * half_width
    return Curve(
        centre_deg=float(np.average(angles[part], weights=signal[part])),
        half_width_deg=half_width,
        low_deg=float(angles[0]),
        high_deg=float(angles[-1]),
        low_share=_share_at(totals, 0),
        high_share=_share_at(totals, -1),
        fell=(
            bool((signal[:top] < FELL).any() and angles[top] - angles[0] > passed and high < len(signal) - 1),
            bool((signal[top:] < FELL).any() and angles[-1] - angles[top] > passed and low > 0),
        ),
    )


def _share_at(totals: NDArray[np.floating], at: int) -> float:
    """Of the peak; 0 where what is there is counting noise."""
    excess = float(totals[at] - totals.min())
    return excess / float(np.ptp(totals)) if excess > STANDS_OUT * math.sqrt(max(float(totals[at]), 1.0)) else 0.0


def _stands_out(totals: NDArray[np.floating]) -> bool:
    return bool(np.ptp(totals) > STANDS_OUT * math.sqrt(max(float(np.max(totals)), 1.0)))


def _run_above(signal: NDArray[np.floating], top: int, level: float) -> tuple[int, int]:
    """First and last index of the run above `level` that holds `top`."""
    below = np.flatnonzero(signal < level)
    return int(below[below < top].max(initial=-1)) + 1, int(below[below > top].min(initial=len(signal))) - 1


def _saturated(facts: ScanFacts) -> Advice | None:
    if not facts.saturated or facts.saturation_counts is None:
        return None
    return Advice(
        rule="saturated",
        level="warning",
        what="Attenuate the beam, or shorten the exposure, and measure again.",
        why=f"{_number_of(facts.saturated, 'pixel')} reached the detector's limit of {facts.saturation_counts:.3g}"
        " counts. They are left out, and the peak's middle holds most of the crystal's shape.",
    )


def _beam(facts: ScanFacts) -> Advice | None:
    """Frames without beam: by the monitor where there is one, else by a hole in the curve."""
    known = facts.have & np.isfinite(facts.monitor)
    if known.any() and np.median(facts.monitor[known]) > 0:
        lost = known & (facts.monitor < BEAM_LOST * np.median(facts.monitor[known]))
        seen = f"the monitor had less than {BEAM_LOST:.0%} of its median"
    else:
        lost = _dark(facts)
        seen = f"they have less than {DARK:.0%} of the counts beside them"
    if not lost.any():
        return None
    frames = np.flatnonzero(lost)
    return Advice(
        rule="beam",
        level="error" if lost[np.flatnonzero(facts.have)[-1]] and not facts.ended else "warning",
        what="Look at the shutter, the ring and the beam's position; measure these angles again.",
        why=f"{_number_of(len(frames), 'frame')} (first {frames[0]}, last {frames[-1]}) without beam: {seen}.",
    )


def _dark(facts: ScanFacts) -> BoolArray:
    """Runs of frames far darker than both what is before and what is after them, if anything is."""
    there = np.flatnonzero(facts.have)
    totals = facts.totals[there]
    dark = np.zeros(len(facts.have), bool)
    at = 1
    while at < len(totals):
        limit = DARK * totals[at - 1]
        end = at
        while end < len(totals) and totals[end] < limit:
            end += 1
        returned = end == len(totals) or totals[end] > DARK_BESIDE_COUNTS
        if end - at >= DARK_FRAMES and totals[at - 1] > DARK_BESIDE_COUNTS and returned:
            dark[there[at:end]] = True
        at = max(end, at + 1)
    return dark


def _no_peak(facts: ScanFacts) -> Advice | None:
    totals = facts.totals[facts.have]
    if not facts.ended or not len(totals) or _stands_out(totals):
        return None
    return Advice(
        rule="no_peak",
        level="error",
        what="Find the Bragg peak first: align, or scan a wider range.",
        why=f"No frame stands out of the counting noise: {totals.min():.3g} to {totals.max():.3g} counts a frame.",
    )


def _range(facts: ScanFacts, curve: Curve) -> list[Advice | None]:
    """The planned range against the curve."""
    cut = [_cut_off(facts, curve, above=above) for above in (False, True)]
    return [*cut, None if any(cut) else _off_range(facts, curve)]


def _cut_off(facts: ScanFacts, curve: Curve, *, above: bool) -> Advice | None:
    """An end of the range within the peak; said once it is known how high the peak is."""
    share, end = (curve.high_share, curve.high_deg) if above else (curve.low_share, curve.low_deg)
    planned = max(facts.planned_deg) if above else min(facts.planned_deg)
    step = abs(facts.planned_deg[1] - facts.planned_deg[0]) / max(len(facts.have) - 1, 1)
    is_its_end = abs(end - planned) < 1.5 * step
    if share < CUT_OFF or not is_its_end or not (facts.ended or curve.fell[not above]):
        return None
    side = "above" if above else "below"
    reach, other = (
        abs(end - curve.centre_deg),
        abs((curve.low_deg if above else curve.high_deg) - curve.centre_deg),
    )
    more = max(WANTED_HALF_WIDTHS * curve.half_width_deg, other) - reach
    return Advice(
        rule=f"cut_off_{side}",
        level="warning",
        what=f"Extend the range by {_up(max(more, curve.half_width_deg))} deg {side} {planned:.4g} deg.",
        why=f"There the rocking curve still has {share:.0%} of its peak (at {curve.centre_deg:.4g} deg, half-width"
        f" {curve.half_width_deg:.2g} deg): what is beyond is missing in the image.",
    )


def _off_range(facts: ScanFacts, curve: Curve) -> Advice | None:
    low, high = sorted(facts.planned_deg)
    off = curve.centre_deg - (low + high) / 2
    if not (facts.ended or all(curve.fell)) or abs(off) <= OFF_CENTRE * (high - low):
        return None
    return Advice(
        rule="off_range",
        level="info",
        what=f"Centre the next scan at {curve.centre_deg:.4g} deg.",
        why=f"The peak is {abs(off):.2g} deg off the middle of {low:.4g} to {high:.4g} deg, more than"
        f" {OFF_CENTRE:.0%} of it: one side of the pattern is measured less far.",
    )


def _rim(facts: ScanFacts) -> Advice | None:
    share = facts.rim_counts / facts.peak_counts if facts.peak_counts > 0 else 0.0
    if share < RIM or facts.rim_counts < DARK_BESIDE_COUNTS:
        return None
    return Advice(
        rule="region",
        level="warning",
        what="Take a larger region of the detector, or come closer with it.",
        why=f"At the region's rim there are still {facts.rim_counts:.3g} counts, {share:.1%} of the peak: less"
        " than three fringes fit, and the image is as coarse.",
    )


def _off_region(facts: ScanFacts) -> Advice | None:
    moves = [place - edge // 2 for place, edge in zip(facts.peak, facts.shape)]
    shares = [abs(move) / edge for move, edge in zip(moves, facts.shape)]
    if max(shares) <= OFF_CENTRE or facts.peak_counts < DARK_BESIDE_COUNTS:
        return None
    return Advice(
        rule="off_region",
        level="info",
        what=f"Move the peak by {-moves[0]} rows and {-moves[1]} columns, to the middle of the region.",
        why=f"It is at row {facts.peak[0]}, column {facts.peak[1]} of {facts.shape[0]} × {facts.shape[1]}, more"
        f" than {OFF_CENTRE:.0%} off the middle: one side of the pattern is measured less far.",
    )


def _step(pattern: PatternFacts) -> Advice | None:
    value = pattern.oversampling[0]
    if value >= GOOD_OVERSAMPLING:
        return None
    coarse = value < LEAST_OVERSAMPLING
    return Advice(
        rule="step",
        level="error" if coarse else "info",
        what="Halve the rocking step." if coarse else "Take finer rocking steps: two thirds of these.",
        why=f"Oversampling along the rocking axis is {value:.1f}: "
        + (
            "below 2, phases are not determined."
            if coarse
            else "above 2, but success was measured from 3 on only."
        ),
    )


def _distance(pattern: PatternFacts) -> Advice | None:
    value, axis = min(zip(pattern.oversampling[1:], ("rows", "columns")))
    if value >= LEAST_OVERSAMPLING:
        return None
    return Advice(
        rule="distance",
        level="error",
        what=f"Move the detector {_up(GOOD_OVERSAMPLING / value)} times as far away.",
        why=f"Oversampling along the {axis} is {value:.1f}: below 2, phases are not determined.",
    )


def _counts(pattern: PatternFacts) -> Advice | None:
    strain = "weak" if pattern.asymmetry < WEAK else "medium" if pattern.asymmetry < STRONG else "strong"
    needed, found = NEEDED[strain]
    if pattern.counts >= needed / 2:  # the table's steps are of ten: this is nearer to the good one
        return None
    return Advice(
        rule="counts",
        level="warning",
        what=f"Count {_up(needed / max(pattern.counts, 1.0))} times as long, or sum repeats of the scan.",
        why=f"{pattern.counts:.2g} counts in all and {strain} strain (asymmetry {pattern.asymmetry:.2f}):"
        f" {found}.",
    )


def _scatter(facts: ResultFacts) -> Advice | None:
    chis = [chi for chi in facts.chi_starts if math.isfinite(chi)]
    ratio = max(chis) / min(chis) if len(chis) > 1 and min(chis) > 0 else 1.0
    if ratio <= CHI_RATIO and not facts.first_mode < FIRST_MODE:
        return None
    mode = "" if math.isnan(facts.first_mode) else f", and the first mode weighs {facts.first_mode:.1%} of them"
    return Advice(
        rule="scatter",
        level="warning",
        what="Do not trust this result yet: refine it with more starts, or measure again.",
        why=f"Its starts do not agree: χ of the worst is {ratio:.2f} times the best{mode}; where crystals were"
        f" found, it was below {CHI_RATIO:g} and the mode above {FIRST_MODE:.0%}.",
    )


def _resolution(facts: ResultFacts) -> Advice | None:
    if not facts.resolution_nm > COARSE_RESOLUTION * facts.limit_nm:
        return None
    return Advice(
        rule="resolution",
        level="info",
        what="For a finer image count longer: a wider range or region adds nothing.",
        why=f"Phases are reproduced down to {facts.resolution_nm:.3g} nm; what was measured reaches to"
        f" {facts.limit_nm:.3g} nm.",
    )


def _number_of(count: int, thing: str) -> str:
    return f"{count} {thing}{'' if count == 1 else 's'}"


def _up(value: float) -> str:
    """Two digits, never less than `value`."""
    power = 10.0 ** (math.floor(math.log10(value)) - 1)
    return f"{math.ceil(value / power - 1e-9) * power:.6g}"

"""From a rocking scan to a crystal with strain. The same call serves the command line and the services."""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from time import monotonic

import numpy as np
from threadpoolctl import threadpool_limits

from .cleaning import without_dark
from .combine import Summed, sum_volumes
from .config import Config, CrystalConfig, Preprocessing
from .metadata import scan_metadata
from .phasing import InitialGuess, Pattern, Plan, agreement, phase_pattern
from .phasing.align import with_ramp, without_ramp
from .phasing.automatic import binning
from .phasing.kernels_numpy import Object
from .preprocess import Report, as_set, prepare
from .reflection import with_material
from .strain import lab_image, with_spread
from .tracking.outliers import ScanFacts, left_out, scan_facts, unusable
from .tracking.regrid import regrid
from .tracking.scan import track_scan
from .types import DiffractionVolume, FloatArray, LabImage, Reconstruction, RockingScan, ScanError

Progress = Callable[[float, str], None]


# Seconds a voxel from the aligned starts to the lab image: 0.7 s at 128^3 with 3 starts on one core.
_AFTERWARDS_S = 4e-7
_PREPROCESSING = Preprocessing()
_CRYSTAL = CrystalConfig()
_PLAN = Plan()


def reconstruct(
    scan: RockingScan | Sequence[RockingScan],
    plan: Plan = _PLAN,
    *,
    preprocessing: Preprocessing = _PREPROCESSING,
    crystal: CrystalConfig = _CRYSTAL,
    progress: Progress | None = None,
) -> Reconstruction:
    """Preprocess, phase, align, orthogonalise, strain; deterministic for a scan and a plan without a budget.

    Several scans are repeats of one, and summed (`combine.sum_volumes`). A budget is that of all this: what
    preprocessing took and what the way to the lab frame is expected to take is left to phasing. `progress` is told
    the share done and a line about it; `preprocessing.dark` is not looked at (`cleaning.without_dark`). Raises
    ScanError as its parts do.
    """
    began_s = monotonic()
    tell = progress or (lambda share, text: None)
    scans = [scan] if isinstance(scan, RockingScan) else list(scan)
    origin = provenance(*scans)
    volume, done_to_it = prepared(scans, preprocessing)
    origin |= done_to_it | {"preprocessing": preprocessing.model_dump_json(), "crystal": crystal.model_dump_json()}
    tell(0.05, "; ".join(done_to_it.values()).replace("\n", "; "))
    pattern = Pattern(intensity=volume.intensity, mask=volume.mask)
    plan = _of_what_is_left(plan, began_s, volume.intensity.size)
    result, aligned = phase_pattern(pattern, plan, lambda share, text: tell(0.05 + 0.85 * share, text))
    result = replace(result, volume=volume, provenance={**origin, **result.provenance})
    if not aligned:
        return result
    agreed, resolution = agreement.consensus(aligned, volume.intensity, volume.mask, volume.q_steps_invA)
    tell(0.95, "orthogonalising")
    lab = _in_the_lab(result, aligned, volume, crystal)
    done = replace(result, lab=lab, resolution=resolution, agreement=agreed)
    tell(1.0, done.outcome.value)
    return done


def _of_what_is_left(plan: Plan, began_s: float, voxels: int) -> Plan:
    """The plan with what is left of its budget, and always a tenth of it."""
    if plan.budget_s is None:
        return plan
    left = plan.budget_s - (monotonic() - began_s) - _AFTERWARDS_S * voxels
    return replace(plan, budget_s=max(left, plan.budget_s / 10))


def _in_the_lab(
    result: Reconstruction, aligned: Sequence[Object], volume: DiffractionVolume, crystal: CrystalConfig
) -> LabImage:
    """The crystal with the spread of all starts, each less the best one's phase ramp."""
    flat, slopes = without_ramp(result.density)
    starts = (with_ramp(start, (-slopes[0], -slopes[1], -slopes[2])) for start in aligned)
    return with_spread(lab_image(flat, slopes, volume, crystal), starts, volume, crystal)


def reconstruct_as_configured(
    scans: Sequence[RockingScan],
    config: Config,
    *,
    dark: FloatArray | None = None,
    budget_s: float | None = None,
    guess: InitialGuess | None = None,
    progress: Progress | None = None,
) -> Reconstruction:
    """`reconstruct` with a beamline's [preprocess], [phasing], [crystal] and [sample] tables: what the refine
    service and `live-bcdi phase` both do. `dark` (row, column) is what the file [preprocess] dark holds.
    """
    chosen = config.phasing
    result = reconstruct(
        scans if dark is None else [without_dark(scan, dark) for scan in scans],
        Plan(**chosen.model_dump(), guess=guess, budget_s=budget_s),
        preprocessing=config.preprocess,
        crystal=config.crystal,
        progress=progress,
    )
    return with_material(result, scans[0], config)


def prepared(scans: Sequence[RockingScan], settings: Preprocessing) -> tuple[DiffractionVolume, dict[str, str]]:
    """The volume of a scan, or the sum of several, and what was done to get it, a line each for provenance.

    Of several, those that cannot be used, or are outliers, are left out, with the reason in the line `summed`.
    `motion` says, where `settings` ask for it, whether motion within a scan was corrected, or why not.
    Raises ScanError where none can be used, most are outliers, or they do not go together.
    """
    if not scans:
        raise ScanError("there is no scan to reconstruct")
    if settings.correct_motion:
        stilled = [_stilled(scan, settings) for scan in scans]
        told = [line if len(scans) == 1 else f"{scan.name}: {line}" for scan, (_, line) in zip(scans, stilled)]
        volume, lines = _summed([scan for scan, _ in stilled], settings)
        return volume, {**lines, "motion": "\n".join(told)}
    return _summed(scans, settings)


def _stilled(scan: RockingScan, settings: Preprocessing) -> tuple[RockingScan, str]:
    """The scan on even angles where its crystal is sure to have moved, else as it is; and why. One thread, as more
    may make other bits."""
    with threadpool_limits(1, user_api="blas"):
        try:
            tracking = track_scan(as_set(scan, settings))
        except ScanError as error:
            return scan, f"left as it is: {error}"
        if not tracking.corrected:
            return scan, f"left as it is: {tracking.reason}"
        return regrid(as_set(scan, settings), tracking), f"corrected: {tracking.reason}"


def _summed(scans: Sequence[RockingScan], settings: Preprocessing) -> tuple[DiffractionVolume, dict[str, str]]:
    if len(scans) == 1:
        volume, report, _ = _first_prepared(scans[0], settings)
        return volume, report.lines()
    made = _each_made(scans, settings)
    why = _left_out(scans, made)
    lines = [(scan.name, each.report.lines()) for scan, each in zip(scans, made) if isinstance(each, _Made)]
    said = {key: "\n".join(f"{name}: {line[key]}" for name, line in lines) for key in lines[0][1]}
    good = [(scan, each) for scan, each, bad in zip(scans, made, why) if isinstance(each, _Made) and not bad]
    summed = sum_volumes([each.volume for _, each in good], least_correlation=settings.least_correlation)
    bad = [f"{scan.name}: left out, as {'; '.join(each)}" for scan, each in zip(scans, why) if each]
    return summed.volume, {**said, "summed": "\n".join([_said_of([scan for scan, _ in good], summed), *bad])}


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class _Made:
    """Of one repeat."""

    volume: DiffractionVolume
    report: Report
    facts: ScanFacts


def _each_made(scans: Sequence[RockingScan], settings: Preprocessing) -> list[_Made | ScanError]:
    """Each repeat on a grid like that of the first that can be used, or why it cannot."""
    made: list[_Made | ScanError] = []
    alike: Preprocessing | None = None
    for scan in scans:
        try:
            if alike is None:
                volume, report, factors = _first_prepared(scan, settings)
            else:
                volume, report = prepare(scan, alike)
            made.append(_Made(volume=volume, report=report, facts=scan_facts(scan, volume, report)))
        except ScanError as error:
            made.append(error)
            continue
        if alike is None:
            alike = settings.model_copy(update={"shape": volume.intensity.shape, "binning": factors})
    if alike is None:
        raise next(each for each in made if isinstance(each, ScanError))
    return made


def _left_out(scans: Sequence[RockingScan], made: Sequence[_Made | ScanError]) -> list[tuple[str, ...]]:
    """Why each scan is no good. Raises ScanError where most of those that can be used are outliers."""
    usable = [number for number, each in enumerate(made) if isinstance(each, _Made)]
    strange = left_out([each.facts for each in made if isinstance(each, _Made)])
    why: list[tuple[str, ...]] = [
        (unusable(scan, each, [scans[number] for number in usable]),) if isinstance(each, ScanError) else ()
        for scan, each in zip(scans, made)
    ]
    for number, reasons in zip(usable, strange):
        why[number] = reasons
    if 2 * sum(not reasons for reasons in strange) <= len(usable):
        lines = "; ".join(f"{scan.name}: {', '.join(each)}" for scan, each in zip(scans, why) if each)
        raise ScanError(f"more than half of the scans are no good: {lines}; leave the bad ones out")
    return why


def _first_prepared(
    scan: RockingScan, settings: Preprocessing
) -> tuple[DiffractionVolume, Report, tuple[int, int, int]]:
    """With the binning that the crystal asks for where neither it nor the shape is set; and that binning."""
    volume, report = prepare(scan, settings)
    if settings.binning is not None or settings.shape is not None:
        return volume, report, settings.binning or (1, 1, 1)
    factors = binning(Pattern(intensity=volume.intensity, mask=volume.mask))
    if factors != (1, 1, 1):
        volume, report = prepare(scan, settings.model_copy(update={"binning": factors}))
    return volume, report, factors


def _said_of(scans: Sequence[RockingScan], summed: Summed) -> str:
    lines = []
    for scan, used, value, shift in zip(scans, summed.used, summed.correlations, summed.shifts):
        moved = ", ".join(f"{step:.2f}" for step in shift)
        what = "summed" if used else "left out, as it shows another state"
        lines.append(f"{scan.name}: {what}; correlation {value:.3f}, moved by {moved} voxels")
    return "\n".join(lines)


def provenance(*scans: RockingScan) -> dict[str, str]:
    """What made a result: the scan, a checksum of all that it holds but its times, and the versions that matter.

    The checksum of several scans is that of their checksums. Raises ScanError where `metadata` of one hold what
    JSON cannot.
    """
    versions = {name: version(name) for name in ("live_bcdi", "numpy", "scipy", "numba", "pyfftw")}
    sums = [_checksum(scan) for scan in scans]
    whole = sums[0] if len(sums) == 1 else hashlib.sha256("".join(sums).encode()).hexdigest()
    blurs = {f"{scan.angular_blur_deg:.6g}" for scan in scans if scan.angular_blur_deg is not None}
    blur = {"angular_blur_deg": ", ".join(sorted(blurs))} if blurs else {}
    return {"scan": " + ".join(scan.name for scan in scans), "input_sha256": whole, **blur, **versions}


def _checksum(scan: RockingScan) -> str:
    """Counts as they are, all other values as float64 however a file kept them. Masks go in unpacked: builds of
    zlib differ in how they pack them."""
    table = {**scan_metadata(scan), "bad_pixels": None, "flatfield": None}
    del table["angular_blur_deg"]  # a plan's word of the same frames: their sum is that of the detector's file
    have = np.ones(len(scan.intensity), bool) if scan.have is None else scan.have
    others = (scan.angles_deg, scan.monitor, have, scan.bad_pixels, scan.flatfield)
    digest = hashlib.sha256(json.dumps(table, sort_keys=True).encode())
    for array in (scan.intensity, *(None if each is None else np.asarray(each, np.float64) for each in others)):
        digest.update(b"none" if array is None else f"{array.dtype.str}{array.shape}".encode())
        digest.update(b"" if array is None else np.ascontiguousarray(array).view(np.uint8).data)
    return digest.hexdigest()

"""The preview while frames arrive: of simulated crystals in the mean, and of one measured scan against its refined
result, in numbers and as a figure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

import numpy as np

from live_bcdi.estimate import Unlike
from live_bcdi.panels import STYLE, Sheet, new_sheet, phase_ring
from live_bcdi.phasing import Pattern, Plan
from live_bcdi.phasing.align import aligned_to, mean_phase, without_ramp
from live_bcdi.phasing.kernels_numpy import Object
from live_bcdi.pipeline import reconstruct
from live_bcdi.transport.hdf5 import read_scan
from live_bcdi.types import BoolArray, Reconstruction

from .grid import known_part
from .judging import crystals_of, each_of, likeness, squared_error
from .plain import Iterations
from .polishing import free_of
from .previewing import preview, preview_of

SHARES: Mapping[str, float] = {"a third": 1 / 3, "half": 1 / 2, "two thirds": 2 / 3, "all": 1.0}
_SHOWN = 0.12  # of the maximum: where a phase is drawn
_CUT_IN, _STEP_IN = 1.15, 1.3


@dataclass(frozen=True, kw_only=True, slots=True)
class Shot:
    """One column of the figure: an object, what is written above it, and below."""

    density: Object
    title: str
    below: str


def simulated(count: int, *, output: Path) -> dict[str, Any]:
    """Of `count` crystals of medium strain: mean correlation, expected and true error as frames arrive, of those
    that are refused at no time, and in `output`/series.png the first of them."""
    shown = []
    for pattern, truth in each_of(crystals_of(count, "medium")):
        found = [_partial(pattern, share) for share in SHARES.values()]
        results = [result for result in found if result is not None]
        if len(results) == len(SHARES):
            shown.append((results, truth))
    told: dict[str, Any] = {
        "crystals": {"shown": len(shown), "refused, with some of the frames": count - len(shown)}
    }
    for place, name in enumerate(SHARES):
        pairs = [(results[place], truth) for results, truth in shown]
        told[f"{name} of the frames"] = {
            "correlation": _mean([likeness(result.density, truth) for result, truth in pairs]),
            "expected_error": _mean([result.metrics["expected_error"] for result, _ in pairs]),
            "true_error": _mean([_true_error(result, truth) for result, truth in pairs]),
        }
    if not shown:
        return told
    results, truth = shown[0]
    shots = [_shot(name, result, truth) for name, result in zip(SHARES, results)]
    output.mkdir(parents=True, exist_ok=True)
    drawn = _draw([*shots, Shot(density=truth, title="truth", below="")], output / "series.png")
    return {**told, "": {"figure": drawn}}


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values)) if values else float("nan")


def _true_error(result: Reconstruction, truth: Object) -> float:
    return float(np.sqrt(squared_error(result, truth)[result.support].mean()))


def _partial(pattern: Pattern, share: float) -> Reconstruction | None:
    mask = pattern.mask | ~_there(len(pattern.mask), share)[:, None, None]
    try:
        return preview_of(Pattern(intensity=pattern.intensity, mask=mask), device="cpu")
    except Unlike:
        return None


def _there(steps: int, share: float) -> BoolArray:
    return np.arange(steps) < round(share * steps)


def measured(scan: Path, *, output: Path) -> dict[str, Any]:
    """Of a measured scan: the correlation of the preview with the refined result, and of iterations that have as
    many seconds of the processor, and the expected error, as frames of its volume arrive; the central cuts in
    `output`/scan.png."""
    began_s = perf_counter()
    refined = reconstruct(read_scan(scan), Plan())
    told: dict[str, Any] = {"refined": {"chi": refined.chi, "seconds": perf_counter() - began_s}}
    volume = refined.volume
    assert volume is not None  # a scan has a geometry
    preview(volume.intensity, mask=volume.mask)  # loads the code
    counts, shots = volume.intensity.sum(), []
    for name, share in SHARES.items():
        there = _there(len(volume.intensity), share)
        began_s = process_time()
        result = preview(volume.intensity, mask=volume.mask, measured=there)
        took_s = process_time() - began_s
        pattern = Pattern(intensity=volume.intensity, mask=known_part(volume.mask, there, volume.intensity.shape))
        (plain,) = Iterations(pattern, free_of(pattern)).several([took_s])
        told[f"{name} of the frames"] = {
            "counts": float(volume.intensity[there].sum() / counts),
            "correlation": likeness(result.density, refined.density),
            "expected_error": result.metrics.get("expected_error"),
            "unlike": result.provenance.get("unlike"),
            "HIO/ER as long": likeness(plain, refined.density),
            "seconds": took_s,
        }
        shots.append(_shot(name, result, refined.density))
    shots.append(Shot(density=refined.density, title="refined", below=""))
    output.mkdir(parents=True, exist_ok=True)
    return {**told, "": {"figure": _draw(shots, output / "scan.png")}}


def _shot(name: str, result: Reconstruction, truth: Object) -> Shot:
    """As near to the truth as its twin, a shift and a ramp allow, so that one cut is through the same place."""
    below = f"true error {_true_error(result, truth):.2f}\ncorrelation {likeness(result.density, truth):.2f}"
    if "expected_error" in result.metrics:
        below = f"expected error {result.metrics['expected_error']:.2f}\n{below}"
    return Shot(density=aligned_to(truth, result.density), title=f"{name} of the frames", below=below)


def _draw(shots: Sequence[Shot], path: Path) -> str:
    """Amplitude above phase, the middle of the first axis, as the last shot has it."""
    import matplotlib

    last = shots[-1].density
    inside = np.argwhere(np.abs(last) > _SHOWN * np.abs(last).max())
    middle = round(inside[:, 0].mean())
    half = int(1.25 * max(np.ptp(inside[:, 1]), np.ptp(inside[:, 2])) / 2) + 2
    row, column = (round((inside[:, axis].min() + inside[:, axis].max()) / 2) for axis in (1, 2))
    window = (middle, slice(max(row - half, 0), row + half), slice(max(column - half, 0), column + half))
    with matplotlib.rc_context(STYLE):
        sheet = new_sheet(0.15 + _STEP_IN * len(shots), 2 * _STEP_IN + 0.62)
        for place, shot in enumerate(shots):
            _draw_shot(sheet, 0.1 + place * _STEP_IN, shot, window)
        sheet.figure.savefig(path, dpi=200)
    return str(path)


def _draw_shot(sheet: Sheet, left: float, shot: Shot, window: Any) -> None:
    flat, _ = without_ramp(shot.density)
    cut = (flat * np.exp(-1j * mean_phase(flat)))[window]
    amplitude = np.abs(cut) / np.abs(flat).max()
    upper = sheet.axes(left, 0.5 + _STEP_IN, _CUT_IN, _CUT_IN)
    upper.imshow(amplitude, "viridis", vmin=0, vmax=1, origin="lower")
    upper.set_title(shot.title, pad=3)
    lower = sheet.axes(left, 0.5, _CUT_IN, _CUT_IN)
    lower.set_facecolor("0.82")
    phase = np.where(amplitude > _SHOWN, np.angle(cut), np.nan)
    lower.imshow(phase, phase_ring(), vmin=-np.pi, vmax=np.pi, origin="lower")
    for panel in (upper, lower):
        panel.set(xticks=[], yticks=[])
    lower.set_xlabel(shot.below, labelpad=4)

"""Whether the preview is as sure as it may be: what it expects of its errors against what they are, voxel by voxel
and of whole crystals, on crystals that the uncertainty was not fitted to."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import spearmanr

from live_bcdi.estimate import Unlike
from live_bcdi.panels import STYLE, Sheet, new_sheet
from live_bcdi.phasing import Pattern
from live_bcdi.phasing.kernels_numpy import Object
from live_bcdi.types import FloatArray, Reconstruction

from .judging import by_strength, each_of, placed
from .previewing import preview_of
from .simulator import EDGE

SHARES = (1.0, 0.34, 1.0, 0.7, 1.0, 0.5)  # of the frames that are there, crystal by crystal: half are whole scans
_SEED = 7_000_003  # `judging.fit` has another
_VOXELS = 400  # of each crystal, so that none is worth more than another
_BINS, _WHOLE_BINS = 10, 6
_BLUE = "#1b6ca8"


@dataclass(frozen=True, kw_only=True, slots=True)
class Errors:
    """Expected and true errors: of voxels inside, of the complex object (in units of the crystal's root mean
    square) and of the phase in radians; and of whole crystals."""

    expected: FloatArray
    true: FloatArray
    expected_rad: FloatArray
    true_rad: FloatArray
    whole_expected: FloatArray
    whole_true: FloatArray


def measure(count: int, *, output: Path) -> dict[str, Any]:
    """Calibration and coverage of `count` crystals of each strain; the curves in `output`/calibration.png."""
    errors = errors_of(_previews(count))
    output.mkdir(parents=True, exist_ok=True)
    _draw(errors, output / "calibration.png")
    ratio = float(np.sqrt(np.mean(errors.true**2) / np.mean(errors.expected**2)))
    whole = float(np.mean(errors.whole_true**2) / np.mean(errors.whole_expected**2)) ** 0.5
    off = np.log2(errors.whole_true / errors.whole_expected)
    return {
        "voxels": {
            "error over expected": ratio,
            "complex, within 1 and 2 deviations": _within(errors.true, errors.expected / np.sqrt(2)),
            "of a complex normal error": "39.3 %, 86.5 %",
            "phase, within 1 and 2 deviations": _within(np.abs(errors.true_rad), errors.expected_rad),
            "of a normal error": "68.3 %, 95.4 %",
        },
        "crystals": {
            "crystals": len(off),
            "error over expected": whole,
            "rank correlation": float(spearmanr(errors.whole_expected, errors.whole_true).statistic),
            "off by less than a factor of 1.5": f"{100 * np.mean(np.abs(off) < np.log2(1.5)):.0f} %",
            "off by less than a factor of 2": f"{100 * np.mean(np.abs(off) < 1):.0f} %",
        },
        "": {"figure": str(output / "calibration.png")},
    }


def _within(true: FloatArray, deviation: FloatArray) -> str:
    one, two = (100 * float(np.mean(true < times * deviation)) for times in (1, 2))
    return f"{one:.1f} %, {two:.1f} %"


def _previews(count: int) -> Iterator[tuple[Reconstruction, Object]]:
    for _, batch in by_strength(count, _SEED):
        for index, (pattern, truth) in enumerate(each_of(batch)):
            there = np.arange(EDGE) < round(SHARES[index % len(SHARES)] * EDGE)
            mask = pattern.mask | ~there[:, None, None]
            try:
                yield preview_of(Pattern(intensity=pattern.intensity, mask=mask), device="cpu"), truth
            except Unlike:
                continue


def errors_of(previews: Iterator[tuple[Reconstruction, Object]]) -> Errors:
    """Of previews and the truth of each."""
    parts: list[tuple[FloatArray, ...]] = []
    chance = np.random.default_rng(0)
    for result, truth in previews:
        assert result.agreement is not None
        inside = np.flatnonzero(result.support)
        inside = chance.choice(inside, min(_VOXELS, len(inside)), replace=False)
        amplitude, target = np.abs(result.density), placed(truth, result)
        root = np.sqrt(np.mean(amplitude[result.support] ** 2))
        error = np.asarray(np.abs(result.density - target) / root, np.float32)
        deviation = np.sqrt(2) * result.agreement.amplitude_std * amplitude.max() / root
        turned = np.angle(result.density * np.conj(target))
        parts.append(
            (
                deviation.flat[inside],
                error.flat[inside],
                result.agreement.phase_std_rad.flat[inside],
                turned.flat[inside],
                np.array([result.metrics["expected_error"]]),
                np.array([np.sqrt(np.mean(error[result.support] ** 2))]),
            )
        )
    expected, true, expected_rad, true_rad, whole, whole_true = (np.concatenate(each) for each in zip(*parts))
    return Errors(
        expected=expected,
        true=true,
        expected_rad=expected_rad,
        true_rad=true_rad,
        whole_expected=whole,
        whole_true=whole_true,
    )


def curve(expected: FloatArray, true: FloatArray, bins: int) -> tuple[FloatArray, FloatArray]:
    """Root mean square of what was expected and of what was, in bins of as many values each, by what was
    expected."""
    parts = np.array_split(np.argsort(expected, kind="stable"), bins)
    first, second = (np.array([np.sqrt(np.mean(each[part] ** 2)) for part in parts]) for each in (expected, true))
    return first, second


def _draw(errors: Errors, path: Path) -> None:
    import matplotlib

    with matplotlib.rc_context(STYLE):
        sheet = new_sheet(6.9, 2.5)
        _panel(sheet, 0.45, "complex object, voxels inside", errors.expected, errors.true)
        _panel(sheet, 2.75, "phase (rad), voxels inside", errors.expected_rad, errors.true_rad)
        panel = _panel(sheet, 5.05, "whole crystals", errors.whole_expected, errors.whole_true, bins=_WHOLE_BINS)
        panel.plot(errors.whole_expected, errors.whole_true, ".", color="0.6", ms=3, mew=0, zorder=1)
        sheet.figure.savefig(path, dpi=200)


def _panel(
    sheet: Sheet, left: float, title: str, expected: FloatArray, true: FloatArray, *, bins: int = _BINS
) -> Any:
    panel = sheet.axes(left, 0.4, 1.75, 1.75)
    points = curve(expected, true, bins)
    ends = points if bins == _BINS else (expected, true)
    end = 1.08 * max(float(np.max(each)) for each in ends)
    panel.plot([0.0, end], [0.0, end], color="0.45", lw=0.7, ls="--")
    panel.plot(*points, color=_BLUE, marker="o", ms=3, zorder=3)
    panel.set(
        xlim=(0, end), ylim=(0, end), title=title, xlabel="expected (rms of bin)", ylabel="true (rms of bin)"
    )
    return panel

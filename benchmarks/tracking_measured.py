"""The motion within a measured scan, what correcting it changes, and a picture of it.

python benchmarks/tracking_measured.py S0054.h5 --picture track.png

Prints a table of the track (every tenth frame), and of what two retrievals with seeds of their own make of the
frames as they are, at the band-limited angles and at those refined with the object, whether or not the tracking
would correct: chi and free log-likelihood a voxel (not comparable where frames were regridded, which takes noise
off), the correlation of the two objects' amplitudes, and the rms difference of their phases.
"""

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from live_bcdi.phasing import Plan
from live_bcdi.phasing.align import aligned_to, without_ramp
from live_bcdi.pipeline import reconstruct
from live_bcdi.tracking import refine_angles, regrid, track_scan
from live_bcdi.transport.hdf5 import read_scan
from live_bcdi.types import Reconstruction, RockingScan, TrackingResult

INK, LIGHT = "#1f5fa8", "#9ec5e8"


def agreement(first: Reconstruction, second: Reconstruction) -> tuple[float, float]:
    """Correlation of amplitudes over both supports, and rms phase difference (rad) where both have the crystal."""
    one = without_ramp(first.density)[0]
    other = without_ramp(aligned_to(one, second.density))[0]
    either, both = first.support | (np.abs(other) > 0.1 * np.abs(other).max()), first.support
    both = both & (np.abs(other) > 0.2 * np.abs(other).max())
    product = one[both] * np.conj(other[both])
    turned = np.angle(product * np.exp(-1j * np.angle(product.sum())))
    return float(np.corrcoef(np.abs(one[either]), np.abs(other[either]))[0, 1]), float(np.sqrt(np.mean(turned**2)))


def retrieved(scan: RockingScan, starts: int) -> tuple[Reconstruction, Reconstruction]:
    plans = [Plan(starts=starts, seed=seed, device="cpu") for seed in (1, 2)]
    return reconstruct(scan, plans[0]), reconstruct(scan, plans[1])


def line(name: str, pair: tuple[Reconstruction, Reconstruction]) -> str:
    amplitude, phase = agreement(*pair)
    chi, free = (np.mean([each.chi for each in pair]), np.mean([each.metrics["free_llk"] for each in pair]))
    return f"| {name} | {chi:.4f} | {free:.3f} | {amplitude:.4f} | {phase:.3f} |"


def track(tracking: TrackingResult, counts: np.ndarray, every: int) -> None:
    print(f"{tracking.reason}; jitter {tracking.jitter_steps:.3f} step of {tracking.step_deg:.5f} deg\n")
    print("| frame | counts | found, steps | gain | row, px | column, px | row shift, px | column shift, px |")
    print("|---|---|---|---|---|---|---|---|")
    for k in range(0, len(counts), every):
        pairs = [
            (tracking.found_steps[k], tracking.std_steps[k]),
            (tracking.gain[k], None),
            (tracking.row[k], tracking.row_std[k]),
            (tracking.column[k], tracking.column_std[k]),
        ]
        for values, std in (
            (tracking.row_shift, tracking.row_shift_std),
            (tracking.column_shift, tracking.column_shift_std),
        ):
            pairs.append((np.nan, None) if values is None or std is None else (values[k], std[k]))
        shown = " | ".join(f"{value:.3f}" + ("" if std is None else f" ± {std:.3f}") for value, std in pairs)
        print(f"| {k} | {counts[k]:.0f} | {shown} |")


def draw(band: TrackingResult, refined: TrackingResult, counts: np.ndarray, path: Path) -> None:
    """Angle, place on the detector and counts of every frame, with bands of one standard deviation."""
    figure = Figure(figsize=(7.0, 7.2), layout="constrained")
    axes = figure.subplots(4, 1, sharex=True)
    frames = np.arange(len(counts))
    axes[0].fill_between(frames, counts, step="mid", color=LIGHT)
    axes[0].set(yscale="log", ylabel="counts", ylim=(max(1, np.nanmin(counts) / 2), None))
    rows = (
        (axes[1], band.found_steps, band.std_steps, "angle found from\nthe band limit, steps"),
        (axes[2], refined.found_steps, refined.std_steps, "angle refined with\nthe object, steps"),
        (axes[3], refined.row_shift, refined.row_shift_std, "pattern off along\nrows, px"),
    )
    for each, values, std, label in rows:
        each.axhline(0, color="0.7", linewidth=0.8)
        if values is not None and std is not None:
            each.fill_between(frames, values - std, values + std, color=LIGHT, linewidth=0)
            each.plot(frames, values, color=INK, linewidth=1)
            spread = float(np.nanpercentile(np.abs(values) + std, 98))
            each.set_ylim(-1.1 * spread, 1.1 * spread)
        each.set_ylabel(label)
    axes[3].set_xlabel("frame")
    for each in axes:
        each.spines[["top", "right"]].set_visible(False)
    figure.align_ylabels(axes)
    figure.savefig(path, dpi=120)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scan", type=Path)
    parser.add_argument("--picture", type=Path)
    parser.add_argument("--every", type=int, default=10)
    parser.add_argument("--starts", type=int, default=2)
    asked = parser.parse_args()
    scan = read_scan(asked.scan)
    counts = scan.intensity.sum(axis=(1, 2), dtype=np.float64)
    band = track_scan(scan)
    as_it_is = retrieved(scan, asked.starts)
    forced = replace(band, corrected=True, offset_steps=band.found_steps)
    forced = replace(forced, angles_deg=scan.angles_deg + band.step_deg * band.found_steps)
    table = [line("as it is", as_it_is)]
    limited = retrieved(regrid(scan, forced), asked.starts)
    table.append(line("band-limited angles", limited))
    refined = refine_angles(scan, limited[0], forced)
    table.append(line("refined angles", retrieved(regrid(scan, refined), asked.starts)))
    print(f"track_scan would {'' if band.corrected else 'not '}correct.")
    track(refined, counts, asked.every)
    print("\n| frames | chi | free llk | amplitudes, correlation | phases, rms rad |\n|---|---|---|---|---|")
    print("\n".join(table))
    if asked.picture:
        draw(band, refined, counts, asked.picture)


if __name__ == "__main__":
    main()

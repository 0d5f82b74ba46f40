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
    print("| frame | counts | found, steps | gain | row, px | column, px |\n|---|---|---|---|---|---|")
    for k in range(0, len(counts), every):
        pairs = (
            (tracking.found_steps[k], tracking.std_steps[k]),
            (tracking.row[k], tracking.row_std[k]),
            (tracking.column[k], tracking.column_std[k]),
        )
        angle, row, column = (f"{value:.3f} ± {std:.3f}" for value, std in pairs)
        print(f"| {k} | {counts[k]:.0f} | {angle} | {tracking.gain[k]:.3f} | {row} | {column} |")


def draw(found: TrackingResult, counts: np.ndarray, path: Path) -> None:
    """Counts, angle and centroid of every frame, with bands of one standard deviation."""
    figure = Figure(figsize=(7.0, 6.6), layout="constrained")
    axes = figure.subplots(4, 1, sharex=True)
    frames = np.arange(len(counts))
    axes[0].fill_between(frames, counts, step="mid", color=LIGHT)
    axes[0].set(yscale="log", ylabel="counts", ylim=(max(1, np.nanmin(counts) / 2), None))
    rows = (
        (axes[1], found.found_steps, found.std_steps, "angle off the\nfile's, steps"),
        (axes[2], found.row, found.row_std, "centroid,\nrow"),
        (axes[3], found.column, found.column_std, "centroid,\ncolumn"),
    )
    for each, values, std, label in rows:
        each.fill_between(frames, values - std, values + std, color=LIGHT, linewidth=0)
        each.plot(frames, values, color=INK, linewidth=1)
        each.set_ylabel(label)
    axes[1].axhline(0, color="0.7", linewidth=0.8, zorder=0)
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
    if refined.row_shift is not None:
        table.append(line("refined angles", retrieved(regrid(scan, refined), asked.starts)))
    print(f"track_scan would {'' if band.corrected else 'not '}correct.")
    track(refined, counts, asked.every)
    print("\n| frames | chi | free llk | amplitudes, correlation | phases, rms rad |\n|---|---|---|---|---|")
    print("\n".join(table))
    if asked.picture:
        draw(refined, counts, asked.picture)


if __name__ == "__main__":
    main()

"""How well the motion within a scan is found from its frames: simulated crystals whose motion is known.

python benchmarks/tracking.py angles --seeds 4     # the band-limited model alone: track_scan
python benchmarks/tracking.py refined --seeds 4    # with the object (refine_angles), and its phase error
python benchmarks/tracking.py still --seeds 20     # false corrections of a crystal that stands still
python benchmarks/tracking.py swapped --seeds 4    # two pairs of frames out of order, in every other scan
python benchmarks/tracking.py long                 # seconds for many frames, in finer steps

64 frames of a crystal that fills a sixth of the rocking axis. Shift and stretch of the whole scan, which nothing
shows, are not in the jitter. Errors "by counts" are weighted with them, less their weighted shift and stretch. The
"bound" is that of Cramer and Rao for each frame's angle, with the true volume known and the frame's intensity not.
"row" is how far the pattern is said to lie off along rows, where it lies where it should.
"""

import argparse
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from live_bcdi.config import load_config
from live_bcdi.phasing import Plan
from live_bcdi.pipeline import reconstruct
from live_bcdi.sim import simulate_moving
from live_bcdi.sim.compare import compare_with_truth
from live_bcdi.sim.crystals import Truth
from live_bcdi.sim.scattering import diffraction_amplitude, scan_steps
from live_bcdi.tracking import refine_angles, regrid, track_scan
from live_bcdi.types import Reconstruction, RockingScan, TrackingResult

CONFIG = Path("config/34idc.toml")
FRAMES = 64
JITTERS = (0.0, 0.1, 0.3, 0.6)
PHOTONS = (1e5, 1e6, 1e7)
STARTS = 4
ROUNDS = 1
PAIRS = ((20, 30), (33, 41))  # frames that change places
AWAY = 1.5  # steps
LONG = ((64, 2.0), (200, 6.0), (300, 9.0), (500, 15.0), (200, 2.0), (300, 2.0))


def offsets(size: float, seed: int) -> np.ndarray:
    """Independent offsets of root mean square `size` without shift and stretch."""
    index, drawn = np.arange(FRAMES), np.random.default_rng([seed, 7]).normal(size=FRAMES)
    drawn -= np.polyval(np.polyfit(index, drawn, 1), index)
    return size * drawn / np.sqrt(np.mean(drawn**2))


def simulated(size: float, photons: float, seed: int, *, gone: str = "") -> tuple[RockingScan, Truth, np.ndarray]:
    """A scan, its crystal and its offsets; with three bright frames `gone`, "missing" or "repeated"."""
    true = offsets(size, seed)
    scan, truth = simulate_moving(config=load_config(CONFIG), offsets_steps=true, photons=photons, seed=seed)
    lost = np.isin(np.arange(FRAMES), (26, 33, 39))
    counts = scan.intensity.copy()
    if gone == "missing":
        counts[lost] = 0
        scan = replace(scan, intensity=counts, have=~lost)
    elif gone == "repeated":
        counts[lost] = counts[np.flatnonzero(lost) - 1]
        scan = replace(scan, intensity=counts)
    return scan, truth, true


def by_counts(values: np.ndarray, counts: np.ndarray, *, straight: bool = True) -> float:
    """Root mean square weighted with counts, less the weighted straight line."""
    index, kept = np.arange(len(values)), np.isfinite(values)
    line = np.polyfit(index[kept], values[kept], 1, w=np.sqrt(counts[kept])) if straight else np.zeros(2)
    return float(np.sqrt(np.average((values - np.polyval(line, index))[kept] ** 2, weights=counts[kept])))


def rms(values: np.ndarray) -> float:
    return float(np.sqrt(np.nanmean(values**2)))


def bound(truth: Truth, scan: RockingScan, true: np.ndarray, photons: float) -> np.ndarray:
    """Cramer and Rao's standard deviation of each angle in steps, volume known, intensity of the frame not."""

    def light(moved: np.ndarray) -> np.ndarray:
        places = (np.arange(FRAMES) - FRAMES // 2 + moved) / 2
        steps = scan_steps(scan.geometry)
        return np.abs(diffraction_amplitude(truth, steps, scan.intensity.shape, rocking=places)) ** 2

    scale = photons / light(0 * true).sum()
    expected = scale * light(true) + 1e-12
    slope = scale * (light(true + 1e-3) - light(true - 1e-3)) / 2e-3
    told = (slope**2 / expected).sum(axis=(1, 2)) - slope.sum(axis=(1, 2)) ** 2 / expected.sum(axis=(1, 2))
    return 1 / np.sqrt(told)


def angles(seeds: int) -> None:
    head = ("jitter", "photons", "error", "std", "jitter, by counts", "by counts", "bound", "corrected", "s")
    print("| " + " | ".join(head) + " |")
    print("|---|---|---|---|---|---|---|---|---|")
    for size in JITTERS:
        for photons in PHOTONS:
            figures, seconds = [], []
            for seed in range(seeds):
                scan, truth, true = simulated(size, photons, seed)
                clock = time.perf_counter()
                found = track_scan(scan)
                seconds.append(time.perf_counter() - clock)
                counts, error = scan.intensity.sum(axis=(1, 2)), found.offset_steps - true
                least = by_counts(bound(truth, scan, true, photons), counts, straight=False)
                light = by_counts(true, counts), by_counts(error, counts), least
                figures.append((rms(error), rms(found.std_steps), *light, found.corrected))
            print(line(size, photons, figures, seconds), flush=True)


def line(size: float, photons: float, figures: list[tuple[float, ...]], seconds: list[float]) -> str:
    means = np.sqrt(np.mean(np.square([each[:-1] for each in figures]), axis=0))
    moved = f"{sum(each[-1] for each in figures):.0f} of {len(figures)}"
    shown = " | ".join(f"{value:.3f}" for value in means)
    return f"| {size} | {photons:.0e} | {shown} | {moved} | {np.median(seconds):.1f} |"


def steps_of(scan: RockingScan) -> Iterator[tuple[str, RockingScan, TrackingResult | None, Reconstruction, float]]:
    """What the scan gives as it is, at the band-limited angles, and refined; and the seconds of the angles."""
    plan = Plan(starts=STARTS, device="cpu")
    yield "uncorrected", scan, None, reconstruct(scan, plan), 0.0
    clock = time.perf_counter()
    tracking = track_scan(scan)
    for number in range(ROUNDS + 1):
        seconds = time.perf_counter() - clock
        even = regrid(scan, tracking)
        result = reconstruct(even, plan)
        yield "refined" if number else "band-limited", even, tracking, result, seconds
        clock = time.perf_counter()
        tracking = refine_angles(scan, result, tracking)


def refined(seeds: list[int], photons: float, size: float, gone: str) -> None:
    """Rows of one photon count, seed by seed and in all."""
    table: dict[str, list[list[float]]] = {}
    for seed in seeds:
        scan, truth, true = simulated(size, photons, seed, gone=gone)
        counts = scan.intensity.sum(axis=(1, 2))
        still = reconstruct(simulated(0.0, photons, seed, gone=gone)[0], Plan(starts=STARTS, device="cpu"))
        nothing = [0.0] * 6
        table.setdefault("jitter-free", []).append([*nothing, compare_with_truth(still, truth)["phase_rms_rad"]])
        for name, _, tracking, result, seconds in steps_of(scan):
            found = 0 * true if tracking is None else tracking.found_steps
            std = 0 * true if tracking is None else tracking.std_steps
            error = found - true
            degrees = 1e3 * (scan.angles_deg[1] - scan.angles_deg[0])
            wobble = 0 * true if tracking is None or tracking.row_shift is None else tracking.row_shift
            figures = [rms(error), rms(std), by_counts(error, counts), by_counts(error, counts) * abs(degrees)]
            figures += [by_counts(wobble, counts, straight=False), seconds]
            table.setdefault(name, []).append([*figures, compare_with_truth(result, truth)["phase_rms_rad"]])
    print("| jitter | photons | frames | angles | error | std | by counts | mdeg | row, px | s | phase, rad |")
    print("|---|---|---|---|---|---|---|---|---|---|---|")
    for name, rows in table.items():
        means = np.sqrt(np.mean(np.square(rows), axis=0))
        shown = " | ".join(f"{value:.3f}" for value in means[:5])
        print(f"| {size} | {photons:.0e} | {gone or 'all'} | {name} | {shown} | {means[5]:.1f} | {means[6]:.3f} |")


def still(seeds: int) -> None:
    print("| photons | corrected though still |\n|---|---|")
    for photons in PHOTONS:
        moved = [track_scan(simulated(0.0, photons, 100 + seed)[0]).corrected for seed in range(seeds)]
        print(f"| {photons:.0e} | {sum(moved)} of {seeds} |", flush=True)


def swapped(seeds: int) -> None:
    """What is said of frames that stand more than a step off: those in `PAIRS`, and those of the jitter alone."""
    print("| jitter | photons | swapped frames found | to less than a step | others said to be off |")
    print("|---|---|---|---|---|")
    for size in JITTERS:
        for photons in PHOTONS:
            found = close = asked = wrong = 0
            for seed in range(seeds):
                true, pairs = offsets(size, seed), PAIRS if seed % 2 else ()
                for one, other in pairs:
                    true[[one, other]] += other - one, one - other
                scan, _ = simulate_moving(
                    config=load_config(CONFIG), offsets_steps=true, photons=photons, seed=seed
                )
                said = track_scan(scan).found_steps
                theirs = np.array([frame for pair in pairs for frame in pair], int)
                away = np.abs(said) > AWAY
                asked, found = asked + len(theirs), found + int(away[theirs].sum())
                close += int((np.abs(said - true)[theirs] < 1).sum())
                wrong += int((away & (np.abs(true) < 1)).sum())
            print(
                f"| {size} | {photons:.0e} | {found} of {asked} | {close} | {wrong} of {seeds * FRAMES} |",
                flush=True,
            )


def long() -> None:
    print("| frames | step, of the usual | s | corrected | frames said to be off |\n|---|---|---|---|---|")
    for frames, finer in LONG:
        index, drawn = np.arange(frames), np.random.default_rng(0).normal(size=frames)
        true = 0.3 * (drawn - np.polyval(np.polyfit(index, drawn, 1), index))
        scan, _ = simulate_moving(config=load_config(CONFIG), offsets_steps=true, photons=1e6, finer=finer)
        begun_s = time.perf_counter()
        found = track_scan(scan)
        seconds, away = time.perf_counter() - begun_s, int((np.abs(found.found_steps) > AWAY).sum())
        print(f"| {frames} | 1/{finer:.0f} | {seconds:.1f} | {found.corrected} | {away} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("angles", "refined", "still", "swapped", "long"))
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--first", type=int, default=0, help="seed; only `refined`")
    parser.add_argument("--photons", type=float, default=1e6, help="only `refined`")
    parser.add_argument("--jitter", type=float, default=0.3, help="steps; only `refined`")
    parser.add_argument("--gone", choices=("", "missing", "repeated"), default="", help="frames; only `refined`")
    asked = parser.parse_args()
    if asked.what == "angles":
        angles(asked.seeds)
    elif asked.what == "still":
        still(asked.seeds)
    elif asked.what == "swapped":
        swapped(asked.seeds)
    elif asked.what == "long":
        long()
    else:
        refined(list(range(asked.first, asked.first + asked.seeds)), asked.photons, asked.jitter, asked.gone)


if __name__ == "__main__":
    main()

"""How well the motion within a scan is found from its frames: simulated crystals whose motion is known.

python benchmarks/tracking.py angles --seeds 4     # the band-limited model alone: track_scan
python benchmarks/tracking.py refined --seeds 4    # with the object (refine_angles), and its phase error
python benchmarks/tracking.py motion --seeds 3     # turned about two axes, strained and dimmed from frame to frame
python benchmarks/tracking.py still --seeds 20     # false corrections of a crystal that stands still
python benchmarks/tracking.py swapped --seeds 4    # two pairs of frames out of order, in every other scan
python benchmarks/tracking.py slips --seeds 3      # a crystal that slips once and stays there
python benchmarks/tracking.py long                 # seconds for many frames, in finer steps

64 frames of a crystal that fills a sixth of the rocking axis. Shift and stretch of the whole scan, which nothing
shows, are not in the jitter. Errors "by counts" are weighted with them, less their weighted shift and stretch. The
"bound" is that of Cramer and Rao for each frame's angle, with the true volume known and the frame's intensity not;
"all" is its root mean square over all frames alike. "within" is the share of errors within one standard deviation.
"median" and "worst" are of the scans' errors by counts. "row" is how far the pattern is said to lie off along
rows, where it lies where it should.
"""

import argparse
import re
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np

from live_bcdi.config import load_config
from live_bcdi.phasing import Plan
from live_bcdi.pipeline import reconstruct
from live_bcdi.sim import seen_by_frames, simulate_moving
from live_bcdi.sim.compare import compare_with_truth
from live_bcdi.sim.crystals import Truth
from live_bcdi.sim.scattering import OVERSAMPLING, diffraction_amplitude, scan_steps
from live_bcdi.tracking import refine_angles, regrid, track_scan
from live_bcdi.types import Reconstruction, RockingScan, ScanError, TrackingResult

CONFIG = Path("config/34idc.toml")
FRAMES = 64
JITTERS = (0.0, 0.1, 0.3, 0.6)
PHOTONS = (1e5, 1e6, 1e7)
STARTS = 4
ROUNDS = 2
FAINT_TO_BRIGHT = (1e4, 1e5, 1e6, 1e7)
MDEG, STRAIN, GAIN = (1.75, 1.0), 1e-5, 0.01  # root mean square motion of `motion`: 0.3 step, 0.1 pixel, 1 %
SLIPS = ((1, 32), (2, 32), (3, 32), (-2, 32), (2, 20))  # steps, before which frame
PAIRS = ((20, 30), (33, 41))  # frames that change places
AWAY = 1.5  # steps
PARTS = (3, 4, 5, 6)  # of the rocking axis that the still crystals fill
LONG = ((64, 2.0), (200, 6.0), (300, 9.0), (500, 15.0), (200, 2.0), (300, 2.0))


def offsets(size: float, seed: int) -> np.ndarray:
    """Independent offsets of root mean square `size` without shift and stretch."""
    index, drawn = np.arange(FRAMES), np.random.default_rng([seed, 7]).normal(size=FRAMES)
    drawn -= np.polyval(np.polyfit(index, drawn, 1), index)
    return size * drawn / np.sqrt(np.mean(drawn**2))


def simulated(
    size: float, photons: float, seed: int, *, gone: str = "", wobble: float = 0.0
) -> tuple[RockingScan, Truth, np.ndarray]:
    """A scan, its crystal and its offsets; with three bright frames `gone`, "missing" or "repeated", and a pattern
    that wobbles on the detector by so many pixels."""
    true = offsets(size, seed)
    shifts = np.stack([offsets(wobble, 1000 + seed), offsets(wobble, 2000 + seed)], axis=1) if wobble else None
    scan, truth = simulate_moving(
        config=load_config(CONFIG), offsets_steps=true, photons=photons, seed=seed, shifts_px=shifts
    )
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


def within(error: np.ndarray, std: np.ndarray) -> float:
    """The share of errors within one standard deviation, of those that have one."""
    known = np.isfinite(error) & (std > 0)
    return float((np.abs(error) < std)[known].mean()) if known.any() else 0.0


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
    head = (
        "jitter",
        "photons",
        "error",
        "std",
        "all",
        "jitter, by counts",
        "by counts",
        "bound",
        "corrected",
        "s",
    )
    print("| " + " | ".join(head) + " |")
    print("|---" * len(head) + "|")
    for size in JITTERS:
        for photons in PHOTONS:
            figures, seconds = [], []
            for seed in range(seeds):
                scan, truth, true = simulated(size, photons, seed)
                clock = time.perf_counter()
                found = track_scan(scan)
                seconds.append(time.perf_counter() - clock)
                counts, error = scan.intensity.sum(axis=(1, 2)), found.offset_steps - true
                each = bound(truth, scan, true, photons)
                light = by_counts(true, counts), by_counts(error, counts), by_counts(each, counts, straight=False)
                figures.append((rms(error), rms(found.std_steps), rms(each), *light, found.corrected))
            print(line(size, photons, figures, seconds), flush=True)


def line(size: float, photons: float, figures: list[tuple[float, ...]], seconds: list[float]) -> str:
    means = np.sqrt(np.mean(np.square([each[:-1] for each in figures]), axis=0))
    moved = f"{sum(each[-1] for each in figures):.0f} of {len(figures)}"
    shown = " | ".join(f"{value:.3f}" for value in means)
    return f"| {size} | {photons:.0e} | {shown} | {moved} | {np.median(seconds):.1f} |"


def steps_of(scan: RockingScan) -> Iterator[tuple[str, TrackingResult | None, Reconstruction, float]]:
    """What the scan gives as it is, at the band-limited angles, and refined; and the seconds of the angles. Where
    refined shifts on the detector would be undone, as it is with them too."""
    plan = Plan(starts=STARTS, device="cpu")
    yield "uncorrected", None, reconstruct(scan, plan), 0.0
    clock = time.perf_counter()
    tracking = track_scan(scan)
    for number in range(ROUNDS + 1):
        seconds = time.perf_counter() - clock
        even = regrid(scan, tracking)
        result = reconstruct(even, plan)
        yield ("band-limited", "refined", "refined again")[number], tracking, result, seconds
        left = regrid(scan, replace(tracking, row_shift=None, column_shift=None))
        if number == 1 and not np.array_equal(left.intensity, even.intensity):
            yield "refined, shifts left", tracking, reconstruct(left, plan), seconds
        clock = time.perf_counter()
        tracking = refine_angles(scan, result, tracking)


def refined(seeds: list[int], photons: float, size: float, gone: str, wobble: float) -> None:
    """Rows of one photon count, seed by seed and in all."""
    table: dict[str, list[list[float]]] = {}
    for seed in seeds:
        scan, truth, true = simulated(size, photons, seed, gone=gone, wobble=wobble)
        counts = scan.intensity.sum(axis=(1, 2))
        still = reconstruct(simulated(0.0, photons, seed, gone=gone)[0], Plan(starts=STARTS, device="cpu"))
        least = bound(truth, scan, true, photons)
        nothing = [rms(least), 0.0, 0.0, by_counts(least, counts, straight=False), 0.0, 0.0, 0.0]
        table.setdefault("jitter-free", []).append([*nothing, compare_with_truth(still, truth)["phase_rms_rad"]])
        for name, tracking, result, seconds in steps_of(scan):
            found = 0 * true if tracking is None else tracking.found_steps
            std = 0 * true if tracking is None else tracking.std_steps
            error = found - true
            degrees = 1e3 * (scan.angles_deg[1] - scan.angles_deg[0])
            row = 0 * true if tracking is None or tracking.row_shift is None else tracking.row_shift
            light = by_counts(error, counts)
            figures = [rms(error), rms(std), within(error, std), light, light * abs(degrees)]
            figures += [by_counts(row, counts, straight=False), seconds]
            table.setdefault(name, []).append([*figures, compare_with_truth(result, truth)["phase_rms_rad"]])
    head = (
        "jitter",
        "frames",
        "angles",
        "error",
        "std",
        "within",
        "by counts",
        "median",
        "worst",
        "mdeg",
        "row, px",
        "s",
        "phase, rad",
    )
    print("| " + " | ".join(head) + " |\n" + "|---" * len(head) + "|")
    for name, rows in table.items():
        means = np.sqrt(np.mean(np.square(rows), axis=0))
        light = np.array(rows)[:, 3]
        seen = [*means[:4], np.median(light), light.max(), *means[4:6]]
        shown = " | ".join(f"{value:.3f}" if value else "" for value in seen)
        print(f"| {size} | {gone or 'all'} | {name} | {shown} | {means[6]:.1f} | {means[7]:.3f} |")


def moving(photons: float, seed: int) -> tuple[RockingScan, dict[str, np.ndarray]]:
    """A scan whose crystal turns about both axes, strains and dims from frame to frame, and what is true of it."""
    turns, strain = (
        np.stack([offsets(size, 50 + 3 * seed + k) for k, size in enumerate(MDEG)], 1),
        offsets(STRAIN, 52 + 3 * seed),
    )
    config, gains = load_config(CONFIG), 1 + offsets(GAIN, 90 + seed)
    geometry = simulate_moving(config=config, offsets_steps=0 * gains, photons=1.0)[0].geometry
    steps, shifts = seen_by_frames(geometry, turns, strain)

    def scanned(counts: float) -> RockingScan:
        return simulate_moving(
            config=config, offsets_steps=steps, shifts_px=shifts, gains=gains, photons=counts, seed=seed
        )[0]

    bright = scanned(1e10).intensity.astype(float)
    total, places = bright.sum(axis=(1, 2)), np.arange(bright.shape[1])
    return scanned(photons), {
        "angle, steps": steps,
        "ω₁, mdeg": turns[:, 0],
        "ω₂, mdeg": turns[:, 1],
        "Δd/d, 10⁻⁵": 1e5 * strain,
        "row of the pattern, px": shifts[:, 0],
        "column of the pattern, px": shifts[:, 1],
        "row of the centroid, px": bright.sum(axis=2) @ places / total,
        "column of the centroid, px": bright.sum(axis=1) @ places / total,
    }


def said(tracking: TrackingResult) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Of each of what `moving` knows what was found, with its standard deviation."""
    turned, strain = (tracking.rotation_mdeg, tracking.rotation_std_mdeg), (tracking.strain, tracking.strain_std)
    return {
        "angle, steps": (tracking.offset_steps, tracking.std_steps),
        "ω₁, mdeg": (turned[0][:, 0], turned[1][:, 0]),
        "ω₂, mdeg": (turned[0][:, 1], turned[1][:, 1]),
        "Δd/d, 10⁻⁵": (1e5 * strain[0], 1e5 * strain[1]),
        "row of the pattern, px": (tracking.row_shift, tracking.row_shift_std),
        "column of the pattern, px": (tracking.column_shift, tracking.column_shift_std),
        "row of the centroid, px": (tracking.row, tracking.row_std),
        "column of the centroid, px": (tracking.column, tracking.column_std),
    }


def motion(seeds: int, levels: list[float]) -> None:
    """Angles, rotations, strain, shifts and centroids, refined with the object whether or not the tracking would
    correct; `corrected` says of how many scans it would."""
    head = ("photons", "what", "true", "error", "std", "within", "true, by counts", "by counts", "corrected")
    print("| " + " | ".join(head) + " |\n" + "|---" * len(head) + "|")
    for photons in levels:
        table: dict[str, list[list[float]]] = {}
        corrected = 0
        for seed in range(seeds):
            scan, true = moving(photons, seed)
            counts, found = scan.intensity.sum(axis=(1, 2)), track_scan(scan)
            corrected += found.corrected
            forced = scan.angles_deg + found.step_deg * found.found_steps
            found = replace(found, corrected=True, offset_steps=found.found_steps, angles_deg=forced)
            found = refine_angles(scan, reconstruct(regrid(scan, found), Plan(starts=STARTS, device="cpu")), found)
            for name, (value, std) in (said(found) if found.row_shift is not None else {}).items():
                error, alike = value - true[name], np.ones(FRAMES)
                figures = [by_counts(true[name], alike), rms(error), rms(std), within(error, std)]
                figures += [by_counts(true[name], counts), by_counts(error, counts)]
                table.setdefault(name, []).append(figures)
        for name, rows in table.items():
            shown = " | ".join(f"{value:.3f}" for value in np.sqrt(np.mean(np.square(rows), axis=0)))
            print(f"| {photons:.0e} | {name} | {shown} | {corrected} of {seeds} |", flush=True)


def still(seeds: int) -> None:
    print("| crystal fills | photons | corrected though still | frames said to be off | refused as too coarse |")
    print("|---|---|---|---|---|")
    config, still_steps = load_config(CONFIG), np.zeros(FRAMES)
    for part in PARTS:
        for photons in PHOTONS:
            found = []
            for seed in range(100, 100 + seeds):
                how = {"photons": photons, "seed": seed, "finer": part / OVERSAMPLING}
                with suppress(ScanError):
                    found.append(track_scan(simulate_moving(config=config, offsets_steps=still_steps, **how)[0]))
            moved = sum(each.corrected for each in found)
            off = sum(int((np.abs(each.found_steps) > AWAY).sum()) for each in found)
            told = f"{moved} of {len(found)} | {off} of {FRAMES * len(found)} | {seeds - len(found)}"
            print(f"| 1/{part} | {photons:.0e} | {told} |", flush=True)


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


def slips(seeds: int) -> None:
    """What is said of a crystal that slips; `left` is the rms error by counts after correction, over that before.
    One scan a seed without a slip asks for false alarms."""
    print("| jitter | photons | slips found | to a frame | left: median | worst | said without one |")
    print("|---|---|---|---|---|---|---|")
    for size in JITTERS[:3]:
        for photons in PHOTONS:
            told, left, alarms = [], [], 0
            for seed in range(seeds):
                for steps, frame in (*SLIPS, (0, 0)):
                    true = offsets(size, seed) + steps * (np.arange(FRAMES) >= frame)
                    true -= np.polyval(np.polyfit(np.arange(FRAMES), true, 1), np.arange(FRAMES))
                    scan, _ = simulate_moving(
                        config=load_config(CONFIG), offsets_steps=true, photons=photons, seed=seed
                    )
                    found, counts = track_scan(scan), scan.intensity.sum(axis=(1, 2))
                    place = re.search(r"slips by .* before frame (\d+)", found.reason)
                    if not steps:
                        alarms += place is not None
                        continue
                    told.append(abs(int(place[1]) - frame) if place else FRAMES)
                    left.append(by_counts(found.offset_steps - true, counts) / by_counts(true, counts))
            said, near = (sum(away <= most for away in told) for most in (FRAMES - 1, 1))
            shown = f"{said} of {len(told)} | {near} | {np.median(left):.2f} | {max(left):.2f}"
            print(f"| {size} | {photons:.0e} | {shown} | {alarms} of {seeds} |", flush=True)


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
    parser.add_argument("what", choices=("angles", "refined", "motion", "still", "swapped", "slips", "long"))
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--first", type=int, default=0, help="seed; only `refined`")
    parser.add_argument("--photons", type=float, help="only `refined` (1e6 else) and `motion` (all of its counts)")
    parser.add_argument("--wobble", type=float, default=0.0, help="pixels; only `refined`")
    parser.add_argument("--jitter", type=float, default=0.3, help="steps; only `refined`")
    parser.add_argument("--gone", choices=("", "missing", "repeated"), default="", help="frames; only `refined`")
    asked = parser.parse_args()
    if asked.what == "angles":
        angles(asked.seeds)
    elif asked.what == "still":
        still(asked.seeds)
    elif asked.what == "motion":
        motion(asked.seeds, [asked.photons] if asked.photons else list(FAINT_TO_BRIGHT))
    elif asked.what == "swapped":
        swapped(asked.seeds)
    elif asked.what == "slips":
        slips(asked.seeds)
    elif asked.what == "long":
        long()
    else:
        seeds = list(range(asked.first, asked.first + asked.seeds))
        refined(seeds, asked.photons or 1e6, asked.jitter, asked.gone, asked.wobble)


if __name__ == "__main__":
    main()

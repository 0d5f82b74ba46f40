"""How often the default retrieval finds a simulated crystal, by class; poor classes are printed like the others.

    python benchmarks/suite.py --seeds 10 > table.md

A result is found when its phase is within 0.15 rad of the truth inside the crystal, but for twin, shift and ramp.
"""

import argparse
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from multiprocessing import get_context
from typing import Any

import numpy as np

from live_bcdi.cli import config_path
from live_bcdi.config import load_config
from live_bcdi.pipeline import reconstruct
from live_bcdi.sim import compare_with_truth, simulate_scan
from live_bcdi.types import RockingScan, ScanError

SHAPE = (32, 48, 48)
FOUND_RAD = 0.15

Change = Callable[[RockingScan, np.random.Generator], RockingScan]


def as_it_is(scan: RockingScan, rng: np.random.Generator) -> RockingScan:
    return scan


def off_centre(scan: RockingScan, rng: np.random.Generator) -> RockingScan:
    """The peak a sixth of the detector and of the scan away from the middle: what lies beyond is cut off."""
    return replace(
        scan,
        intensity=scan.intensity[5:, 8:, :-8].copy(),
        angles_deg=scan.angles_deg[5:],
        monitor=None if scan.monitor is None else scan.monitor[5:],
        timestamps_s=None if scan.timestamps_s is None else scan.timestamps_s[5:],
        geometry=replace(scan.geometry, arm_pixel=(scan.geometry.arm_pixel[0] - 8, scan.geometry.arm_pixel[1])),
    )


def gaps(scan: RockingScan, rng: np.random.Generator) -> RockingScan:
    """Two module gaps of three pixels, one of them four pixels from the peak, and a beamstop-like hole."""
    bad = np.zeros(scan.intensity.shape[1:], bool)
    middle = bad.shape[0] // 2
    bad[middle + 4 : middle + 7] = True
    bad[:, 10:13] = True
    bad[middle - 9 : middle - 5, middle + 6 : middle + 10] = True
    return replace(scan, bad_pixels=bad)


def missing_frames(scan: RockingScan, rng: np.random.Generator) -> RockingScan:
    """A fifth of the frames lost at random, never the three around the peak."""
    count = len(scan.intensity)
    far = np.flatnonzero(np.abs(np.arange(count) - count // 2) > 1)
    have = np.ones(count, bool)
    have[rng.choice(far, count // 5, replace=False)] = False
    return replace(scan, have=have, intensity=scan.intensity * have[:, None, None])


CLASSES: Mapping[str, tuple[str, float, Change]] = {
    **{f"{strain} strain, 2e6 photons": (strain, 2e6, as_it_is) for strain in ("weak", "medium", "strong")},
    **{f"medium strain, {photons:.0e} photons": ("medium", photons, as_it_is) for photons in (1e4, 1e5, 1e7, 1e8)},
    "off-centre": ("medium", 2e6, off_centre),
    "gaps and beamstop": ("medium", 2e6, gaps),
    "20% of frames missing": ("medium", 2e6, missing_frames),
}


def one(name: str, seed: int) -> dict[str, Any]:
    """One scan of a class, retrieved: the comparison with its truth, chi, seconds."""
    strain, photons, change = CLASSES[name]
    settings = load_config(config_path("34idc"))
    scan, truth = simulate_scan(shape=SHAPE, photons=photons, strain=strain, seed=seed, config=settings)
    began_s = time.perf_counter()
    try:
        result = reconstruct(change(scan, np.random.default_rng(seed)), seed=seed)
    except ScanError as error:
        return {"phase_rms_rad": float("nan"), "amplitude_correlation": float("nan"), "error": str(error)}
    compared = compare_with_truth(result, truth)
    return {**compared, "chi": result.chi, "seconds": time.perf_counter() - began_s}


def row(name: str, results: list[dict[str, Any]]) -> str:
    """A line of the table."""
    rms = [each["phase_rms_rad"] for each in results]
    found = sum(value < FOUND_RAD for value in rms)
    known = [value for value in rms if np.isfinite(value)] or [float("nan")]
    amplitude = statistics.median(each["amplitude_correlation"] for each in results)
    seconds = statistics.median(each.get("seconds", float("nan")) for each in results)
    return (
        f"| {name} | {found}/{len(results)} | {statistics.median(known):.3f} | {max(known):.3f} "
        f"| {amplitude:.3f} | {seconds:.1f} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--only", default="", help="classes whose name holds this")
    asked = parser.parse_args()
    print("| class | found | phase error, median (rad) | worst (rad) | amplitude correlation | seconds |")
    print("|---|---|---|---|---|---|")
    with get_context("spawn").Pool(asked.processes) as pool:
        for name in CLASSES:
            if asked.only in name:
                tasks = [(name, 100 + seed) for seed in range(asked.seeds)]
                print(row(name, pool.starmap(one, tasks)), flush=True)


if __name__ == "__main__":
    main()

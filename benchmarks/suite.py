"""How often the default retrieval finds a simulated crystal, by class; poor classes are printed like the others.

    python benchmarks/suite.py --seeds 20                      the classes
    python benchmarks/suite.py --seeds 20 --table photons      photons against strain
    python benchmarks/suite.py --seeds 4 --only dislocation    a quick look

Found is an object whose phase is within 0.15 rad (rms) of the truth inside the crystal, but for twin, shift and
ramp, and whose amplitude has a correlation with the truth's above 0.9. `twin` is how many of those found are the
twin of the truth: one scan cannot tell the two apart (docs/success.md).
"""

import argparse
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from multiprocessing import get_context
from multiprocessing.pool import Pool
from typing import Any

import numpy as np
from scipy.stats import binomtest

from live_bcdi.cli import config_path
from live_bcdi.config import load_config
from live_bcdi.phasing import Plan
from live_bcdi.pipeline import reconstruct
from live_bcdi.sim import compare_with_truth, simulate_scan
from live_bcdi.types import RockingScan, ScanError, Vector

FOUND_RAD = 0.15
FOUND_CORRELATION = 0.9
FIRST_SEED = 100

PHOTONS = (1e4, 1e5, 1e6, 1e7, 1e8)
STRAINS = ("weak", "medium", "strong")

# Much as what is chosen at this size and these counts, with one more operator: it is never chosen by itself.
TIGHT = "ShrinkWrap(threshold=0.14)"
FIND = "20*ER + 6*(20*HIO + ShrinkWrap(sigma=2, sigma_end=1, threshold=0.1, threshold_end=0.25))"
AGREE = f"2*(20*RAAR + 5*ER + {TIGHT}) + 10*ER"
FOUND = f"{FIND} + {AGREE} + Guide(keep=4) + {AGREE} + Guide(keep=3)"
COHERENCE = f"{FOUND} + 4*(Coherence + 20*RAAR + 5*ER + {TIGHT}) + 3*(Coherence + 20*ER)"
BACKGROUND = f"{FOUND} + 4*(Background + 20*RAAR + 5*ER + {TIGHT}) + Background + 60*ER"
STARTS = 12

Result = Mapping[str, Any]
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


def beamstop(scan: RockingScan, rng: np.random.Generator) -> RockingScan:
    """The peak itself under a beamstop of 3 x 3 pixels, in every frame."""
    bad = np.zeros(scan.intensity.shape[1:], bool)
    row, column = (count // 2 for count in bad.shape)
    bad[row - 1 : row + 2, column - 1 : column + 2] = True
    return replace(scan, bad_pixels=bad)


def missing_frames(scan: RockingScan, rng: np.random.Generator) -> RockingScan:
    """A fifth of the frames lost at random, never the three around the peak."""
    count = len(scan.intensity)
    far = np.flatnonzero(np.abs(np.arange(count) - count // 2) > 1)
    have = np.ones(count, bool)
    have[rng.choice(far, count // 5, replace=False)] = False
    return replace(scan, have=have, intensity=scan.intensity * have[:, None, None])


@dataclass(frozen=True, kw_only=True, slots=True)
class Case:
    """What is simulated, what becomes of it, and the recipe (None: the default)."""

    strain: str = "medium"
    photons: float = 2e6
    kind: str = "faceted"
    blur: Vector = (0.0, 0.0, 0.0)
    background: float = 0.0
    shape: tuple[int, int, int] = (32, 48, 48)
    change: Change = as_it_is
    recipe: str | None = None


CLASSES: Mapping[str, Case] = {
    **{f"{strain} strain": Case(strain=strain) for strain in STRAINS},
    "cube": Case(kind="cube"),
    "ellipsoid": Case(kind="ellipsoid"),
    "hexagonal prism": Case(kind="prism"),
    "cube, even phase": Case(kind="even cube"),
    "ellipsoid, even phase": Case(kind="even ellipsoid"),
    "hexagonal prism, even phase": Case(kind="even prism"),
    "hexagonal prism, even phase, strong": Case(kind="even prism", strain="strong"),
    "void": Case(kind="void"),
    "hollow": Case(kind="hollow"),
    "two domains": Case(kind="fault"),
    "screw dislocation": Case(kind="screw"),
    "edge dislocation": Case(kind="edge"),
    "off-centre": Case(change=off_centre),
    "gaps": Case(change=gaps),
    "beamstop on the peak": Case(change=beamstop),
    "20% of frames missing": Case(change=missing_frames),
    "partial coherence 0.4": Case(blur=(0.4, 0.4, 0.4)),
    "partial coherence 0.4, `Coherence`": Case(blur=(0.4, 0.4, 0.4), recipe=COHERENCE),
    "partial coherence 0.8": Case(blur=(0.8, 0.8, 0.8)),
    "partial coherence 0.8, `Coherence`": Case(blur=(0.8, 0.8, 0.8), recipe=COHERENCE),
    "background 0.2": Case(background=0.2),
    "background 0.2, `Background`": Case(background=0.2, recipe=BACKGROUND),
    "64 x 96 x 96": Case(shape=(64, 96, 96)),
    "64 x 96 x 96, strong strain": Case(shape=(64, 96, 96), strain="strong"),
}

NOTHING = {"phase_rms_rad": float("nan"), "amplitude_correlation": 0.0, "twin": False, "seconds": float("nan")}


def one(case: Case, seed: int, *, recipe: str | None = None, starts: int | None = None) -> Result:
    """One scan of a class, retrieved: the comparison with its truth, chi, seconds."""
    scan, truth = simulate_scan(
        config=load_config(config_path("34idc")),
        shape=case.shape,
        photons=case.photons,
        strain=case.strain,
        seed=seed,
        background=case.background,
        blur=case.blur,
        kind=case.kind,
    )
    changed = case.change(scan, np.random.default_rng(seed))
    began_s = time.perf_counter()
    try:
        given = recipe or case.recipe
        plan = Plan(seed=seed, recipe=given, starts=starts or (STARTS if given else None))
        result = reconstruct(changed, plan)
    except ScanError as error:
        return {**NOTHING, "error": str(error)}
    seconds = time.perf_counter() - began_s
    if result.lab is None:
        return {**NOTHING, "error": result.outcome.value}
    return {**compare_with_truth(result, truth), "chi": result.chi, "seconds": seconds}


def found(result: Result) -> bool:
    """Never where there is no number."""
    return bool(result["phase_rms_rad"] < FOUND_RAD and result["amplitude_correlation"] > FOUND_CORRELATION)


def interval(count: int, total: int) -> str:
    """95 % interval of a rate (Wilson, J. Am. Stat. Assoc. 22, 209 (1927)), in per cent."""
    between = binomtest(count, total).proportion_ci(method="wilson")
    return f"{100 * between.low:.0f} to {100 * between.high:.0f}"


def median(results: list[Result], name: str) -> float:
    known = [each[name] for each in results if np.isfinite(each.get(name, np.nan))]
    return statistics.median(known) if known else float("nan")


def row(name: str, results: list[Result]) -> str:
    """A line of the table of classes."""
    right = [each for each in results if found(each)]
    worst = max((each["phase_rms_rad"] for each in results), key=lambda rms: np.inf if np.isnan(rms) else rms)
    line = median(results, "line_found")
    cells = (
        name,
        f"{len(right)}/{len(results)}",
        interval(len(right), len(results)),
        f"{median(results, 'phase_rms_rad'):.3f}",
        f"{worst:.3f}",
        f"{median(results, 'amplitude_correlation'):.3f}",
        f"{min(each['amplitude_correlation'] for each in results):.3f}",
        f"{sum(each['twin'] for each in right)}",
        "" if np.isnan(line) else f"{line:.2f}",
        f"{median(results, 'seconds'):.1f}",
    )
    return f"| {' | '.join(cells)} |"


HEADER = (
    "| class | found | 95 % interval | phase error, median (rad) | worst | amplitude correlation, median | worst "
    "| twin | line found | seconds |\n|---|---|---|---|---|---|---|---|---|---|"
)
Run = Callable[[Case], list[Result]]


def by_class(run: Run, only: str) -> Iterator[str]:
    yield HEADER
    for name, case in CLASSES.items():
        if only in name:
            results = run(case)
            yield row(name, results)
            yield from (
                f"  {name}: {error}" for error in sorted({each["error"] for each in results if "error" in each})
            )


def by_photons(run: Run, only: str) -> Iterator[str]:
    """Of a cell: found, its interval, the median phase error."""
    yield f"| photons | {' | '.join(f'{strain} strain' for strain in STRAINS)} |\n|---|---|---|---|"
    for photons in PHOTONS:
        cells = []
        for strain in STRAINS:
            results = run(Case(strain=strain, photons=photons))
            right = sum(map(found, results))
            rms = median(results, "phase_rms_rad")
            cells.append(f"{right}/{len(results)} ({interval(right, len(results))} %), {rms:.3f} rad")
        yield f"| {photons:.0e} | {' | '.join(cells)} |"


TABLES = {"classes": by_class, "photons": by_photons}


def run_in(pool: Pool, seeds: int, recipe: str | None, starts: int | None, case: Case) -> list[Result]:
    work = partial(one, recipe=recipe, starts=starts)
    return pool.starmap(work, [(case, FIRST_SEED + seed) for seed in range(seeds)], chunksize=1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--table", choices=TABLES, default="classes")
    parser.add_argument("--only", default="", help="classes whose name holds this")
    parser.add_argument("--recipe", help="this one for every class")
    parser.add_argument("--starts", type=int, help="instead of the default")
    asked = parser.parse_args()
    began_s = time.perf_counter()
    with get_context("spawn").Pool(asked.processes) as pool:
        run = partial(run_in, pool, asked.seeds, asked.recipe, asked.starts)
        for line in TABLES[asked.table](run, asked.only):
            print(line, flush=True)
    print(f"\n{time.perf_counter() - began_s:.0f} s with {asked.processes} processes")


if __name__ == "__main__":
    main()

"""Which bad scans are told among good repeats, and why, and how many good ones are blamed: 3 min on one thread.

    python benchmarks/outliers.py
    python benchmarks/outliers.py --part good             # or bad: one of the two tables
    python benchmarks/outliers.py --part bad --kinds jump # those alone

A simulated faceted crystal of medium strain (34-ID-C, `live_bcdi.sim.repeats`), 1e6 photons a scan. Each bad scan
is judged among 20 good ones that drift by 0.4 voxels a scan, lose 30 % of their counts and have a beam that
scatters by 5 % from frame to frame. The reason is right where one of those said is that of the kind. Beside it a
peer: a scan is bad where 1 - Pearson's correlation of counts with the usual scan is above the mean by one standard
deviation.
"""

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from live_bcdi.config import Preprocessing, load_config
from live_bcdi.geometry import q_lab_invA
from live_bcdi.preprocess import prepare
from live_bcdi.sim.crystals import random_truth
from live_bcdi.sim.repeats import Repeated
from live_bcdi.sim.scattering import OVERSAMPLING, bragg_geometry, scan_steps
from live_bcdi.tracking import ScanFacts, outliers, scan_facts, unusable
from live_bcdi.types import RockingScan, ScanError

SHAPE = (40, 48, 48)
SETTINGS = Preprocessing(binning=(1, 1, 1))
GOOD = 20
# what is done, how much of it, and words of the right reason
KINDS: dict[str, tuple[str, tuple[float, ...], str]] = {
    "alien": ("with so much of the peak's counts", (0.02, 0.1, 0.3), "another crystal"),
    "hot pixels": ("so many, 300 counts a frame", (4, 12, 40), "are hot"),
    "turned away": ("peak so many frames from the end", (2, 0, -6), "turned away|crystal is lost"),
    "beam lost": ("for so much of the scan", (0.1, 0.4, 1.0), "beam"),
    "jump": ("by so many pixels", (0.5, 1, 2, 4), "jumped"),
    "stale frames": ("so many", (1, 3, 8), "the one before them"),
    "missing frames": ("so many", (1, 3, 8), "are missing"),
    "saturated": ("peak at so many times the limit", (1.3, 2, 5), "are saturated"),
    "crystal lost": ("but for so much of it", (0.1, 0.01, 0.0), "crystal is lost|cannot be used"),
}
SERIES: dict[str, dict[str, Any]] = {
    "drift of 0.4 voxels a scan": {},
    "drift of 1 voxel": {"drift_voxels": 1.0},
    "half of the counts fade": {"fading": 0.5},
    "beam scatters by 20 % a frame": {"beam": 0.2},
    "1e4 photons": {"photons": 1e4},
    "4 acquisitions a frame, 2.5 limits at the peak": {"acquisitions": 4},
    "strong strain": {"strain": "strong"},
}


def repeated(*, strain: str = "medium", photons: float = 1e6, seed: int = 0, **changes: Any) -> Repeated:
    """Its peak is at 0.6 of the detector's limit; where frames sum several acquisitions, at 2.5 limits of one."""
    geometry = bragg_geometry(load_config(Path("config/34idc.toml")), SHAPE[1:])
    h = q_lab_invA(geometry, *geometry.arm_pixel)
    truth = random_truth(h, scan_steps(geometry), strain=strain, oversampling=OVERSAMPLING, seed=seed)
    made = Repeated(truth=truth, geometry=geometry, shape=SHAPE, photons=photons, beam=0.05)
    share = 0.6 if changes.get("acquisitions", 1) == 1 else 2.5
    return replace(made, saturation_counts=float(np.ceil(made.expected().max() / share)), **changes)


def facts_of(scan: RockingScan, others: Sequence[RockingScan] = ()) -> ScanFacts | str:
    """As the sum of repeats has them: of what cannot be used, why."""
    try:
        return scan_facts(scan, *prepare(scan, SETTINGS))
    except ScanError as error:
        return unusable(scan, error, others)


def by_mean_and_sigma(facts: Sequence[ScanFacts]) -> NDArray[np.bool_]:
    """The peer's."""
    brightness = np.array([each.brightness for each in facts])
    usual = facts[int(np.argsort(brightness)[len(brightness) // 2])].pattern[0].ravel()
    off = np.array([1 - np.corrcoef(usual, each.pattern[0].ravel())[0, 1] for each in facts])
    return np.asarray(off > off.mean() + off.std())


def bad_ones(repeats: int, kinds: Sequence[str]) -> None:
    source = repeated()
    good = list(source.series(GOOD, fading=0.3, seed=1))
    among = [each for each in map(facts_of, good) if not isinstance(each, str)]
    print(f"| kind | strength | told, of {repeats} | reason right | mean + 1 σ tells |\n" + "|---" * 5 + "|")
    blamed = theirs = judged = 0
    for kind in kinds:
        what, strengths, words = KINDS[kind]
        told, right, peer = ([0] * len(strengths) for _ in range(3))
        for level, strength in enumerate(strengths):
            for seed in range(repeats):
                facts = facts_of(source.bad(kind, strength, seed=seed), good)
                if isinstance(facts, str):
                    why: tuple[str, ...] = (facts,)
                else:
                    *others, why = outliers([*among, facts])
                    *flagged, there = by_mean_and_sigma([*among, facts])
                    blamed, theirs = blamed + sum(map(bool, others)), theirs + sum(flagged)
                    judged, peer[level] = judged + len(others), peer[level] + bool(there)
                told[level] += bool(why)
                right[level] += any(word in "; ".join(why) for word in words.split("|"))
        rows = [" / ".join(map(str, row)) for row in (told, right, peer)]
        print(
            f"| {kind}, {what} | {' / '.join(f'{each:g}' for each in strengths)} | {' | '.join(rows)} |",
            flush=True,
        )
    print(f"\nGood scans beside them that are blamed: {blamed} of {judged}; by mean + 1 σ {theirs}.")


def good_ones(count: int) -> None:
    print(f"| {count} good scans | blamed | why | by mean + 1 σ |\n|---|---|---|---|")
    for name, changes in SERIES.items():
        ways = {key: changes[key] for key in ("drift_voxels", "fading") if key in changes}
        source = repeated(**{key: value for key, value in changes.items() if key not in ways})
        facts = [facts_of(scan) for scan in source.series(count, seed=2, **ways)]
        usable = [each for each in facts if not isinstance(each, str)]
        why = outliers(usable)
        reasons = sorted(
            {reason for each in why for reason in each} | {each for each in facts if isinstance(each, str)}
        )
        blamed = sum(map(bool, why)) + len(facts) - len(usable)
        print(f"| {name} | {blamed} | {'; '.join(reasons)} | {by_mean_and_sigma(usable).sum()} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", choices=("good", "bad", "both"), default="both")
    parser.add_argument("--kinds", nargs="*", choices=KINDS, default=list(KINDS), help="of bad scans")
    parser.add_argument("--repeats", type=int, default=10, help="bad scans of each kind and strength")
    parser.add_argument("--good", type=int, default=50)
    asked = parser.parse_args()
    if asked.part != "bad":
        good_ones(asked.good)
        print()
    if asked.part != "good":
        bad_ones(asked.repeats, asked.kinds)


if __name__ == "__main__":
    main()

"""Which start to trust: the lowest chi, or the lowest free log-likelihood, on simulated scans with a known answer.

    python benchmarks/selection.py --seeds 10

Every scan is phased three times from the same seed, by the recipe that is chosen for it: all voxels used and the
best by chi; 4 % of them free and the best by chi; the same and the best by free_llk. Given is the phase error of
the chosen object, and whether it is within 0.15 rad of the truth.
"""

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np

from live_bcdi.config import load_config
from live_bcdi.phasing import Pattern, Plan, phase_pattern
from live_bcdi.phasing.align import without_ramp
from live_bcdi.preprocess import diffraction_volume
from live_bcdi.sim.compare import compare_with_truth
from live_bcdi.sim.scattering import simulate_scan
from live_bcdi.strain import lab_image

STRAINS = ("weak", "medium", "strong")
SHAPE = (32, 48, 48)
RIGHT_RAD = 0.15
WAYS = {"all, chi": (0.0, "chi"), "4 % free, chi": (0.04, "chi"), "4 % free, free_llk": (0.04, "free_llk")}


def errors(config: Path, strain: str, seed: int, photons: float) -> list[float]:
    """Phase error in rad of one scan by each of WAYS."""
    scan, truth = simulate_scan(config=load_config(config), shape=SHAPE, photons=photons, strain=strain, seed=seed)
    volume = diffraction_volume(scan)
    pattern = Pattern(intensity=volume.intensity, mask=volume.mask)
    found = []
    for free, select in WAYS.values():
        plan = Plan(seed=seed, threads=2, free=free, select=select)  # type: ignore[arg-type]
        result, _ = phase_pattern(pattern, plan)
        flat, slopes = without_ramp(result.density)
        image = replace(result, volume=volume, lab=lab_image(flat, slopes, volume))
        found.append(float(compare_with_truth(image, truth)["phase_rms_rad"]))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", type=Path, default=Path("config/34idc.toml"))
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--photons", type=float, default=2e6)
    parser.add_argument("--strains", nargs="+", default=STRAINS, choices=STRAINS)
    asked = parser.parse_args()
    print("| scan |", " | ".join(WAYS), "|")
    table = []
    for strain in asked.strains:
        for seed in range(asked.seeds):
            table.append(errors(asked.config, strain, seed, asked.photons))
            print(f"| {strain} {seed} |", " | ".join(f"{each:.3f}" for each in table[-1]), "|", flush=True)
    right = np.count_nonzero(np.array(table) < RIGHT_RAD, axis=0)
    print("| right |", " | ".join(f"{each} of {len(table)}" for each in right), "|")
    print("| mean |", " | ".join(f"{each:.3f}" for each in np.mean(table, axis=0)), "|")


if __name__ == "__main__":
    main()

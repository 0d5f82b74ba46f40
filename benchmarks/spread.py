"""How often the spread over the starts holds the truth, voxel by voxel, on simulated scans with a known answer.

    python benchmarks/spread.py --seeds 5

Each scan is phased by the recipe that is chosen for it, whose starts guide each other, and by one without Guide.
Given are, of the voxels of all scans in the support, the shares whose phase is within one and two standard
deviations of the truth (a Gaussian has 68 and 95 %), the rms error, and the rms of the standard deviation.
"""

import argparse
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from live_bcdi.config import load_config
from live_bcdi.phasing import Plan
from live_bcdi.pipeline import reconstruct
from live_bcdi.sim import phase_error_rad, simulate_scan

STRAINS = ("weak", "medium", "strong")
SHAPE = (32, 48, 48)
RECIPES: Mapping[str, tuple[str | None, int | None]] = {
    "as chosen (guided)": (None, None),
    "independent starts": ("4*(5*ER + 45*HIO + ShrinkWrap(sigma=1, threshold=0.15)) + 30*ER", 10),
}


def errors(config: Path, strain: str, seed: int, recipe: str | None, starts: int | None) -> NDArray[np.float64]:
    """(2, voxels): phase less the truth's, and its standard deviation over the starts, in rad."""
    scan, truth = simulate_scan(config=load_config(config), shape=SHAPE, strain=strain, seed=seed)
    result = reconstruct(scan, Plan(recipe=recipe, starts=starts, seed=seed, threads=2))
    assert result.lab is not None and result.lab.displacement_std_angstrom is not None
    error = phase_error_rad(result, truth)
    std = result.lab.displacement_std_angstrom * np.linalg.norm(result.lab.q_centre_invA)
    known = np.isfinite(error)
    return np.stack([error[known], std[known]])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", type=Path, default=Path("config/34idc.toml"))
    parser.add_argument("--seeds", type=int, default=5)
    asked = parser.parse_args()
    print("| starts | strain | within 1 std | within 2 std | error, rms rad | std, rms rad |", flush=True)
    print("|---|---|---|---|---|---|")
    for name, (recipe, starts) in RECIPES.items():
        for strain in STRAINS:
            found = [errors(asked.config, strain, seed, recipe, starts) for seed in range(asked.seeds)]
            error, std = np.abs(np.concatenate(found, axis=1))
            shares = " | ".join(f"{100 * np.mean(error <= times * std):.0f} %" for times in (1, 2))
            rms = " | ".join(f"{np.sqrt(np.mean(each**2)):.3f}" for each in (error, std))
            print(f"| {name} | {strain} | {shares} | {rms} |", flush=True)


if __name__ == "__main__":
    main()

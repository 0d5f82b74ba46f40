"""What partial coherence, a background and maximum likelihood are worth: simulated scans, and a measured one.

    python benchmarks/expected_counts.py                       simulated scans
    python benchmarks/expected_counts.py --spec FOLDER 54      that scan of a SPEC file, 34idc

Simulated: the phase error of the start of lowest chi of each recipe. Measured: one object goes on by each recipe;
4 % of the voxels are free, and chi, free_llk and the deviance have gamma and b in the expected counts.
"""

import argparse
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from live_bcdi.config import load_config
from live_bcdi.geometry import direct_basis_nm
from live_bcdi.phasing import Pattern, metrics, parse
from live_bcdi.phasing.align import canonical, without_ramp
from live_bcdi.phasing.engine import Retrieval, Start, retrieve
from live_bcdi.phasing.free import held_out
from live_bcdi.preprocess import diffraction_volume
from live_bcdi.sim.compare import compare_with_truth
from live_bcdi.sim.scattering import simulate_scan
from live_bcdi.strain import lab_image
from live_bcdi.transport.spec import read_spec_scan
from live_bcdi.types import DiffractionVolume, Outcome, Reconstruction

CONFIG = Path("config/34idc.toml")
SHAPE = (32, 48, 48)
CYCLE = "20*HIO + 5*ER + ShrinkWrap(sigma=1.5, threshold=0.15)"
SIMULATED = {
    "plain": f"20*ER + 8*({CYCLE}) + 60*ER",
    "Coherence": f"20*ER + 2*({CYCLE}) + 6*(Coherence + {CYCLE}) + 3*(Coherence + 20*ER)",
    "Background": f"20*ER + 2*({CYCLE}) + 6*(Background + {CYCLE}) + Background + 60*ER",
    "plain, ML": f"20*ER + 8*({CYCLE}) + 30*ER + ML(iterations=30)",
}
CLASSES = ((0.0, 0.0), (0.4, 0.0), (0.6, 0.0), (0.8, 0.0), (0.0, 0.2), (0.0, 2.0))
FIRST = (
    "20*ER + 6*(20*HIO + ShrinkWrap(sigma=2, threshold=0.15)) + 10*ER + 2*(20*RAAR + 5*ER + ShrinkWrap) + 20*ER"
)
ONWARD = (
    "60*ER",
    "3*(Coherence + 20*ER)",
    "10*(Coherence + 10*ER)",
    "ML(iterations=30)",
    "3*(Coherence + 20*ER) + ML(iterations=30)",
    "3*(Background + 20*ER)",
    "20*ER + Background + ML(iterations=30)",
)


def simulated(seeds: int, starts: int, photons: float) -> None:
    print("| blur, voxels | background | scan |", " | ".join(SIMULATED), "| blur found | background found |")
    for blur, background in CLASSES:
        for seed in range(seeds):
            scan, truth = simulate_scan(
                config=load_config(CONFIG),
                shape=SHAPE,
                photons=photons,
                seed=seed,
                background=background,
                blur=(blur, blur, blur),
            )
            volume = diffraction_volume(scan)
            pattern = Pattern(intensity=volume.intensity, mask=volume.mask)
            errors, found = [], {}
            for name, recipe in SIMULATED.items():
                ends = [retrieve(pattern, parse(recipe), start=Start(seed=k), threads=2) for k in range(starts)]
                found[name] = min(ends, key=lambda end: end.chi)
                errors.append(compare_with_truth(_image(found[name], volume), truth)["phase_rms_rad"])
            widths = ", ".join(f"{width:.2f}" for width in found["Coherence"].model.widths())
            level = found["Background"].model.background
            shown = " | ".join(f"{error:.3f}" for error in errors)
            print(f"| {blur} | {background} | {seed} | {shown} | {widths} | {level:.3f} |", flush=True)


def _image(end: Retrieval, volume: DiffractionVolume) -> Reconstruction:
    density, support = canonical(end.density, end.support)
    flat, slopes = without_ramp(density)
    return Reconstruction(
        density=density,
        support=support,
        chi=end.chi,
        chi_starts=(end.chi,),
        metrics={},
        recipe="",
        seed=0,
        outcome=Outcome.DONE,
        volume=volume,
        lab=lab_image(flat, slopes, volume),
    )


def measured(folder: Path, number: int) -> None:
    volume = diffraction_volume(read_spec_scan(folder, number, load_config(CONFIG)))
    whole = Pattern(intensity=volume.intensity, mask=volume.mask)
    free = held_out(whole, 0.04, 0)
    pattern = replace(whole, mask=whole.mask | free)
    ends = [retrieve(pattern, parse(FIRST), start=Start(seed=seed), threads=2) for seed in range(2)]
    best = min(ends, key=lambda end: end.chi)
    print("| then | chi | free_llk | deviance | background | coherence length, nm | s |")
    for recipe in ONWARD:
        clock = time.perf_counter()
        end = retrieve(pattern, parse(recipe), start=Start(initial=best.density, support=best.support), threads=2)
        clock = time.perf_counter() - clock
        modulus = np.sqrt(end.model.expected(np.abs(metrics.centred_transform(end.density)) ** 2))
        llk = metrics.poisson_deviance(modulus, volume.intensity, free) / 2
        deviance = metrics.poisson_deviance(modulus, volume.intensity, ~pattern.mask)
        assert volume.q_steps_invA is not None
        basis = direct_basis_nm(volume.q_steps_invA, volume.intensity.shape)
        lengths = ", ".join(f"{x:.0f}" for x in end.model.coherence_length_nm(basis, volume.intensity.shape))
        figures = f"{end.chi:.5f} | {llk:.3f} | {deviance:.3f} | {end.model.background:.3f}"
        print(f"| `{recipe}` | {figures} | {lengths} | {clock:.1f} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--spec", nargs=2, metavar=("FOLDER", "SCAN"))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--starts", type=int, default=3)
    parser.add_argument("--photons", type=float, default=2e6)
    asked = parser.parse_args()
    if asked.spec:
        measured(Path(asked.spec[0]), int(asked.spec[1]))
    else:
        simulated(asked.seeds, asked.starts, asked.photons)


if __name__ == "__main__":
    main()

"""What each way to cubic voxels, and each window, does to a simulated crystal whose phases are known.

python benchmarks/orthogonalise.py           # the table of docs/explanation.md
"""

import argparse
import time
from pathlib import Path
from typing import get_args

import numpy as np
from numpy.typing import NDArray

from live_bcdi.config import load_config
from live_bcdi.geometry import direct_basis_nm, q_lab_invA
from live_bcdi.orthogonal import Method, Window, apodised, orthogonalise
from live_bcdi.sim.crystals import Truth, random_truth
from live_bcdi.sim.scattering import bragg_geometry, diffraction_amplitude, scan_steps
from live_bcdi.strain import strain_along
from live_bcdi.types import ComplexArray

CONFIG = Path(__file__).resolve().parents[1] / "config" / "34idc.toml"


def positions_nm(image: ComplexArray, step: float) -> NDArray[np.float64]:
    index = np.stack(np.meshgrid(*[np.arange(n) - n // 2 for n in image.shape], indexing="ij"), axis=-1)
    return np.asarray(index * step)


def known_strain(truth: Truth, points: NDArray[np.float64]) -> NDArray[np.float64]:
    along = np.asarray(truth.h_invA) / np.linalg.norm(truth.h_invA)
    ends = truth.displacement_at(points + 0.01 * along) - truth.displacement_at(points - 0.01 * along)
    return np.asarray(ends / 0.2)  # ångström over 0.02 nm


def figures(image: ComplexArray, step: float, truth: Truth) -> dict[str, float]:
    """Over what is 1.5 voxels and more below the surface."""
    points = positions_nm(image, step)
    depth = truth.depth_nm(points)
    core = depth > 1.5 * step
    amplitude = np.abs(image[core])
    phase = np.angle(image[core] * np.exp(-1j * truth.phase_at(points[core])))
    found = strain_along(image, depth > 0, np.asarray(truth.h_invA), step)[core].astype(np.float64)
    expected = known_strain(truth, points[core])
    error = found - expected
    return {
        "phase": float(phase.std()),
        "amplitude": float(amplitude.std() / amplitude.mean()),
        "slope": float(np.polyfit(expected, found, 1)[0]),
        "strain": float(error.std()),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shape", type=int, nargs=3, default=(64, 96, 96))
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    shape = tuple(options.shape)
    geometry = bragg_geometry(load_config(CONFIG), shape[1:])
    steps, h = scan_steps(geometry), q_lab_invA(geometry, *geometry.arm_pixel)
    truth = random_truth(h, steps, strain="medium", oversampling=3.0, seed=options.seed)
    amplitude = diffraction_amplitude(truth, steps, shape)
    density = np.fft.fftshift(np.fft.ifftn(np.fft.ifftshift(amplitude)))
    print("| window | way | phase, rms rad | amplitude, std | strain: slope | strain error, rms | seconds |")
    for window in get_args(Window):
        for method in get_args(Method):
            seen = apodised(density, window)
            began_s = time.perf_counter()
            image, step = orthogonalise(seen, direct_basis_nm(steps, shape), method=method)
            seconds = time.perf_counter() - began_s
            row = figures(image, step, truth)
            values = f"{row['phase']:.3f} | {row['amplitude']:.3f} | {row['slope']:.3f} | {row['strain']:.1e}"
            print(f"| {window} | {method} | {values} | {seconds:.2f} |")


if __name__ == "__main__":
    main()

"""A strained gold crystal of 1 um from its dynamical pattern: how far off its phase is on each rung.

python benchmarks/refinement.py
python benchmarks/refinement.py --jitter 0.333 --prior 0.333

The crystal has four radians of phase; (002), 8 keV, pi; Poisson counts on 64 x 64 pixels in frames across 0.4
degrees, made on voxels half as long as the refinement's. The start is the best that a kinematical retrieval could
give: the crystal with the refraction and absorption of both beams in it, and errors of 0.1 rad. Errors are root
mean squares in radians where the crystal fills its voxels, without a common offset. `--jitter` and `--prior` are
in steps of the scan: how far the frames are off, and how far they are thought to be (0: they stay).
"""

import argparse
import time

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from live_bcdi.dynamical import Characteristics, Frames, Settings, along_diffracted, refine
from live_bcdi.dynamical.detector import FarField

WAVELENGTH_M = 12.398419843320026e-10 / 8
TWO_THETA = float(np.deg2rad(44.76))
GOLD = {"chi_0": -9.4070e-5 + 0.84962e-5j, "chi_h": 5.2548e-5 - 0.59889e-5j, "chi_hbar": 5.2548e-5 - 0.59889e-5j}
BEAMS = along_diffracted(WAVELENGTH_M, TWO_THETA, **GOLD)
SHAPE = (52, 36, 44)
DX = 32e-9
EDGES = np.array([DX, DX, DX / np.tan(TWO_THETA)])
Complex, Real = NDArray[np.complex128], NDArray[np.float64]


def crystal(fine: int) -> tuple[Complex, Real]:
    """S and s0 on voxels `fine` times shorter, partly filled at the facets."""
    edges = EDGES / fine
    axes = [(np.arange(fine * n) - fine * n // 2 + (fine - 1) / 2) * d for n, d in zip(SHAPE, edges)]
    x, y, z = np.meshgrid(*axes, indexing="ij")
    filled = np.ones(x.shape)
    for distance, half in ((x + 0.3 * z, 0.5e-6), (y, 0.5e-6), (z, 0.5e-6), (x + y - z, 0.9e-6)):
        filled *= np.clip((half - np.abs(distance)) / edges[0] + 0.5, 0, 1)
    phase = 1.2 * np.sin(x / 0.25e-6) * np.cos(z / 0.3e-6) + 0.6 * y * z / (0.3e-6) ** 2 + np.sin(y / 0.3e-6)
    return filled * np.exp(1j * phase), filled


def transmission(s0: Real) -> Complex:
    """exp(i k chi_0 (l_in + l_out) / 2) on the way to each voxel's middle and on from there."""
    out = np.cumsum(s0[:, :, ::-1], axis=2)[:, :, ::-1] - 0.5 * s0
    before = np.zeros_like(s0)
    for j in range(1, s0.shape[2]):
        before[:-1, :, j] = (before[:, :, j - 1] + s0[:, :, j - 1])[1:]
    inwards = (before + 0.5 * s0) / np.cos(TWO_THETA)
    return np.asarray(np.exp(0.5j * BEAMS.wave_number * GOLD["chi_0"] * (inwards + out) * EDGES[2]))


def measured(photons: float, angles: Real, offsets: Real) -> tuple[Frames, FarField]:
    q = 2 * np.pi / (80 * DX) * (np.arange(64) - 32)
    momenta = np.stack(np.meshgrid(q, q, indexing="ij"), axis=-1)[:, :, None]
    passage = Characteristics(BEAMS, EDGES / 2).march(*crystal(2), BEAMS.turned(angles + offsets))
    expected = FarField(momenta, EDGES / 2).intensities(passage.eh)
    counts = np.random.default_rng(1).poisson(expected * photons / expected.sum()).astype(float)
    frames = Frames(
        counts=counts,
        delta_q=BEAMS.turned(angles),
        turning=BEAMS.turning(angles),
        used=np.ones(counts.shape, bool),
    )
    return frames, FarField(momenta, EDGES)


def errors(density: NDArray[np.complexfloating]) -> tuple[float, float]:
    """Of the phase, and the correlation of the amplitudes."""
    truth, s0 = crystal(1)
    inside = s0 > 0.99
    ratio = density[inside] * np.conj(truth[inside])
    phase = np.angle(ratio * np.exp(-1j * np.angle(ratio.sum())))
    return float(np.std(phase)), float(np.corrcoef(np.abs(density).ravel(), s0.ravel())[0, 1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photons", type=float, default=3e7)
    parser.add_argument("--angles", type=int, default=51)
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--step", type=float, default=0.05)
    parser.add_argument("--smoothing", type=float, default=0.0)
    parser.add_argument("--loss", choices=("amplitude", "poisson"), default="amplitude")
    parser.add_argument("--jitter", type=float, default=0.0)
    parser.add_argument("--prior", type=float, default=0.0)
    asked = parser.parse_args()
    step = np.deg2rad(0.4) / (asked.angles - 1)
    angles = step * (np.arange(asked.angles) - asked.angles // 2)
    offsets = asked.jitter * step * _straight(np.random.default_rng(5).normal(size=asked.angles))
    frames, far_field = measured(asked.photons, angles, offsets)
    truth, s0 = crystal(1)
    rough = ndimage.gaussian_filter(np.random.default_rng(3).normal(size=SHAPE), 1.5)
    start = (truth * transmission(s0) * np.exp(0.1j * rough / rough.std())).astype(np.complex64)
    settings = Settings(
        epochs=asked.epochs,
        step=asked.step,
        loss=asked.loss,
        smoothing=asked.smoothing,
        angle_prior_rad=asked.prior * step or None,
    )
    began = time.perf_counter()
    found = refine(frames, far_field, Characteristics(BEAMS, EDGES), (start, s0), settings)
    took = time.perf_counter() - began
    print("| rung | phase error, rad | amplitude correlation |\n|---|---|---|")
    for name, density in (
        ("kinematical", start),
        ("refraction corrected", start / transmission(s0)),
        ("refined", found.density),
    ):
        phase, amplitude = errors(density)
        print(f"| {name} | {phase:.3f} | {amplitude:.4f} |")
    free = found.free_misfits
    print(f"{took / asked.epochs:.2f} s an epoch; free misfit {free[0]:.3g} -> {min(free):.3g}")
    if asked.jitter:
        left, outer = _straight(found.offsets_rad - offsets) / step, asked.angles // 5
        inner = np.std(left[outer:-outer])
        print(f"angles: off by {np.std(offsets) / step:.3f} steps, then {np.std(left):.3f}, inner {inner:.3f}")


def _straight(angles: Real) -> Real:
    """Without the whole scan's offset and stretch, which no pattern shows."""
    count = np.arange(len(angles))
    return np.asarray(angles - np.polyval(np.polyfit(count, angles, 1), count))


if __name__ == "__main__":
    main()

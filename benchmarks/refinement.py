"""A strained gold crystal of 1 um from its dynamical pattern alone: how far off its phase is on each rung.

python benchmarks/refinement.py
python benchmarks/refinement.py --range 0.24 --jitter 0.333 --prior 0.333 --epochs 60

The crystal has four radians of phase; (002), 8 keV, pi; Poisson counts on 64 x 64 pixels in 51 frames. The scan is
phased by this project's own retrieval (--recipe, or the automatic one: HIO, RAAR and ER), and refined from that.
`--jitter` and `--prior` are in steps of the scan: how far the frames are off, and how far they are thought to be.

What the refinement shares with what it is judged by: the constants of gold; the march, the tangent plane of the
Ewald sphere and pixels that are points, of the model that makes the frames, though on voxels of half the length or
less; that electrons are where |S| is; a given background (none). With --jitter, --prior is the true one where both
are one number, and the offsets are made without mean and stretch, which no pattern shows.

Errors are root mean squares in radians where the crystal fills its voxels; voxels where nothing was found have no
phase and are counted beside it. The place of the crystal, which no pattern shows, is fitted to the truth with a
constant phase; the slope of the phase is not: the angles fix it. With jitter its three slopes are, though only the
two that an offset and a stretch of the angles make are free (--slope fits them always).
"""

import argparse
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from live_bcdi.dynamical import Characteristics, Settings, Susceptibilities, along_diffracted, refine_scan
from live_bcdi.dynamical.detector import FarField, departures, frame_at, pixel_samples
from live_bcdi.dynamical.scan import SMOOTHINGS, RefinedScan
from live_bcdi.dynamical.start import Placed, twin_of
from live_bcdi.geometry import chain_matrix, q_lab_invA
from live_bcdi.phasing import Plan
from live_bcdi.pipeline import reconstruct
from live_bcdi.types import Geometry, RockingScan, Rotation

CHI_H = 7.4004e-5 - 0.8435e-5j  # C = 1
GOLD = Susceptibilities(chi_0=-9.4070e-5 + 0.84962e-5j, chi_h=CHI_H, chi_hbar=CHI_H)
TWO_THETA_DEG = 44.76
PIXELS, MIDDLE = 64, (32.0, 32.0)
FINE_M = 10e-9  # the edge of the voxels that the frames are made on
GEOMETRY = Geometry(
    energy_kev=8.0,
    distance_m=0.9087,
    pixel_um=(55.0, 55.0),
    arm_pixel=MIDDLE,
    beam_direction=(0.0, 0.0, 1.0),
    row_direction=(0.0, -1.0, 0.0),
    column_direction=(1.0, 0.0, 0.0),
    sample=(Rotation(motor="theta", axis=(0.0, 1.0, 0.0), angle_deg=TWO_THETA_DEG / 2),),
    arm=(Rotation(motor="delta", axis=(0.0, 1.0, 0.0), angle_deg=TWO_THETA_DEG),),
    rocking="theta",
)
FRAME = frame_at(GEOMETRY, *MIDDLE)
Real, Complex = NDArray[np.float64], NDArray[np.complexfloating]


def truth(places: Real, edge: float) -> tuple[Real, Real]:
    """How far voxels of this edge at (..., 3) in m are filled, and the phase there."""
    x, y, z = np.moveaxis(places, -1, 0)
    filled = np.ones(x.shape)
    for distance, half in ((x + 0.3 * z, 0.5e-6), (y, 0.5e-6), (z, 0.5e-6), (x + y - z, 0.9e-6)):
        filled *= np.clip((half - np.abs(distance)) / edge + 0.5, 0, 1)
    phase = 1.2 * np.sin(x / 0.25e-6) * np.cos(z / 0.3e-6) + 0.6 * y * z / (0.3e-6) ** 2 + np.sin(y / 0.3e-6)
    return filled, phase


def grid(shape: tuple[int, ...], edges: Real) -> Real:
    axes = [(np.arange(n) - n // 2) * edge for n, edge in zip(shape, edges)]
    return np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1)


def measured(photons: float, angles_deg: Real, offsets_deg: Real) -> RockingScan:
    gold = {"chi_0": GOLD.chi_0, "chi_h": GOLD.chi_h, "chi_hbar": GOLD.chi_hbar}
    beams = along_diffracted(FRAME.wavelength_m, FRAME.two_theta, **gold).in_plane()
    edges = np.array([FINE_M, FINE_M, FINE_M / np.tan(FRAME.two_theta)])
    filled, phase = truth(grid((168, 116, 142), edges), FINE_M)
    turned = departures(GEOMETRY, *MIDDLE, angles_deg + offsets_deg)
    wave = Characteristics(beams, edges).march(filled * np.exp(1j * phase), filled, turned).eh
    expected = FarField(pixel_samples(GEOMETRY, MIDDLE, (PIXELS, PIXELS)), edges).intensities(wave)
    counts = np.random.default_rng(1).poisson(expected * photons / expected.sum()).astype(np.int32)
    return RockingScan(name="gold", intensity=counts, angles_deg=angles_deg, geometry=GEOMETRY)


def errors(crystal: Placed, *, slope: bool) -> tuple[float, float, float]:
    """Of the phase, the share of the crystal where nothing was found, and the correlation of the amplitudes, where
    the truth lies as it fits best."""
    at_rest = chain_matrix(crystal.geometry.sample) @ chain_matrix(GEOMETRY.sample).T
    onto = crystal.frame.axes @ at_rest @ FRAME.axes.T
    places = grid(crystal.density.shape, crystal.edges_m)
    # the two frames' peaks lie in different pixels: the object has the difference as a slope of its phase
    h, h_there = q_lab_invA(GEOMETRY, *MIDDLE), q_lab_invA(crystal.geometry, *crystal.peak)
    ramp = 1e10 * crystal.frame.axes @ (at_rest @ h - h_there)
    density = crystal.density * np.exp(-1j * places @ ramp)

    def there(numbers: Real) -> tuple[Real, Real]:
        filled, phase = truth((places - 1e-8 * numbers[:3]) @ onto, crystal.edges_m[0])
        return filled, phase + places @ (1e6 * numbers[3:]) if slope else phase

    def mismatch(numbers: Real) -> float:
        filled, phase = there(numbers)
        overlap = np.vdot(filled * np.exp(1j * phase), density)
        return float(-abs(overlap) / np.linalg.norm(filled) / np.linalg.norm(density))

    weight = np.abs(density) ** 2
    middle = [(weight * places[..., axis]).sum() / weight.sum() for axis in range(3)]
    start = np.concatenate([1e8 * np.array(middle), np.zeros(3 if slope else 0)])
    bounds = [(each - 20, each + 20) for each in start]  # 0.2 um and 20 rad/um: beyond, nothing overlaps
    best = minimize(mismatch, start, method="Powell", bounds=bounds, options={"xtol": 1e-3, "ftol": 1e-8}).x
    filled, phase = there(best)
    ratio = (density * np.exp(-1j * phase))[filled > 0.99]
    found = np.abs(ratio) > 0.1 * np.median(np.abs(ratio))
    missing, ratio = 1 - float(found.mean()), ratio[found]
    off = np.angle(ratio * np.exp(-1j * np.angle(ratio.sum())))
    return float(np.std(off)), missing, float(np.corrcoef(np.abs(density).ravel(), filled.ravel())[0, 1])


def turned_as(found: RefinedScan) -> Placed:
    """The retrieval, or its twin where that was taken: which of them it is, a retrieval cannot know."""
    return twin_of(found.retrieved) if found.twin else found.retrieved


def straight(angles: Real) -> Real:
    """Without the whole scan's offset and stretch, which no pattern shows."""
    count = np.arange(len(angles))
    return np.asarray(angles - np.polyval(np.polyfit(count, angles, 1), count))


def asked() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photons", type=float, default=3e7)
    parser.add_argument("--angles", type=int, default=51)
    parser.add_argument("--recipe", help="the automatic one by default")
    parser.add_argument("--starts", type=int)
    parser.add_argument("--epochs", type=int, default=Settings().epochs)
    parser.add_argument("--history", type=int, default=Settings().history)
    parser.add_argument("--method", choices=("lbfgs", "adam"), default="lbfgs")
    parser.add_argument("--loss", choices=("amplitude", "poisson"), default="amplitude")
    parser.add_argument("--smoothings", type=float, nargs="+", default=SMOOTHINGS)
    parser.add_argument("--range", type=float, default=0.4, help="of the angles, in degrees")
    parser.add_argument("--jitter", type=float, default=0.0)
    parser.add_argument("--prior", type=float, default=0.0)
    parser.add_argument("--seed", type=int, default=5, help="of the jitter")
    parser.add_argument("--slope", action="store_true")
    parser.add_argument("--checkpoint", type=Path)
    parser.add_argument("--verbose", action="store_true")
    return parser.parse_args()


def main() -> None:
    said = asked()
    step = said.range / (said.angles - 1)
    angles = TWO_THETA_DEG / 2 + step * (np.arange(said.angles) - said.angles // 2)
    offsets = said.jitter * step * straight(np.random.default_rng(said.seed).normal(size=said.angles))
    scan = measured(said.photons, angles, offsets)
    began = time.perf_counter()
    result = reconstruct(scan, Plan(recipe=said.recipe, starts=said.starts))
    phased = time.perf_counter()
    settings = Settings(
        epochs=said.epochs,
        history=said.history,
        method=said.method,
        loss=said.loss,
        angle_prior_rad=np.deg2rad(said.prior * step) or None,
    )
    found = refine_scan(
        scan,
        result,
        GOLD,
        settings,
        polarisation="pi",
        smoothings=said.smoothings,
        checkpoint=said.checkpoint,
        progress=(lambda share, text: print(f"{share:.3f} {text}")) if said.verbose else None,
    )
    took = time.perf_counter() - phased
    print("| rung | phase error, rad | missing | amplitude correlation |\n|---|---|---|---|")
    for name, crystal in (
        ("retrieved", turned_as(found)),
        ("refraction and absorption divided out", found.start),
        ("refined", found.crystal),
    ):
        phase, missing, amplitude = errors(crystal, slope=said.slope or bool(said.jitter))
        print(f"| {name} | {phase:.3f} | {missing:.2%} | {amplitude:.4f} |")
    for name, misfit in found.free_misfits.items():
        print(f"free misfit {misfit:.4f}: {name}")
    print(f"taken: {'the twin' if found.twin else 'the retrieved one'}, smoothing {found.smoothing:.3g}")
    shape = " x ".join(map(str, found.crystal.density.shape))
    print(f"phased in {phased - began:.1f} s (chi {result.chi:.4f}); refined in {took:.1f} s on {shape} voxels")
    if said.jitter:
        left, outer = straight(np.rad2deg(found.refined.offsets_rad) - offsets) / step, said.angles // 5
        inner = np.std(left[outer:-outer])
        print(f"angles: off by {np.std(offsets) / step:.3f} steps, then {np.std(left):.3f}, inner {inner:.3f}")


if __name__ == "__main__":
    main()

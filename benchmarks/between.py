"""How well the motion between two scans is known, by photons: 65 s on one thread.

    python benchmarks/between.py

Simulated faceted crystals of medium strain (34-ID-C, or as said), moved in reciprocal space by amounts drawn from
--seed, and counted anew each time. The figures are root mean squares of what is found less what was put in.
"""

import argparse
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.registration import phase_cross_correlation

from live_bcdi.combine import sum_volumes
from live_bcdi.config import Preprocessing, load_config
from live_bcdi.geometry import axes_across, q_lab_invA, rocking_axis_lab
from live_bcdi.preprocess import find_centre, prepare
from live_bcdi.registration import displacement, locate
from live_bcdi.series import align_series
from live_bcdi.sim.crystals import Truth, random_truth
from live_bcdi.sim.repeats import moved
from live_bcdi.sim.scattering import bragg_geometry, diffraction_amplitude, measure, scan_steps
from live_bcdi.sim.series import true_phase_image
from live_bcdi.tracking import find_peak, find_peaks, motion_between
from live_bcdi.types import DiffractionVolume, Geometry, Vector

SHAPE = (40, 48, 48)
PHOTONS = (1e2, 1e3, 1e4, 1e5, 1e6)
BEAMLINES = ("34idc", "id01", "p10")
SETTINGS = Preprocessing(shape=SHAPE, binning=(1, 1, 1))
Array = NDArray[np.float64]


def beamline(name: str) -> Geometry:
    return bragg_geometry(load_config(Path("config") / f"{name}.toml"), SHAPE[1:])


def crystal(geometry: Geometry, seed: int, moved_invA: Array | None = None) -> Truth:
    """Whose peak is moved."""
    h = q_lab_invA(geometry, *geometry.arm_pixel)
    truth = random_truth(h, scan_steps(geometry), strain="medium", oversampling=3.0, seed=seed)
    return truth if moved_invA is None else moved(truth, moved_invA)


def pattern(geometry: Geometry, seed: int, shift: Array) -> Array:
    """Of one photon, moved by voxels."""
    steps = scan_steps(geometry)
    intensity = np.abs(diffraction_amplitude(crystal(geometry, seed, steps @ shift), steps, SHAPE)) ** 2
    return np.asarray(intensity / intensity.sum())


def _correlated(normalisation: str | None, of: Callable[[Array], Array]) -> Callable[..., Array]:
    def found(first: Array, mask: Array, second: Array, other: Array) -> Array:
        seen = ~(mask | other)
        shift, _, _ = phase_cross_correlation(
            of(first * seen), of(second * seen), upsample_factor=100, normalization=normalisation
        )
        return np.asarray(-shift)

    return found


CANDIDATES: dict[str, Callable[..., Array]] = {
    "component's centre of mass": lambda a, m, b, n: np.subtract(find_centre(b, n), find_centre(a, m)),
    "Gaussian (`locate`)": lambda a, m, b, n: np.subtract(locate(b, n).voxel, locate(a, m).voxel),
    "of what both measured (`displacement`)": lambda a, m, b, n: np.array(displacement((a, m), (b, n))),
    "correlation of counts": _correlated(None, lambda counts: counts),
    "of √counts": _correlated(None, np.sqrt),
    "phase correlation": _correlated("phase", lambda counts: counts),
}


def rms(values: list[Array]) -> float:
    return float(np.sqrt(np.mean(np.square(values))))


def pairs(geometry: Geometry, random: np.random.Generator, count: int) -> Iterator[tuple[Array, Array, Array]]:
    for seed in range(count):
        shift = random.uniform(-2, 2, 3)
        yield pattern(geometry, seed, np.zeros(3)), pattern(geometry, seed, shift), shift


def shifts(random: np.random.Generator, crystals: int, repeats: int) -> None:
    print("### Displacement, error in voxels\n")
    print("| photons |", " | ".join(CANDIDATES), "|\n|" + "---|" * (len(CANDIDATES) + 1))
    everything = list(pairs(beamline("34idc"), random, crystals))
    whole = np.zeros(SHAPE, bool)
    for photons in PHOTONS:
        errors: dict[str, list[Array]] = {name: [] for name in CANDIDATES}
        for first, second, shift in everything:
            for _ in range(repeats):
                counts = [random.poisson(each * photons).astype(float) for each in (first, second)]
                for name, found in CANDIDATES.items():
                    errors[name].append(found(counts[0], whole, counts[1], whole) - shift)
        print(f"| {photons:.0e} |", " | ".join(f"{rms(each):.4f}" for each in errors.values()), "|", flush=True)


def holes(random: np.random.Generator, crystals: int) -> None:
    """A gap of the detector stays where it is; saturated voxels go with the pattern."""
    print("\n### The same at 1e5 photons with voxels that were not measured\n")
    print("| not measured |", " | ".join(CANDIDATES), "|\n|" + "---|" * (len(CANDIDATES) + 1))
    everything = list(pairs(beamline("34idc"), random, crystals))
    columns = np.arange(SHAPE[2])[None, None] + np.zeros(SHAPE)
    cases: dict[str, Callable[[Array], Array]] = {
        "3 columns, 2 beside the peak": lambda counts: (columns >= 26) & (columns < 29),
        "3 columns, 5 beside it": lambda counts: (columns >= 29) & (columns < 32),
        "above 60 % of the maximum": lambda counts: counts > 0.6 * counts.max(),
    }
    for label, hidden in cases.items():
        errors: dict[str, list[Array]] = {name: [] for name in CANDIDATES}
        for first, second, shift in everything:
            counts = [random.poisson(each * 1e5).astype(float) for each in (first, second)]
            masks = [hidden(each) for each in counts]
            seen = [np.where(mask, 0, each) for mask, each in zip(masks, counts)]
            for name, found in CANDIDATES.items():
                errors[name].append(found(seen[0], masks[0], seen[1], masks[1]) - shift)
        print(f"| {label} |", " | ".join(f"{rms(each):.4f}" for each in errors.values()), "|", flush=True)


def motions(random: np.random.Generator, repeats: int) -> None:
    """Rotations to 20 mdeg and strains to 3e-4. Where error bars are right, 68 % are within one, 95 % in two."""
    print("\n### Rotation and strain between two scans\n")
    columns = "about the rocking axis, mdeg | about h × that, mdeg | Δd/d | error / its bar | in one | in two |"
    print(f"| beamline | photons | {columns}\n" + "|---" * 8 + "|")
    for name in BEAMLINES:
        for photons in PHOTONS:
            print(f"| {name} | {photons:.0e} |", _row_of(*_moved(name, photons, random, repeats)), flush=True)
    print("\n### The same with 3 columns not measured, 2 pixels beside the peak (34idc, 1e5 photons)\n")
    print(f"| peaks | {columns}\n" + "|---" * 7 + "|")
    for label, together in (("each by itself", False), ("by what both measured", True)):
        bad = np.zeros(SHAPE[1:], bool)
        bad[:, 26:29] = True
        rows = _moved("34idc", 1e5, np.random.default_rng(1), repeats, bad=bad, together=together)
        print(f"| {label} |", _row_of(*rows), flush=True)


def _row_of(errors: list[Array], pulls: list[Array]) -> str:
    first, second, strain = np.sqrt(np.mean(np.square(errors), axis=0))
    one, two = (float(np.mean(np.abs(pulls) < bars)) for bars in (1, 2))
    return f"{first:.3f} | {second:.3f} | {strain:.1e} | {rms(pulls):.2f} | {one:.0%} | {two:.0%} |"


def _moved(
    name: str,
    photons: float,
    random: np.random.Generator,
    repeats: int,
    *,
    bad: NDArray[np.bool_] | None = None,
    together: bool = False,
) -> tuple[list[Array], list[Array]]:
    geometry = beamline(name)
    h = q_lab_invA(geometry, *geometry.arm_pixel)
    x, y, z = rocking_axis_lab(geometry)
    axes = axes_across(h, (float(x), float(y), float(z)))
    errors, pulls = [], []
    for seed in range(repeats):
        put = np.array([*random.uniform(-20, 20, 2), random.uniform(-3e-4, 3e-4)])
        turn = np.deg2rad(put[:2] / 1e3) @ axes
        went = (h + np.cross(turn, h)) / (1 + put[2]) - h
        pairs = []
        for truth in (crystal(geometry, seed), crystal(geometry, seed, went)):
            scan = measure(truth, geometry, shape=SHAPE, photons=photons, seed=int(random.integers(2**31)))
            scan = replace(scan, bad_pixels=bad)
            pairs.append((prepare(scan, SETTINGS)[0], scan))
        found = motion_between(*(find_peaks(*pairs) if together else (find_peak(*pair) for pair in pairs)))
        errors.append(np.array([*found.rotation_mdeg, found.strain]) - put)
        pulls.append(errors[-1] / [*found.rotation_std_mdeg, found.strain_std])
    return errors, pulls


def spacings(crystals: int) -> None:
    """Root mean square and largest d / d_lattice - 1, d_lattice being of the mean slope of the true phase."""
    print("\n### What the peak says of the spacing, less the mean lattice\n")
    print("| strain | peak under the Gaussian | largest | centre of mass | largest |\n" + "|---" * 5 + "|")
    geometry = beamline("34idc")
    h, steps = q_lab_invA(geometry, *geometry.arm_pixel), scan_steps(geometry)
    for strain in ("weak", "medium", "strong"):
        off = []
        for seed in range(crystals):
            truth = random_truth(h, steps, strain=strain, oversampling=3.0, seed=seed)
            counts = np.abs(diffraction_amplitude(truth, steps, SHAPE)) ** 2
            image = true_phase_image(truth, geometry, shape=SHAPE, photons=1e8)
            lattice = np.linalg.norm(align_series([image, image]).h_invA[0])
            away = np.array(locate(counts, np.zeros(SHAPE, bool)).voxel) - [n // 2 for n in SHAPE]
            off.append([lattice / np.linalg.norm(each) - 1 for each in (h + steps @ away, image.q_centre_invA)])
        size, largest = np.sqrt(np.mean(np.square(off), axis=0)), np.abs(off).max(axis=0)
        print(f"| {strain} | {size[0]:.1e} | {largest[0]:.1e} | {size[1]:.1e} | {largest[1]:.1e} |", flush=True)


def sums(random: np.random.Generator, scans: int, photons: float) -> None:
    """chi^2 a voxel of the sum of drifting scans against what was to be expected, where that is over 5 counts."""
    geometry = beamline("34idc")
    drifts = np.cumsum(random.normal(0, 0.4, (scans, 3)), axis=0)
    drifts -= drifts[0]
    expected = pattern(geometry, 1, np.zeros(3)) * photons * scans
    counts = [random.poisson(pattern(geometry, 1, drift) * photons).astype(np.float32) for drift in drifts]
    summed = sum_volumes([_volume(geometry, each) for each in counts])
    inner = ndimage.binary_erosion(np.ones(SHAPE, bool), iterations=6) & (expected > 5) & ~summed.volume.mask
    print(f"\n### Sum of {scans} scans of {photons:.0e} photons that drift by {np.abs(drifts).max():.1f} voxels\n")
    print("| sum | chi² a voxel |\n|---|---|")
    for name, total in (("as they are", np.sum(counts, axis=0)), ("registered", summed.volume.intensity)):
        print(f"| {name} | {np.mean((total - expected)[inner] ** 2 / expected[inner]):.2f} |")
    print(f"\nregistered to {rms([-np.array(summed.shifts) - drifts]):.4f} voxels")


def _volume(geometry: Geometry, counts: NDArray[np.float32]) -> DiffractionVolume:
    centre: Vector = (SHAPE[0] / 2, *geometry.arm_pixel)
    return DiffractionVolume(
        intensity=counts,
        mask=np.zeros(SHAPE, bool),
        centre=centre,
        q_centre_invA=q_lab_invA(geometry, *geometry.arm_pixel),
        q_steps_invA=scan_steps(geometry),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--repeats", type=int, default=5)
    asked = parser.parse_args()
    random = np.random.default_rng(asked.seed)
    shifts(random, crystals=4, repeats=asked.repeats)
    holes(random, crystals=6)
    motions(random, repeats=4 * asked.repeats)
    spacings(crystals=8)
    sums(random, scans=22, photons=1e6)


if __name__ == "__main__":
    main()

"""What is found in a charged and discharged crystal of ten states: the order parameter, dislocations, the spacing.

    python benchmarks/series.py                         # 40 s on one thread
    python benchmarks/series.py --phased FOLDER         # of 22 drifting scans a state, summed and retrieved
    python benchmarks/series.py --phased FOLDER --warm  # and again from the neighbours, the better by free voxels

--phased keeps each state's result in FOLDER and goes on where it was stopped; --at-most 2 stops after two.

`live_bcdi.sim.series` makes the crystals (34-ID-C): weak strain, a strong displacement that grows with the order,
a lattice that shrinks by 8e-4, and from the order of 0.45 a dislocation, from 0.75 a second of the other sign,
which glide. Without --phased the images are those of Poisson counts with the true phases: what the analysis itself
costs. The order parameter's correlation is with the true order, over the states.
"""

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.restoration import unwrap_phase

from live_bcdi.combine import sum_volumes
from live_bcdi.config import Preprocessing, load_config
from live_bcdi.defects import Line
from live_bcdi.geometry import q_lab_invA
from live_bcdi.phasing import Plan
from live_bcdi.pipeline import reconstruct
from live_bcdi.preprocess import prepare
from live_bcdi.series import State, Study, order_parameters, study, warm_started
from live_bcdi.series_figure import save_series_figure
from live_bcdi.sim import Dislocation, measure
from live_bcdi.sim.repeats import moved
from live_bcdi.sim.scattering import bragg_geometry, diffraction_amplitude, scan_steps
from live_bcdi.sim.series import ChargeState, charge_and_discharge, true_phase_image
from live_bcdi.transport.hdf5 import read_result, write_result
from live_bcdi.types import Geometry, LabImage, RockingScan

IMAGED, PHASED = (48, 56, 56), (40, 48, 48)
PHOTONS = (1e4, 1e5, 1e6)
NEAR_VOXELS = 2.0
DRIFT_VOXELS = 0.4  # a scan, as a random walk
Event = tuple[int | None, int]  # a true line's number, and a state's
Array = NDArray[np.float64]


def geometry_of(shape: tuple[int, int, int]) -> Geometry:
    return bragg_geometry(load_config(Path("config/34idc.toml")), shape[1:])


def truth_of(shape: tuple[int, int, int], seed: int, *, dislocations: bool = True) -> list[ChargeState]:
    geometry = geometry_of(shape)
    h = q_lab_invA(geometry, *geometry.arm_pixel)
    return charge_and_discharge(geometry, h, seed=seed, dislocations=dislocations)


def studied(truth: Sequence[ChargeState], images: Sequence[LabImage]) -> Study:
    each = enumerate(zip(truth, images))
    return study([State(name=f"state {n + 1}", lab=image, stimulus=state.volts) for n, (state, image) in each])


def correlation(truth: Sequence[ChargeState], scores: Array) -> float:
    return float(np.corrcoef([state.order for state in truth], scores)[0, 1])


def by_path(found: Study) -> Array:
    """Order parameters of all states, unwrapped along paths as if there were no dislocation."""
    inside = found.series.support
    products = found.series.density * found.series.density[0].conj()
    wrapped = [np.ma.masked_array(np.angle(each).astype(float), ~inside) for each in products]
    phases = np.stack([np.ma.filled(unwrap_phase(each, rng=0), 0.0) for each in wrapped])
    return order_parameters(phases, inside).scores[:, 0]


@dataclass
class Events:
    """How many of those there were found, and how many of those told were there."""

    there: int = 0
    found: int = 0
    told: int = 0
    right: int = 0

    def add(self, there: set[Event], told: Sequence[Event | None]) -> None:
        self.there, self.told = self.there + len(there), self.told + len(told)
        self.found += len(there & set(told))
        self.right += sum(each in there for each in told)

    def __str__(self) -> str:
        return f"{self.found} of {self.there} | {self.right} of {self.told}"


class Lines:
    """Lines by state, their births, healings and steps from state to state: found of those there, right of those
    told; and the error of the steps along their true way, in voxels."""

    def __init__(self) -> None:
        self.lines, self.births, self.healings, self.steps = Events(), Events(), Events(), Events()
        self.motion: list[float] = []

    def add(self, truth: Sequence[ChargeState], found: Study) -> None:
        """As it is or as its twin, whichever is righter: a pattern does not tell."""
        signed = [(sign, owners_of(truth, found, sign)) for sign in (1, -1)]
        sign, owned = max(signed, key=lambda each: hits(each[1]))
        alive = {(k, n) for n, state in enumerate(truth) for k in state.lines}
        self.lines.add(alive, [None if k is None else (k, n) for n, owners in enumerate(owned) for k in owners])
        before = {(k, n + 1) for k, n in alive}
        last = len(truth)
        self.steps.add(alive & before, self._steps(truth, found, owned, sign))
        whose = [
            {n: owned[n][found.lines[n].index(line)] for n, line in t.seen.items()} for t in found.line_tracks
        ]
        events = [(track, own[min(own)], own[max(own)]) for track, own in zip(found.line_tracks, whose)]
        self.births.add(
            {(k, n) for k, n in alive - before if n},
            [None if k is None else (k, track.born) for track, k, _ in events if track.born is not None],
        )
        self.healings.add(
            {(k, n) for k, n in before - alive if n < last},
            [None if k is None else (k, track.healed) for track, _, k in events if track.healed is not None],
        )

    def _steps(
        self, truth: Sequence[ChargeState], found: Study, owned: Sequence[Sequence[int | None]], sign: int
    ) -> list[Event | None]:
        """Those from one state to the next; None where the two are not of one true line."""
        told: list[Event | None] = []
        for track in found.line_tracks:
            for n in sorted(set(track.moved_nm) & {each + 1 for each in track.seen}):
                one, other = (owned[each][found.lines[each].index(track.seen[each])] for each in (n - 1, n))
                told.append(None if one is None or one != other else (one, n))
                if told[-1] is not None:
                    way = true_step_nm(truth, one, n)
                    length = float(np.linalg.norm(way))
                    off = sign * np.array(track.moved_nm[n]) @ way / length - length
                    self.motion.append(off / found.series.voxel_nm)
        return told

    def __str__(self) -> str:
        off = f"{np.sqrt(np.mean(np.square(self.motion))):.2f}" if self.motion else "-"
        return f"{self.lines} | {self.births} | {self.healings} | {self.steps} | {off}"


def true_step_nm(truth: Sequence[ChargeState], number: int | None, n: int) -> Array:
    """Of a line from state n - 1 to n, across itself."""
    one, other = (state.truth.dislocations[state.lines.index(number)] for state in (truth[n - 1], truth[n]))
    step, way = np.subtract(other.point_nm, one.point_nm), np.array(one.line)
    return np.asarray(step - (step @ way) * way)


LINES = (
    "lines found (there) | lines right (told) | births found | births right | healings found | healings right |"
)
LINES += " steps found | steps right | step error, voxels |"


def hits(owned: Sequence[Sequence[int | None]]) -> int:
    return sum(each is not None for owners in owned for each in owners)


def owners_of(truth: Sequence[ChargeState], found: Study, sign: int) -> list[list[int | None]]:
    """Which true line each is, in each state; the truth's middle is that of the common support. `sign` -1 is for a
    first state that is the truth's twin: a line of it is at -r, and turns the other way."""
    voxel_nm, middle = found.series.voxel_nm, np.array(found.series.support.shape) // 2
    centre_nm = (np.array(ndimage.center_of_mass(found.series.support)) - middle) * voxel_nm
    return [
        [owner(sign * (line.points_nm - centre_nm), sign * sense(line), state, voxel_nm) for line in lines]
        for state, lines in zip(truth, found.lines)
    ]


def sense(line: Line) -> Array:
    return np.asarray(line.sign * np.array(line.direction))


def owner(points_nm: Array, way: Array, state: ChargeState, voxel_nm: float) -> int | None:
    """Which true line this is: near it on the average, and turning the same way."""
    for number, true in zip(state.lines, state.truth.dislocations):
        winds = -np.sign(np.dot(state.truth.h_invA, true.burgers_angstrom)) * np.asarray(true.line)
        if distance_nm(true, points_nm) < NEAR_VOXELS * voxel_nm and way @ winds > 0:
            return number
    return None


def distance_nm(line: Dislocation, points_nm: Array) -> float:
    return float(line.distance_nm(points_nm).mean())


def spacing_error(truth: Sequence[ChargeState], found: Study, key: str) -> float:
    """Root mean square, over states without dislocations."""
    errors = [row[key] - state.lattice_strain for row, state in zip(found.rows, truth) if not state.lines]
    return float(np.sqrt(np.mean(np.square(errors[1:]))))


def imaged(seeds: int) -> None:
    print("### Images with the true phases\n")
    print(
        "| photons | order: axes of like states | axes of all | unwrapped along paths | no dislocations there |",
        end="",
    )
    print(f" {LINES} Δd/d error, lattice | centre of mass |")
    print("|---" * 16 + "|")
    for photons in PHOTONS:
        figures, lines = [], Lines()
        for seed in range(seeds):
            truth = truth_of(IMAGED, seed)
            images = images_of(truth, photons)
            found = studied(truth, images)
            lines.add(truth, found)
            plain = truth_of(IMAGED, seed, dislocations=False)
            of_all = order_parameters(found.phase_rad, found.series.support).scores[:, 0]
            rows = [found.order.scores[:, 0], of_all, by_path(found)]
            rows.append(studied(plain, images_of(plain, photons)).order.scores[:, 0])
            spacings = [spacing_error(truth, found, key) for key in ("lattice_change", "mass_change")]
            figures.append([*(abs(correlation(truth, row)) for row in rows), *spacings])
        worst = " | ".join(f"{value:.3f}" for value in np.min(figures, axis=0)[:4])
        errors = " | ".join(f"{value:.1e}" for value in np.max(figures, axis=0)[4:])
        print(f"| {photons:.0e} | {worst} | {lines} | {errors} |", flush=True)
    print(f"\nThe worst of {seeds} crystals each; lines are those of all states together.")


def images_of(truth: Sequence[ChargeState], photons: float) -> list[LabImage]:
    geometry = geometry_of(IMAGED)
    return [
        true_phase_image(state.truth, geometry, shape=IMAGED, photons=photons, seed=number)
        for number, state in enumerate(truth)
    ]


def scans_of(state: ChargeState, count: int, photons: float, seed: int) -> Iterator[RockingScan]:
    """Repeats that drift."""
    geometry = geometry_of(PHASED)
    steps = scan_steps(geometry)
    walk = np.cumsum(np.random.default_rng(seed).normal(0, DRIFT_VOXELS, (count, 3)), axis=0)
    for number, drift in enumerate(walk - walk[0]):
        scan = measure(
            moved(state.truth, steps @ drift), geometry, shape=PHASED, photons=photons, seed=1000 * seed + number
        )
        yield replace(scan, name=f"{scan.name}-{number}", metadata={**scan.metadata, "voltage": state.volts})


def chi_squared(state: ChargeState, scans: Sequence[RockingScan], settings: Preprocessing) -> tuple[float, float]:
    """A voxel, where over 5 counts are expected: of the registered sum, and of that of the frames as they are."""
    summed = sum_volumes([prepare(scan, settings)[0] for scan in scans]).volume
    geometry = geometry_of(PHASED)
    pattern = np.abs(diffraction_amplitude(state.truth, scan_steps(geometry), PHASED)) ** 2
    naive = np.sum([scan.intensity for scan in scans], axis=0, dtype=float)
    expected = pattern * naive.sum() / pattern.sum()
    # prepare puts the first scan's peak on the middle voxel; the naive sum stays where the detector had it
    move = [n // 2 - place for n, place in zip(PHASED, summed.centre)]
    there = np.roll(expected, [round(step) for step in move], axis=(0, 1, 2))
    inner = ndimage.binary_erosion(np.ones(PHASED, bool), iterations=8)
    used = inner & (there > 5) & ~summed.mask
    lit = inner & (expected > 5)
    registered = np.mean((summed.intensity - there)[used] ** 2 / there[used])
    return float(registered), float(np.mean((naive - expected)[lit] ** 2 / expected[lit]))


def phased(folder: Path, asked: argparse.Namespace) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    truth, settings = truth_of(PHASED, asked.seed), Preprocessing(shape=PHASED, binning=(1, 1, 1))
    plan, left = Plan(seed=asked.seed), asked.at_most
    files = [folder / f"state_{number + 1:02d}.cxi" for number in range(len(truth))]
    warm_files = [folder / f"warm_{path.name}" for path in files]
    todo = [path for path in files + (warm_files if asked.warm else []) if not path.exists()]
    for path in todo[:left]:
        number = (files + warm_files).index(path) % len(files)
        scans = list(scans_of(truth[number], asked.scans, asked.photons, 100 + number))
        if path in files:
            result = reconstruct(scans, plan, preprocessing=settings)
            chi = "of the sum {:.2f} a voxel, as they are {:.1f}".format(
                *chi_squared(truth[number], scans, settings)
            )
            print(
                f"{path.name}: chi {result.chi:.4f}, free_llk {result.metrics['free_llk']:.4f}; chi² {chi}",
                flush=True,
            )
        else:
            near = [read_result(files[each]) for each in (number - 1, number + 1) if 0 <= each < len(files)]
            result = warm_started(scans, read_result(files[number]), near, plan, preprocessing=settings)
            print(f"{path.name}: {result.provenance['start']}", flush=True)
        write_result(path, result, scan_name=f"state {number + 1}", run="", links={})
    for name, made in (("cold starts", files), ("cold or warm", warm_files)):
        if all(path.exists() for path in made):
            report(name, truth, [read_result(path).lab for path in made], folder)
        elif made is files:
            print(f"{sum(not path.exists() for path in made)} of {len(made)} states are left: run it again")


def report(name: str, truth: Sequence[ChargeState], images: Sequence[LabImage | None], folder: Path) -> None:
    labs = [image for image in images if image is not None]
    found, lines = studied(truth, labs), Lines()
    lines.add(truth, found)
    rows = [found.order.scores[:, 0], order_parameters(found.phase_rad, found.series.support).scores[:, 0]]
    rows.append(by_path(found))
    print(f"\n### Retrieved: {name}\n")
    print("| order: axes of like states | axes of all | unwrapped along paths |", end="")
    print(f" {LINES} Δd/d error, lattice | centre of mass | twins |")
    print("|---" * 15 + "|")
    figures = " | ".join(f"{abs(correlation(truth, row)):.3f}" for row in rows)
    errors = " | ".join(f"{spacing_error(truth, found, key):.1e}" for key in ("lattice_change", "mass_change"))
    print(f"| {figures} | {lines} | {errors} | {sum(found.series.twin)} |", flush=True)
    save_series_figure(found, folder / f"{name.replace(' ', '_')}.png", stimulus="voltage", overwrite=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--crystals", type=int, default=3)
    parser.add_argument("--phased", type=Path, help="folder of the results; those that are there are kept")
    parser.add_argument("--warm", action="store_true")
    parser.add_argument("--scans", type=int, default=22, help="a state")
    parser.add_argument("--photons", type=float, default=1e5, help="a scan")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--at-most", type=int, default=100, help="retrievals now")
    asked = parser.parse_args()
    if asked.phased is None:
        imaged(asked.crystals)
    else:
        phased(asked.phased, asked)


if __name__ == "__main__":
    main()

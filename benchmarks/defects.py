"""How many of a crystal's dislocations and walls are found, and how many are that are none: 20 s on one thread.

    python benchmarks/defects.py
    python benchmarks/defects.py --phased 12      # retrieved, and not only imaged with the true phases: 10 s each

Simulated faceted crystals (34-ID-C) of weak to strong strain with 0 to 2 dislocations, screw, edge or mixed, at
random places and directions, h.b = +-2 pi, and every second with a wall of 1 to 2.8 rad. The image of each is the
lab frame's, of the moduli of Poisson counts with the true phases, or with --phased of a retrieval of those counts,
laid onto that.

A point of a line is right where a true line is within two voxels and runs the same way, so that the phase turns
the same way about it. A line that is found is right where 70 % of it is; one that is there is found where right
points cover half of it. Lines that are as short or as shallow as what is not looked for are not counted as there.
By length, each voxel of length counts. Place and length are those of crystals with one line. A wall is right where
its plane is within two voxels and 15 degrees of a true one.
"""

import argparse
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from live_bcdi.config import Preprocessing, load_config
from live_bcdi.defects import Line, Wall, find_lines, find_walls
from live_bcdi.defects.lines import LEAST_VOXELS
from live_bcdi.defects.winding import MARGIN_VOXELS, SMOOTH_VOXELS
from live_bcdi.geometry import q_lab_invA
from live_bcdi.phasing import Plan
from live_bcdi.pipeline import reconstruct
from live_bcdi.series import align_series
from live_bcdi.sim import Dislocation, Truth, measure
from live_bcdi.sim import Wall as TrueWall
from live_bcdi.sim.crystals import random_truth
from live_bcdi.sim.parts import vector
from live_bcdi.sim.scattering import OVERSAMPLING, bragg_geometry, scan_steps
from live_bcdi.sim.series import true_phase_image
from live_bcdi.types import LabImage

SHAPE = (60, 64, 64)
PHOTONS = (1e4, 1e5, 1e6)
NEAR_VOXELS = 2.0
STRAINS = ("weak", "medium", "strong")
Array = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Case:
    truth: Truth
    lab: LabImage


def crystals(count: int, seed: int) -> Iterator[Truth]:
    geometry = bragg_geometry(load_config(Path("config/34idc.toml")), SHAPE[1:])
    h = q_lab_invA(geometry, *geometry.arm_pixel)
    random = np.random.default_rng(seed)
    for number in range(count):
        strain = STRAINS[number % len(STRAINS)]
        truth = random_truth(h, scan_steps(geometry), strain=strain, oversampling=OVERSAMPLING, seed=number)
        radius_nm = min(facet.offset_nm for facet in truth.facets)
        lines = tuple(dislocation(h, radius_nm, random) for _ in range(number // 3 % 3))
        wall = TrueWall(
            normal=vector(direction(random)),
            offset_nm=float(random.uniform(-0.4, 0.4) * radius_nm),
            jump_angstrom=float(random.uniform(1, 2.8) * random.choice([-1, 1]) / np.linalg.norm(h)),
        )
        yield replace(truth, dislocations=lines, walls=(wall,) if number % 2 else ())


def direction(random: np.random.Generator) -> Array:
    drawn = random.normal(size=3)
    return np.asarray(drawn / np.linalg.norm(drawn))


def dislocation(h: Array, radius_nm: float, random: np.random.Generator) -> Dislocation:
    """b is a spacing along +-h, and any part across it up to that."""
    along = h / np.linalg.norm(h)
    across = np.cross(along, direction(random)) * random.uniform(0, 1)
    burgers = (random.choice([-1, 1]) * along + across) * 2 * np.pi / np.linalg.norm(h)
    point = direction(random) * random.uniform(0, 0.7) * radius_nm
    return Dislocation(point_nm=vector(point), line=vector(direction(random)), burgers_angstrom=vector(burgers))


def imaged(truths: list[Truth], photons: float) -> list[Case]:
    geometry = bragg_geometry(load_config(Path("config/34idc.toml")), SHAPE[1:])
    return [
        Case(truth=truth, lab=true_phase_image(truth, geometry, shape=SHAPE, photons=photons, seed=number))
        for number, truth in enumerate(truths)
    ]


def phased(truths: list[Truth], photons: float) -> list[Case]:
    settings = load_config(Path("config/34idc.toml"))
    geometry = bragg_geometry(settings, SHAPE[1:])
    cases = []
    for number, truth in enumerate(truths):
        scan = measure(truth, geometry, shape=SHAPE, photons=photons, seed=number)
        result = reconstruct(
            scan, preprocessing=Preprocessing(shape=SHAPE, binning=(1, 1, 1)), plan=Plan(seed=number)
        )
        assert result.lab is not None
        true = true_phase_image(truth, geometry, shape=SHAPE, photons=photons, seed=number)
        cases.append(Case(truth=truth, lab=onto(true, result.lab)))
    return cases


def onto(true: LabImage, found: LabImage) -> LabImage:
    """What was found where the crystal is, and as that one of the two twins: a pattern tells neither."""
    series = align_series([true, found])
    return replace(
        found,
        density=series.density[1],
        support=series.supports[1],
        voxel_nm=series.voxel_nm,
        origin_nm=series.origin_nm,
    )


@dataclass
class Score:
    """How many of what was found are `right`, and how many of what is `there` were `found`."""

    right: int = 0
    false: int = 0
    there: int = 0
    found: int = 0

    def __post_init__(self) -> None:
        self.off: list[float] = []
        self.size: list[float] = []
        self.lengths = np.zeros(4)  # voxels: found right, found, there and found, there

    @property
    def words(self) -> str:
        precision, recall = self.right / max(self.right + self.false, 1), self.found / max(self.there, 1)
        off = f"{np.mean(self.off):.2f}" if self.off else "-"
        size = f"{np.mean(self.size):+.2f} ± {np.std(self.size):.2f}" if self.size else "-"
        counted = f"{self.found} of {self.there} | {self.right} of {self.right + self.false}"
        return f"{recall:.3f} | {precision:.3f} | {counted} | {off} | {size}"

    @property
    def by_length(self) -> str:
        right, found, covered, there = self.lengths
        return f"{covered / max(there, 1):.3f} | {right / max(found, 1):.3f}"


def inside_nm(truth: Truth, line: Dislocation, step_nm: float, depth_nm: float) -> Array:
    """Points (n, 3) of a line, at that depth in the crystal and more."""
    reach = 2 * np.abs(truth.vertices_nm()).max()
    points = np.asarray(line.point_nm) + np.arange(-reach, reach, step_nm)[:, None] * np.asarray(line.line)
    return np.asarray(points[truth.depth_nm(points) >= depth_nm])


def winds(truth: Truth, line: Dislocation) -> Array:
    """The way along the line about which the phase turns by +2 pi."""
    return np.asarray(-np.sign(np.dot(truth.h_invA, line.burgers_angstrom)) * np.asarray(line.line))


def right_points(line: Line, lab: LabImage, truth: Truth) -> NDArray[np.bool_]:
    """Which points of a line that was found are near a true one that runs the same way there."""
    points = line.points_nm + np.array(lab.origin_nm)
    way = np.gradient(points, axis=0)
    right = np.zeros(len(points), bool)
    for true in truth.dislocations:
        near = true.distance_nm(points) < NEAR_VOXELS * lab.voxel_nm
        right |= near & (way @ winds(truth, true) > 0)
    return right


Found = list[list[Line]]


def lines_in(cases: list[Case], least: float, margin: float, smooth: float) -> Found:
    return [find_lines(case.lab, least_voxels=least, margin_voxels=margin, smooth_voxels=smooth) for case in cases]


def score_lines(cases: list[Case], lines: Found) -> Score:
    score = Score()
    for case, found in zip(cases, lines):
        lab, truth, voxel_nm = case.lab, case.truth, case.lab.voxel_nm
        right = [right_points(line, lab, truth) for line in found]
        shares = [float(each.mean()) for each in right]
        score.right += sum(share > 0.7 for share in shares)
        score.false += sum(share <= 0.7 for share in shares)
        lengths = np.array([line.length_nm for line in found]) / voxel_nm
        score.lengths[:2] += [np.dot(shares, lengths), lengths.sum()]
        all_right = [line.points_nm[each] + np.array(lab.origin_nm) for line, each in zip(found, right)]
        seen = np.concatenate([*all_right, np.full((1, 3), np.inf)])
        for true in truth.dislocations:
            deep = inside_nm(truth, true, voxel_nm / 2, voxel_nm)
            points = inside_nm(truth, true, voxel_nm / 2, 0.0)
            deepest_nm = float(truth.depth_nm(points).max()) if len(points) else 0.0
            if len(points) / 2 < LEAST_VOXELS + 1 or deepest_nm < (MARGIN_VOXELS + 0.5) * voxel_nm:
                continue  # as short or as shallow as what is not looked for
            away = np.linalg.norm(deep[:, None] - seen, axis=-1).min(axis=1)
            covered = away < NEAR_VOXELS * voxel_nm
            score.lengths[2:] += [covered.sum() / 2, len(covered) / 2]
            score.there += 1
            score.found += bool(covered.mean() > 0.5)
            if len(truth.dislocations) == 1 and len(found) == 1 and covered.mean() > 0.5:
                score.off.append(float(true.distance_nm(seen[:-1]).mean()) / voxel_nm)
                score.size.append(found[0].length_nm / voxel_nm - len(points) / 2)
    return score


def score_walls(cases: list[Case]) -> Score:
    score = Score()
    for case in cases:
        lab, truth = case.lab, case.truth
        found = find_walls(lab, find_lines(lab))
        right = [wall for wall in found for true in truth.walls if shows(wall, lab, true)]
        score.right, score.false = score.right + len(right), score.false + len(found) - len(right)
        score.there += len(truth.walls)
        score.found += bool(right)
        for wall in right:
            expected = -np.linalg.norm(truth.h_invA) * truth.walls[0].jump_angstrom
            expected *= np.sign(np.dot(wall.normal, truth.walls[0].normal))
            score.off.append(plane_off_nm(wall, lab, truth.walls[0]) / lab.voxel_nm)
            score.size.append(float(np.angle(np.exp(1j * (wall.jump_rad - expected)))))
    return score


def plane_off_nm(wall: Wall, lab: LabImage, true: TrueWall) -> float:
    return float(true.distance_nm(np.array(wall.centre_nm) + np.array(lab.origin_nm)))


def shows(wall: Wall, lab: LabImage, true: TrueWall) -> bool:
    flat = abs(np.dot(wall.normal, true.normal)) > np.cos(np.radians(15))
    return bool(flat and plane_off_nm(wall, lab, true) < NEAR_VOXELS * lab.voxel_nm)


COLUMNS = "recall | precision | found of those there | right of those found | off, voxels |"
LINES = f"{COLUMNS} length less the true one, voxels |\n" + "|---" * 9 + "|"
WALLS = f"{COLUMNS} jump less the true one, rad |\n" + "|---" * 7 + "|"


def by_photons(sets: dict[float, list[Case]]) -> None:
    print("### Dislocation lines\n\n| photons | recall, by length | precision, by length | " + LINES)
    for photons, cases in sets.items():
        score = score_lines(cases, lines_in(cases, LEAST_VOXELS, MARGIN_VOXELS, SMOOTH_VOXELS))
        print(f"| {photons:.0e} | {score.by_length} | {score.words} |", flush=True)
    for lines in (False, True):
        print(f"\n### Walls, in crystals with{'' if lines else 'out'} dislocations\n\n| photons | " + WALLS)
        for photons, cases in sets.items():
            those = [case for case in cases if bool(case.truth.dislocations) == lines]
            print(f"| {photons:.0e} | {score_walls(those).words} |", flush=True)


def by_setting(sets: dict[float, list[Case]]) -> None:
    print("\n### Lines with other settings (voxels), all photons together\n")
    print("| smoothing | margin | least length | recall, by length | precision, by length | recall | precision |")
    print("|---" * 7 + "|")
    cases = [case for each in sets.values() for case in each]
    for smooth in (0.0, SMOOTH_VOXELS, 1.2):
        every = lines_in(cases, 3.0, 1.0, smooth)
        for margin, least in product((1.0, MARGIN_VOXELS, 3.0), (3.0, LEAST_VOXELS, 8.0)):
            kept = [
                [line for line in found if large(line, case.lab.voxel_nm, least, margin)]
                for case, found in zip(cases, every)
            ]
            score = score_lines(cases, kept)
            shown = " | ".join([score.by_length, *score.words.split(" | ")[:2]])
            print(f"| {smooth} | {margin:g} | {least:g} | {shown} |", flush=True)


def large(line: Line, voxel_nm: float, least: float, margin: float) -> bool:
    return line.length_nm >= least * voxel_nm and line.depth_nm >= margin * voxel_nm


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--crystals", type=int, default=18)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--phased", type=int, default=0, help="so many of them, each retrieved at 1e6 photons")
    parser.add_argument("--photons", type=float, nargs="*", default=PHOTONS)
    parser.add_argument("--settings", action="store_true", help="compare other settings")
    asked = parser.parse_args()
    truths = list(crystals(asked.phased or asked.crystals, asked.seed))
    if asked.phased:
        by_photons({1e6: phased(truths, 1e6)})
        return
    sets = {photons: imaged(truths, photons) for photons in asked.photons}
    by_photons(sets)
    if asked.settings:
        by_setting(sets)


if __name__ == "__main__":
    main()

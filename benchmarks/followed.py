"""How well a dislocation and a wall are followed from state to state, through noise: 90 s on one thread.

    python benchmarks/followed.py

Simulated faceted crystals of weak strain (34-ID-C), seven states. In half of them a dislocation comes in the third
state, glides by 1.2 voxels a state, and has healed in the sixth; in the others a wall of 2 to 2.8 rad does so,
along its normal. Images are of Poisson counts with the true phases, each anew, and are aligned and searched as
`live-bcdi series` does it. A track is that of the defect where it runs by its true place within 2 voxels (a wall:
and 15 degrees). Motion is between states next to each other in which it was found, along its true way.
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from live_bcdi.config import load_config
from live_bcdi.defects import DefectTrack, Line, Wall
from live_bcdi.geometry import q_lab_invA
from live_bcdi.series import State, Study, study
from live_bcdi.sim import Dislocation, Truth
from live_bcdi.sim import Wall as TrueWall
from live_bcdi.sim.crystals import random_truth
from live_bcdi.sim.parts import vector
from live_bcdi.sim.scattering import OVERSAMPLING, bragg_geometry, scan_steps
from live_bcdi.sim.series import true_phase_image
from live_bcdi.types import LabImage

SHAPE = (48, 56, 56)
PHOTONS = (1e4, 1e5, 1e6)
STATES, ALIVE = 7, range(2, 5)
GLIDE_VOXELS, NEAR_VOXELS = 1.2, 2.0
GEOMETRY = bragg_geometry(load_config(Path("config/34idc.toml")), SHAPE[1:])
STEPS = scan_steps(GEOMETRY)
Array = NDArray[np.float64]
Defect = Dislocation | TrueWall


@dataclass(kw_only=True)
class Case:
    """The states of one crystal, its defect in each where it is alive, and the unit vector along which it goes."""

    truths: list[Truth]
    defects: list[Defect | None]
    way: Array
    step_nm: float
    first: LabImage


def direction(random: np.random.Generator) -> Array:
    drawn = random.normal(size=3)
    return np.asarray(drawn / np.linalg.norm(drawn))


def case(seed: int, *, wall: bool) -> Case:
    h = q_lab_invA(GEOMETRY, *GEOMETRY.arm_pixel)
    random = np.random.default_rng([seed, 31])
    crystal = random_truth(h, STEPS, strain="weak", oversampling=OVERSAMPLING, seed=seed)
    radius_nm = min(facet.offset_nm for facet in crystal.facets)
    first = true_phase_image(crystal, GEOMETRY, shape=SHAPE, photons=1e6)
    step_nm = GLIDE_VOXELS * first.voxel_nm
    line = direction(random)
    way = direction(random) if wall else np.cross(line, direction(random))
    way /= np.linalg.norm(way)
    length = float(np.linalg.norm(h))
    sign, jump = random.choice([-1, 1]), float(random.uniform(2, 2.8))
    truths, defects = [], []
    for number in range(STATES):
        place = (0.15 * radius_nm + (number - ALIVE[1]) * step_nm) * way
        defect: Defect | None = None
        truth = crystal
        if number in ALIVE and wall:
            offset = float(place @ way)
            defect = TrueWall(normal=vector(way), offset_nm=offset, jump_angstrom=sign * jump / length)
            truth = replace(crystal, walls=(defect,))
        elif number in ALIVE:
            burgers = sign * 2 * np.pi / length * h / length
            defect = Dislocation(point_nm=vector(place), line=vector(line), burgers_angstrom=vector(burgers))
            truth = replace(crystal, dislocations=(defect,))
        truths.append(truth)
        defects.append(defect)
    return Case(truths=truths, defects=defects, way=way, step_nm=step_nm, first=first)


@dataclass(kw_only=True)
class Score:
    defects: int = 0
    states: int = 0
    found: int = 0
    births: int = 0
    healings: int = 0
    false: int = 0
    motion: list[float] = field(default_factory=list)

    def add(self, made: Case, found: Study, tracks: Sequence[DefectTrack[Any]]) -> None:
        self.defects, self.states = self.defects + 1, self.states + len(ALIVE)
        own = [track for track in tracks if all(is_at(seen, made, found, n) for n, seen in track.seen.items())]
        self.false += len(tracks) - len(own)
        self.found += len({number for track in own for number in track.seen})
        self.births += any(track.born == ALIVE[0] for track in own)
        self.healings += any(track.healed == ALIVE[-1] + 1 for track in own)
        steps = [(way, track, number) for track in own for number, way in track.moved_nm.items()]
        voxel_nm = found.series.voxel_nm
        self.motion += [(np.array(way) @ made.way - made.step_nm) / voxel_nm for way, _, _ in steps]

    def __str__(self) -> str:
        off = f"{np.sqrt(np.mean(np.square(self.motion))):.2f} ({len(self.motion)})" if self.motion else "-"
        of = f"of {self.defects}"
        return (
            f"{self.found} of {self.states} | {self.births} {of} | {self.healings} {of} | {self.false} | {off} |"
        )


def is_at(seen: Line | Wall, made: Case, found: Study, number: int) -> bool:
    """Whether this is the true one of that state."""
    true, voxel_nm = made.defects[number], found.series.voxel_nm
    middles = [
        (np.array(ndimage.center_of_mass(support)) - np.array(support.shape) // 2) * voxel_nm
        for support in (found.series.supports[0], made.first.support)
    ]
    centre_nm = middles[0] - middles[1] - np.array(made.first.origin_nm)
    if isinstance(seen, Line) and isinstance(true, Dislocation):
        return bool(true.distance_nm(seen.points_nm - centre_nm).mean() < NEAR_VOXELS * voxel_nm)
    if isinstance(seen, Wall) and isinstance(true, TrueWall):
        flat = abs(np.dot(seen.normal, true.normal)) > np.cos(np.radians(15))
        return bool(flat and true.distance_nm(np.array(seen.centre_nm) - centre_nm) < NEAR_VOXELS * voxel_nm)
    return False


def followed(made: Case, photons: float) -> Study:
    images = (
        true_phase_image(truth, GEOMETRY, shape=SHAPE, photons=photons, seed=number)
        for number, truth in enumerate(made.truths)
    )
    return study([State(name=f"{number}", lab=image) for number, image in enumerate(images)])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--crystals", type=int, default=6, help="with a line, and as many with a wall")
    parser.add_argument("--photons", type=float, nargs="*", default=PHOTONS)
    asked = parser.parse_args()
    print("| defect | photons | found, of states | births right | healings right | false tracks |", end="")
    print(" motion error, voxels |\n" + "|---" * 7 + "|")
    for wall in (False, True):
        for photons in asked.photons:
            score = Score()
            for seed in range(asked.crystals):
                made = case(seed, wall=wall)
                found = followed(made, photons)
                score.add(made, found, found.wall_tracks if wall else found.line_tracks)
            print(f"| {'wall' if wall else 'line'} | {photons:.0e} | {score}", flush=True)


if __name__ == "__main__":
    main()

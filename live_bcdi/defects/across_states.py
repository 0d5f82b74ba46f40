"""Defects from state to state: which of one state is which of the next, what moved, what was born, what healed."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from scipy.spatial import cKDTree

from ..types import ScanError, Vector
from .lines import Line
from .walls import Wall

_TURNED = np.cos(np.radians(40))  # the directions of one line in two states
_TILTED = np.cos(np.radians(25))  # the normals of one wall
_ALONG = 1.5  # how much more than its reach a wall's middle may slide within its plane, as parts of it fade

Defect = TypeVar("Defect", Line, Wall)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class DefectTrack(Generic[Defect]):
    """One defect through a series: `seen` has what was found of it by the number of the state; `moved_nm` how far
    it went since it was last seen, as a vector, by the same number, without the first.

    `born` is the state in which it was first seen, None where that is the series' first; `healed` the first state
    without it, None where the last has it.
    """

    seen: Mapping[int, Defect]
    moved_nm: Mapping[int, Vector]
    born: int | None
    healed: int | None


def follow_lines(states: Sequence[Sequence[Line]], *, reach_nm: float, gap: int = 0) -> list[DefectTrack[Line]]:
    """The lines of a series' states, all in one frame, as tracks, in the order in which they come up.

    A line may go as far as `reach_nm` from state to state (the mean distance between the two), turn by 40 degrees,
    and must have the same sign; the assignment with the smallest sum of distances wins. A line may be missed in
    `gap` states and is then still the same. Raises ScanError where `reach_nm` is not positive.
    """
    return _followed(states, line_distance_nm, _line_step, reach_nm, gap)


def follow_walls(states: Sequence[Sequence[Wall]], *, reach_nm: float, gap: int = 0) -> list[DefectTrack[Wall]]:
    """As `follow_lines`: a wall may go as far as `reach_nm` along its normal, and tilt by 25 degrees. All normals
    of a track, and the jumps with them, point to the side of its first."""
    return [_one_sided(track) for track in _followed(states, _wall_distance_nm, _wall_step, reach_nm, gap)]


def _one_sided(track: DefectTrack[Wall]) -> DefectTrack[Wall]:
    """A normal is known but for its sign, and which part of it is the largest may change as the wall tilts."""
    seen: dict[int, Wall] = {}
    before = track.seen[min(track.seen)]
    for number in sorted(track.seen):
        wall = track.seen[number]
        if np.dot(before.normal, wall.normal) < 0:
            x, y, z = wall.normal
            wall = replace(wall, normal=(-x, -y, -z), jump_rad=-wall.jump_rad)
        seen[number] = before = wall
    return replace(track, seen=seen)


def line_distance_nm(first: Line, second: Line) -> float:
    """The mean distance of the points of each from the other, the larger of the two ways; infinite where they turn
    the other way or run in other directions."""
    one, other = (line.sign * np.array(line.direction) for line in (first, second))
    if one @ other < _TURNED:
        return float("inf")
    ways = ((first.points_nm, second.points_nm), (second.points_nm, first.points_nm))
    return max(float(cKDTree(there).query(here)[0].mean()) for here, there in ways)


def _line_step(first: Line, second: Line) -> NDArray[np.float64]:
    """The mean way from the points of the shorter line to the nearest of the other; from first to second."""
    short, long = sorted((first, second), key=lambda line: line.length_nm)
    nearest = cKDTree(long.points_nm).query(short.points_nm)[1]
    way = (long.points_nm[nearest] - short.points_nm).mean(axis=0)
    return np.asarray(way if short is first else -way, np.float64)


def _wall_distance_nm(first: Wall, second: Wall) -> float:
    if abs(np.dot(first.normal, second.normal)) < _TILTED:
        return float("inf")
    between = np.subtract(second.centre_nm, first.centre_nm)
    along = abs(float(between @ np.asarray(first.normal)))
    aside = np.sqrt(max(float(between @ between) - along**2, 0))
    width = np.sqrt(max(first.area_nm2, second.area_nm2))
    return along if aside < _ALONG * width else float("inf")


def _wall_step(first: Wall, second: Wall) -> NDArray[np.float64]:
    normal = np.asarray(first.normal)
    return np.asarray((np.subtract(second.centre_nm, first.centre_nm) @ normal) * normal, np.float64)


def _followed(
    states: Sequence[Sequence[Defect]],
    distance: Callable[[Defect, Defect], float],
    step: Callable[[Defect, Defect], NDArray[np.float64]],
    reach_nm: float,
    gap: int,
) -> list[DefectTrack[Defect]]:
    if not reach_nm > 0:
        raise ScanError(f"a defect may go some way from state to state: reach_nm must be positive, not {reach_nm}")
    tracks: list[dict[int, Defect]] = []
    for number, found in enumerate(states):
        alive = [track for track in tracks if number - max(track) <= gap + 1]
        cost = np.array([[distance(track[max(track)], each) for each in found] for track in alive])
        cost = cost.reshape(len(alive), len(found))
        # what is out of reach costs more than all that is within it
        priced = np.where(cost <= reach_nm, cost, reach_nm * (1 + len(found)))
        pairs = [
            (row, column) for row, column in zip(*linear_sum_assignment(priced)) if cost[row, column] <= reach_nm
        ]
        for row, column in pairs:
            alive[row][number] = found[column]
        known = {column for _, column in pairs}
        tracks += [{number: each} for column, each in enumerate(found) if column not in known]
    return [_track(track, len(states), step) for track in tracks]


def _track(
    seen: dict[int, Defect], states: int, step: Callable[[Defect, Defect], NDArray[np.float64]]
) -> DefectTrack[Defect]:
    numbers = sorted(seen)
    moved: dict[int, Vector] = {}
    for before, after in pairwise(numbers):
        x, y, z = step(seen[before], seen[after]).tolist()
        moved[after] = (x, y, z)
    return DefectTrack(
        seen=seen,
        moved_nm=moved,
        born=numbers[0] or None,
        healed=numbers[-1] + 1 if numbers[-1] + 1 < states else None,
    )

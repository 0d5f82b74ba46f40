"""What changed in one crystal through an experiment: numbers a state, maps, an order parameter, defects.

Everything is relative to the first state. A diffraction pattern tells neither the phase nor the place; so the
mean phase of a state is relative to the crystal's core, the deepest quarter of its voxels, and the order parameter
is of what is left without any mean.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..defects import DefectTrack, Line, Wall, follow_lines, follow_walls, lines_of, walls_of
from ..operando import strain_spread
from ..strain import strain_along
from ..tracking import Peak, motion_between
from ..types import BoolArray, FloatArray, LabImage, ScanError
from .components import OrderParameters, order_parameters
from .filling import filled
from .frame import AlignedSeries, align_series, core_of
from .unwrapping import unwrapped

_REACH_VOXELS = 6.0  # that a defect may move from state to state
_GAP = 1  # states in which a defect may be missed and is still the same
_FEWEST_AXES = 3  # states without new dislocations that the axes of the components can be from
TRENDS = ("order_rad", "lattice_change", "strain_std", "mean_displacement_angstrom")


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class State:
    """One state of a series: its image, the stimulus (a voltage, a temperature) where that is known, and where its
    peak was, for the spacing that the peak says."""

    name: str
    lab: LabImage
    stimulus: float | None = None
    peak: Peak | None = None


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Study:
    """A series, state by state relative to the first (see `study`).

    `phase_rad` (states, x, y, z) is the phase difference, unwrapped, zero on the average in the core, and `strain`
    that of the strain along h, zero on the average: both NaN outside `series.support`. `is_filled` has the voxels
    that a state lacked and got from its neighbours. `rows` is one table a state, as docs/series.md lists it.
    """

    names: tuple[str, ...]
    stimulus: tuple[float | None, ...]
    series: AlignedSeries
    is_filled: BoolArray
    phase_rad: NDArray[np.float32]
    strain: NDArray[np.float32]
    order: OrderParameters
    lines: tuple[tuple[Line, ...], ...]
    walls: tuple[tuple[Wall, ...], ...]
    line_tracks: tuple[DefectTrack[Line], ...]
    wall_tracks: tuple[DefectTrack[Wall], ...]
    rows: tuple[dict[str, Any], ...]


def study(states: Sequence[State], *, rotations: FloatArray | None = None) -> Study:
    """Align a series (`align_series`), look for defects, fill what states lack, and say what changed.

    The axes of the principal components are from the states that have the first's dislocations and no others,
    where there are three such; the others are projected on them. Raises ScanError as `align_series` does, or where
    the states do not differ.
    """
    series = align_series([state.lab for state in states], rotations=rotations)
    lines = [lines_of(each, own, series.voxel_nm) for each, own in zip(series.density, series.supports)]
    walls = [
        walls_of(each, own, series.voxel_nm, found)
        for each, own, found in zip(series.density, series.supports, lines)
    ]
    reach_nm = _REACH_VOXELS * series.voxel_nm
    line_tracks = follow_lines(lines, reach_nm=reach_nm, gap=_GAP)
    density, is_filled = filled(series)
    products = density * density[0].conj()
    core = core_of(series.support)
    phases = [unwrapped(each, series.support) for each in products]
    phase_rad = np.stack([each - each[core].mean() for each in phases])
    strain = np.stack([strain_along(each, series.support, series.h_invA[0], series.voxel_nm) for each in products])
    order = order_parameters(phase_rad, series.support, from_states=_alike(line_tracks, len(states)))
    rows = [
        {
            **_phase_row(states, series, phase_rad, number),
            **_spacing_row(states, series, number),
            **_strain_row(states, strain, series, number),
            "order_rad": float(order.scores[number, 0]),
            "filled_voxels": int(is_filled[number].sum()),
            "correlation": series.correlation[number],
            "twin": series.twin[number],
            **_defect_row(lines[number], walls[number]),
        }
        for number in range(len(states))
    ]
    return Study(
        names=tuple(state.name for state in states),
        stimulus=tuple(state.stimulus for state in states),
        series=series,
        is_filled=is_filled,
        phase_rad=phase_rad.astype(np.float32),
        strain=strain,
        order=order,
        lines=tuple(map(tuple, lines)),
        walls=tuple(map(tuple, walls)),
        line_tracks=tuple(line_tracks),
        wall_tracks=tuple(follow_walls(walls, reach_nm=reach_nm, gap=_GAP)),
        rows=tuple(rows),
    )


def _alike(tracks: Sequence[DefectTrack[Line]], count: int) -> list[int] | None:
    """States with the dislocations of the first, seen or missed between two that have them; None for too few."""
    first = [0 in track.seen for track in tracks]
    same = [
        number
        for number in range(count)
        if all((min(track.seen) <= number <= max(track.seen)) == there for track, there in zip(tracks, first))
    ]
    return same if len(same) >= _FEWEST_AXES else None


def _phase_row(
    states: Sequence[State], series: AlignedSeries, phase_rad: FloatArray, number: int
) -> dict[str, float | None]:
    """Mean phase difference and displacement, over what both states measured, and what their voxels' errors make
    of that where all err together: an upper limit."""
    both = series.support & series.supports[number] & series.supports[0]
    h = float(np.linalg.norm(series.h_invA[0]))
    mean = float(phase_rad[number][both].mean())
    errors = [_mean_inside(states[each].lab.displacement_std_angstrom, states[each].lab) for each in (0, number)]
    error = _together(errors) if number else 0.0
    return {
        "mean_phase_deg": float(np.degrees(mean)),
        "mean_phase_error_deg": None if error is None else float(np.degrees(error * h)),
        "mean_displacement_angstrom": -mean / h,
        "mean_displacement_error_angstrom": error,
    }


def _spacing_row(states: Sequence[State], series: AlignedSeries, number: int) -> dict[str, float | None]:
    """d / d_first - 1, three ways; the mean strain is the first."""
    h = np.linalg.norm(series.h_invA, axis=1)
    mass = [float(np.linalg.norm(states[each].lab.q_centre_invA)) for each in (0, number)]
    errors = [_mean_inside(states[each].lab.strain_std, states[each].lab) for each in (0, number)]
    peaks = states[0].peak, states[number].peak
    motion = None
    if peaks[0] is not None and peaks[1] is not None:
        motion = motion_between(peaks[0], peaks[1])
    return {
        "lattice_change": float(h[0] / h[number] - 1),
        "lattice_change_error": _together(errors) if number else 0.0,
        "mass_change": mass[0] / mass[1] - 1,
        "peak_change": None if motion is None else motion.strain,
        "peak_change_std": None if motion is None else motion.strain_std,
    }


def _strain_row(
    states: Sequence[State], strain: FloatArray, series: AlignedSeries, number: int
) -> dict[str, float | None]:
    std, error = strain_spread(states[number].lab)
    both = series.support & series.supports[number] & series.supports[0]
    return {
        "strain_std": std,
        "strain_std_error": error,
        "strain_change_rms": float(np.sqrt(np.mean(strain[number][both].astype(np.float64) ** 2))),
    }


def _defect_row(lines: Sequence[Line], walls: Sequence[Wall]) -> dict[str, Any]:
    return {
        "dislocations": len(lines),
        "dislocation_nm": sum(line.length_nm for line in lines),
        "walls": len(walls),
        "wall_nm2": sum(wall.area_nm2 for wall in walls),
    }


def _mean_inside(values: FloatArray | None, lab: LabImage) -> float | None:
    if values is None:
        return None
    known = lab.support & np.isfinite(values)
    return float(values[known].mean()) if known.any() else None


def _together(errors: Sequence[float | None]) -> float | None:
    known = [error for error in errors if error is not None]
    return float(np.sqrt(sum(error**2 for error in known))) if len(known) == len(errors) else None


def table(found: Study) -> dict[str, Any]:
    """A study as plain values: `states` (a row each), `explained` a component, `axes_from` (names of the states),
    `tracks` of dislocations and walls, and `trends` against the stimulus."""
    rows = [
        {"name": name, "stimulus": stimulus, **row}
        for name, stimulus, row in zip(found.names, found.stimulus, found.rows)
    ]
    return {
        "spacing": "lattice_change is d/d_first - 1 of the mean lattice, each voxel of the common support counting"
        " alike; mass_change that of the pattern's centre of mass, peak_change that of the peak under a Gaussian",
        "states": rows,
        "scores_rad": found.order.scores.tolist(),
        "explained": found.order.explained.tolist(),
        "axes_from": [found.names[number] for number in found.order.from_states],
        "voxel_nm": found.series.voxel_nm,
        "voxels": int(found.series.support.sum()),
        "dislocations": [_line_track(track, found.names) for track in found.line_tracks],
        "walls": [_wall_track(track, found.names) for track in found.wall_tracks],
        "trends": trends(rows) if len({row["stimulus"] for row in rows} - {None}) > 1 else {},
    }


def _line_track(track: DefectTrack[Line], names: Sequence[str]) -> dict[str, Any]:
    lines = list(track.seen.values())
    return {
        **_lived(track, names),
        "sign": lines[0].sign,
        "direction": list(lines[0].direction),
        "length_nm": [line.length_nm for line in lines],
        "middle_nm": [line.points_nm.mean(axis=0).tolist() for line in lines],
    }


def _wall_track(track: DefectTrack[Wall], names: Sequence[str]) -> dict[str, Any]:
    walls = list(track.seen.values())
    return {
        **_lived(track, names),
        "normal": list(walls[0].normal),
        "area_nm2": [wall.area_nm2 for wall in walls],
        "jump_rad": [wall.jump_rad for wall in walls],
    }


def _lived(track: DefectTrack[Any], names: Sequence[str]) -> dict[str, Any]:
    return {
        "born": None if track.born is None else names[track.born],
        "healed": None if track.healed is None else names[track.healed],
        "seen": [names[number] for number in track.seen],
        "moved_nm": [float(np.linalg.norm(step)) for step in track.moved_nm.values()],
    }


def trends(rows: Sequence[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """How numbers go with the stimulus, over the states that know both: `slope` a unit of it by least squares with
    its standard error `slope_std`, Pearson's `r` and Spearman's `rho`. Three states at least; a loop that opens
    between charge and discharge lowers both."""
    from scipy.stats import linregress, spearmanr  # a quarter of a second of every service that reads a series

    told = {}
    for key in TRENDS:
        pairs = [(row["stimulus"], row[key]) for row in rows]
        values = np.array([pair for pair in pairs if None not in pair], float).reshape(-1, 2)
        if len(values) < 3 or not np.ptp(values, axis=0).all():
            continue
        line = linregress(values[:, 0], values[:, 1])
        told[key] = {
            "slope": float(line.slope),
            "slope_std": float(line.stderr),
            "r": float(line.rvalue),
            "rho": float(spearmanr(values[:, 0], values[:, 1]).statistic),
        }
    return told


def check_stimulus(values: Sequence[float | None], name: str) -> None:
    """Raise ScanError where no state says the stimulus that was asked for."""
    if name and all(value is None for value in values):
        raise ScanError(
            f"no result says its {name!r}: it is looked for as [operando] state, in the start document and in the"
            " scan's metadata; give --values, one a state"
        )

"""What the page is shown of a reconstruction: its surface, and the central slices of what is known in it."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from live_bcdi.advice import Advice
from live_bcdi.estimate import LiveEstimate
from live_bcdi.isosurface import Isosurface, about_mean_phase, isosurface
from live_bcdi.stream.run import RunPlan
from live_bcdi.stream.updates import Update
from live_bcdi.types import LabImage, Reconstruction

LAB = ["x", "y", "z"]
DETECTOR = ["rocking", "row", "column"]
SHARE = 99.0  # per cent of the crystal that the range of a diverging map holds


def estimate_update(plan: RunPlan, frames: int, estimate: LiveEstimate, *, lag_s: float) -> Update:
    """The live estimate of the first `frames` frames, on the detector's conjugate grid, `lag_s` after the last of
    them came; with `phase_std_rad` it is a network's preview."""
    fields = {
        "kind": "live" if estimate.phase_std_rad is None else "preview",
        "frames": frames,
        "num": plan.num,
        "chi": estimate.chi,
        "seconds": estimate.seconds,
        "lag_s": lag_s,
        "voxel_nm": list(estimate.voxel_nm),
        "axes": DETECTOR,
        "surface": about_surface(estimate.surface, axes=LAB, q_invA=estimate.q_centre_invA),
        "phase_std_rad": estimate.phase_std_rad,
        "defects": dict(estimate.defects),
        "unlike": estimate.unlike,
    }
    arrays = _slices(estimate.density, estimate.support) | surface_arrays(estimate.surface)
    return Update(topic="estimate", run=plan.run, fields=fields, arrays=arrays)


def advice_update(run: str, of: str, advice: Iterable[Advice]) -> Update:
    """What to change and why, `of` a "scan" or of its "result"; all that there is to say of it."""
    return Update(topic="advice", run=run, fields={"of": of, "advice": [asdict(each) for each in advice]})


def refined_update(summary: Mapping[str, Any], result: Reconstruction, kind: str = "refined") -> Update:
    """The crystal of a result, "refined" or "dynamical", in the laboratory frame, or on the detector's grid where
    no geometry is known."""
    fields = {key: summary[key] for key in ("frames", "num", "chi", "seconds", "resolution_nm")}
    fields |= {"kind": kind, **_merit(result)}
    if result.lab is None:
        surface = isosurface(result.density, result.support, np.eye(3))
        fields |= {"voxel_nm": None, "axes": DETECTOR, "surface": about_surface(surface, axes=DETECTOR)}
        arrays = _slices(result.density, result.support) | surface_arrays(surface)
    else:
        seen, arrays = lab_parts(result.lab)
        fields |= seen
    return Update(topic="estimate", run=str(summary["run"]), fields=fields, arrays=arrays)


def _merit(result: Reconstruction) -> dict[str, Any]:
    """How good it is, and how far its starts differ in that."""
    free = [value for name, value in result.metrics.items() if name.startswith("free_llk_")]
    rung = result.provenance.get("rung", "").partition(":")[0]
    halves = result.agreement.correlation if result.agreement is not None else None
    return {
        "chi_starts": list(result.chi_starts),
        "free_llk": result.metrics.get("free_llk"),
        "free_llk_starts": free,
        "free_misfit": result.metrics.get("free_misfit"),
        "fsc_nm": None if halves is None else dict(halves.resolution_nm),
        "limit_nm": limit_nm(result),
        "rung": None if rung in ("", "unknown") else rung,
        "misfits": [result.metrics.get(f"misfit_{model}") for model in ("kinematical", "refraction")],
    }


def limit_nm(result: Reconstruction) -> float | None:
    """The full period at the end of what was measured."""
    if result.resolution is None or not len(result.resolution.q_invA):
        return None
    return float(2 * np.pi / result.resolution.q_invA[-1] / 10)


def lab_parts(lab: LabImage) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """Fields and arrays of the crystal in the lab frame, with displacement and strain."""
    values = {"displacement": lab.displacement_angstrom, "strain": lab.strain}
    spreads = {"displacement": lab.displacement_std_angstrom, "strain": lab.strain_std}
    surface = isosurface(lab.density, lab.support, lab.voxel_nm * np.eye(3), values=values)
    fields = {
        "voxel_nm": [lab.voxel_nm] * 3,
        "axes": LAB,
        "surface": about_surface(surface, axes=LAB, q_invA=lab.q_centre_invA),
        "ranges": {name: limit(array) for name, array in values.items()},
        "uncertainty": {name: _median(array) for name, array in spreads.items() if array is not None},
    }
    return fields, _slices(lab.density, lab.support, values) | surface_arrays(surface)


def about_surface(
    surface: Isosurface | None, *, axes: Sequence[str], q_invA: Sequence[float] | NDArray[Any] | None = None
) -> dict[str, Any] | None:
    if surface is None:
        return None
    q = None if q_invA is None else [float(value) for value in q_invA]
    return {"level": surface.level, "step": surface.step, "axes": list(axes), "q_invA": q}


def surface_arrays(surface: Isosurface | None) -> dict[str, NDArray[Any]]:
    if surface is None:
        return {}
    values = {f"surface_{name}": array for name, array in surface.values.items()}
    return {"surface_vertices": surface.vertices, "surface_faces": surface.faces, **values}


def limit(values: NDArray[Any]) -> float | None:
    """Of a range about zero; None where nothing is known."""
    known = np.abs(values[np.isfinite(values)])
    return float(np.percentile(known, SHARE)) if known.size else None


def _median(values: NDArray[Any]) -> float | None:
    known = values[np.isfinite(values)]
    return float(np.median(known)) if known.size else None


def _slices(
    density: NDArray[np.complexfloating[Any, Any]],
    support: NDArray[np.bool_],
    values: Mapping[str, NDArray[np.float32]] | None = None,
) -> dict[str, NDArray[Any]]:
    """Slices through the support's centre, cropped to the support and a margin; amplitude to a maximum of 1."""
    box, centre = _box(support)
    density, support = density[box], support[box]
    quantities = {
        "amplitude": np.abs(density) / max(float(np.abs(density).max()), 1e-30),
        "phase": np.where(support, np.angle(about_mean_phase(density, support)), np.nan),
        **{name: array[box] for name, array in (values or {}).items()},
    }
    return {
        f"{name}_{axis}": array.take(centre[axis], axis).astype(np.float32)
        for name, array in quantities.items()
        for axis in range(3)
    }


def _box(support: NDArray[np.bool_], margin: int = 4) -> tuple[tuple[slice, ...], Sequence[int]]:
    if not support.any():
        return tuple(slice(None) for _ in support.shape), [edge // 2 for edge in support.shape]
    box, centre = [], []
    for axis, edge in enumerate(support.shape):
        others = tuple(other for other in range(3) if other != axis)
        inside = np.flatnonzero(support.any(axis=others))
        start = max(0, int(inside[0]) - margin)
        box.append(slice(start, min(edge, int(inside[-1]) + 1 + margin)))
        centre.append(int(inside.mean().round()) - start)
    return tuple(box), centre

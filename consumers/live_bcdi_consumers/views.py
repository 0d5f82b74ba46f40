"""What the page is shown of a reconstruction: the central slices of amplitude and phase."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from live_bcdi.estimate import LiveEstimate
from live_bcdi.stream.run import RunPlan
from live_bcdi.stream.updates import Update
from live_bcdi.types import Reconstruction


def estimate_update(plan: RunPlan, frames: int, estimate: LiveEstimate, *, lag_s: float) -> Update:
    """The live estimate of the first `frames` frames, on the detector's conjugate grid, `lag_s` after the last of
    them came."""
    fields = {
        "kind": "live",
        "frames": frames,
        "num": plan.num,
        "chi": estimate.chi,
        "seconds": estimate.seconds,
        "lag_s": lag_s,
        "voxel_nm": list(estimate.voxel_nm),
        "axes": ["rocking", "row", "column"],
    }
    return Update(
        topic="estimate", run=plan.run, fields=fields, arrays=_slices(estimate.density, estimate.support)
    )


def refined_update(summary: Mapping[str, Any], result: Reconstruction) -> Update:
    """The refined crystal in the laboratory frame, or on the detector's grid where no geometry is known."""
    fields = {key: summary[key] for key in ("frames", "num", "chi", "seconds", "resolution_nm")}
    if result.lab is None:
        fields |= {"voxel_nm": None, "axes": ["rocking", "row", "column"]}
        arrays = _slices(result.density, result.support)
    else:
        fields |= {"voxel_nm": [result.lab.voxel_nm] * 3, "axes": ["x", "y", "z"]}
        arrays = _slices(result.lab.density, result.lab.support)
    return Update(topic="estimate", run=str(summary["run"]), fields={"kind": "refined", **fields}, arrays=arrays)


def _slices(density: NDArray[np.complexfloating[Any, Any]], support: NDArray[np.bool_]) -> dict[str, NDArray[Any]]:
    """Slices through the support's centre, cropped to the support and a margin; amplitude to a maximum of 1."""
    box, centre = _box(support)
    density, support = density[box], support[box]
    amplitude = np.abs(density) / max(float(np.abs(density).max()), 1e-30)
    mean = (density * np.abs(density))[support].sum()  # the phase has no zero of its own
    phase = np.where(support, np.angle(density * np.conj(mean)), np.nan)
    arrays = {}
    for axis in range(3):
        arrays[f"amplitude_{axis}"] = amplitude.take(centre[axis], axis).astype(np.float32)
        arrays[f"phase_{axis}"] = phase.take(centre[axis], axis).astype(np.float32)
    return arrays


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

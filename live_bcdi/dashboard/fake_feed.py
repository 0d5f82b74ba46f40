"""A scan that never was, told as the services tell one: for tests, screenshots, and work on the page.

The crystal is a truncated octahedron with a smooth strain field and one dislocation-free phase; its frames are
slices of |FFT|^2 with Poisson noise. Nothing here is a model of an experiment: `live_bcdi.sim` is.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..advice import Advice
from ..isosurface import isosurface
from ..strain import displacement_angstrom, strain_along
from ..stream.updates import Update
from ..types import ComplexArray, FloatArray

DETECTOR_AXES = ("rocking", "row", "column")
LAB_AXES = ("x", "y", "z")
LIVE_EDGE = 64
LAB_EDGE = 96
LAB_VOXEL_NM = 5.0
Q_INVA = (0.62, 2.41, 1.02)
VOLTAGES = (2.5, 3.0, 3.5, 4.0, 3.5, 3.0)
INSIDE = 0.3  # of the maximum
SERVICES = ("broker", "tiled_server", "archiver", "live", "refine", "page")


@dataclass(frozen=True, kw_only=True, slots=True)
class FakeScan:
    """`frames` (rocking, row, column) counts, `angles_deg` one a frame, `voxel_nm` of their inverse grid."""

    frames: NDArray[np.int32]
    angles_deg: FloatArray
    voxel_nm: tuple[float, float, float]
    run: str = "5f0c1de2-0000-4000-8000-000000000054"
    name: str = "S0054"
    saturation_counts: float = 236_200.0


def crystal(shape: tuple[int, int, int], voxel_nm: tuple[float, float, float], size_nm: float) -> ComplexArray:
    """A faceted, strained grain of about `size_nm`, on a grid with its centre at n//2."""
    axes = [(np.arange(n) - n // 2) * edge for n, edge in zip(shape, voxel_nm)]
    x, y, z = (axis * 2 / size_nm for axis in np.meshgrid(*axes, indexing="ij"))
    turned = (0.9 * x + 0.44 * y, 0.9 * y - 0.44 * x, z)
    octahedron = sum(np.abs(axis) for axis in turned) < 1.45
    inside = octahedron & np.logical_and.reduce([np.abs(axis) < 0.92 for axis in turned])
    phase = 1.3 * x * y + 0.9 * np.sin(2.2 * z) - 1.1 * np.exp(-((x - 0.5) ** 2 + (y + 0.4) ** 2 + z**2) / 0.08)
    return np.asarray(inside * (1 - 0.12 * (x**2 + y**2 + z**2)) * np.exp(1j * phase))


def simulated_scan(*, num: int = 61, edge: int = 128, seed: int = 0) -> FakeScan:
    """Frames of `crystal`, brightest pixel near 1e5 counts."""
    voxel_nm = (9.0, 5.0, 5.0)
    density = crystal((num, edge, edge), voxel_nm, 0.45 * edge * 5.0)
    intensity = np.abs(np.fft.fftshift(np.fft.fftn(np.fft.ifftshift(density)))) ** 2
    counts = np.random.default_rng(seed).poisson(intensity * (1e5 / intensity.max()))
    angles_deg = 0.2 + 0.005 * (np.arange(num) - num // 2)
    return FakeScan(frames=counts.astype(np.int32), angles_deg=angles_deg, voxel_nm=voxel_nm)


def run_started(scan: FakeScan) -> Update:
    fields = {
        "state": "started",
        "name": scan.name,
        "sample": "gold nanocrystal",
        "hkl": [1.0, 1.0, 1.0],
        "num": len(scan.frames),
        "start_deg": float(scan.angles_deg[0]),
        "stop_deg": float(scan.angles_deg[-1]),
    }
    return Update(topic="run", run=scan.run, fields=fields)


def run_stopped(scan: FakeScan) -> Update:
    fields = {"state": "stopped", "name": scan.name, "exit_status": "success"}
    return Update(topic="run", run=scan.run, fields=fields)


def live(
    scan: FakeScan, index: int, *, rate_hz: float = 20.0, missing: tuple[int, ...] = (), refilled: int = 0
) -> Update:
    """What the live consumer says after frame `index`, where the frames `missing` never came and `refilled` of the
    others came from the file."""
    have = np.arange(len(scan.frames)) <= index
    have[list(missing)] = False
    seen = scan.frames[: index + 1]
    totals = np.zeros(len(scan.frames))
    totals[: index + 1] = seen.sum(axis=(1, 2))
    totals[~have] = 0
    peak = np.unravel_index(int(np.argmax(seen)), seen.shape)
    fields = {
        "count": int(have.sum()),
        "num": len(scan.frames),
        "index": index,
        "angle_deg": float(scan.angles_deg[index]),
        "rate_hz": rate_hz,
        "interval_s": 1 / rate_hz,
        "total": float(totals.sum()),
        "peak": [int(value) for value in peak],
        "peak_counts": float(seen.max()),
        "bragg_deg": 17.1577,
        "d_angstrom": 2.33489,
        "q_invA": 2.69099,
        "saturated": int((seen.max(axis=0) >= scan.saturation_counts).sum()),
        "saturation_counts": scan.saturation_counts,
        "dead": int((seen.max(axis=0) <= 0).sum()),
        "received": int(have.sum()) - refilled,
        "lost": len(missing) + refilled,
        "duplicates": 0,
        "refilled": refilled,
        "missing": int((~have).sum()),
        "waiting": 0,
        "skipped": index // 2,
        "newest_age_s": 0.02,
        "frame_time_s": time.time() - 0.02,
    }
    image = np.asarray(scan.frames[index], np.float32)
    arrays = {"image": image, "angles_deg": scan.angles_deg, "totals": totals, "have": have}
    return Update(topic="live", run=scan.run, fields=fields, arrays=arrays | drift(scan, have, 1 / rate_hz))


def drift(scan: FakeScan, have: NDArray[np.bool_], interval_s: float) -> dict[str, NDArray[Any]]:
    """Centroids that wander by a pixel, jump by half of one at two thirds, less sure where counts are few."""
    num = len(have)
    rng = np.random.default_rng(7)
    std = 3.0 / np.sqrt(np.maximum(scan.frames.sum(axis=(1, 2)), 20.0))
    arrays = {
        "centroid_row": scan.frames.shape[1] // 2 + np.sin(np.arange(num) / 9) + std * rng.normal(size=num),
        "centroid_column": scan.frames.shape[2] // 2
        + 0.5 * (np.arange(num) > 2 * num / 3)
        + std * rng.normal(size=num),
        "centroid_row_std": std,
        "centroid_column_std": std,
        "monitor": 1e5 * (1 - 0.03 * np.arange(num) / num) + 300 * rng.normal(size=num),
        "times_s": interval_s * np.arange(num),
    }
    return {name: np.where(have, values, np.nan).astype(np.float32) for name, values in arrays.items()}


def advice(scan: FakeScan, of: str, *said: Advice) -> Update:
    return Update(topic="advice", run=scan.run, fields={"of": of, "advice": [asdict(each) for each in said]})


def job(scan: FakeScan, share: float | None = 0.42, **changes: Any) -> dict[str, Any]:
    """A refinement at work, for `queue`."""
    text = "" if share is None else "generation 1 of 3, start 4 of 8, iteration 61 of 166"
    left_s = None if share is None else 41.0
    told = {"share": share, "text": text, "seconds": 31.0, "quiet_s": 0.4, "left_s": left_s}
    return {"run": scan.run, "name": scan.name, **told, **changes}


def live_estimate(scan: FakeScan, frames: int, *, seed: int = 0) -> Update:
    """An estimate that gets better with `frames`."""
    done = frames / len(scan.frames)
    density = crystal((LIVE_EDGE,) * 3, scan.voxel_nm, 300.0)
    noise = np.random.default_rng([seed, frames]).normal(size=(2, *density.shape))
    for axis in (1, 2, 3):  # an estimate from few frames is blurred and blotchy, not grainy
        noise = sum(np.roll(noise, shift, axis) for shift in range(-3, 4)) / np.sqrt(7)
    density = density * (1 + 0.4 * (1 - done) * noise[0]) * np.exp(1j * (1 - done) * 0.5 * noise[1])
    density[np.abs(density) < 0.3] *= 0.4
    fields = {
        "kind": "live",
        "frames": frames,
        "num": len(scan.frames),
        "chi": 0.02 + 0.3 * (1 - done) ** 2,
        "seconds": 0.42,
        "lag_s": 0.51,
        "voxel_nm": list(scan.voxel_nm),
        "axes": list(DETECTOR_AXES),
    }
    surface, triangles = surface_parts(density, scan.voxel_nm)
    arrays = central_slices(density) | triangles
    return Update(topic="estimate", run=scan.run, fields={**fields, "surface": surface}, arrays=arrays)


def refined_estimate(scan: FakeScan) -> Update:
    density = crystal((LAB_EDGE,) * 3, (LAB_VOXEL_NM,) * 3, 300.0)
    fields = {
        "kind": "refined",
        "frames": len(scan.frames),
        "num": len(scan.frames),
        "chi": 0.01176,
        "seconds": 61.8,
        "voxel_nm": [LAB_VOXEL_NM] * 3,
        "axes": list(LAB_AXES),
        "resolution_nm": 19.4,
        "uncertainty": {"displacement": 0.011, "strain": 2.3e-5},
        "chi_starts": [0.01176, 0.01193, 0.01188],
        "free_llk": 0.546,
        "free_llk_starts": [0.546, 0.5646, 0.5627],
        "fsc_nm": {"0.5": 25.2, "1/7": 12.3, "half-bit": 12.3},
        "limit_nm": 12.3,
        "rung": "refraction",
        "misfits": [0.13, 0.0078],
    }
    values = strained(density)
    surface, triangles = surface_parts(density, (LAB_VOXEL_NM,) * 3, values)
    ranges = {name: float(np.nanpercentile(np.abs(array), 99)) for name, array in values.items()}
    arrays = central_slices(density, values) | triangles
    fields |= {"surface": surface, "ranges": ranges}
    return Update(topic="estimate", run=scan.run, fields=fields, arrays=arrays)


def strained(density: ComplexArray) -> dict[str, NDArray[np.float32]]:
    """Displacement (angstrom) and strain along `Q_INVA` of an object on the lab's voxels, NaN outside it."""
    inside = np.abs(density) > INSIDE * np.abs(density).max()
    q_invA = np.array(Q_INVA)
    displacement = displacement_angstrom(density, inside, float(np.linalg.norm(q_invA)))
    return {"displacement": displacement, "strain": strain_along(density, inside, q_invA, LAB_VOXEL_NM)}


def surface_parts(
    density: ComplexArray,
    voxel_nm: tuple[float, float, float],
    values: Mapping[str, NDArray[np.float32]] | None = None,
) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """`surface` and its arrays, as the services send them."""
    inside = np.abs(density) > INSIDE * np.abs(density).max()
    surface = isosurface(density, inside, np.diag(voxel_nm), values=values)
    if surface is None:
        return {}, {}
    fields = {"level": surface.level, "step": surface.step, "axes": list(LAB_AXES), "q_invA": list(Q_INVA)}
    arrays = {f"surface_{name}": array for name, array in surface.values.items()}
    return fields, {"surface_vertices": surface.vertices, "surface_faces": surface.faces, **arrays}


def result(scan: FakeScan) -> Update:
    fields = {
        "name": scan.name,
        "chi": 0.01176,
        "resolution_nm": 19.4,
        "seconds": 61.8,
        "file": f"runs/results/{scan.name}_{scan.run[:8]}_1.cxi",
        "tiled": f"refined/{scan.run}_1",
        "frames": len(scan.frames),
        "num": len(scan.frames),
        "stop_to_result_s": 63.2,
        "last_frame_to_result_s": 63.4,
    }
    return Update(topic="result", run=scan.run, fields=fields)


def series(states: Sequence[float | None] = VOLTAGES, *, name: str | None = "voltage") -> Update:
    """A cell that is charged and discharged: what the runs at these voltages gave; None where one did not say."""
    runs = [_of_series(number, state, states[0] or 0.0) for number, state in enumerate(states)]
    fields = {
        "series": "LiCoO2 grain, hkl 1 0 -5",
        "state": None if name is None else {"name": name, "unit": "V"},
        "explained": [0.91, 0.05, 0.02],
        "runs": runs,
    }
    return Update(topic="operando", run=str(runs[-1]["run"]), fields=fields)


def _of_series(number: int, state: float | None, first: float) -> dict[str, Any]:
    charged = (state or first) - first + 0.05 * number  # it does not come back to where it was
    return {
        "run": f"5f0c1de2-0000-4000-8000-{number + 40:012d}",
        "name": f"S{number + 40:04d}",
        "time_s": 1.79e9 + 1700.0 * number,
        "state": state,
        "state_std": None if state is None else 0.02,
        "state_why": "neither the start document nor an event has 'voltage'" if state is None else None,
        "strain_std": 1.1e-4 + 2.3e-4 * charged,
        "strain_std_error": 2e-5 + 5e-6 * number,
        "d_change": -1.4e-3 * charged,
        "peak_change": -1.35e-3 * charged,
        "peak_change_std": 4e-6,
        "rotation_mdeg": [2.6 * charged - 0.8 * number, 1.1 * number],
        "rotation_std_mdeg": [0.24, 0.12],
        "components": [0.19 * charged, 0.01 * (-1) ** number, 0.0],
        "components_why": None,
        "chi": 0.012,
        "resolution_nm": 19.4,
        "intensity": 4.6e7,
    }


def queue(*jobs: dict[str, Any], running: int = 0, waiting: int = 0, later: int = 0, outbox: int = 0) -> Update:
    counts = {"running": running or len(jobs), "waiting": waiting, "later": later, "outbox": outbox}
    fields = {**counts, "jobs": list(jobs)}
    return Update(topic="queue", fields=fields)


def central_slices(
    density: ComplexArray, values: Mapping[str, NDArray[np.float32]] | None = None
) -> dict[str, NDArray[Any]]:
    """amplitude_0..2, phase_0..2 and those of `values` through n//2; phase NaN where there is no crystal."""
    amplitude = np.abs(density) / np.abs(density).max()
    quantities = {
        "amplitude": amplitude,
        "phase": np.where(amplitude > INSIDE, np.angle(density), np.nan),
        **(values or {}),
    }
    return {
        f"{name}_{axis}": array.take(edge // 2, axis).astype(np.float32)
        for name, array in quantities.items()
        for axis, edge in enumerate(density.shape)
    }


def heartbeats(*, failed: str | None = None, busy: str | None = None) -> Iterator[Update]:
    """A word from every service."""
    for number, name in enumerate(SERVICES):
        state = "failed" if name == failed else "busy" if name == busy else "ready"
        detail = f"{name} ended with status -9; starting it again in 0.5 s" if name == failed else ""
        pid = None if name == failed else 4100 + number
        fields = {"service": name, "pid": pid, "state": state, "detail": detail, "time_s": time.time()}
        yield Update(topic="health", fields=fields)


def notice(service: str, level: str, message: str, *, run: str = "") -> Update:
    return Update(topic="notice", run=run, fields={"service": service, "level": level, "message": message})


def turned(scan: FakeScan, frames: int | None = None) -> Update:
    """What moved within the first `frames` of a scan: a slow turn and a jump; the first frames say nothing of
    it."""
    num = len(scan.frames)
    seen = num if frames is None else frames
    index = np.arange(num)
    std = 0.06 + 0.1 * np.abs(index / num - 0.5)
    found = 0.5 * np.sin(index / 7) + 0.4 * (index > 2 * num / 3) + std * np.random.default_rng(5).normal(size=num)
    silent = (index >= seen) | (index < num // 8)
    arrays = {
        "found_steps": np.where(silent, np.nan, found),
        "std_steps": np.where(silent, np.nan, std),
        "gain": np.where(silent, np.nan, 1 + 0.01 * np.sin(index / 3)),
    }
    fields = {
        "of": "scan",
        "frames": seen,
        "num": num,
        "whole": frames is None,
        "corrected": True,
        "jitter_steps": 0.46,
        "reason": "motion seen: log evidence 31.2, at most 0.4 in 8 scans drawn of a still crystal",
    }
    shown = {name: values.astype(np.float32) for name, values in arrays.items()}
    return Update(topic="tracking", run=scan.run, fields=fields, arrays=shown)


def motion(scans: int = 14, *, lost: bool = False) -> Update:
    """A crystal that drifts away over `scans`, of which the seventh has no beam; where it will be at the next."""
    rows = [_moved(number) for number in range(scans)]
    if lost:
        rows[-1] |= {name: None for name in rows[-1] if name not in ("run", "name", "time_s")}
        rows[-1]["reasons"] = ["the peak has 4.1% of the usual counts: the crystal is lost"]
    wider = 3.0 if lost else 1.0
    after = _moved(scans)
    numbers = {
        "rotation_1_mdeg": (after["rotation_mdeg"][0], 0.5),
        "rotation_2_mdeg": (after["rotation_mdeg"][1], 0.4),
        "strain": (after["strain"], 4e-6),
        "counts_ratio": (after["counts_ratio"], 0.03),
        "angle_deg": (after["angle_deg"], 0.0006),
        "row": (after["row"], 0.12),
        "column": (after["column"], 0.09),
    }
    told = {
        name: {"value": value, "std": wider * std, "std2": 2.2 * wider * std}
        for name, (value, std) in numbers.items()
    }
    prediction = {**told, "scans": scans - 1 - lost, "unseen": int(lost), "time_s": after["time_s"]}
    prediction["lost"] = rows[-1]["reasons"][0] if lost else ""
    fields = {"of": "series", "series": "LiCoO2 grain, hkl 1 0 -5", "scans": rows, "prediction": prediction}
    return Update(topic="tracking", run=str(rows[-1]["run"]), fields=fields)


def _moved(number: int) -> dict[str, Any]:
    told: dict[str, Any] = {
        "run": f"5f0c1de2-0000-4000-8000-{number + 40:012d}",
        "name": f"S{number + 40:04d}",
        "time_s": 1.79e9 + 900.0 * number,
        "rotation_mdeg": [0.9 * number + 0.5 * np.sin(number), -0.4 * number + 0.3 * np.cos(2 * number)],
        "rotation_std_mdeg": [0.24, 0.12],
        "strain": 2e-5 * np.sin(number / 4),
        "strain_std": 2e-6,
        "counts_ratio": 1 - 0.01 * number,
        "angle_deg": 0.31 - 0.0009 * number,
        "angle_std_deg": 0.0002,
        "row": 64 - 0.31 * number + 0.1 * np.sin(3 * number),
        "row_std": 0.05,
        "column": 60 + 0.22 * number,
        "column_std": 0.04,
        "reasons": [],
    }
    if number == 6:
        told |= {name: None for name in told if name not in ("run", "name", "time_s", "reasons")}
        told["reasons"] = ["the monitor is at 3% of the usual: the beam was lost"]
    return told

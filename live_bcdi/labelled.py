"""Arrays of a result or a scan as xarray: axes with their units, what the numbers mean in `attrs`.

Coordinates are zero at voxel n//2: x, y, z of the lab frame in nm; the three axes of the detector's conjugate grid
in nm along their own directions, which are not orthogonal; those of the measured intensity in 1/angstrom.
"""

from collections.abc import Mapping
from typing import Any, TypeAlias

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from .geometry import direct_basis_nm
from .transport.stored import DETECTOR_AXES, LAB_AXES, RECIPROCAL
from .types import RockingScan

Coordinates: TypeAlias = dict[str, tuple[str, NDArray[np.float64], dict[str, Any]]]

# The axis of what is no volume: another array of the result, or a number.
CURVES = {
    **{name: "prtf_q" for name in ("prtf", "prtf_q")},
    **{name: "fsc_q" for name in ("fsc", "fsc_voxels", "fsc_q")},
    "mode_weights": "mode",
}
# The array beside it that holds its standard deviation over the starts.
SPREADS = {
    "strain": "strain_std",
    "displacement": "displacement_std",
    "mode_amplitude": "amplitude_std",
    "mode_phase": "phase_std",
}


def volume(
    name: str, values: NDArray[Any], about: Mapping[str, Any], table: Mapping[str, Any], names: set[str]
) -> xr.DataArray:
    """Three axes, by the `axes` and `frame` of `about`; `table` is the result's, `names` are all its arrays."""
    if about.get("axes") == LAB_AXES:
        coordinates = _lab_axes(values.shape, float(table["voxel_nm"]))
    elif about.get("axes") != DETECTOR_AXES:
        return other(name, values, about)
    elif about.get("frame") == RECIPROCAL:
        coordinates = _reciprocal_axes(values.shape, np.asarray(table["q_steps_invA"]))
    else:
        coordinates = _detector_axes(values.shape, table.get("q_steps_invA"))
    meant = {key: value for key, value in about.items() if key not in ("axes", "voxel_nm")}
    if SPREADS.get(name) in names:
        meant["ancillary_variables"] = SPREADS[name]  # as the CF conventions name what is beside
    return xr.DataArray(values, dims=tuple(coordinates), coords=coordinates, name=name, attrs=meant)


def curve(name: str, values: NDArray[Any], about: Mapping[str, Any], q_invA: NDArray[Any] | None) -> xr.DataArray:
    """One axis: |q - q_centre| in 1/angstrom, or a number."""
    axis = CURVES.get(name, f"{name}_index")
    q: Coordinates = {}
    if q_invA is not None:
        q = {axis: (axis, q_invA, {"units": "1/angstrom", "long_name": "|q - q_centre|"})}
    return xr.DataArray(values, dims=(axis,), coords=q, name=name, attrs=dict(about))


def other(name: str, values: NDArray[Any], about: Mapping[str, Any]) -> xr.DataArray:
    """Of any number of axes, by the names that the `axes` of `about` has for them."""
    axes = [each for each in str(about.get("axes", "")).split(", ") if each]
    if len(axes) != values.ndim:
        axes = [f"{name}_{place}" for place in range(values.ndim)]
    return xr.DataArray(values, dims=axes, name=name, attrs=dict(about))


def frames(scan: RockingScan) -> xr.DataArray:
    """Counts of a scan (angle, row, column), with the monitor and what is missing beside the angle."""
    beside: dict[str, Any] = {
        "angle": ("angle", scan.angles_deg, {"units": "degree", "circle": scan.geometry.rocking})
    }
    if scan.monitor is not None:
        beside["monitor"] = ("angle", scan.monitor, {"units": "counts"})
    if scan.timestamps_s is not None:
        beside["time"] = ("angle", scan.timestamps_s, {"units": "s since 1970-01-01"})
    if scan.have is not None:
        beside["have"] = ("angle", scan.have, {"meaning": "False where a frame never came"})
    if scan.bad_pixels is not None:
        beside["bad_pixels"] = (("row", "column"), scan.bad_pixels, {"meaning": "True where it must not be used"})
    for axis, count in zip(("row", "column"), scan.intensity.shape[1:], strict=True):
        beside[axis] = (axis, np.arange(count), {"units": "pixel"})
    geometry = scan.geometry
    attrs = {
        "units": "counts",
        "sample": scan.sample,
        "energy_kev": geometry.energy_kev,
        "distance_m": geometry.distance_m,
        "pixel_um": list(geometry.pixel_um),
        "hkl": [] if scan.hkl is None else list(scan.hkl),
    }
    return xr.DataArray(
        scan.intensity, dims=("angle", "row", "column"), coords=beside, name=scan.name, attrs=attrs
    )


def flat(table: Mapping[str, Any]) -> dict[str, Any]:
    """A table as `attrs` that files hold as well: tables in it by `key.name`, the rows of a matrix by
    `key.0` and so on, nothing that is None, and no `/`, which netCDF has for groups."""
    found: dict[str, Any] = {}
    for key, value in table.items():
        if isinstance(value, list) and value and isinstance(value[0], list):
            value = {str(row): each for row, each in enumerate(value)}
        if isinstance(value, Mapping):
            found |= {f"{key}.{name}".replace("/", "_"): each for name, each in flat(value).items()}
        elif value is not None:
            found[key] = value
    return found


def _from_middle(count: int, step: float) -> NDArray[np.float64]:
    return np.asarray((np.arange(count) - count // 2) * step, np.float64)


def _lab_axes(shape: tuple[int, ...], voxel_nm: float) -> Coordinates:
    return {
        axis: (axis, _from_middle(count, voxel_nm), {"units": "nm", "frame": "laboratory"})
        for axis, count in zip("xyz", shape, strict=True)
    }


def _detector_axes(shape: tuple[int, ...], q_steps: Any) -> Coordinates:
    names = DETECTOR_AXES.split(", ")
    if q_steps is None:
        return {
            axis: (axis, _from_middle(n, 1.0), {"units": "voxel"}) for axis, n in zip(names, shape, strict=True)
        }
    first, second, third = shape
    return _along(names, shape, direct_basis_nm(np.asarray(q_steps), (first, second, third)), "nm")


def _reciprocal_axes(shape: tuple[int, ...], q_steps: NDArray[Any]) -> Coordinates:
    return _along([f"q_{axis}" for axis in DETECTOR_AXES.split(", ")], shape, q_steps, "1/angstrom")


def _along(names: list[str], shape: tuple[int, ...], steps: NDArray[Any], units: str) -> Coordinates:
    """Lengths along the columns of `steps` (3, 3), whose lab directions are in the attributes."""
    found: Coordinates = {}
    for name, count, step in zip(names, shape, steps.T, strict=True):
        length = float(np.linalg.norm(step))
        about = {"units": units, "direction": (step / length).tolist(), "frame": "direction in lab (x, y, z)"}
        found[name] = (name, _from_middle(count, length), about)
    return found

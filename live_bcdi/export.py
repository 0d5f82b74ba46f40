"""A result in the forms that other programs read: VTK ImageData, NeXus with CXI names, CXI."""

from pathlib import Path
from typing import Any, Literal, TypeAlias

import h5py
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from .catalogue import Result, Run
from .transport.files import check_output
from .transport.hdf5 import write_nxcxi, write_result
from .transport.stored import LAB_AXES
from .transport.vti import is_vti, write_vti
from .types import BoolArray, ScanError

Form: TypeAlias = Literal["vti", "nxcxi", "cxi"]
ENDINGS: dict[Form, str] = {"vti": ".vti", "nxcxi": "_nx.cxi", "cxi": ".cxi"}


def export(
    run: Run, form: Form, output: Path | None = None, *, version: str | None = None, overwrite: bool = False
) -> dict[str, Any]:
    """Write a result of a run, the newest without a `version`; what there is to say of the file.

    `output` is by default the run's name and the version with the form's ending, in the working folder. "vti" has
    the arrays in the lab frame as point data in nm; "nxcxi" the result and the frames it is from; "cxi" what
    `write_result` writes. Raises ScanError where there is no such result, it has no image in the lab frame (vti),
    the frames are not there (nxcxi), or as `check_output` does.
    """
    result = run.result(version)
    path = output or Path(f"{run.stem(result)}{ENDINGS[form]}")
    source = Path(result.path)
    check_output(path, overwrite=overwrite, source=source, replaced=is_vti if form == "vti" else h5py.is_hdf5)
    if form == "vti":
        arrays = _to_vti(result, path)
    elif form == "nxcxi":
        arrays = list(result)
        write_nxcxi(path, run.scan(), result.reconstruction(), run=run.uid)
    else:
        arrays = list(result)
        write_result(path, result.reconstruction(), scan_name=run.name, run=run.uid, links=_links(run, result))
    return {
        "run": run.uid,
        "name": run.name,
        "result": result.path,
        "form": form,
        "arrays": arrays,
        "bytes": path.stat().st_size,
        "file": str(path),
    }


def _to_vti(result: Result, path: Path) -> list[str]:
    names = [name for name, array in result.arrays.items() if array.metadata.get("axes") == LAB_AXES]
    if not names:
        raise ScanError(f"{result.path} has no image in the lab frame: its geometry, or any object, is missing")
    volumes = result.dataset(*names)
    first = volumes[names[0]]
    about = {f"units of {name}": volumes[name].attrs.get("units", "1") for name in names}
    about |= {name: volumes[name].attrs["definition"] for name in names if "definition" in volumes[name].attrs}
    about |= {key: str(volumes.attrs[key]) for key in ("name", "recipe", "seed", "chi", "q_invA", "convention")}
    about["lengths"] = "nm, lab frame (x, y, z)"
    x, y, z = (float(first[axis][0]) for axis in "xyz")
    inside = volumes["support"].values
    write_vti(
        path,
        {name: _with_rim(np.asarray(volumes[name].values), inside) for name in names},
        spacing_nm=float(result.metadata["voxel_nm"]),
        origin_nm=(x, y, z),
        about=about,
    )
    return names


def _with_rim(values: NDArray[Any], inside: BoolArray) -> NDArray[Any]:
    """What is NaN outside the crystal, with the nearest value of the crystal in the voxels that touch it: a
    surface lies between the two, and would have no colour."""
    if values.dtype.kind != "f" or np.isfinite(values).all():
        return values
    rim = ndimage.binary_dilation(inside, np.ones((3, 3, 3))) & ~inside
    nearest = ndimage.distance_transform_edt(~inside, return_distances=False, return_indices=True)
    found = values.copy()
    found[rim] = values[tuple(each[rim] for each in nearest)]
    return found


def _links(run: Run, result: Result) -> dict[str, str]:
    """Where the raw data are: of a result file what it says itself, else in Tiled."""
    if "file" in run.metadata:
        return {str(key): str(place) for key, place in run.metadata.items() if key != "file"}
    return {"tiled": f"raw/{run.uid}", "result": result.path}

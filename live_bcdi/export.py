"""A result in the forms that other programs read: VTK ImageData, NeXus with CXI names, CXI."""

from pathlib import Path
from typing import Any, Literal, TypeAlias

import h5py
import numpy as np

from .catalogue import Result, Run
from .metadata import file_stem
from .transport.files import check_output
from .transport.hdf5 import write_nxcxi, write_result
from .transport.stored import LAB_AXES
from .transport.vti import is_vti, write_vti
from .types import ScanError

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
    path = output or Path(f"{file_stem(run.name)}_{run.uid[:8] or 'offline'}_{result.version}{ENDINGS[form]}")
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
    units = {name: f"{volumes[name].attrs.get('units', '')}" for name in names}
    about = {f"units of {name}": unit for name, unit in units.items() if unit}
    about |= {key: str(volumes.attrs[key]) for key in ("name", "recipe", "seed", "chi", "q_invA", "convention")}
    about["lengths"] = "nm, lab frame (x, y, z)"
    x, y, z = (float(first[axis][0]) for axis in "xyz")
    write_vti(
        path,
        {name: np.asarray(volumes[name].values) for name in names},
        spacing_nm=float(result.metadata["voxel_nm"]),
        origin_nm=(x, y, z),
        about=about,
    )
    return names


def _links(run: Run, result: Result) -> dict[str, str]:
    """Where the raw data are: of a result file what it says itself, else in Tiled."""
    if "file" in run.metadata:
        return {str(key): str(place) for key, place in run.metadata.items() if key != "file"}
    return {"tiled": f"raw/{run.uid}", "result": result.path}

"""A reconstruction on disk: CXI names, everything in it, and where it came from. docs/file-format.md shows it."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from ..geometry import direct_basis_nm
from ..types import (
    BoolArray,
    DiffractionVolume,
    LabImage,
    Outcome,
    Reconstruction,
    Resolution,
    ScanError,
)
from .files import clear_errors, new_file, nexus_group, open_file, put, text
from .nexus import DATA_PATH

_IMAGE = "entry_1/image_1"
_LAB = "entry_1/image_2"
_PROCESS = "entry_1/process_1"
_VOLUME = "entry_1/instrument_1/detector_1"
_RESOLUTION = "entry_1/resolution_1"


def write_result(
    path: Path, reconstruction: Reconstruction, *, scan_name: str, run: str, links: Mapping[str, str]
) -> None:
    """Write a reconstruction as CXI; `read_result` gives it back exactly.

    `run` is the uid of the raw run (empty offline); `links` names where the raw data are, and `links["frames"]`
    is also linked as data. The file is whole or not there; raises ScanError where it cannot be written.
    """
    path = Path(path)
    with new_file(path) as file:
        file.attrs["NX_class"] = "NXroot"
        file.attrs["default"] = "entry_1"
        file.attrs["creator"] = "live_bcdi"
        file["cxi_version"] = 160
        default = "image_1" if reconstruction.lab is None else "image_2"
        entry = nexus_group(file, "entry_1", "NXentry", default=default)
        put(entry, "title", scan_name)
        put(entry, "program_name", "live_bcdi")
        _write_process(entry, reconstruction)
        _write_image(entry, reconstruction)
        if reconstruction.volume is not None:
            _write_volume(entry, reconstruction.volume)
        if reconstruction.lab is not None:
            _write_lab(entry, reconstruction.lab)
        if reconstruction.resolution is not None:
            _write_resolution(entry, reconstruction.resolution)
        _write_origin(entry, run, links, path)


def read_result(path: Path) -> Reconstruction:
    """Read what `write_result` wrote. Raises ScanError where the file is absent, damaged or something else."""
    path = Path(path)
    with open_file(path) as file, clear_errors(path, "reconstruction"):
        if _PROCESS not in file or "recipe" not in file[_PROCESS]:
            raise ScanError(f"{path} is not a result of live_bcdi: it has no {_PROCESS}/recipe")
        process = file[_PROCESS]
        return Reconstruction(
            density=file[_IMAGE]["data"][()],
            support=file[_IMAGE]["support"][()],
            chi=float(process["chi"][()]),
            chi_starts=tuple(float(chi) for chi in process["chi_starts"][()]),
            metrics={name: float(value) for name, value in process["metrics"].attrs.items() if name != "NX_class"},
            recipe=text(process["recipe"]),
            seed=int(process["seed"][()]),
            outcome=Outcome[text(process["outcome"])],
            volume=_read_volume(file[_VOLUME]) if _VOLUME in file else None,
            lab=_read_lab(file[_LAB]) if _LAB in file else None,
            resolution=_read_resolution(file[_RESOLUTION]) if _RESOLUTION in file else None,
            provenance={name: text(value) for name, value in process["provenance"].attrs.items()},
        )


def _write_process(entry: h5py.Group, result: Reconstruction) -> None:
    process = nexus_group(entry, "process_1", "NXprocess")
    put(process, "program", "live_bcdi")
    if "command" in result.provenance:
        put(process, "command", result.provenance["command"])
    put(process, "recipe", result.recipe)
    put(process, "seed", result.seed)
    put(process, "chi", result.chi)
    put(process, "chi_starts", np.asarray(result.chi_starts, np.float64))
    put(process, "outcome", result.outcome.name, meaning=result.outcome.value)
    metrics = process.create_group("metrics")
    for name, value in result.metrics.items():
        metrics.attrs[name] = np.float64(value)
    provenance = process.create_group("provenance")
    for name, word in result.provenance.items():
        provenance.attrs[name] = word


def _write_image(entry: h5py.Group, result: Reconstruction) -> None:
    image = _image_group(entry, "image_1", result.density, result.support)
    image.attrs["axes"] = ["rocking", "row", "column"]
    volume = result.volume
    if volume is None or volume.intensity.shape != result.density.shape:
        return
    first, second, third = result.density.shape
    basis_nm = direct_basis_nm(volume.q_steps_invA, (first, second, third))
    put(image, "voxel_basis", basis_nm, units="nm", frame="lab (x, y, z); one column an array axis")
    put(image, "image_size", np.linalg.norm(basis_nm, axis=0) * result.density.shape * 1e-9, units="m")


def _image_group(entry: h5py.Group, name: str, density: NDArray[Any], support: BoolArray) -> h5py.Group:
    """What both images have: the complex density, and amplitude and phase for viewers."""
    image = nexus_group(entry, name, "NXdata", signal="amplitude")
    put(image, "data", density)
    put(image, "amplitude", np.abs(density).astype(np.float32))
    put(image, "phase", np.angle(density).astype(np.float32), units="rad")
    put(image, "mask", support, meaning="the support: True inside the crystal")
    image["support"] = h5py.SoftLink(f"{image.name}/mask")
    put(image, "data_space", "real")
    put(image, "data_type", "electron density")
    put(image, "is_fft_shifted", 0)
    image["process_1"] = h5py.SoftLink(f"{entry.name}/process_1")
    return image


def _write_lab(entry: h5py.Group, lab: LabImage) -> None:
    image = _image_group(entry, "image_2", lab.density, lab.support)
    image.attrs["axes"] = ["x", "y", "z"]
    inside = "zero mean inside the support, NaN outside"
    put(
        image,
        "displacement",
        lab.displacement_angstrom,
        units="angstrom",
        direction="along +h, the scattering vector q_centre",
        reference=inside,
    )
    put(
        image,
        "strain",
        lab.strain,
        units="",
        definition="d u_h / d x_h, the normal strain along h",
        reference=inside,
    )
    put(image, "voxel_size", lab.voxel_nm, units="nm")
    put(image, "image_size", np.asarray(lab.density.shape) * lab.voxel_nm * 1e-9, units="m")
    put(image, "q_centre", lab.q_centre_invA, units="1/angstrom", frame="lab (x, y, z), with 2 pi")
    for name, count in zip(("x", "y", "z"), lab.density.shape, strict=True):
        put(image, name, (np.arange(count) - count // 2) * lab.voxel_nm, units="nm")


def _read_lab(image: h5py.Group) -> LabImage:
    return LabImage(
        density=image["data"][()],
        support=image["support"][()],
        displacement_angstrom=image["displacement"][()],
        strain=image["strain"][()],
        voxel_nm=float(image["voxel_size"][()]),
        q_centre_invA=image["q_centre"][()],
    )


def _write_volume(entry: h5py.Group, volume: DiffractionVolume) -> None:
    instrument = nexus_group(entry, "instrument_1", "NXinstrument")
    detector = nexus_group(instrument, "detector_1", "NXdetector")
    put(detector, "data", volume.intensity, units="counts")
    put(detector, "mask", volume.mask, meaning="True where a voxel was not used")
    put(detector, "centre", np.asarray(volume.centre, np.float64), units="frame, row, column")
    put(detector, "q_centre", volume.q_centre_invA, units="1/angstrom", frame="lab (x, y, z), with 2 pi")
    put(detector, "q_steps", volume.q_steps_invA, units="1/angstrom", frame="lab; one column an array axis")
    data = nexus_group(entry, "data_1", "NXdata", signal="data")
    data["data"] = h5py.SoftLink(f"{detector.name}/data")


def _read_volume(detector: h5py.Group) -> DiffractionVolume:
    rocking, row, column = (float(value) for value in detector["centre"][()])
    return DiffractionVolume(
        intensity=detector["data"][()],
        mask=detector["mask"][()],
        centre=(rocking, row, column),
        q_centre_invA=detector["q_centre"][()],
        q_steps_invA=detector["q_steps"][()],
    )


def _write_resolution(entry: h5py.Group, resolution: Resolution) -> None:
    group = nexus_group(entry, "resolution_1", "NXdata", signal="prtf", axes=["q"])
    put(group, "q", resolution.q_invA, units="1/angstrom")
    put(group, "prtf", resolution.prtf)
    put(group, "resolution", resolution.resolution_nm, units="nm", meaning="full period 2 pi / q at prtf = 1/e")


def _read_resolution(group: h5py.Group) -> Resolution:
    return Resolution(
        q_invA=group["q"][()],
        prtf=group["prtf"][()],
        resolution_nm=float(group["resolution"][()]),
    )


def _write_origin(entry: h5py.Group, run: str, links: Mapping[str, str], path: Path) -> None:
    """The raw run by its uid and its places; the frames also as an external link, relative to this file."""
    raw = nexus_group(entry, "raw", "NXcollection")
    put(raw, "run", run)
    for name, place in links.items():
        raw.attrs[name] = place
    if "frames" in links:
        near = os.path.relpath(links["frames"], path.absolute().parent)
        raw["data"] = h5py.ExternalLink(near, DATA_PATH)

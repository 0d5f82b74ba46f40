"""A reconstruction on disk: CXI names, everything in it, and where it came from. docs/file-format.md shows it."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from ..geometry import direct_basis_nm
from ..lattice import d_spacing_angstrom, mean_spacing_angstrom, shear_axes, shear_gradients
from ..types import (
    Agreement,
    BoolArray,
    DiffractionVolume,
    FloatArray,
    LabImage,
    Outcome,
    Reconstruction,
    Resolution,
    ScanError,
    ShellCorrelation,
)
from .files import clear_errors, new_file, nexus_group, open_file, put, text
from .nexus import DATA_PATH, SCAN_PATH

_IMAGE = "entry_1/image_1"
_LAB = "entry_1/image_2"
_PROCESS = "entry_1/process_1"
_VOLUME = "entry_1/instrument_1/detector_{}"
_RESOLUTION = "entry_1/resolution_1"
_AGREEMENT = "entry_1/agreement_1"
_CORRELATION = "entry_1/correlation_1"
_DETECTOR_AXES = ("rocking", "row", "column")

# What the numbers of a complex density mean; Sun & Singer Eq. 1
_SIGN = "A(q) = sum S(r) exp(-i q.r), S = s exp(i phi), phi = -h.u: a displacement u along +h lowers the phase"
_INSIDE = "NaN outside"
_GUIDED = "over the starts of the retrieval, which guide each other: a lower limit of the uncertainty"
_FULL_PERIOD = "full period 2 pi / q"


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
        entry = nexus_group(file, "entry_1", "NXentry")
        put(entry, "title", scan_name)
        put_result(entry, reconstruction)
        _write_origin(entry, run, links, path)


def put_result(entry: h5py.Group, reconstruction: Reconstruction, *, detector: int = 1) -> None:
    """Everything of a reconstruction into an entry, its intensities as those of `detector_<detector>`."""
    entry.attrs["default"] = "image_1" if reconstruction.lab is None else "image_2"
    put(entry, "program_name", "live_bcdi")
    _write_process(entry, reconstruction)
    _write_image(entry, reconstruction)
    if reconstruction.volume is not None:
        _write_volume(entry, reconstruction.volume, detector)
    if reconstruction.lab is not None:
        _write_lab(entry, reconstruction.lab)
    if reconstruction.resolution is not None:
        _write_resolution(entry, reconstruction.resolution)
    if reconstruction.agreement is not None:
        _write_agreement(entry, reconstruction.agreement)


def read_result(path: Path) -> Reconstruction:
    """Read what `write_result` wrote. Raises ScanError where the file is absent, damaged or something else."""
    path = Path(path)
    with open_file(path) as file, clear_errors(path, "reconstruction"):
        if _PROCESS not in file or "recipe" not in file[_PROCESS]:
            raise ScanError(f"{path} is not a result of live_bcdi: it has no {_PROCESS}/recipe")
        process, volume = file[_PROCESS], _volume_group(file)
        return Reconstruction(
            density=file[_IMAGE]["data"][()],
            support=file[_IMAGE]["support"][()],
            chi=float(process["chi"][()]),
            chi_starts=tuple(float(chi) for chi in process["chi_starts"][()]),
            metrics={name: float(value) for name, value in process["metrics"].attrs.items() if name != "NX_class"},
            recipe=text(process["recipe"]),
            seed=int(process["seed"][()]),
            outcome=Outcome[text(process["outcome"])],
            volume=None if volume is None else _read_volume(volume),
            lab=_read_lab(file[_LAB]) if _LAB in file else None,
            resolution=_read_resolution(file[_RESOLUTION]) if _RESOLUTION in file else None,
            agreement=_read_agreement(file) if _AGREEMENT in file else None,
            provenance={name: text(value) for name, value in process["provenance"].attrs.items()},
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Origin:
    """Where a result is from: the scan's name, the raw run's uid (empty offline, several with
    spaces between), what `write_result` was told of the places, and the file with the frames where it is now."""

    name: str
    run: str
    links: Mapping[str, str]
    frames: Path | None


def read_origin(path: Path) -> Origin:
    """Of a file of `write_result`, or one with the frames in it. Raises ScanError as `read_result` does."""
    path = Path(path)
    with open_file(path) as file, clear_errors(path, "origin"):
        entry = file["entry_1"]
        name = text(entry["title"])
        if SCAN_PATH in file:
            return Origin(name=name, run=text(entry["raw/run"]), links={}, frames=path)
        raw = entry["raw"]
        links = {key: text(place) for key, place in raw.attrs.items() if key != "NX_class"}
        linked = raw.get("data", getlink=True)
        places = [Path(links["frames"])] if "frames" in links else []
        if isinstance(linked, h5py.ExternalLink):
            places.insert(0, path.absolute().parent / linked.filename)
        frames = next((place for place in places if place.is_file()), None)
        return Origin(name=name, run=text(raw["run"]), links=links, frames=frames)


def is_result(path: Path) -> bool:
    """Whether a file is what `write_result` writes; one that cannot be opened is not."""
    try:
        with h5py.File(path, "r") as file:
            return f"{_PROCESS}/recipe" in file
    except OSError:
        return False


def _write_process(entry: h5py.Group, result: Reconstruction) -> None:
    process = nexus_group(entry, "process_1", "NXprocess")
    put(process, "program", "live_bcdi")
    if "command" in result.provenance:
        put(process, "command", result.provenance["command"])
    put(process, "recipe", result.recipe)
    put(process, "seed", result.seed)
    put(process, "chi", result.chi, units="", meaning="sum (|F| - sqrt I)^2 / sum I over measured voxels")
    put(process, "chi_starts", np.asarray(result.chi_starts, np.float64), units="")
    put(process, "outcome", result.outcome.name, meaning=result.outcome.value)
    metrics = process.create_group("metrics")
    for name, value in result.metrics.items():
        metrics.attrs[name] = np.float64(value)
    provenance = process.create_group("provenance")
    for name, word in result.provenance.items():
        provenance.attrs[name] = word


def _write_image(entry: h5py.Group, result: Reconstruction) -> None:
    image = _image_group(entry, "image_1", result.density, result.support)
    volume = result.volume
    if volume is None or volume.intensity.shape != result.density.shape:
        _put_axes(image, _DETECTOR_AXES, np.eye(3), units="voxel")
        return
    first, second, third = result.density.shape
    basis_nm = direct_basis_nm(volume.q_steps_invA, (first, second, third))
    _put_axes(image, _DETECTOR_AXES, basis_nm, units="nm")
    put(image, "voxel_basis", basis_nm, units="nm", frame="lab (x, y, z); one column an array axis")
    put(image, "image_size", np.linalg.norm(basis_nm, axis=0) * result.density.shape * 1e-9, units="m")


def _put_axes(data: h5py.Group, names: Sequence[str], steps: FloatArray, *, units: str) -> None:
    """Coordinates of the signal of an NXdata, zero at voxel n//2, along the columns of `steps` (3, 3)."""
    data.attrs["axes"] = list(names)
    for name, count, step in zip(names, data[data.attrs["signal"]].shape, steps.T, strict=True):
        length = float(np.linalg.norm(step))
        put(data, name, (np.arange(count) - count // 2) * length, units=units)


def _image_group(entry: h5py.Group, name: str, density: NDArray[Any], support: BoolArray) -> h5py.Group:
    """What both images have: the complex density, and amplitude and phase for viewers."""
    image = nexus_group(entry, name, "NXdata", signal="amplitude")
    put(image, "data", density, units="arbitrary", convention=_SIGN)
    put(image, "amplitude", np.abs(density).astype(np.float32), units="arbitrary")
    put(image, "phase", np.angle(density).astype(np.float32), units="rad", convention=_SIGN)
    put(image, "mask", support, meaning="the support: True inside the crystal")
    image["support"] = h5py.SoftLink(f"{image.name}/mask")
    put(image, "data_space", "real")
    put(image, "data_type", "electron density")
    put(image, "is_fft_shifted", 0)
    image["process_1"] = h5py.SoftLink(f"{entry.name}/process_1")
    return image


def _write_lab(entry: h5py.Group, lab: LabImage) -> None:
    image = _image_group(entry, "image_2", lab.density, lab.support)
    image.attrs["frame"] = "laboratory, of the beamline's configuration"
    put(image, "voxel_size", lab.voxel_nm, units="nm", meaning="edge of a cubic voxel")
    put(image, "image_size", np.asarray(lab.density.shape) * lab.voxel_nm * 1e-9, units="m")
    put(image, "q_centre", lab.q_centre_invA, units="1/angstrom", frame="lab (x, y, z), with 2 pi")
    put(
        image,
        "origin",
        np.asarray(lab.origin_nm),
        units="nm",
        frame="lab (x, y, z)",
        meaning="where voxel n//2 lies, from voxel n//2 of image_1",
    )
    _put_axes(image, ("x", "y", "z"), np.eye(3) * lab.voxel_nm, units="nm")
    _write_fields(image, lab)
    _write_gradients(image, lab)


def _write_fields(image: h5py.Group, lab: LabImage) -> None:
    """Displacement and strain, and how far the starts differ in them."""
    displacement = {"units": "angstrom", "direction": "along +h, the scattering vector q_centre"}
    strain = {"units": "", "definition": "d u_h / d x_h, the normal strain along h"}
    zero = f"zero mean inside the support, {_INSIDE}"
    put(image, "displacement", lab.displacement_angstrom, **displacement, reference=zero)
    spacing = mean_spacing_angstrom(lab)
    put(image, "strain", lab.strain, **strain, reference=zero, reference_spacing_angstrom=spacing)
    spread = {"meaning": f"standard deviation {_GUIDED}", "reference": _INSIDE}
    if lab.displacement_std_angstrom is not None:
        put(image, "displacement_std", lab.displacement_std_angstrom, **displacement, **spread)
    if lab.strain_std is not None:
        put(image, "strain_std", lab.strain_std, **strain, **spread)


def _write_gradients(image: h5py.Group, lab: LabImage) -> None:
    """What follows from the fields above (`live_bcdi.lattice`), for readers without it."""
    spacing = mean_spacing_angstrom(lab)
    put(
        image,
        "d_spacing",
        d_spacing_angstrom(lab).astype(np.float32),
        units="angstrom",
        definition="d_0 (1 + strain), spacing of the diffracting planes",
        reference=f"d_0 = 2 pi / |q_centre| = {spacing:.6g} angstrom, as good as the calibration; {_INSIDE}",
    )
    for number, axis, values in zip((1, 2), shear_axes(lab), shear_gradients(lab), strict=True):
        put(
            image,
            f"shear_{number}",
            values,
            units="",
            definition=f"d u_h / d x_{number}, tilt and shear of the planes",
            direction=axis,
            frame=f"direction of x_{number} in lab (x, y, z): 1 is the part of z across h, 2 is h x 1",
            reference=f"zero mean inside the support, {_INSIDE}",
        )


def _read_lab(image: h5py.Group) -> LabImage:
    # older files have no origin, and those of one start no spread
    x, y, z = (float(edge) for edge in image["origin"][()]) if "origin" in image else (0.0, 0.0, 0.0)
    return LabImage(
        density=image["data"][()],
        support=image["support"][()],
        displacement_angstrom=image["displacement"][()],
        strain=image["strain"][()],
        voxel_nm=float(image["voxel_size"][()]),
        q_centre_invA=image["q_centre"][()],
        origin_nm=(x, y, z),
        displacement_std_angstrom=_or_none(image, "displacement_std"),
        strain_std=_or_none(image, "strain_std"),
    )


def _or_none(group: h5py.Group, name: str) -> NDArray[Any] | None:
    return group[name][()] if name in group else None


def _write_volume(entry: h5py.Group, volume: DiffractionVolume, number: int) -> None:
    instrument = entry.require_group("instrument_1")
    instrument.attrs["NX_class"] = "NXinstrument"
    detector = nexus_group(instrument, f"detector_{number}", "NXdetector")
    put(detector, "data", volume.intensity, units="counts")
    put(detector, "mask", volume.mask, meaning="True where a voxel was not used")
    put(detector, "centre", np.asarray(volume.centre, np.float64), units="frame, row, column")
    put(detector, "q_centre", volume.q_centre_invA, units="1/angstrom", frame="lab (x, y, z), with 2 pi")
    put(detector, "q_steps", volume.q_steps_invA, units="1/angstrom", frame="lab; one column an array axis")
    data = nexus_group(entry, f"data_{number}", "NXdata", signal="data")
    data["data"] = h5py.SoftLink(f"{detector.name}/data")
    _put_axes(data, [f"q_{name}" for name in _DETECTOR_AXES], volume.q_steps_invA, units="1/angstrom")


def _volume_group(file: h5py.File) -> h5py.Group | None:
    """Of a file with the frames too, the second detector; a detector without steps of q holds frames."""
    names = (_VOLUME.format(number) for number in (2, 1))
    return next((file[name] for name in names if f"{name}/q_steps" in file), None)


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
    put(group, "q", resolution.q_invA, units="1/angstrom", meaning="|q - q_centre|")
    put(group, "prtf", resolution.prtf, units="")
    put(group, "resolution", resolution.resolution_nm, units="nm", meaning=f"{_FULL_PERIOD} at prtf = 1/e")
    put(group, "resolution_half", resolution.half_nm, units="nm", meaning=f"{_FULL_PERIOD} at prtf = 0.5")


def _read_resolution(group: h5py.Group) -> Resolution:
    half = _or_none(group, "resolution_half")
    return Resolution(
        q_invA=group["q"][()],
        prtf=group["prtf"][()],
        resolution_nm=float(group["resolution"][()]),
        half_nm=float("nan") if half is None else float(half),
    )


def _write_agreement(entry: h5py.Group, agreement: Agreement) -> None:
    group = nexus_group(entry, "agreement_1", "NXdata", signal="phase_std", axes=list(_DETECTOR_AXES))
    for name in _DETECTOR_AXES:
        group[name] = h5py.SoftLink(f"{entry.name}/image_1/{name}")
    about = "the mean object of the starts, each scaled to the best"
    put(group, "mode", agreement.mode, units="arbitrary", meaning="first orthogonal mode", convention=_SIGN)
    put(group, "weights", agreement.weights, units="", meaning="of all modes, 1 in sum")
    put(
        group,
        "amplitude_std",
        agreement.amplitude_std,
        units="",
        meaning=f"standard deviation {_GUIDED}",
        reference=f"the maximum of {about}",
    )
    put(
        group,
        "phase_std",
        agreement.phase_std_rad,
        units="rad",
        meaning=f"standard deviation {_GUIDED}",
        reference=f"the phase of {about}; wrapped differences, NaN where it is zero",
    )
    if agreement.correlation is not None:
        _write_correlation(entry, agreement.correlation)


def _write_correlation(entry: h5py.Group, correlation: ShellCorrelation) -> None:
    group = nexus_group(entry, "correlation_1", "NXdata", signal="fsc", axes=["q"])
    put(group, "q", correlation.q_invA, units="1/angstrom", meaning="|q - q_centre|")
    put(
        group,
        "fsc",
        correlation.correlation,
        units="",
        meaning="Fourier shell correlation of two halves of the starts",
    )
    put(group, "voxels", correlation.voxels, units="", meaning="in the shell")
    nanometres = np.asarray(list(correlation.resolution_nm.values()), np.float64)
    put(
        group, "resolution", nanometres, units="nm", meaning=f"{_FULL_PERIOD} where fsc falls below each threshold"
    )
    put(group, "thresholds", list(correlation.resolution_nm))


def _read_agreement(file: h5py.File) -> Agreement:
    group = file[_AGREEMENT]
    return Agreement(
        mode=group["mode"][()],
        weights=group["weights"][()],
        amplitude_std=group["amplitude_std"][()],
        phase_std_rad=group["phase_std"][()],
        correlation=_read_correlation(file[_CORRELATION]) if _CORRELATION in file else None,
    )


def _read_correlation(group: h5py.Group) -> ShellCorrelation:
    names = [text(name) for name in group["thresholds"][()]]
    return ShellCorrelation(
        q_invA=group["q"][()],
        correlation=group["fsc"][()],
        voxels=group["voxels"][()],
        resolution_nm={name: float(value) for name, value in zip(names, group["resolution"][()], strict=True)},
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

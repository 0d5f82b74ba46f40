"""A result as named arrays and one table, as it lies in Tiled, and back again. docs/tiled.md lists them.

Arrays in the lab frame are (x, y, z), those on the detector's conjugate grid (rocking, row, column). No array that
people look at is complex: Tiled draws no complex numbers.
"""

from collections.abc import Mapping
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ..lattice import d_spacing_angstrom, mean_spacing_angstrom, shear_gradients
from ..metadata import plain
from ..types import (
    Agreement,
    DiffractionVolume,
    LabImage,
    Outcome,
    Reconstruction,
    Resolution,
    ScanError,
    ShellCorrelation,
)

Arrays: TypeAlias = dict[str, tuple[NDArray[Any], dict[str, str]]]

LAB_AXES = "x, y, z"
DETECTOR_AXES = "rocking, row, column"
RECIPROCAL = "reciprocal, in steps of q; the peak at n//2"
LAB_ARRAYS = ("amplitude", "phase", "support", "displacement", "strain", "displacement_std", "strain_std")
CONVENTION = "S = s exp(-i h.u); displacement in angstrom along +h; strain = d u_h / d x_h"


def result_arrays(result: Reconstruction) -> Arrays:
    """Each array by its name, with what it means: `units`, `axes`, frame, reference, convention."""
    detector = {"axes": DETECTOR_AXES, "frame": "conjugate to the detector"}
    arrays: Arrays = {
        "density": (result.density, {**detector, "units": "arbitrary"}),
        "detector_support": (result.support, detector),
    }
    if result.lab is not None:
        arrays |= _lab_arrays(result.lab)
    if result.resolution is not None:
        arrays |= {
            "prtf_q": (result.resolution.q_invA, {"units": "1/angstrom"}),
            "prtf": (result.resolution.prtf, {"units": "1"}),
        }
    if result.agreement is not None:
        arrays |= _agreement_arrays(result.agreement, detector)
    if result.volume is not None:
        reciprocal = {"axes": DETECTOR_AXES, "frame": RECIPROCAL}
        unused = "True where a voxel was not used"
        arrays |= {
            "intensity": (result.volume.intensity, {**reciprocal, "units": "counts"}),
            "mask": (result.volume.mask, {**reciprocal, "meaning": unused}),
        }
    return arrays


def _lab_arrays(image: LabImage) -> Arrays:
    lab = {"axes": LAB_AXES, "frame": "laboratory", "voxel_nm": f"{image.voxel_nm:.6g}"}
    zero = {"reference": "zero mean inside the support, NaN outside"}
    spacing = {"reference": f"d_0 = {mean_spacing_angstrom(image):.6g} angstrom where the strain is zero"}
    along = {"direction": "along +h"}
    first, second = shear_gradients(image)
    arrays: Arrays = {
        "amplitude": (np.abs(image.density), {**lab, "units": "arbitrary"}),
        "phase": (np.angle(image.density), {**lab, "units": "radian", "convention": "phase = -h.u"}),
        "support": (image.support, lab),
        "displacement": (image.displacement_angstrom, {**lab, **zero, "units": "angstrom", **along}),
        "strain": (image.strain, {**lab, **zero, "units": "1", "definition": "d u_h / d x_h"}),
        "d_spacing": (d_spacing_angstrom(image).astype(np.float32), {**lab, **spacing, "units": "angstrom"}),
        "shear_1": (
            first,
            {**lab, **zero, "units": "1", "definition": "d u_h / d x_1, x_1 the part of z across h"},
        ),
        "shear_2": (second, {**lab, **zero, "units": "1", "definition": "d u_h / d x_2, x_2 = h x x_1"}),
    }
    spread = {"meaning": "standard deviation over the starts, which guide each other"}
    if image.displacement_std_angstrom is not None:
        arrays["displacement_std"] = (
            image.displacement_std_angstrom,
            {**lab, **spread, "units": "angstrom", **along},
        )
    if image.strain_std is not None:
        arrays["strain_std"] = (image.strain_std, {**lab, **spread, "units": "1"})
    return arrays


def _agreement_arrays(agreement: Agreement, detector: Mapping[str, str]) -> Arrays:
    """The first mode as amplitude and phase."""
    spread = {**detector, "meaning": "standard deviation over the starts, which guide each other"}
    arrays: Arrays = {
        "mode_weights": (agreement.weights, {"units": "1", "meaning": "of all modes of the starts"}),
        "mode_amplitude": (np.abs(agreement.mode), {**detector, "units": "arbitrary"}),
        "mode_phase": (np.angle(agreement.mode), {**detector, "units": "radian"}),
        "amplitude_std": (agreement.amplitude_std, {**spread, "units": "1", "reference": "the maximum"}),
        "phase_std": (agreement.phase_std_rad, {**spread, "units": "radian"}),
    }
    if agreement.correlation is not None:
        about = {f"resolution_nm {name}": f"{nm:.6g}" for name, nm in agreement.correlation.resolution_nm.items()}
        arrays |= {
            "fsc_q": (agreement.correlation.q_invA, {"units": "1/angstrom"}),
            "fsc": (agreement.correlation.correlation, {**about, "units": "1"}),
            "fsc_voxels": (agreement.correlation.voxels, {"units": "1", "meaning": "voxels in the shell"}),
        }
    return arrays


def result_metadata(result: Reconstruction) -> dict[str, Any]:
    """All of a result that is no array, as JSON can hold it: numbers that are not finite are None."""
    lab, volume, resolution = result.lab, result.volume, result.resolution
    correlation = None if result.agreement is None else result.agreement.correlation
    table = {
        "chi": result.chi,
        "chi_starts": result.chi_starts,
        "recipe": result.recipe,
        "seed": result.seed,
        "outcome": result.outcome.value,
        "metrics": dict(result.metrics),
        "provenance": dict(result.provenance),
        "voxel_nm": None if lab is None else lab.voxel_nm,
        "origin_nm": None if lab is None else lab.origin_nm,
        "q_invA": None if lab is None else lab.q_centre_invA,
        "resolution_nm": None if resolution is None else resolution.resolution_nm,
        "resolution_half_nm": None if resolution is None else resolution.half_nm,
        "fsc_resolution_nm": None if correlation is None else dict(correlation.resolution_nm),
        "centre": None if volume is None else volume.centre,
        "q_centre_invA": None if volume is None else volume.q_centre_invA,
        "q_steps_invA": None if volume is None else volume.q_steps_invA,
        "convention": CONVENTION,
    }
    return dict(plain(table))


def result_from(arrays: Mapping[str, NDArray[Any]], metadata: Mapping[str, Any]) -> Reconstruction:
    """The result of `result_arrays` and `result_metadata`: complex numbers but the density to float32's rounding,
    and what was not finite as NaN. Results that were stored without the intensity have no volume.

    Raises ScanError where something else is missing.
    """
    try:
        return Reconstruction(
            density=arrays["density"],
            support=arrays["detector_support"],
            chi=_number(metadata["chi"]),
            chi_starts=tuple(_number(chi) for chi in metadata["chi_starts"]),
            metrics={name: _number(value) for name, value in metadata["metrics"].items()},
            recipe=str(metadata["recipe"]),
            seed=int(metadata["seed"]),
            outcome=Outcome(metadata["outcome"]),
            volume=_volume(arrays, metadata) if "intensity" in arrays else None,
            lab=_lab(arrays, metadata) if "displacement" in arrays else None,
            resolution=_resolution(arrays, metadata) if "prtf" in arrays else None,
            agreement=_agreement(arrays, metadata) if "mode_weights" in arrays else None,
            provenance=dict(metadata["provenance"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ScanError(f"a stored result is not whole: {error}; refine the run again") from None


def lab_from(arrays: Mapping[str, NDArray[Any]], metadata: Mapping[str, Any]) -> LabImage:
    """The image in the lab frame alone, from `LAB_ARRAYS`, the spreads among them where there are any.

    Raises ScanError where something else is missing.
    """
    try:
        return _lab(arrays, metadata)
    except (KeyError, TypeError, ValueError) as error:
        raise ScanError(f"a stored result is not whole: {error}; refine the run again") from None


def _number(value: Any) -> float:
    return float("nan") if value is None else float(value)


def _complex(amplitude: NDArray[Any], phase: NDArray[Any]) -> NDArray[np.complex64]:
    return np.asarray(amplitude * np.exp(1j * phase.astype(np.float64)), np.complex64)


def _volume(arrays: Mapping[str, NDArray[Any]], metadata: Mapping[str, Any]) -> DiffractionVolume:
    rocking, row, column = metadata["centre"]
    return DiffractionVolume(
        intensity=arrays["intensity"],
        mask=arrays["mask"],
        centre=(float(rocking), float(row), float(column)),
        q_centre_invA=np.asarray(metadata["q_centre_invA"], np.float64),
        q_steps_invA=np.asarray(metadata["q_steps_invA"], np.float64),
    )


def _lab(arrays: Mapping[str, NDArray[Any]], metadata: Mapping[str, Any]) -> LabImage:
    x, y, z = metadata.get("origin_nm") or (0.0, 0.0, 0.0)
    return LabImage(
        density=_complex(arrays["amplitude"], arrays["phase"]),
        support=arrays["support"],
        displacement_angstrom=arrays["displacement"],
        strain=arrays["strain"],
        voxel_nm=float(metadata["voxel_nm"]),
        q_centre_invA=np.asarray(metadata["q_invA"], np.float64),
        origin_nm=(float(x), float(y), float(z)),
        displacement_std_angstrom=arrays.get("displacement_std"),
        strain_std=arrays.get("strain_std"),
    )


def _resolution(arrays: Mapping[str, NDArray[Any]], metadata: Mapping[str, Any]) -> Resolution:
    return Resolution(
        q_invA=arrays["prtf_q"],
        prtf=arrays["prtf"],
        resolution_nm=_number(metadata["resolution_nm"]),
        half_nm=_number(metadata.get("resolution_half_nm")),
    )


def _agreement(arrays: Mapping[str, NDArray[Any]], metadata: Mapping[str, Any]) -> Agreement:
    return Agreement(
        mode=_complex(arrays["mode_amplitude"], arrays["mode_phase"]),
        weights=arrays["mode_weights"],
        amplitude_std=arrays["amplitude_std"],
        phase_std_rad=arrays["phase_std"],
        correlation=_correlation(arrays, metadata) if "fsc_voxels" in arrays else None,
    )


def _correlation(arrays: Mapping[str, NDArray[Any]], metadata: Mapping[str, Any]) -> ShellCorrelation:
    return ShellCorrelation(
        q_invA=arrays["fsc_q"],
        correlation=arrays["fsc"],
        voxels=arrays["fsc_voxels"],
        resolution_nm={name: _number(nm) for name, nm in metadata["fsc_resolution_nm"].items()},
    )

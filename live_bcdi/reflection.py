"""What the crystal is made of and which planes reflect, from the configuration and the scan; and which rung it
needs."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from .config import Config, SampleConfig, direction, parse_config
from .dynamical.constants import (
    Constants,
    Polarisation,
    Structure,
    known_elements,
    structure_of,
    susceptibilities,
)
from .dynamical.ladder import Misfits, misfits_of, polarisation_of
from .geometry import wavelength_angstrom
from .refraction import Material, corrected
from .types import FloatArray, LabImage, Reconstruction, RockingScan, ScanError, Vector

_SAME_SPACING = 0.05  # detectors stand a few per cent from where they are said to be
_MATERIAL = ("formula", "density_g_cm3", "cif")
# of gemmi, xraydb and numpy, which have no common base, at whatever a plan or a file says
_ERRORS = (ArithmeticError, AttributeError, LookupError, MemoryError, OSError, RuntimeError, TypeError, ValueError)


@dataclass(frozen=True, kw_only=True, slots=True)
class Reflection:
    """Planes `hkl` of a crystal, what they do to light of the scan's energy, and of which polarisation it is."""

    structure: Structure
    hkl: Vector
    chi: Constants
    polarisation: Polarisation

    def __str__(self) -> str:
        return f"{self.structure.name} ({' '.join(f'{index:g}' for index in self.hkl)}), {self.polarisation}"


def material_of(sample: SampleConfig) -> Material | None:
    """By the formula, or else by what is in the cell of the CIF file, which also has the density where nobody says
    it; None without either. Raises ScanError."""
    if sample.formula is not None and (sample.cif is None or sample.density_g_cm3 is not None):
        return Material(formula=sample.formula, density_g_cm3=sample.density_g_cm3)
    if sample.cif is None:
        return None
    structure = structure_of(str(sample.cif))
    return Material(formula=structure.formula, density_g_cm3=structure.density_g_cm3)


def sample_of(config: Config, metadata: Mapping[str, Any]) -> SampleConfig:
    """The sample of the configuration, with what the run's own metadata say of `formula`, `density_g_cm3` and
    `cif`. Those that name a material leave nothing of the configuration's. Raises ScanError."""
    told = {name: metadata[name] for name in _MATERIAL if metadata.get(name) is not None}
    if not told:
        return config.sample
    if "formula" in told or "cif" in told:
        told = {**dict.fromkeys(_MATERIAL), **told}
    table = config.model_dump()
    return parse_config({**table, "sample": {**table["sample"], **told}}, "metadata of the run").sample


def as_told(scan: RockingScan, told: Mapping[str, Any]) -> RockingScan:
    """The scan with what somebody says of its crystal (`formula`, `density_g_cm3`, `cif`, `hkl`) in the place of
    what its own metadata say."""
    material = {name: str(value) if name == "cif" else value for name, value in told.items() if name in _MATERIAL}
    if "formula" in material or "cif" in material:
        material = {**dict.fromkeys(_MATERIAL), **material}
    hkl = told.get("hkl")
    return replace(scan, metadata={**scan.metadata, **material}, hkl=scan.hkl if hkl is None else tuple(hkl))


def reflection_of(scan: RockingScan, q_invA: FloatArray, config: Config) -> Reflection:
    """Of a scan whose peak is at `q_invA` (3,) in the lab frame. Raises ScanError where the material or the planes
    are not known, or have another spacing than what was measured."""
    sample = sample_of(config, scan.metadata)
    structure = _structure(sample)
    hkl = scan.hkl if scan.hkl is not None else sample.hkl
    if hkl is None:
        raise ScanError("reflection unknown: set [sample] hkl")
    size = float(np.linalg.norm(q_invA))
    if not (np.isfinite(size) and size > 0):
        raise ScanError(f"the peak is at q = {size} 1/Å: correct the angles of the detector's arm, or the energy")
    spacing, measured = structure.spacing_angstrom(hkl), 2 * np.pi / size
    if abs(spacing / measured - 1) > _SAME_SPACING:
        raise ScanError(
            f"the peak is at d = {measured:.4g} Å, and {structure.name} has {spacing:.4g} Å at hkl"
            f" {' '.join(f'{index:g}' for index in hkl)}: correct [sample] hkl, formula or cif, or the energy"
        )
    beam = np.asarray(scan.geometry.beam_direction)
    diffracted = beam + q_invA * wavelength_angstrom(scan.geometry.energy_kev) / (2 * np.pi)
    field = config.diffractometer.polarisation
    return Reflection(
        structure=structure,
        hkl=hkl,
        chi=susceptibilities(structure, hkl, scan.geometry.energy_kev),
        polarisation=polarisation_of(None if field == "unpolarised" else direction(field), beam, diffracted),
    )


def _structure(sample: SampleConfig) -> Structure:
    if sample.cif is not None:
        return structure_of(str(sample.cif))
    if sample.formula is None:
        raise ScanError("material unknown: set [sample] formula, or cif")
    if sample.formula not in known_elements():
        raise ScanError(f"the structure of {sample.formula} is not known: set [sample] cif")
    return structure_of(sample.formula)


def need_of(lab: LabImage, scan: RockingScan, config: Config) -> tuple[Reflection, Misfits]:
    """What the rungs are off by for this crystal's shape. Raises ScanError where that cannot be said."""
    reflection = reflection_of(scan, lab.q_centre_invA, config)
    return reflection, misfits_of(lab, scan.geometry, reflection.chi, reflection.polarisation)


def with_material(result: Reconstruction, scan: RockingScan, config: Config) -> Reconstruction:
    """The result without refraction, and with the rung that its crystal needs (`judged`), or with why not in its
    provenance: it is worth as much where its material is not known. Never fails."""
    try:
        done = corrected(result, scan.geometry, material_of(sample_of(config, scan.metadata)))
    except _ERRORS as error:
        why = f"not corrected: {_in_words(error)}"
        done = replace(result, provenance={**result.provenance, "refraction": why})
    return judged(done, scan, config)


def judged(result: Reconstruction, scan: RockingScan, config: Config) -> Reconstruction:
    """The result with a line `rung` in its provenance, which rung the crystal needs or why that is not known, and,
    where it is, with what the others are off by in its metrics. Never fails."""
    try:
        if result.lab is None:
            raise ScanError("no lab image")
        reflection, misfits = need_of(result.lab, scan, config)
    except _ERRORS as error:
        return replace(result, provenance={**result.provenance, "rung": f"unknown: {_in_words(error)}"})
    found = {"misfit_kinematical": misfits.kinematical, "misfit_refraction": misfits.refraction}
    why = words(reflection, misfits, config.dynamical.tolerance)
    return replace(result, metrics={**result.metrics, **found}, provenance={**result.provenance, "rung": why})


def _in_words(error: BaseException) -> str:
    """In a line that any file can hold."""
    text = str(error) if isinstance(error, ScanError) else f"{type(error).__name__}: {error}"
    return "".join(letter if letter.isprintable() else " " for letter in text)


def words(reflection: Reflection, misfits: Misfits, tolerance: float) -> str:
    """Which rung a crystal needs, and why, in a line."""
    return (
        f"{misfits.rung(tolerance).value}: of a perfect crystal of this shape, {reflection}, a Fourier"
        f" transform is {misfits.kinematical:.2g} of the amplitudes off, with refraction and absorption"
        f" {misfits.refraction:.2g}; {tolerance:g} is near enough"
    )

"""Refraction and absorption on the way in and out of the crystal, taken out of its image.

A wave exp(i k.r - i w t) gains exp(i k chi_0 l / 2) over a length l of material: chi_0 = -2 delta + 2 i beta, so
Re chi_0 < 0 advances it and Im chi_0 >= 0 absorbs. With A(q) = sum S exp(-i q.r) the retrieved object is the
crystal's times exp[i k chi_0 (l_in + l_out) / 2], the lengths being those from the beam's entry to the voxel and
from there out along k_out (Harder et al., Phys. Rev. B 76, 115425 (2007)).
"""

from dataclasses import dataclass, replace

import numpy as np
import xraydb
from numpy.typing import NDArray

from .geometry import wavelength_angstrom
from .paths import filling, path_lengths_nm
from .strain import displacement_angstrom, strain_along
from .types import BoolArray, ComplexArray, Geometry, LabImage, Reconstruction, ScanError


@dataclass(frozen=True, kw_only=True, slots=True)
class Material:
    """What the crystal is made of: a chemical formula; the density may be left out for an element."""

    formula: str
    density_g_cm3: float | None = None


def susceptibility(material: Material, energy_kev: float) -> complex:
    """chi_0 = -2 delta + 2 i beta from the Chantler tables (xraydb); Im chi_0 >= 0 absorbs.

    Gold at 8 keV: -9.46e-5 + 0.92e-5 i. Raises ScanError for an unknown formula and a density that is not known.
    """
    try:
        elements = xraydb.chemparse(material.formula)
        density = material.density_g_cm3
        if density is None and len(elements) == 1:
            density = xraydb.atomic_density(next(iter(elements)))
        if density is None:
            raise ScanError(f"sample formula {material.formula!r}: give density_g_cm3 with it")
        delta, beta, _ = xraydb.xray_delta_beta(material.formula, density, 1e3 * energy_kev)
    except (ValueError, KeyError, ArithmeticError) as error:
        if isinstance(error, ScanError):
            raise
        raise ScanError(f"sample formula {material.formula!r} cannot be used: {error}") from None
    chi_0 = complex(-2 * float(delta), 2 * float(beta))
    if not np.isfinite(chi_0):
        raise ScanError(f"sample formula {material.formula!r}: no scattering factors at {energy_kev:g} keV")
    return chi_0


def transmission(lab: LabImage, geometry: Geometry, chi_0: complex) -> NDArray[np.complex128]:
    """exp[i k chi_0 (l_in + l_out) / 2] in the support, 1 outside it."""
    wave_number = 2 * np.pi / wavelength_angstrom(geometry.energy_kev)
    incoming = wave_number * np.asarray(geometry.beam_direction)
    outgoing = incoming + lab.q_centre_invA
    filled = filling(lab.density, lab.support)
    length_nm = path_lengths_nm(filled, -incoming, lab.voxel_nm, support=lab.support)
    length_nm = length_nm + path_lengths_nm(filled, outgoing, lab.voxel_nm, support=lab.support)
    return np.exp(5j * wave_number * chi_0 * np.where(lab.support, length_nm, 0))  # 5 = 10 Å/nm / 2


def without_refraction(lab: LabImage, geometry: Geometry, chi_0: complex) -> LabImage:
    """The image less refraction and absorption. What they add to the mean phase gradient moves the Bragg peak; it
    comes off `q_centre_invA`, which is then the crystal's own."""
    density = lab.density / transmission(lab, geometry, chi_0)
    slopes = _mean_slopes(density, lab.support)
    for axis, (slope, n) in enumerate(zip(slopes, density.shape)):
        ramp = np.exp(-1j * slope * (np.arange(n) - n // 2))
        density = density * np.expand_dims(ramp, tuple(k for k in range(3) if k != axis))
    q_centre = lab.q_centre_invA + slopes / (10 * lab.voxel_nm)
    return replace(
        lab,
        density=np.asarray(density, np.complex64),
        displacement_angstrom=displacement_angstrom(density, lab.support, float(np.linalg.norm(q_centre))),
        strain=strain_along(density, lab.support, q_centre, lab.voxel_nm),
        q_centre_invA=q_centre,
    )


def corrected(result: Reconstruction, geometry: Geometry, material: Material | None) -> Reconstruction:
    """The result with its lab image corrected for the material; provenance says what was done or why not."""
    if result.lab is None or material is None:
        why = "not corrected: " + ("no sample formula or cif is known" if material is None else "no lab image")
        return replace(result, provenance={**result.provenance, "refraction": why})
    chi_0 = susceptibility(material, geometry.energy_kev)
    done = f"corrected for {material.formula}, chi_0 = {chi_0.real:.4g} + {chi_0.imag:.4g} i"
    return replace(
        result,
        lab=without_refraction(result.lab, geometry, chi_0),
        provenance={**result.provenance, "refraction": done},
    )


def _mean_slopes(density: ComplexArray, support: BoolArray) -> NDArray[np.float64]:
    """Mean phase gradient in the support, radians a voxel along each axis, weighted by |S|^2."""
    inside = np.where(support, density, 0)
    pairs = [np.sum(np.roll(inside, -1, axis) * np.conj(inside)) for axis in range(3)]
    return np.asarray(np.angle(pairs), np.float64)

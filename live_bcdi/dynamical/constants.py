"""chi_0, chi_h and chi_hbar of a crystal and reflection, and the lengths that follow from them.

With waves exp(i k.r - i omega t) a crystal's susceptibility is chi(r) = sum chi_h exp(i h.r),
chi_h = r_e lambda^2 / (pi V) sum_j o_j [-(f0 + f') + i f''] exp(-B_j s^2) exp(-2 pi i h.x_j), s = 1 / (2 d),
over the atoms of the cell (Authier, Dynamical Theory of X-ray Diffraction, 2001, section 2.3). Form factors are
those of Waasmaier & Kirfel, f' and f'' Chantler's, both from xraydb, for neutral atoms.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import xraydb
from scipy import constants, integrate

from ..geometry import Floats, wavelength_angstrom
from ..types import ScanError, Vector
from .beams import Beams, along_diffracted

Polarisation = Literal["sigma", "pi", "unpolarised"]

_RADIUS_ANGSTROM = 1e10 * constants.physical_constants["classical electron radius"][0]
_ROOM_K = 293.0
_FCC = ((0.0, 0.0, 0.0), (0.0, 0.5, 0.5), (0.5, 0.0, 0.5), (0.5, 0.5, 0.0))
_BCC = ((0.0, 0.0, 0.0), (0.5, 0.5, 0.5))
_DIAMOND = (*_FCC, *((x + 0.25, y + 0.25, z + 0.25) for x, y, z in _FCC))
# edge of the cubic cell in ångström at room temperature, Debye temperature in kelvin (Kittel, 8th edition, table
# 5.1)
_ELEMENTS: dict[str, tuple[tuple[Vector, ...], float, float]] = {
    "Ag": (_FCC, 4.0857, 225.0),
    "Al": (_FCC, 4.0496, 428.0),
    "Au": (_FCC, 4.0782, 165.0),
    "C": (_DIAMOND, 3.5668, 2230.0),
    "Cu": (_FCC, 3.6149, 343.0),
    "Fe": (_BCC, 2.8665, 470.0),
    "Ge": (_DIAMOND, 5.6575, 374.0),
    "Ni": (_FCC, 3.5240, 450.0),
    "Pd": (_FCC, 3.8907, 274.0),
    "Pt": (_FCC, 3.9242, 240.0),
    "Si": (_DIAMOND, 5.4310, 645.0),
    "W": (_BCC, 3.1652, 400.0),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Site:
    """An atom of the cell: its place in units of the cell's edges, how often it is there, and its Debye-Waller B
    in ångström²: amplitudes fall as exp(-B s²), s = sin(theta) / lambda."""

    element: str
    place: Vector
    occupancy: float = 1.0
    b_angstrom2: float = 0.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Structure:
    """A crystal: the edges a, b, c of its cell as rows of `cell_angstrom` (3, 3), and all atoms in it."""

    name: str
    cell_angstrom: Floats
    sites: tuple[Site, ...]

    @property
    def volume_angstrom3(self) -> float:
        return float(abs(np.linalg.det(self.cell_angstrom)))

    @property
    def formula(self) -> str:
        """Of the whole cell, as xraydb reads it: 'Sr16Ir8O32'."""
        counts: dict[str, float] = {}
        for site in self.sites:
            counts[site.element] = counts.get(site.element, 0.0) + site.occupancy
        return "".join(f"{element}{count:.6g}" for element, count in counts.items())

    @property
    def density_g_cm3(self) -> float:
        mass_u = sum(site.occupancy * xraydb.atomic_mass(site.element) for site in self.sites)
        return float(1e27 * constants.atomic_mass * mass_u / self.volume_angstrom3)

    def spacing_angstrom(self, hkl: Vector) -> float:
        """d of the planes h k l. Raises ScanError for 0 0 0."""
        if not np.isfinite(hkl).all() or not np.any(hkl):
            raise ScanError(f"reflection {hkl} has no spacing: give hkl, e.g. [1, 1, 1]")
        return float(1 / np.linalg.norm(np.linalg.inv(self.cell_angstrom) @ hkl))


def structure_of(name: str) -> Structure:
    """By the path of a CIF file, or by the name of an element that is known here. Raises ScanError."""
    return element(name) if name in _ELEMENTS else read_cif(Path(name))


def known_elements() -> tuple[str, ...]:
    return tuple(_ELEMENTS)


def element(symbol: str, temperature_k: float = _ROOM_K) -> Structure:
    """An element with the cell that it has at room temperature, and the Debye-Waller factor of this
    temperature."""
    if symbol not in _ELEMENTS:
        raise ScanError(f"the cell of {symbol!r} is not known here ({', '.join(_ELEMENTS)} are): give a CIF file")
    places, edge, debye_k = _ELEMENTS[symbol]
    b = debye_b_angstrom2(xraydb.atomic_mass(symbol), debye_k, temperature_k)
    sites = tuple(Site(element=symbol, place=place, b_angstrom2=b) for place in places)
    return Structure(name=symbol, cell_angstrom=edge * np.eye(3), sites=sites)


def debye_b_angstrom2(mass_u: float, debye_k: float, temperature_k: float) -> float:
    """B = 6 h² / (m k_B Theta) [phi(x) / x + 1/4] of Debye's model, x = Theta / T (Warren, X-ray Diffraction, eq.
    11.77)."""
    x = debye_k / temperature_k
    phi = integrate.quad(lambda t: t / np.expm1(t) if t else 1.0, 0, x)[0] / x
    scale = 6 * constants.h**2 / (mass_u * constants.atomic_mass * constants.k * debye_k)
    return float(1e20 * scale * (phi / x + 0.25))


def read_cif(path: Path) -> Structure:
    """The crystal of a CIF file: symmetry, occupancies, U_iso or B_iso, and the equivalent of anisotropic U.
    Raises ScanError where it cannot be read, says too little, or gemmi is not installed."""
    try:
        import gemmi
    except ImportError:
        raise ScanError("CIF files need gemmi: pip install 'live_bcdi[dynamical]'") from None
    if not path.is_file():
        raise ScanError(f"there is no CIF file {path}, and the elements known by name are {', '.join(_ELEMENTS)}")
    try:
        found = gemmi.read_small_structure(str(path))
        sites = tuple(_site(site) for site in found.get_all_unit_cell_sites())
    except (OSError, ValueError, LookupError, ArithmeticError, RuntimeError) as error:
        raise ScanError(f"{path} is no CIF file that can be read: {error}") from None
    if not sites or not found.cell.is_crystal():
        raise ScanError(
            f"{path} has no cell or no atoms: it must say _cell_length_a, ... and _atom_site_fract_x, ..."
        )
    if found.spacegroup is None:
        raise ScanError(
            f"{path} has no space group that is known: it must say _space_group_name_H-M_alt, or the like"
        )
    if unknown := sorted({site.label for site in found.sites if not 0 < site.element.atomic_number <= 92}):
        raise ScanError(f"{path} has atoms of no element that is known: {', '.join(unknown)}")
    cell = np.array(found.cell.orth.mat.tolist(), float).T
    numbers = [(*site.place, site.occupancy, site.b_angstrom2) for site in sites]
    if not (np.isfinite(cell).all() and np.isfinite(numbers).all() and abs(np.linalg.det(cell)) > 1):
        raise ScanError(f"{path} has a cell without volume, or atoms that are nowhere: correct its numbers")
    if not sum(site.occupancy for site in sites) > 0:
        raise ScanError(f"{path} has no atoms: correct _atom_site_occupancy")
    return Structure(name=found.name or path.stem, cell_angstrom=cell, sites=sites)


def _site(site: Any) -> Site:
    """Of gemmi's. An anisotropic U goes in as a third of its trace."""
    u = site.aniso.trace() / 3 if site.aniso.nonzero() else site.u_iso
    x, y, z = site.fract.tolist()
    return Site(
        element="H" if site.element.name == "D" else site.element.name,  # their electrons are alike
        place=(x, y, z),
        occupancy=float(site.occ),
        b_angstrom2=float(8 * np.pi**2 * max(u, 0.0)),
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class Susceptibilities:
    """Of the perfect crystal, with C = 1 (sigma); Im chi_0 >= 0 absorbs."""

    chi_0: complex
    chi_h: complex
    chi_hbar: complex


@dataclass(frozen=True, kw_only=True, slots=True)
class Constants(Susceptibilities):
    """Of a reflection at an energy, `two_theta` in radians."""

    wavelength_m: float
    two_theta: float

    def factor(self, polarisation: Polarisation) -> float:
        """C: 1 for sigma, cos two_theta for pi, and the root mean square of both, for intensities, for
        unpolarised."""
        cosine = float(np.cos(self.two_theta))
        return {"sigma": 1.0, "pi": cosine, "unpolarised": float(np.sqrt((1 + cosine**2) / 2))}[polarisation]

    def beams(self, polarisation: Literal["sigma", "pi"] = "sigma") -> Beams:
        """In the frame of `fields`, C in chi_h and chi_hbar."""
        c = self.factor(polarisation)
        return along_diffracted(
            self.wavelength_m, self.two_theta, chi_0=self.chi_0, chi_h=c * self.chi_h, chi_hbar=c * self.chi_hbar
        )


def susceptibilities(structure: Structure, hkl: Vector, energy_kev: float) -> Constants:
    """chi_0, chi_h and chi_hbar of planes h k l. Raises ScanError where this energy cannot reach them, or they
    reflect nothing.

    Gold (002) at 8 keV: chi_0 = (-9.45 + 0.92 i) 1e-5, C chi_h = (-5.13 + 0.63 i) 1e-5 for pi.
    """
    spacing = structure.spacing_angstrom(hkl)
    wavelength = wavelength_angstrom(energy_kev)
    if wavelength >= 2 * spacing:
        raise ScanError(
            f"{structure.name}: planes {_named(hkl)} of {spacing:.4g} Å do not reflect {energy_kev:g} keV"
        )
    chi_0, chi_h, chi_hbar = (
        _component(structure, tuple(sign * index for index in hkl), energy_kev) for sign in (0, 1, -1)
    )
    if abs(chi_h) < 1e-6 * abs(chi_0):
        raise ScanError(f"{structure.name}: the reflection {_named(hkl)} is forbidden")
    return Constants(
        wavelength_m=1e-10 * wavelength,
        two_theta=float(2 * np.arcsin(wavelength / (2 * spacing))),
        chi_0=chi_0,
        chi_h=chi_h,
        chi_hbar=chi_hbar,
    )


def _component(structure: Structure, hkl: tuple[float, ...], energy_kev: float) -> complex:
    q = np.linalg.inv(structure.cell_angstrom) @ hkl
    s = float(np.linalg.norm(q)) / 2
    factors = {symbol: _factor(symbol, s, energy_kev) for symbol in {site.element for site in structure.sites}}
    whole = sum(
        site.occupancy
        * factors[site.element]
        * np.exp(-site.b_angstrom2 * s**2 - 2j * np.pi * np.dot(hkl, site.place))
        for site in structure.sites
    )
    scale = _RADIUS_ANGSTROM * wavelength_angstrom(energy_kev) ** 2 / (np.pi * structure.volume_angstrom3)
    return complex(scale * whole)


def _factor(symbol: str, s: float, energy_kev: float) -> complex:
    """-(f0 + f') + i f'' of an atom."""
    ev = 1e3 * energy_kev
    try:
        f1, f2 = (float(np.ravel(find(symbol, ev))[0]) for find in (xraydb.f1_chantler, xraydb.f2_chantler))
    except (ValueError, KeyError, TypeError) as error:
        raise ScanError(f"no scattering factors of {symbol} at {energy_kev:g} keV: {error}") from None
    f0 = float(np.ravel(xraydb.f0(symbol, s))[0]) if s else float(xraydb.atomic_number(symbol))
    return complex(-(f0 + f1), f2)


def _named(hkl: Vector) -> str:
    return " ".join(f"{index:g}" for index in hkl)


def pendelloesung_period_m(chi: Constants, polarisation: Polarisation = "sigma") -> float:
    """lambda cos(theta) / |C| / |chi_h chi_hbar|^(1/2): all intensity over and back, in symmetric Laue geometry.
    Others call this the Laue extinction length. 2.7 um for gold (002), 8 keV, pi."""
    return chi.wavelength_m * float(np.cos(chi.two_theta / 2)) / _strength(chi, polarisation)


def pendelloesung_distance_m(chi: Constants, polarisation: Polarisation = "sigma") -> float:
    """The period divided by pi, which some call Pendellösung distance."""
    return pendelloesung_period_m(chi, polarisation) / float(np.pi)


def darwin_depth_m(chi: Constants, polarisation: Polarisation = "sigma") -> float:
    """lambda sin(theta) / (pi |C| |chi_h chi_hbar|^(1/2)): where the amplitude has fallen to 1/e, at the middle of
    the total reflection in symmetric Bragg geometry; the intensity has at half of it. Others call this the Bragg
    extinction length. 0.36 um for gold (002), 8 keV, pi."""
    return chi.wavelength_m * float(np.sin(chi.two_theta / 2)) / (float(np.pi) * _strength(chi, polarisation))


def absorption_length_m(chi: Constants) -> float:
    """lambda / (2 pi Im chi_0): where the intensity has fallen to 1/e, without reflection."""
    return chi.wavelength_m / (2 * float(np.pi) * chi.chi_0.imag)


def refraction_length_m(chi: Constants) -> float:
    """lambda / (pi |Re chi_0|): where a wave is ahead by one radian."""
    return chi.wavelength_m / (float(np.pi) * abs(chi.chi_0.real))


def _strength(chi: Constants, polarisation: Polarisation) -> float:
    strength = abs(chi.factor(polarisation)) * float(np.sqrt(abs(chi.chi_h * chi.chi_hbar)))
    if strength == 0:
        raise ScanError("at two_theta = 90° pi light is not reflected")
    return strength


def lengths_m(chi: Constants, polarisation: Polarisation = "sigma") -> dict[str, float]:
    """All of the above by their names."""
    named = (pendelloesung_period_m, pendelloesung_distance_m, darwin_depth_m)
    alone = (absorption_length_m, refraction_length_m)
    return {
        **{find.__name__.removesuffix("_m"): find(chi, polarisation) for find in named},
        **{find.__name__.removesuffix("_m"): find(chi) for find in alone},
    }

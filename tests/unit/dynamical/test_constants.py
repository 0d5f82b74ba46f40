"""Susceptibilities against the figures of Wu et al. (2025), xraylib and xrayutilities, gemmi's own tables, and
sums over the cell by hand."""

import builtins

import gemmi
import numpy as np
import pytest
from scipy import constants

from live_bcdi.dynamical.constants import (
    Site,
    Structure,
    absorption_length_m,
    darwin_depth_m,
    debye_b_angstrom2,
    element,
    known_elements,
    lengths_m,
    pendelloesung_distance_m,
    pendelloesung_period_m,
    read_cif,
    refraction_length_m,
    structure_of,
    susceptibilities,
)
from live_bcdi.refraction import Material, susceptibility
from live_bcdi.types import ScanError

# the structure of Huang et al., J. Solid State Chem. 112, 355 (1994), with the cell of Wu et al.
SR2IRO4 = """data_Sr2IrO4
_cell_length_a 5.49
_cell_length_b 5.49
_cell_length_c 25.80(1)
_cell_angle_alpha 90
_cell_angle_beta 90
_cell_angle_gamma 90
_symmetry_space_group_name_H-M 'I 41/a c d :2'
loop_
_atom_site_label
_atom_site_type_symbol
_atom_site_fract_x
_atom_site_fract_y
_atom_site_fract_z
_atom_site_occupancy
_atom_site_U_iso_or_equiv
Sr1 Sr2+ 0 0.25 0.5505 1 0.0054
Ir1 Ir4+ 0 0.25 0.375 1 0.0024
O1 O2- 0 0.25 0.455 1 0.009
O2 O2- 0.1988 0.4488 0.125 1 0.009
"""


@pytest.fixture
def cif(tmp_path):
    def written(text=SR2IRO4):
        path = tmp_path / "crystal.cif"
        path.write_text(text, encoding="utf-8")
        return path

    return written


def test_gold_is_that_of_the_paper_and_of_other_tables():
    chi = susceptibilities(element("Au"), (0, 0, 2), 8.0)
    assert np.degrees(chi.two_theta) == pytest.approx(44.7, abs=0.1)  # the paper's is 44.76
    # xraylib 4.3.0 and xrayutilities 1.8.0 (f'' of Kissel): -9.477e-5 + 0.954e-5 i; the paper, with the decimal
    # point # where it belongs, -9.407e-5 + 0.850e-5 i. Absorption is known to a tenth between tables, dispersion
    # to a hundredth
    assert chi.chi_0.real == pytest.approx(-9.477e-5, rel=0.005)
    assert chi.chi_0.real == pytest.approx(-9.407e-5, rel=0.01)
    assert chi.chi_0.imag == pytest.approx(0.954e-5, rel=0.04)
    assert chi.chi_0.imag == pytest.approx(0.850e-5, rel=0.1)
    # in print with C in it; its sign is that of an origin
    assert abs(chi.beams("pi").chi_h) == pytest.approx(abs(5.2548e-5 - 0.59889e-5j), rel=0.03)
    assert chi.beams("pi").chi_h == pytest.approx(chi.factor("pi") * chi.beams("sigma").chi_h)
    assert chi.factor("pi") == pytest.approx(np.cos(chi.two_theta))
    assert chi.factor("unpolarised") ** 2 == pytest.approx((1 + np.cos(chi.two_theta) ** 2) / 2)
    # a centre of inversion at the origin
    assert chi.chi_h == pytest.approx(chi.chi_hbar)


def test_an_oxide_from_its_cif_is_that_of_the_paper(cif):
    structure = structure_of(str(cif()))
    assert structure.formula == "Sr16Ir8O32"
    chi = susceptibilities(structure, (1, 1, 6), 10.0)
    assert chi.chi_0.real == pytest.approx(-2.4947e-5, rel=0.01)
    assert chi.chi_0.imag == pytest.approx(0.97e-6, rel=0.05)
    in_plane = chi.beams("pi")
    assert abs(in_plane.chi_h.real) == pytest.approx(1.3373e-5, rel=0.01)
    assert abs(in_plane.chi_h.imag) == pytest.approx(0.84241e-6, rel=0.05)
    # "extinction lengths are 633 nm and 9036 nm for the Bragg and Laue geometries"
    assert darwin_depth_m(chi, "pi") == pytest.approx(633e-9, rel=0.01)
    assert pendelloesung_period_m(chi, "pi") == pytest.approx(9036e-9, rel=0.01)


def test_lengths_have_the_definitions_that_they_are_named_by():
    chi = susceptibilities(element("Au"), (0, 0, 2), 8.0)
    # the paper: 354 nm, 2710 nm, and 863 nm as "Pendellösung distance"
    assert darwin_depth_m(chi, "pi") == pytest.approx(354e-9, rel=0.03)
    assert pendelloesung_period_m(chi, "pi") == pytest.approx(2710e-9, rel=0.03)
    assert pendelloesung_distance_m(chi, "pi") == pytest.approx(863e-9, rel=0.03)
    assert pendelloesung_period_m(chi, "sigma") < pendelloesung_period_m(chi, "pi")
    wave_number = 2 * np.pi / chi.wavelength_m
    after = np.exp(0.5j * wave_number * chi.chi_0 * absorption_length_m(chi))
    assert abs(after) ** 2 == pytest.approx(np.exp(-1))
    assert 0.5 * wave_number * chi.chi_0.real * refraction_length_m(chi) == pytest.approx(-1)
    assert set(lengths_m(chi)) == {
        "pendelloesung_period",
        "pendelloesung_distance",
        "darwin_depth",
        "absorption_length",
        "refraction_length",
    }


@pytest.mark.parametrize("symbol", known_elements())
def test_elements_by_name_have_their_density_and_the_chi_0_of_the_correction(symbol):
    """The densities of the tables are of the usual form (of carbon, graphite)."""
    structure = element(symbol)
    density = 3.515 if symbol == "C" else None
    chi_0 = susceptibility(Material(formula=symbol, density_g_cm3=density), 9.0)
    reflection = (1, 1, 0) if symbol in ("Fe", "W") else (1, 1, 1)
    assert susceptibilities(structure, reflection, 9.0).chi_0 == pytest.approx(chi_0, rel=0.005)


@pytest.mark.parametrize(("symbol", "energy_kev"), [("Au", 8.0), ("Pt", 9.0), ("Ni", 10.0), ("Si", 8.0)])
def test_against_the_form_factors_and_the_dispersion_of_gemmi(symbol, energy_kev):
    """International Tables' f0 and f', f'' of Cromer and Liberman: another source than ours altogether."""
    structure = element(symbol)
    hkl = (2.0, 2.0, 0.0)
    s = 1 / (2 * structure.spacing_angstrom(hkl))
    atom = gemmi.Element(symbol)
    f1, f2 = gemmi.cromer_liberman(z=atom.atomic_number, energy=1e3 * energy_kev)
    # reflects in phase in all these: every atom counts alike, but for signs
    ours = susceptibilities(structure, hkl, energy_kev)
    theirs = (atom.it92.calculate_sf(s**2) + f1 + 1j * f2) * np.exp(-structure.sites[0].b_angstrom2 * s**2)
    whole = atom.atomic_number + f1 + 1j * f2
    ratio = theirs / whole
    assert abs(ours.chi_h) / abs(ours.chi_0) == pytest.approx(abs(ratio), rel=0.01)
    assert ours.chi_0.imag / -ours.chi_0.real == pytest.approx(f2 / whole.real, rel=0.06)


def test_a_crystal_without_inversion_has_another_chi_hbar():
    """Zincblende (111): F_h = 4 (f_A -+ i f_B) of the two directions."""
    places = ((0, 0, 0), (0, 0.5, 0.5), (0.5, 0, 0.5), (0.5, 0.5, 0))
    sites = [Site(element="Ga", place=place) for place in places]
    sites += [Site(element="As", place=tuple(x + 0.25 for x in place)) for place in places]
    crystal = Structure(name="GaAs", cell_angstrom=5.6533 * np.eye(3), sites=tuple(sites))
    chi = susceptibilities(crystal, (1, 1, 1), 10.0)
    alone = [
        susceptibilities(
            Structure(name=name, cell_angstrom=crystal.cell_angstrom, sites=tuple(sites[part])), (1, 1, 1), 10.0
        ).chi_h
        for name, part in (("Ga", slice(0, 4)), ("As", slice(4, 8)))
    ]
    gallium, arsenic = alone[0], alone[1] / np.exp(-2j * np.pi * 0.75)
    assert chi.chi_h == pytest.approx(gallium + arsenic * np.exp(-1.5j * np.pi))
    assert chi.chi_hbar == pytest.approx(gallium + arsenic * np.exp(1.5j * np.pi))
    assert abs(chi.chi_h) != pytest.approx(abs(chi.chi_hbar), rel=1e-3)


def test_where_the_origin_is_does_not_matter_to_the_product(cif):
    crystal = read_cif(cif())
    moved = Structure(
        name="moved",
        cell_angstrom=crystal.cell_angstrom,
        sites=tuple(
            Site(
                element=site.element,
                place=(site.place[0] + 0.1, site.place[1], site.place[2] - 0.3),
                b_angstrom2=site.b_angstrom2,
            )
            for site in crystal.sites
        ),
    )
    one, other = (susceptibilities(each, (1, 1, 6), 10.0) for each in (crystal, moved))
    assert one.chi_h * one.chi_hbar == pytest.approx(other.chi_h * other.chi_hbar)
    assert abs(one.chi_h - other.chi_h) > 0.1 * abs(one.chi_h)


def test_debye_waller():
    # classical limit: B = 8 pi^2 <u^2>, <u^2> = 3 h^2 T / (4 pi^2 m k Theta^2)
    mass, debye, hot = 197.0, 165.0, 3000.0
    squared = 3 * constants.h**2 * hot / (4 * np.pi**2 * mass * constants.atomic_mass * constants.k * debye**2)
    assert debye_b_angstrom2(mass, debye, hot) == pytest.approx(1e20 * 8 * np.pi**2 * squared, rel=1e-3)
    # at rest but for the zero point: 6 h^2 / (4 m k Theta)
    still = 1.5 * constants.h**2 / (mass * constants.atomic_mass * constants.k * debye)
    assert debye_b_angstrom2(mass, debye, 1.0) == pytest.approx(1e20 * still, rel=1e-3)
    cold, warm = (susceptibilities(element("Au", kelvin), (2, 2, 2), 10.0) for kelvin in (20.0, 600.0))
    assert abs(warm.chi_h) < 0.9 * abs(cold.chi_h)
    assert warm.chi_0 == cold.chi_0


def test_cif_says_occupancy_and_displacements(cif):
    half = read_cif(cif(SR2IRO4.replace("0.375 1 0.0024", "0.375 0.5 0.0024")))
    assert {site.element: site.occupancy for site in half.sites} == {"Sr": 1.0, "Ir": 0.5, "O": 1.0}
    assert next(site for site in half.sites if site.element == "Ir").b_angstrom2 == pytest.approx(
        8 * np.pi**2 * 0.0024
    )
    aniso = SR2IRO4 + "\n".join(
        ["loop_", "_atom_site_aniso_label"]
        + [f"_atom_site_aniso_U_{two}" for two in ("11", "22", "33", "23", "13", "12")]
        + ["Ir1 0.003 0.003 0.009 0 0 0", ""]
    )
    iridium = next(site for site in read_cif(cif(aniso)).sites if site.element == "Ir")
    assert iridium.b_angstrom2 == pytest.approx(8 * np.pi**2 * 0.005)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("nonsense", "no CIF file"),
        ("data_x\n_cell_length_a 3\n", "no cell or no atoms"),
        (SR2IRO4.replace("I 41/a c d :2", "Z 99"), "no space group"),
        (SR2IRO4.replace("Sr1 Sr2+", "Q1 Q"), "Q1"),
        (SR2IRO4.replace("_cell_angle_gamma 90", "_cell_angle_gamma 0"), "no cell"),
        (SR2IRO4.replace("0 0.25 0.375", "0 nowhere 0.375"), "nowhere"),
        (SR2IRO4.replace(" 1 0.0", " 0 0.0"), "_atom_site_occupancy"),
    ],
)
def test_a_bad_cif_is_one_sentence(cif, text, said):
    with pytest.raises(ScanError, match=said):
        structure_of(str(cif(text)))


def test_what_cannot_reflect_is_refused(monkeypatch):
    gold = element("Au")
    with pytest.raises(ScanError, match="forbidden"):
        susceptibilities(gold, (1, 0, 0), 8.0)
    with pytest.raises(ScanError, match="hkl"):
        susceptibilities(gold, (0, 0, 0), 8.0)
    with pytest.raises(ScanError, match="do not reflect 8 keV"):
        susceptibilities(gold, (9, 9, 9), 8.0)
    with pytest.raises(ScanError, match=r"Au, .* CIF file"):
        element("Xy")
    with pytest.raises(ScanError, match=r"no CIF file absent\.cif"):
        structure_of("absent.cif")
    real = builtins.__import__

    def without(name, *args, **kwargs):
        if name == "gemmi":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ScanError, match=r"live_bcdi\[dynamical\]"):
        structure_of("crystal.cif")

"""From the configuration and the scan to the reflection, and what a result says of the rung that its crystal
needs."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from live_bcdi import reflection
from live_bcdi.config import load_config
from live_bcdi.geometry import wavelength_angstrom
from live_bcdi.reflection import as_told, judged, material_of, need_of, reflection_of, sample_of, with_material
from live_bcdi.types import LabImage, Outcome, Reconstruction, ScanError

CONFIG = load_config(Path(__file__).resolve().parents[2] / "config" / "34idc.toml")
GOLD = CONFIG.changed(sample={"formula": "Au"})
CIF = """data_gold
_cell_length_a 4.0782
_cell_length_b 4.0782
_cell_length_c 4.0782
_cell_angle_alpha 90
_cell_angle_beta 90
_cell_angle_gamma 90
_symmetry_space_group_name_H-M 'F m -3 m'
loop_
_atom_site_label
_atom_site_fract_x
_atom_site_fract_y
_atom_site_fract_z
_atom_site_B_iso_or_equiv
Au1 0 0 0 0.62
"""


@pytest.fixture
def measured(scan):
    """A scan of gold (111) at 9.1 keV, the diffracted beam upwards, and a cube of a micrometre."""
    q_invA = 2 * np.pi * np.sqrt(3) / 4.0782
    theta = np.arcsin(q_invA * wavelength_angstrom(9.1) / (4 * np.pi))
    q = q_invA * np.array([0.0, np.cos(theta), -np.sin(theta)])
    geometry = replace(scan.geometry, beam_direction=(0.0, 0.0, 1.0))
    inside = np.pad(np.ones((20, 20, 20), bool), 10)
    lab = LabImage(
        density=inside.astype(np.complex64),
        support=inside,
        displacement_angstrom=np.zeros(inside.shape, np.float32),
        strain=np.zeros(inside.shape, np.float32),
        voxel_nm=50.0,
        q_centre_invA=q,
    )
    return replace(scan, geometry=geometry, hkl=(1.0, 1.0, 1.0), metadata={}), lab


def result_of(lab):
    return Reconstruction(
        density=np.ones((4, 4, 4), np.complex64),
        support=np.ones((4, 4, 4), bool),
        chi=0.0,
        chi_starts=(0.0,),
        metrics={"free_llk": 1.0},
        recipe="",
        seed=0,
        outcome=Outcome.DONE,
        lab=lab,
        provenance={"scan": "s"},
    )


def test_a_result_says_which_rung_its_crystal_needs(measured):
    scan, lab = measured
    done = judged(result_of(lab), scan, GOLD)
    assert done.provenance["rung"].startswith("dynamical: of a perfect crystal of this shape, Au (1 1 1), sigma")
    assert done.metrics["misfit_kinematical"] > 2 * done.metrics["misfit_refraction"] > 0.2
    assert done.metrics["free_llk"] == 1.0 and done.provenance["scan"] == "s"
    # a tenth of the size: refraction is of first order in it, what is left of second
    small = judged(result_of(replace(lab, voxel_nm=5.0)), scan, GOLD)
    assert small.provenance["rung"].startswith("kinematical")
    patient = GOLD.changed(dynamical={"tolerance": 0.3})
    assert judged(result_of(lab), scan, patient).provenance["rung"].startswith("refraction")


def test_polarisation_is_that_of_the_beam(measured):
    scan, lab = measured
    assert need_of(lab, scan, GOLD)[0].polarisation == "sigma"
    for said, found in (("y+", "pi"), ("unpolarised", "unpolarised")):
        config = GOLD.changed(diffractometer={"polarisation": said})
        assert need_of(lab, scan, config)[0].polarisation == found
    with pytest.raises(ScanError, match="'up' is not a direction"):
        GOLD.changed(diffractometer={"polarisation": "up"})


def test_the_runs_own_metadata_go_before(measured, tmp_path):
    scan, lab = measured
    (tmp_path / "gold.cif").write_text(CIF, encoding="utf-8")
    told = replace(scan, metadata={"cif": str(tmp_path / "gold.cif")})
    by_file, by_name = (reflection_of(each, lab.q_centre_invA, GOLD) for each in (told, scan))
    assert by_file.structure.name == "gold" and by_name.structure.name == "Au"
    assert by_file.chi.chi_h == pytest.approx(by_name.chi.chi_h, rel=0.01)
    plain = CONFIG.changed(sample={"cif": str(tmp_path / "gold.cif")})
    assert material_of(plain.sample).density_g_cm3 == pytest.approx(19.29, abs=0.01)
    assert material_of(plain.sample).formula == "Au4"
    assert material_of(CONFIG.sample) is None


def test_why_it_is_unknown_is_said_and_nothing_fails(measured):
    scan, lab = measured
    assert judged(result_of(None), scan, GOLD).provenance["rung"] == "unknown: no lab image"
    assert judged(result_of(lab), scan, CONFIG).provenance["rung"].startswith("unknown: material unknown")
    reasons = [
        (GOLD.changed(sample={"formula": "SrTiO3"}), scan, "cif"),
        (GOLD.changed(sample={"hkl": None}), replace(scan, hkl=None), "hkl"),
        (GOLD, replace(scan, hkl=(2.0, 0.0, 0.0)), r"2\.039 Å at hkl 2 0 0"),
        (GOLD.changed(sample={"cif": "absent.cif"}), scan, "absent"),
    ]
    for config, measurement, why in reasons:
        with pytest.raises(ScanError, match=why):
            need_of(lab, measurement, config)
        done = judged(result_of(lab), measurement, config)
        assert done.provenance["rung"].startswith("unknown: ")
        assert "misfit_refraction" not in done.metrics


def test_metadata_that_name_a_material_leave_nothing_of_the_configurations(tmp_path):
    (tmp_path / "gold.cif").write_text(CIF, encoding="utf-8")
    config = CONFIG.changed(
        sample={"formula": "Sr2IrO4", "density_g_cm3": 6.1, "cif": str(tmp_path / "gold.cif"), "hkl": (1, 1, 6)}
    )
    platinum = sample_of(config, {"formula": "Pt"})
    assert (platinum.formula, platinum.density_g_cm3, platinum.cif) == ("Pt", None, None)
    file = sample_of(config, {"cif": "other.cif"})
    assert (file.formula, file.density_g_cm3, file.cif) == (None, None, Path("other.cif"))
    assert platinum.hkl == file.hkl == (1, 1, 6)
    denser = sample_of(config, {"density_g_cm3": 6.5})
    assert (denser.formula, denser.density_g_cm3, denser.cif) == ("Sr2IrO4", 6.5, config.sample.cif)
    with pytest.raises(ScanError, match=r"metadata of the run: sample\.formula"):
        sample_of(config, {"formula": 5})


def test_what_somebody_says_goes_before_the_runs_own_metadata(measured, tmp_path):
    scan, lab = measured
    (tmp_path / "gold.cif").write_text(CIF, encoding="utf-8")
    told = replace(scan, metadata={"formula": "Pt", "density_g_cm3": 21.0, "other": 1}, hkl=(2.0, 0.0, 0.0))
    by_name = as_told(told, {"formula": "Au", "hkl": (1, 1, 1)})
    assert reflection_of(by_name, lab.q_centre_invA, CONFIG).structure.name == "Au"
    sample = sample_of(CONFIG.changed(sample={"cif": "other.cif"}), by_name.metadata)
    assert (sample.formula, sample.density_g_cm3, sample.cif) == ("Au", None, None)
    by_file = as_told(told, {"cif": tmp_path / "gold.cif", "hkl": (1, 1, 1)})
    assert reflection_of(by_file, lab.q_centre_invA, GOLD).structure.name == "gold"
    assert by_file.metadata["other"] == 1
    same = as_told(told, {})
    assert (same.metadata, same.hkl) == (told.metadata, told.hkl)


def test_a_compound_whose_density_nobody_says_has_that_of_its_cif(tmp_path):
    (tmp_path / "gold.cif").write_text(CIF, encoding="utf-8")
    sample = CONFIG.changed(sample={"formula": "Au4", "cif": str(tmp_path / "gold.cif")}).sample
    assert material_of(sample).density_g_cm3 == pytest.approx(19.29, abs=0.01)


@pytest.mark.parametrize(
    ("metadata", "why"),
    [
        ({"formula": "SrTiO3"}, "give density_g_cm3"),
        ({"formula": "gold on glass"}, "cannot be used"),
        ({"formula": "Au0"}, "cannot be used"),
        ({"formula": ["Au"]}, "metadata of the run"),
        ({"formula": "Au", "density_g_cm3": "heavy"}, "metadata of the run"),
        ({"cif": "/of/another/machine.cif"}, "no CIF file"),
        ({"cif": "\x00\n"}, "no CIF file   , and"),  # HDF5 holds no NUL
    ],
)
def test_metadata_that_cannot_be_used_are_told_and_nothing_fails(measured, metadata, why):
    """Nor is the configuration's gold taken instead."""
    scan, lab = measured
    done = with_material(result_of(lab), replace(scan, metadata=metadata), GOLD)
    assert done.provenance["refraction"].startswith("not corrected: ") and why in done.provenance["refraction"]
    assert done.provenance["rung"].startswith("unknown: ")
    assert done.lab is lab
    known = with_material(result_of(lab), replace(scan, metadata={}), GOLD)
    assert known.provenance["refraction"].startswith("corrected for Au")


@pytest.mark.parametrize(
    "error", [RuntimeError("gemmi"), KeyError("xraydb"), ZeroDivisionError(), IndexError("cell"), MemoryError()]
)
def test_whatever_a_parser_raises_is_told(measured, monkeypatch, error):
    scan, lab = measured

    def fails(*_):
        raise error

    monkeypatch.setattr(reflection, "structure_of", fails)
    done = judged(result_of(lab), scan, GOLD)
    assert done.provenance["rung"].startswith(f"unknown: {type(error).__name__}")
    told = with_material(result_of(lab), replace(scan, metadata={"cif": "a.cif"}), GOLD)
    assert told.provenance["refraction"].startswith(f"not corrected: {type(error).__name__}")


def test_a_peak_that_is_nowhere_has_no_rung(measured):
    scan, lab = measured
    for q in (np.zeros(3), np.full(3, np.nan)):
        done = judged(result_of(replace(lab, q_centre_invA=q)), scan, GOLD)
        assert done.provenance["rung"].startswith("unknown: the peak is at q = ")

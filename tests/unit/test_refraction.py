"""The correction against a crystal that was refracted by a formula; chi_0 against the attenuation length and
published values."""

from dataclasses import replace

import numpy as np
import pytest
import xraydb
from scipy import ndimage

from live_bcdi.refraction import Material, corrected, susceptibility, without_refraction
from live_bcdi.strain import displacement_angstrom, strain_along
from live_bcdi.types import Geometry, LabImage, Outcome, Reconstruction, Rotation, ScanError

VOXEL_NM = 8.0
SHAPE = (44, 48, 40)
HALF_NM = np.array([110.0, 130.0, 95.0])
H = np.array([2.37, 1.0, -0.79])
GEOMETRY = Geometry(
    energy_kev=9.0,
    distance_m=0.5,
    pixel_um=(55.0, 55.0),
    arm_pixel=(0.0, 0.0),
    beam_direction=(0.0, 0.0, 1.0),
    row_direction=(0.0, -1.0, 0.0),
    column_direction=(1.0, 0.0, 0.0),
    sample=(Rotation(motor="theta", axis=(0.0, 1.0, 0.0), angle_deg=10.0),),
    arm=(),
    rocking="theta",
)
K = 2 * np.pi / 12.398419843320026 * 9.0


def positions_nm():
    index = np.stack(np.meshgrid(*[np.arange(n) - n // 2 for n in SHAPE], indexing="ij"), -1)
    return index * VOXEL_NM


def box():
    return (np.abs(positions_nm()) <= HALF_NM).all(axis=-1)


def to_the_face_nm(direction):
    """From each point along the unit direction to the first face of the box, which ends half a voxel beyond its
    last voxel's middle."""
    edge = np.floor(HALF_NM / VOXEL_NM) * VOXEL_NM + VOXEL_NM / 2
    with np.errstate(divide="ignore", invalid="ignore"):
        lengths = (edge * np.sign(direction) - positions_nm()) / direction
    return np.where(np.isfinite(lengths), lengths, np.inf).min(axis=-1)


def refracted(bend=0.0):
    """A box with u_h = bend s^2 / 2 (ångström, s in nm along h), refracted and absorbed by what optics says of a
    refractive index 1 - delta + i beta: the wave is ahead by k delta l and decays by k beta l."""
    delta, beta, _ = xraydb.xray_delta_beta("Au", 19.3, 9000.0)
    outgoing = (K * np.array(GEOMETRY.beam_direction) + H) / np.linalg.norm(K * np.array([0, 0, 1]) + H)
    length_A = 10 * (to_the_face_nm(np.array([0.0, 0.0, -1.0])) + to_the_face_nm(outgoing))
    s = positions_nm() @ H / np.linalg.norm(H)
    phase = -K * delta * length_A - np.linalg.norm(H) * bend * s**2 / 2
    inside = box()
    density = np.where(inside, np.exp(1j * phase - K * beta * length_A), 0).astype(np.complex64)
    return LabImage(
        density=density,
        support=inside,
        displacement_angstrom=displacement_angstrom(density, inside, float(np.linalg.norm(H))),
        strain=strain_along(density, inside, H, VOXEL_NM),
        voxel_nm=VOXEL_NM,
        q_centre_invA=H,
    )


def flat_phase_std(density, inside):
    """Standard deviation of the phase less its best plane, in rad; small enough here not to wrap."""
    points = positions_nm()[inside]
    phase = np.unwrap(np.unwrap(np.unwrap(np.angle(density), axis=0), axis=1), axis=2)[inside]
    terms = np.column_stack([points, np.ones(len(points))])
    return (phase - terms @ np.linalg.lstsq(terms, phase, rcond=None)[0]).std()


def test_refraction_and_absorption_come_off_a_box_of_gold():
    lab = refracted()
    chi_0 = susceptibility(Material(formula="Au"), 9.0)
    done = without_refraction(lab, GEOMETRY, chi_0)
    assert flat_phase_std(lab.density, lab.support) > 0.05
    # half a voxel of path, 4 nm of 1.7 rad a micrometre, is 0.007 rad
    assert flat_phase_std(done.density, lab.support) < 0.01
    assert np.abs(lab.density)[lab.support].mean() < 0.98
    np.testing.assert_allclose(np.abs(done.density)[lab.support], 1, atol=0.005)


def test_the_peak_goes_back_to_where_the_lattice_is():
    """Refraction alone moves the peak by the mean gradient of its phase; the corrected image's ramp is in q."""
    lab = refracted()
    done = without_refraction(lab, GEOMETRY, susceptibility(Material(formula="Au"), 9.0))
    # the refracted image still has its ramp, so the crystal's own q is the one that it was made with
    np.testing.assert_allclose(done.q_centre_invA, H, atol=2e-6)
    # without the correction the peak is where the refracted crystal diffracts most, 1e-4 / ångström from there
    peak = without_refraction(lab, GEOMETRY, 0j)
    assert np.linalg.norm(peak.q_centre_invA - H) > 3e-5

    def diffracted(q):
        return abs(np.sum(lab.density * np.exp(-10j * positions_nm() @ (q - H))))

    there = diffracted(peak.q_centre_invA)
    # 1e-4 of a radian an ångström over 200 nm: half a per cent of the peak
    assert there > 1.003 * diffracted(2 * H - peak.q_centre_invA)
    assert there > diffracted(H)
    # an image whose ramp is in its q already, as `lab_image` gives it, goes back all the same
    again = without_refraction(peak, GEOMETRY, susceptibility(Material(formula="Au"), 9.0))
    np.testing.assert_allclose(again.q_centre_invA, H, atol=2e-6)


def test_the_strain_that_is_there_stays():
    bend = 1e-4 / 100 * 10
    lab = refracted(bend)
    done = without_refraction(lab, GEOMETRY, susceptibility(Material(formula="Au"), 9.0))
    core = ndimage.binary_erosion(lab.support, iterations=2)
    s = (positions_nm() @ H / np.linalg.norm(H))[core]
    slope = np.polyfit(s, done.strain[core], 1)[0]
    assert slope * 100 == pytest.approx(1e-4, rel=0.03)
    # the wrong sign of the phase leaves twice the refraction in
    wrong = without_refraction(lab, GEOMETRY, -susceptibility(Material(formula="Au"), 9.0).conjugate())
    assert (wrong.strain[core] - bend * s / 10).std() < 5 * (lab.strain[core] - bend * s / 10).std()
    assert (done.strain[core] - bend * s / 10).std() < 0.5 * (lab.strain[core] - bend * s / 10).std()


def test_chi_0_is_the_tables_and_absorbs():
    gold = susceptibility(Material(formula="Au"), 8.0)
    # Henke's and Chantler's tables: delta 4.7e-5, beta 4.6 to 4.9e-6 at 8 keV
    assert gold.real == pytest.approx(-9.46e-5, rel=0.02)
    assert gold.imag == pytest.approx(0.92e-5, rel=0.06)
    # intensity falls to 1/e over the attenuation length, which the tables give on their own; it counts scattering
    # too, 3 %, which beta does not
    _, _, length_cm = xraydb.xray_delta_beta("Au", 19.3, 8000.0)
    wave_number = 2 * np.pi / 12.398419843320026 * 8.0
    amplitude = np.exp(1j * wave_number * gold * length_cm * 1e8 / 2)
    assert abs(amplitude) ** 2 == pytest.approx(np.exp(-1), rel=0.04)


def test_what_the_material_needs_is_said():
    compound = susceptibility(Material(formula="Sr2IrO4", density_g_cm3=9.5), 11.0)
    assert compound.real < 0 < compound.imag
    with pytest.raises(ScanError, match="density_g_cm3"):
        susceptibility(Material(formula="SrTiO3"), 9.0)
    with pytest.raises(ScanError, match="Xy"):
        susceptibility(Material(formula="Xy", density_g_cm3=1.0), 9.0)


def test_a_result_says_what_was_done_to_it():
    lab = refracted()
    result = Reconstruction(
        density=lab.density,
        support=lab.support,
        chi=0.0,
        chi_starts=(0.0,),
        metrics={},
        recipe="",
        seed=0,
        outcome=Outcome.DONE,
        lab=lab,
        provenance={"scan": "s"},
    )
    plain = corrected(result, GEOMETRY, None)
    assert plain.lab is lab and "no sample formula" in plain.provenance["refraction"]
    assert (
        "no lab image"
        in corrected(replace(result, lab=None), GEOMETRY, Material(formula="Au")).provenance["refraction"]
    )
    done = corrected(result, GEOMETRY, Material(formula="Au"))
    assert done.provenance["refraction"].startswith("corrected for Au, chi_0 = -7.4")
    assert done.provenance["scan"] == "s"
    assert flat_phase_std(done.lab.density, lab.support) < 0.01

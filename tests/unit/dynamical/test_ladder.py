"""Which rung a crystal needs: figures found independently, limits that are known, and symmetries."""

import numpy as np
import pytest

from live_bcdi.dynamical.constants import Constants, element, susceptibilities
from live_bcdi.dynamical.ladder import Misfits, Rung, misfits_of, polarisation_of
from live_bcdi.geometry import wavelength_angstrom
from live_bcdi.types import Geometry, LabImage, Rotation, ScanError

# Sr2IrO4 (116) at 10 keV: tests/unit/dynamical/test_constants.py makes these of its CIF
OXIDE = Constants(
    wavelength_m=1.2398419843320026e-10,
    two_theta=float(np.deg2rad(24.84)),
    chi_0=-2.5092e-5 + 1.0092e-6j,
    chi_h=1.4734e-5 - 0.9647e-6j,
    chi_hbar=1.4734e-5 - 0.9647e-6j,
)
GOLD = susceptibilities(element("Au"), (0, 0, 2), 8.0)
N, FINE = 60, 3


def geometry(energy_kev):
    return Geometry(
        energy_kev=energy_kev,
        distance_m=1.0,
        pixel_um=(55.0, 55.0),
        arm_pixel=(0.0, 0.0),
        beam_direction=(0.0, 0.0, 1.0),
        row_direction=(0.0, -1.0, 0.0),
        column_direction=(1.0, 0.0, 0.0),
        sample=(Rotation(motor="theta", axis=(0.0, 1.0, 0.0), angle_deg=0.0),),
        arm=(),
        rocking="theta",
    )


def cube(side_nm, chi, energy_kev, turn=0.0, strength=1.0, two_theta=None):
    """Of which a face, turned about y, meets the beam."""
    two_theta = chi.two_theta if two_theta is None else two_theta
    voxel_nm = side_nm / (0.62 * N)
    fine = (np.arange(N * FINE) - N // 2 * FINE - (FINE - 1) / 2) / FINE * voxel_nm
    x, y, z = np.meshgrid(fine, fine, fine, indexing="ij", sparse=True)
    inside = (np.abs(np.cos(turn) * x - np.sin(turn) * z) < side_nm / 2) & (np.abs(y) < side_nm / 2)
    inside = inside & (np.abs(np.sin(turn) * x + np.cos(turn) * z) < side_nm / 2)
    filled = inside.reshape(N, FINE, N, FINE, N, FINE).mean(axis=(1, 3, 5))
    wave_number = 2 * np.pi / wavelength_angstrom(energy_kev)
    return LabImage(
        density=(strength * filled).astype(np.complex64),
        support=filled > 0.5,
        displacement_angstrom=np.zeros(filled.shape, np.float32),
        strain=np.zeros(filled.shape, np.float32),
        voxel_nm=voxel_nm,
        q_centre_invA=wave_number * np.array([np.sin(two_theta), 0.0, np.cos(two_theta) - 1]),
    )


@pytest.mark.parametrize(
    ("side_nm", "refraction", "rung"),
    [(300.0, 0.008, Rung.REFRACTION), (1000.0, 0.09, Rung.DYNAMICAL), (2000.0, 0.33, Rung.DYNAMICAL)],
)
def test_gold_cubes(side_nm, refraction, rung):
    """What refraction alone leaves, of earlier trials with 256 angles and other constants: chi to 3 % and the
    voxels make a few per cent, and more where the misfit no longer grows by the square of the size."""
    found = misfits_of(cube(side_nm, GOLD, 8.0), geometry(8.0), GOLD, "pi")
    assert found.refraction == pytest.approx(refraction, rel=0.15)
    assert found.kinematical > 2 * found.refraction
    assert found.rung() is rung


def test_an_oxide_of_a_micrometre_and_a_half_needs_refraction_only():
    found = misfits_of(cube(1500.0, OXIDE, 10.0), geometry(10.0), OXIDE, "pi")
    assert found.refraction == pytest.approx(0.018, rel=0.15)
    assert found.rung() is Rung.REFRACTION


def test_a_nanocrystal_needs_nothing():
    found = misfits_of(cube(60.0, OXIDE, 10.0), geometry(10.0), OXIDE, "pi")
    assert found.rung() is Rung.KINEMATICAL


def test_the_misfits_grow_by_what_they_are_made_of():
    """Kinematical: by a power of the size near one, refraction being of first order in chi l; the rest by the
    second."""
    small, large = (misfits_of(cube(side, OXIDE, 10.0), geometry(10.0), OXIDE, "pi") for side in (200.0, 400.0))
    assert large.refraction / small.refraction == pytest.approx(4.0, rel=0.1)
    assert large.kinematical / small.kinematical == pytest.approx(2.0, rel=0.1)


def test_the_beams_may_be_exchanged():
    """Reciprocity: the face that meets the transmitted beam or the diffracted one."""
    first = misfits_of(cube(1000.0, GOLD, 8.0), geometry(8.0), GOLD, "pi")
    second = misfits_of(cube(1000.0, GOLD, 8.0, turn=GOLD.two_theta), geometry(8.0), GOLD, "pi")
    assert first.refraction == pytest.approx(second.refraction, rel=0.05)
    assert first.kinematical == pytest.approx(second.kinematical, rel=0.05)


def test_steep_beams_are_marched_along_their_bisector():
    """Nothing changes where the frame does."""
    gold = susceptibilities(element("Au"), (2, 2, 2), 8.6)
    below, above = (
        misfits_of(cube(700.0, gold, 8.6, two_theta=angle), geometry(8.6), gold, "sigma")
        for angle in np.deg2rad([74.9, 75.1])
    )
    assert below.refraction == pytest.approx(above.refraction, rel=0.08)
    assert below.kinematical == pytest.approx(above.kinematical, rel=0.03)


def test_polarisation_and_amplitude():
    lab = cube(1000.0, GOLD, 8.0)
    sigma, pi = (misfits_of(lab, geometry(8.0), GOLD, each) for each in ("sigma", "pi"))
    # by the square of C = 0.71
    assert sigma.refraction / pi.refraction == pytest.approx(1 / np.cos(GOLD.two_theta) ** 2, rel=0.15)
    strong = misfits_of(cube(1000.0, GOLD, 8.0, strength=1e3), geometry(8.0), GOLD, "pi")
    assert strong.refraction == pytest.approx(pi.refraction, rel=1e-3)


def test_which_polarisation_is_measured():
    beam, up, out = np.array([0.0, 0.0, 1.0]), np.array([0.0, 0.6, 0.8]), np.array([0.6, 0.0, 0.8])
    assert polarisation_of((1.0, 0.0, 0.0), beam, up) == "sigma"
    assert polarisation_of((1.0, 0.0, 0.0), beam, out) == "pi"
    assert polarisation_of((1.0, 0.0, 0.0), beam, up + out) == "unpolarised"
    assert polarisation_of(None, beam, up) == "unpolarised"
    with pytest.raises(ScanError, match="across the beam"):
        polarisation_of((0.0, 0.0, -1.0), beam, up)
    with pytest.raises(ScanError, match="scattering plane"):
        polarisation_of((1.0, 0.0, 0.0), beam, beam)


def test_what_cannot_be_judged():
    lab = cube(300.0, GOLD, 8.0)
    empty = LabImage(
        density=lab.density,
        support=np.zeros_like(lab.support),
        displacement_angstrom=lab.displacement_angstrom,
        strain=lab.strain,
        voxel_nm=lab.voxel_nm,
        q_centre_invA=lab.q_centre_invA,
    )
    with pytest.raises(ScanError, match="empty"):
        misfits_of(empty, geometry(8.0), GOLD, "pi")
    with pytest.raises(ScanError, match="scattering plane"):
        misfits_of(cube(300.0, GOLD, 8.0, two_theta=0.0), geometry(8.0), GOLD, "pi")
    assert Misfits(kinematical=0.06, refraction=0.02).rung(0.1) is Rung.KINEMATICAL

"""What a pattern does not fix, made the same for a whole series."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from live_bcdi.config import load_config
from live_bcdi.geometry import q_lab_invA
from live_bcdi.series import align_series
from live_bcdi.series.frame import mean_slope
from live_bcdi.sim.crystals import random_truth
from live_bcdi.sim.scattering import bragg_geometry, scan_steps
from live_bcdi.sim.series import true_phase_image
from live_bcdi.types import ScanError


def rest_rad(series, number):
    """Root mean square of the phase less the first's, where both are, less its mean."""
    both = series.support & series.supports.all(axis=0)
    product = (series.density[number] * series.density[0].conj())[both]
    return float(np.std(np.angle(product * np.exp(-1j * np.angle(product.sum())))))


def test_shift_twin_ramp_and_offset_of_the_same_crystal_are_taken_out(image):
    shift_nm = (6.3, -8.1, 3.4)
    others = [image(shift_nm=shift_nm), image(twin=True), image(twin=True, shift_nm=shift_nm)]
    series = align_series([image(), *others, image(ramp_invA=(2e-4, -1e-4, 1e-4))])
    assert series.twin == (False, False, True, True, False)
    for number in range(1, 5):
        assert rest_rad(series, number) < 0.03
        assert series.correlation[number] > 0.999
    # beyond the centres of mass, which are right but for the edges
    assert np.linalg.norm(series.shift_nm[1]) < 1.0


@pytest.fixture(scope="module")
def faceted():
    """Of weak strain, and nearly its own twin in shape."""
    geometry = bragg_geometry(load_config(Path("config/34idc.toml")), (40, 40))
    h = q_lab_invA(geometry, *geometry.arm_pixel)
    truth = random_truth(h, scan_steps(geometry), strain="weak", oversampling=3.0, seed=1)
    return true_phase_image(truth, geometry, shape=(40, 40, 40), photons=1e6)


@pytest.mark.parametrize("axis", range(3))
@pytest.mark.parametrize("sign", [1, -1])
def test_a_dislocation_that_comes_and_goes_makes_no_twin(faceted, axis, sign):
    """It turns the phase once about a line, so that the sum of A B* is next to nothing, as with the twin."""
    places = np.meshgrid(*(np.arange(n) - n // 2 + 0.5 for n in faceted.density.shape), indexing="ij")
    across = [place for number, place in enumerate(places) if number != axis]
    turned = np.exp(sign * 1j * np.arctan2(*across)).astype(np.complex64)
    series = align_series([faceted, replace(faceted, density=faceted.density * turned), faceted])
    assert series.twin == (False, False, False)


def test_the_phase_is_that_of_the_first_in_the_core_and_has_its_mean_slope(image):
    series = align_series([image(), image(1.0, shift_nm=(5, 0, 0), ramp_invA=(1e-4, 0, 0))])
    product = series.density[1] * series.density[0].conj()
    np.testing.assert_allclose(mean_slope(product, series.support), 0, atol=1e-5)
    assert np.ptp(np.angle(product[series.support])) > 1  # and the change itself is still there


def test_the_lattice_is_that_of_the_mean_slope_whatever_ramp_the_image_keeps(image):
    """A ramp in the object is a scattering vector that is as much off: together they are the same crystal."""
    series = align_series([image(), image(ramp_invA=(2e-4, -3e-4, 1e-4))])
    lengths = np.linalg.norm(series.h_invA, axis=1)
    assert lengths[0] / lengths[1] - 1 == pytest.approx(0, abs=2e-6)
    larger = replace(image(), q_centre_invA=image().q_centre_invA / (1 + 3e-4))
    lengths = np.linalg.norm(align_series([image(), larger]).h_invA, axis=1)
    assert lengths[0] / lengths[1] - 1 == pytest.approx(3e-4, rel=1e-3)


def test_a_rotation_of_the_goniometer_is_undone(image):
    turn = Rotation.from_rotvec(np.radians([10, -20, 15])).as_matrix()
    images = [image(), image(turn=turn)]
    series = align_series(images, rotations=np.stack([np.eye(3), turn.T]))
    assert rest_rad(series, 1) < 0.05
    wrong = align_series(images, rotations=np.stack([np.eye(3), turn]))
    assert rest_rad(wrong, 1) > 3 * rest_rad(series, 1)


def test_without_one_it_is_the_least_that_the_scattering_vectors_tell(image):
    axis = np.cross(image().q_centre_invA, (1.0, 0, 0))
    turn = Rotation.from_rotvec(np.radians(8) * axis / np.linalg.norm(axis)).as_matrix()
    series = align_series([image(), image(turn=turn)])
    np.testing.assert_allclose(series.rotations[1], turn.T, atol=1e-6)
    assert rest_rad(series, 1) < 0.05


def test_a_series_that_is_none_is_refused(image):
    with pytest.raises(ScanError, match="two results"):
        align_series([image()])
    empty = replace(image(), support=np.zeros_like(image().support))
    with pytest.raises(ScanError, match="state 1 has no crystal"):
        align_series([image(), empty])
    with pytest.raises(ScanError, match="rotation a state"):
        align_series([image(), image()], rotations=np.eye(3))

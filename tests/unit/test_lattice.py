"""Gradients of a displacement that is known, along directions that are no axis of the array."""

import numpy as np
import pytest

from live_bcdi import lattice
from live_bcdi.strain import strain_along
from live_bcdi.types import LabImage, ScanError

VOXEL_NM = 5.0
H = np.array([1.2, 2.1, -0.9])
LENGTH = float(np.linalg.norm(H))
# u_h = r.B.r / 2 in ångström with r in nm: its gradient is B r / 10, linear in place
BEND = np.array([[3.0, -1.0, 0.5], [-1.0, -2.0, 1.5], [0.5, 1.5, 1.0]]) * 1e-4


def positions_nm():
    index = np.stack(np.meshgrid(*[np.arange(n) - n // 2 for n in (30, 28, 32)], indexing="ij"), -1)
    return index * VOXEL_NM


@pytest.fixture(scope="module")
def lab():
    points = positions_nm()
    displacement = 0.5 * np.einsum("...i,ij,...j", points, BEND, points)
    support = np.linalg.norm(points, axis=-1) < 60
    density = np.where(support, np.exp(-1j * LENGTH * displacement), 0).astype(np.complex64)
    return LabImage(
        density=density,
        support=support,
        displacement_angstrom=np.where(support, displacement, np.nan).astype(np.float32),
        strain=strain_along(density, support, H, VOXEL_NM),
        voxel_nm=VOXEL_NM,
        q_centre_invA=H,
    )


def core(lab):
    """Away from the surface, where the difference is one-sided: a central one is exact for a square."""
    return np.linalg.norm(positions_nm(), axis=-1) < 50


@pytest.mark.parametrize("direction", [(1, 0, 0), (0, 0, 2.5), (-0.4, 0.5, 0.9)])
def test_gradient_along_any_direction(lab, direction):
    found = lattice.displacement_gradient(lab, np.array(direction))
    unit = np.array(direction) / np.linalg.norm(direction)
    expected = positions_nm() @ BEND @ unit / 10
    # float32 phases of up to 3 rad and the mean over a rough sphere's surface: 1e-6 of some 1e-3
    np.testing.assert_allclose(found[core(lab)], expected[core(lab)], atol=2e-6)
    assert np.isnan(found[~lab.support]).all()


def test_along_h_it_is_the_strain(lab):
    np.testing.assert_allclose(lattice.displacement_gradient(lab, H), lab.strain, atol=1e-9)


def test_shear_axes_are_a_right_handed_frame_with_h(lab):
    first, second = lattice.shear_axes(lab)
    h = H / LENGTH
    np.testing.assert_allclose(
        np.stack([first, second, h]) @ np.stack([first, second, h]).T, np.eye(3), atol=1e-12
    )
    np.testing.assert_allclose(np.cross(first, second), h, atol=1e-12)
    # the first has the most of the beam that a direction across h can have
    assert first[2] == pytest.approx(np.sqrt(1 - h[2] ** 2))


def test_the_three_gradients_are_the_whole_gradient(lab):
    both = lattice.shear_gradients(lab)
    frame = np.vstack([lattice.shear_axes(lab), H / LENGTH])
    whole = np.tensordot(frame.T, np.concatenate([both, lab.strain[None]]), axes=1)
    expected = np.moveaxis(positions_nm() @ BEND / 10, -1, 0)
    np.testing.assert_allclose(whole[:, core(lab)], expected[:, core(lab)], atol=5e-6)


def test_spacing_is_two_pi_over_the_local_q(lab):
    """The phase's own gradient moves the local q to h + grad(phi): its length gives the spacing."""
    point = positions_nm()
    local = H - LENGTH * (point @ BEND / 10)[..., :]
    expected = 2 * np.pi / np.linalg.norm(local, axis=-1)
    found = lattice.d_spacing_angstrom(lab)
    # d_0 (1 + strain) leaves out squares of the gradient, 1e-3 squared
    np.testing.assert_allclose(found[core(lab)], expected[core(lab)], rtol=6e-6)
    assert np.isnan(found[~lab.support]).all()


def test_directions_that_say_nothing_are_refused(lab):
    with pytest.raises(ScanError, match="other than zero"):
        lattice.displacement_gradient(lab, np.zeros(3))
    with pytest.raises(ScanError, match="along h"):
        lattice.shear_axes(lab, H)

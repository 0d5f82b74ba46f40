"""Solids whose faces are known by geometry."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from live_bcdi.facets import find_facets
from live_bcdi.types import LabImage, ScanError

VOXEL_NM = 5.0
H = np.array([0.3, 2.4, -0.8])
TURN = Rotation.from_euler("xyz", [25, -40, 70], degrees=True)


def image(normals, offset_nm, n=56):
    """The solid of all r with normal . r <= offset, its amplitude falling from 1 to 0 over a voxel."""
    index = (np.stack(np.meshgrid(*[np.arange(n)] * 3, indexing="ij"), -1) - n // 2) * VOXEL_NM
    depth = np.min([offset_nm - index @ normal for normal in normals], axis=0)
    return lab(np.clip(depth / VOXEL_NM + 0.5, 0, 1))


def lab(amplitude):
    support = amplitude > 0.3
    nothing = np.zeros(amplitude.shape, np.float32)
    return LabImage(
        density=amplitude.astype(np.complex64),
        support=support,
        displacement_angstrom=nothing,
        strain=nothing,
        voxel_nm=VOXEL_NM,
        q_centre_invA=H,
    )


CUBE = TURN.apply(np.concatenate([np.eye(3), -np.eye(3)]))
OCTAHEDRON = TURN.apply(np.array([(x, y, z) for x in (1, -1) for y in (1, -1) for z in (1, -1)]) / np.sqrt(3))


@pytest.mark.parametrize(
    ("normals", "offset_nm", "area_nm2"),
    # a cube of half edge a has faces of (2 a)^2; an octahedron of inradius a, edges of a sqrt(6)
    [(CUBE, 75.0, 150.0**2), (OCTAHEDRON, 75.0, np.sqrt(3) / 4 * 6 * 75.0**2)],
    ids=["cube", "octahedron"],
)
def test_faces_of_a_regular_solid(normals, offset_nm, area_nm2):
    found = find_facets(image(normals, offset_nm))
    assert len(found) == len(normals)
    for facet in found:
        known = normals[np.argmax(normals @ facet.normal)]
        # measured: 0.04 degrees, a tenth of a voxel, and 0.04 voxels of flatness
        assert np.rad2deg(np.arccos(min(known @ facet.normal, 1))) < 0.2
        assert facet.distance_nm == pytest.approx(offset_nm, abs=0.15 * VOXEL_NM)
        assert facet.flatness_nm < 0.1 * VOXEL_NM
        known_deg = np.rad2deg(np.arccos(known @ H / np.linalg.norm(H)))
        assert facet.angle_to_h_deg == pytest.approx(known_deg, abs=0.2)
        # less an edge of 1.6 voxels all around, where the smoothed surface bends: a fifth of faces 30 voxels wide
        assert facet.area_nm2 == pytest.approx(0.8 * area_nm2, rel=0.05)


def test_a_ball_has_no_faces_and_a_cut_ball_has_one():
    index = np.stack(np.meshgrid(*[np.arange(56)] * 3, indexing="ij"), -1) - 28.0
    ball = np.clip(20.5 - np.linalg.norm(index, axis=-1), 0, 1)
    assert find_facets(lab(ball)) == ()
    cut = CUBE[0]
    (facet,) = find_facets(lab(np.minimum(ball, np.clip(8.5 - index @ cut, 0, 1))))
    assert np.asarray(facet.normal) @ cut > np.cos(np.deg2rad(0.5))
    # a disc of radius sqrt(20^2 - 8^2) voxels
    assert facet.area_nm2 == pytest.approx(np.pi * (20**2 - 8**2) * VOXEL_NM**2, rel=0.2)


def test_no_crystal_no_faces():
    with pytest.raises(ScanError, match="no crystal"):
        find_facets(lab(np.zeros((8, 8, 8))))

"""The known crystal is what its description says, and survives a file."""

import json
from dataclasses import replace

import numpy as np
import pytest

from live_bcdi.geometry import q_lab_invA
from live_bcdi.sim import KINDS, STRAINS, Dislocation, Facet, Truth, Void, Wall, simulate_scan, truth_of
from live_bcdi.sim.crystals import random_truth
from live_bcdi.sim.scattering import bragg_geometry, scan_steps
from live_bcdi.transport.hdf5 import read_scan, write_scan
from live_bcdi.types import ScanError

H = (1.0, 2.0, -2.0)  # length 3


@pytest.fixture
def cube() -> Truth:
    """Edge 2 nm, u_h = 0.1 Å + 0.2 Å/nm x."""
    return Truth(
        facets=tuple(
            Facet(normal=tuple(sign * axis), offset_nm=1.0) for axis in np.eye(3) for sign in (1.0, -1.0)
        ),
        h_invA=H,
        offset_angstrom=0.1,
        gradient_angstrom_per_nm=(0.2, 0.0, 0.0),
    )


@pytest.fixture
def geometry(config):
    return bragg_geometry(config, (96, 96))


def crystal(geometry, **changes) -> Truth:
    h = q_lab_invA(geometry, *geometry.arm_pixel)
    return random_truth(
        h, scan_steps(geometry), **({"strain": "medium", "oversampling": 3.0, "seed": 4} | changes)
    )


def points_inside(truth, count=20_000):
    """Random points in the crystal, not those it was made with."""
    corners = truth.vertices_nm()
    points = np.random.default_rng(0).uniform(corners.min(0), corners.max(0), (count, 3))
    return points[truth.inside(points)]


def test_inside_is_within_every_facet(cube):
    points = np.array([[0, 0, 0], [0.99, -0.99, 0.99], [1.01, 0, 0], [0, 0, -1.01]])
    assert cube.inside(points).tolist() == [True, True, False, False]
    assert sorted(map(tuple, np.round(cube.vertices_nm(), 9).tolist())) == sorted(
        (x, y, z) for x in (-1.0, 1.0) for y in (-1.0, 1.0) for z in (-1.0, 1.0)
    )


def test_phase_is_minus_h_dot_u(cube):
    """S = s exp(-i h.u) with u along h, so -|h| u_h: u_h is 0.1 + 0.2 * 0.5 = 0.2 Å at x = 0.5 nm."""
    point = np.array([0.5, 0.3, -0.2])
    assert cube.displacement_at(point) == pytest.approx(0.2, rel=1e-15)
    assert cube.phase_at(point) == pytest.approx(-0.6, rel=1e-15)
    assert cube.density_at(point) == pytest.approx(np.exp(-0.6j), rel=1e-15)
    assert cube.density_at(np.array([5.0, 0, 0])) == 0


def test_a_gold_crystal_has_a_facet_along_h_and_the_angles_of_gold(geometry):
    """{111} and {100} normals meet at 54.74, 70.53, 90, 109.47, 125.26 or 180 degrees."""
    truth = crystal(geometry)
    normals = np.array([facet.normal for facet in truth.facets])
    h = np.array(truth.h_invA) / np.linalg.norm(truth.h_invA)
    assert (normals @ h).max() == pytest.approx(1.0, abs=1e-12)
    cosines = normals @ normals.T
    allowed = np.array([1, -1, 0, 1 / 3, -1 / 3, 1 / np.sqrt(3), -1 / np.sqrt(3)])
    assert np.abs(cosines[..., None] - allowed).min(axis=-1).max() < 1e-12


def test_no_two_crystals_are_alike_and_none_is_its_own_twin(geometry):
    one, other = crystal(geometry, seed=1), crystal(geometry, seed=2)
    assert one != other
    assert one == crystal(geometry, seed=1)
    points = points_inside(one)
    # an inversion about the centre of mass would keep every point inside
    assert one.inside(-points).mean() < 0.97


@pytest.mark.parametrize("seed", range(4))
def test_centre_of_mass_is_the_origin(geometry, seed):
    """The crystal was centred on a grid of 24^3 points; these are 1e4 others: 1% of its 400 nm."""
    truth = crystal(geometry, seed=seed)
    points = points_inside(truth)
    assert np.abs(points.mean(axis=0)).max() < 4.0


@pytest.mark.parametrize("strain", ["weak", "medium", "strong"])
@pytest.mark.parametrize("seed", range(3))
def test_strain_is_as_strong_as_asked(geometry, strain, seed):
    """The peak was set on a grid that stops short of the facets; long waves add some percent."""
    truth = crystal(geometry, strain=strain, seed=seed)
    points = points_inside(truth)
    phase = truth.phase_at(points)
    assert np.abs(phase).max() == pytest.approx(STRAINS[strain], rel=0.2)
    line = np.linalg.lstsq(np.column_stack([np.ones(len(points)), points]), phase, rcond=None)[0]
    radius = np.linalg.norm(points, axis=1).max()
    # neither mean nor slope: what is left is the difference of two samplings
    assert abs(line[0]) < 0.05 * STRAINS[strain]
    assert np.linalg.norm(line[1:]) * radius < 0.1 * STRAINS[strain]


def test_without_strain_the_phase_is_zero(geometry):
    truth = crystal(geometry, strain="none")
    assert np.all(truth.phase_at(points_inside(truth)) == 0)


def test_unknown_names(geometry):
    with pytest.raises(ScanError, match="unknown strain 'huge'; there are none, weak, medium, strong"):
        crystal(geometry, strain="huge")
    with pytest.raises(ScanError, match="unknown kind of crystal 'snow'; there are faceted, cube"):
        crystal(geometry, kind="snow")


@pytest.mark.parametrize("outline", ["cube", "ellipsoid", "prism"])
def test_twin_prone_outlines_are_their_own_inverse(geometry, outline):
    """To rounding at the surface. The phase is the same at r and -r for the even ones only: both differ by the
    strain's size otherwise."""
    plain, even = crystal(geometry, kind=outline), crystal(geometry, kind=f"even {outline}")
    for truth in (plain, even):
        points = points_inside(truth)
        assert truth.inside(-points).mean() > 0.999
    points = points_inside(even)
    # the fit of mean and slope over a grid that is its own inverse but for rounding at the surface
    assert np.abs(even.phase_at(points) - even.phase_at(-points)).max() < 0.02
    assert np.ptp(even.phase_at(points)) > 1
    points = points_inside(plain)
    assert np.abs(plain.phase_at(points) - plain.phase_at(-points)).max() > 0.5


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_fits_the_array_and_survives_the_file(config, geometry, kind, tmp_path):
    truth = crystal(geometry, kind=kind)
    parts = np.ptp(truth.vertices_nm() @ scan_steps(geometry), axis=0) * 10 / (2 * np.pi)
    assert parts.max() == pytest.approx(1 / 3, rel=1e-9)
    scan, made = simulate_scan(config=config, shape=(16, 16, 16), seed=7, kind=kind)
    write_scan(tmp_path / "s.h5", scan)
    assert truth_of(read_scan(tmp_path / "s.h5")) == made


def test_a_void_is_empty(cube):
    hollow = replace(cube, voids=(Void(centre_nm=(0.5, 0.0, 0.0), radius_nm=0.25),))
    points = np.array([[0.5, 0.2, 0], [0.5, 0.3, 0], [0, 0, 0]])
    assert hollow.inside(points).tolist() == [False, True, True]
    assert hollow.density_at(points[:1]) == 0
    assert hollow.depth_nm(points) == pytest.approx([-0.05, 0.05, 0.25])


@pytest.mark.parametrize("kind", ["void", "hollow"])
def test_voids_lie_within_the_crystal(geometry, kind):
    truth = crystal(geometry, kind=kind)
    (void,) = truth.voids
    assert replace(truth, voids=()).depth_nm(np.array(void.centre_nm)) > void.radius_nm


def test_beyond_a_wall_the_lattice_is_displaced(cube):
    """|h| = 3, so 0.5 Å along h are -1.5 rad."""
    walled = replace(cube, walls=(Wall(normal=(0.0, 1.0, 0.0), offset_nm=0.2, jump_angstrom=0.5),))
    points = np.array([[0, 0.1, 0], [0, 0.3, 0]])
    assert walled.phase_at(points) - cube.phase_at(points) == pytest.approx([0, -1.5])
    assert walled.defect_distance_nm(points) == pytest.approx([0.1, 0.1])


def test_a_stacking_fault_of_gold_is_a_third_of_a_turn(geometry):
    truth = crystal(geometry, kind="fault")
    (wall,) = truth.walls
    turn = -np.linalg.norm(truth.h_invA) * wall.jump_angstrom / (2 * np.pi)
    assert turn % 1 == pytest.approx(1 / 3, abs=1e-5)
    # its plane is a {111} that does not contain h across: 70.5 or 109.5 degrees from it
    assert abs(np.dot(wall.normal, truth.h_invA) / np.linalg.norm(truth.h_invA)) == pytest.approx(1 / 3)


@pytest.mark.parametrize(("kind", "cosine"), [("screw", 1.0), ("edge", 0.0)])
def test_dislocations_of_gold(geometry, kind, cosine):
    """h . b = 2 pi for b = a/2 [110], along the line of the screw and across that of the edge."""
    (line,) = crystal(geometry, kind=kind).dislocations
    burgers = np.array(line.burgers_angstrom)
    assert np.dot(crystal(geometry).h_invA, burgers) == pytest.approx(2 * np.pi, rel=1e-5)
    assert np.dot(burgers, line.line) / np.linalg.norm(burgers) == pytest.approx(cosine, abs=1e-12)


LINES = {
    "screw": Dislocation(point_nm=(1.0, 2.0, 3.0), line=(0.0, 0.6, 0.8), burgers_angstrom=(0.0, 1.8, 2.4)),
    "edge": Dislocation(point_nm=(1.0, 2.0, 3.0), line=(0.0, 0.6, 0.8), burgers_angstrom=(0.0, 2.4, -1.8)),
    "mixed": Dislocation(point_nm=(1.0, 2.0, 3.0), line=(0.0, 0.6, 0.8), burgers_angstrom=(2.0, 1.0, 0.5)),
}


@pytest.mark.parametrize("name", LINES)
def test_around_a_dislocation_the_displacement_gains_the_burgers_vector(name):
    """Right-handed about the line. Of 4000 steps one crosses the cut, where it falls by the whole vector."""
    line = LINES[name]
    along = np.array(line.line)
    first = np.cross(along, [1.0, 0.0, 0.0])
    first /= np.linalg.norm(first)
    angle = np.linspace(0, 2 * np.pi, 4001)
    circle = np.array(line.point_nm) + 7 * (
        np.outer(np.cos(angle), first) + np.outer(np.sin(angle), np.cross(along, first))
    )
    field = np.stack([line.along_angstrom(circle, axis) for axis in np.eye(3)], axis=-1)
    steps = np.diff(field, axis=0)
    cut = np.linalg.norm(steps, axis=1).argmax()
    smooth = np.delete(steps, cut, axis=0).sum(axis=0)
    assert smooth == pytest.approx(line.burgers_angstrom, abs=5e-3)


@pytest.mark.parametrize("name", LINES)
def test_a_dislocation_is_in_equilibrium(name):
    """Navier: (1 - 2 nu) laplace(u) + grad(div(u)) = 0 off the line, by central differences of 0.01 nm. Their
    error is some h^2 of the fourth derivatives, b / r^4 * 1e-4; each of the two terms alone is some b / r^2."""
    line, step = LINES[name], 0.01
    point = np.array(line.point_nm) + np.array([1.3, 0.9, -0.7])

    def field(place):
        return np.array([line.along_angstrom(np.asarray(place), axis) for axis in np.eye(3)])

    second = np.empty((3, 3, 3))  # of component k along i and j
    e = step * np.eye(3)
    for i in range(3):
        for j in range(3):
            second[i, j] = (
                field(point + e[i] + e[j])
                - field(point + e[i] - e[j])
                - field(point - e[i] + e[j])
                + field(point - e[i] - e[j])
            ) / (4 * step**2)
    laplace = np.einsum("iik->k", second)
    gradient = np.einsum("ijj->i", second)
    rest = (1 - 2 * line.poisson_ratio) * laplace + gradient
    assert np.abs(rest).max() < 1e-3
    assert np.abs(second).max() > 0.1


def test_size_gives_the_asked_oversampling(geometry):
    """The width along g_j times |g_j| / 2 pi is the part of array axis j that the crystal fills."""
    truth = crystal(geometry, oversampling=2.5)
    parts = np.ptp(truth.vertices_nm() @ scan_steps(geometry), axis=0) * 10 / (2 * np.pi)
    assert parts.max() == pytest.approx(1 / 2.5, rel=1e-9)


def test_truth_survives_the_file(config, tmp_path):
    scan, truth = simulate_scan(config=config, shape=(16, 16, 16), seed=7)
    write_scan(tmp_path / "s.h5", scan)
    assert truth_of(read_scan(tmp_path / "s.h5")) == truth
    json.dumps(scan.metadata, allow_nan=False)


def test_a_measured_scan_has_no_truth(config):
    scan, _ = simulate_scan(config=config, shape=(16, 16, 16))
    with pytest.raises(ScanError, match="is not simulated"):
        truth_of(replace(scan, metadata={}))
    with pytest.raises(ScanError, match="truth cannot be read"):
        truth_of(replace(scan, metadata={"simulated": {"truth": {"facets": 3}}}))

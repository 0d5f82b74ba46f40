"""The estimate grows with the scan, and a warm start does not know where its box was cut."""

from dataclasses import replace

import numpy as np
import pytest

from live_bcdi import preprocess
from live_bcdi.config import Preprocessing
from live_bcdi.estimate import Unlike, live_estimate, warm_up
from live_bcdi.geometry import direct_basis_nm
from live_bcdi.phasing import Plan
from live_bcdi.pipeline import reconstruct
from live_bcdi.preprocess import diffraction_volume
from live_bcdi.stream.fakes import small_geometry
from live_bcdi.types import Outcome, Reconstruction, RockingScan, ScanError

EDGE = 32


def box_scan() -> RockingScan:
    """The pattern of a box of 8 x 10 x 9 voxels with its peak in the middle of 40 x 48 x 48."""
    shape = (40, 48, 48)
    crystal = np.zeros(shape, complex)
    crystal[16:24, 19:29, 20:29] = 1
    intensity = np.abs(np.fft.fftshift(np.fft.fftn(crystal))) ** 2
    counts = np.random.default_rng(0).poisson(intensity * (1e6 / intensity.sum())).astype(np.int32)
    angles = np.linspace(-0.1, 0.1, shape[0])
    return RockingScan(name="box", intensity=counts, angles_deg=angles, geometry=small_geometry())


SCAN = box_scan()


def first_frames(count):
    return replace(SCAN, intensity=SCAN.intensity[:count], angles_deg=SCAN.angles_deg[:count])


def settled():
    estimate = None
    for _ in range(5):
        estimate = live_estimate(SCAN, edge=EDGE, previous=estimate)
    return estimate


def test_the_estimate_grows_with_the_scan():
    estimate = None
    for count in (14, 22, 28, 40, 40, 40):
        estimate = live_estimate(first_frames(count), edge=EDGE, previous=estimate)
        assert estimate.frames == count
    # 40 iterations from each other's object find what a refinement's first start does, to a factor of two
    assert estimate.chi < 2 * reconstruct(SCAN, Plan(starts=1)).chi
    assert estimate.support.mean() < 0.1


def test_the_surface_is_that_of_the_box_in_the_lab_frame():
    estimate = settled()
    assert estimate.surface is not None
    assert len(estimate.surface.faces) <= 12_000
    volume = diffraction_volume(SCAN, Preprocessing(shape=(EDGE, EDGE, EDGE)))
    basis_nm = direct_basis_nm(volume.q_steps_invA, (EDGE, EDGE, EDGE))
    np.testing.assert_allclose(estimate.q_centre_invA, volume.q_centre_invA)
    edges = np.ptp(estimate.surface.vertices @ np.linalg.inv(basis_nm).T, axis=0)
    box = np.array((8, 10, 9)) * EDGE / SCAN.intensity.shape  # of less of the pattern, voxels are larger
    np.testing.assert_allclose(edges, box, atol=1.5)  # it fades over a voxel or two


def test_a_box_cut_elsewhere_has_the_same_origin():
    whole = live_estimate(SCAN, edge=EDGE, iterations=4)
    row, column = SCAN.geometry.arm_pixel
    cut = replace(
        SCAN,
        intensity=SCAN.intensity[3:, 2:, 5:],
        angles_deg=SCAN.angles_deg[3:],
        geometry=replace(SCAN.geometry, arm_pixel=(row - 2, column - 5)),
    )
    np.testing.assert_allclose(live_estimate(cut, edge=EDGE, iterations=4).origin, whole.origin, atol=1e-6)


def test_a_moved_centre_moves_the_live_object_with_it(monkeypatch):
    """The same frames, centred two frames and a row on: the object is the last one's but for a ramp, so two
    iterations keep it; without the ramp, or with its opposite, they find a chi several times larger."""
    first = settled()
    rocking, row, column = preprocess.diffraction_volume(SCAN).centre
    monkeypatch.setattr(preprocess, "find_centre", lambda *_: (rocking + 2, row + 1, column))
    second = live_estimate(SCAN, edge=EDGE, previous=first, iterations=2)
    step_deg = 0.2 / 39
    np.testing.assert_allclose(np.subtract(second.origin, first.origin), (2 * step_deg, 1, 0), atol=1e-9)
    assert second.chi < 1.3 * first.chi


@pytest.mark.parametrize("at_deg", [0.0, 30.0, -170.0])
def test_the_live_object_goes_on_wherever_the_rocking_axis_stands(at_deg):
    """Four frames more, read with the noise of a good encoder (4 % of a step): the fitted step changes a little,
    the object does not. Counting from 0 deg, that little was tens of voxels at 30 deg, a ramp from nothing."""
    noise = np.random.default_rng(3).normal(0, 2e-4, len(SCAN.angles_deg))
    scan = replace(SCAN, angles_deg=at_deg + 0.005 * np.arange(len(SCAN.angles_deg)) + noise)
    sooner = replace(scan, intensity=scan.intensity[:36], angles_deg=scan.angles_deg[:36])
    estimate = None
    for _ in range(5):
        estimate = live_estimate(sooner, edge=EDGE, previous=estimate)
    later = live_estimate(scan, edge=EDGE, previous=estimate, iterations=2)
    assert later.chi < 1.3 * estimate.chi


def test_too_little_is_said():
    with pytest.raises(ScanError, match="at least 3 frames"):
        live_estimate(first_frames(2), edge=EDGE)


def test_warming_up_is_harmless():
    warm_up()


def test_a_preview_takes_the_place_of_iterations_unless_it_refuses():
    """It is shown the pattern and the last object, moved; what it says of itself reaches the page."""
    seen = []

    def preview(pattern, *, also=()):
        seen.append((pattern, also))
        found = np.zeros(pattern.intensity.shape, np.complex64)
        found[12:20, 12:20, 12:20] = 1
        told = {
            "density": found,
            "support": found.real > 0,
            "chi": 0.25,
            "chi_starts": (0.25,),
            "recipe": "network",
        }
        return Reconstruction(
            **told, metrics={"phase_std_rad": 0.5, "twin_probability": 0.25}, seed=0, outcome=Outcome.DONE
        )

    def refusing(pattern, *, also=()):
        raise Unlike("two peaks")

    first = live_estimate(SCAN, edge=EDGE, preview=preview)
    second = live_estimate(SCAN, edge=EDGE, previous=first, preview=preview)
    assert (first.chi, first.phase_std_rad, first.unlike) == (0.25, 0.5, "")
    assert first.defects == {"twin": 0.25}
    assert first.preview.volume.intensity.shape == (EDGE,) * 3
    assert seen[0][1] == () and seen[0][0].total_counts == first.preview.volume.intensity.sum()
    np.testing.assert_allclose(seen[1][1][0], first.density)
    refused = live_estimate(SCAN, edge=EDGE, preview=refusing)
    assert (refused.phase_std_rad, refused.preview, refused.unlike) == (None, None, "two peaks")
    assert refused.density.tobytes() == live_estimate(SCAN, edge=EDGE).density.tobytes()
    assert second.surface is not None

"""What the page is shown is a cut through the middle of the crystal, with the phase about zero."""

import json
from dataclasses import replace

import numpy as np
import pytest

from live_bcdi.advice import PatternFacts
from live_bcdi.estimate import LiveEstimate
from live_bcdi.isosurface import isosurface
from live_bcdi.stream.fakes import plan_of, small_scan
from live_bcdi.transport.zmq import decode_update, encode_update
from live_bcdi.types import LabImage, Outcome, Reconstruction
from live_bcdi_consumers.views import estimate_update, refined_update

BASIS_NM = np.diag([15.0, 5.0, 5.0])


def estimate(density, support):
    return LiveEstimate(
        density=density.astype(np.complex64),
        support=support,
        chi=0.1,
        frames=5,
        seconds=0.2,
        voxel_nm=(15.0, 5.0, 5.0),
        origin=(0.0, 0.0, 0.0),
        q_centre_invA=(0.0, 2.0, 1.0),
        pattern=PatternFacts(counts=1e6, oversampling=(4.0, 4.0, 4.0), asymmetry=0.1),
        surface=isosurface(density, support, BASIS_NM),
    )


def box():
    support = np.zeros((32, 40, 48), bool)
    support[10:20, 12:24, 20:34] = True
    phase = np.where(np.arange(32)[:, None, None] < 15, 0.5, -0.5) + 2.9
    return 3 * support * np.exp(1j * phase), support


def test_slices_go_through_the_middle_and_keep_their_axes():
    density, support = box()
    update = estimate_update(plan_of(small_scan(num=12, shape=(3, 3))), 7, estimate(density, support), lag_s=0.5)
    assert (update.topic, update.fields["kind"], update.fields["frames"], update.fields["num"]) == (
        *("estimate", "live"),
        *(7, 12),
    )
    shapes = [update.arrays[f"amplitude_{axis}"].shape for axis in range(3)]
    rocking, row, column = 10 + 8, 12 + 8, 14 + 8  # the support and a margin of four voxels a side
    assert shapes == [(row, column), (rocking, column), (rocking, row)]
    assert update.arrays["amplitude_0"].max() == 1
    np.testing.assert_array_equal(np.isnan(update.arrays["phase_1"]), update.arrays["amplitude_1"] == 0)


def test_the_mean_phase_is_taken_out_and_differences_stay():
    density, support = box()
    update = estimate_update(plan_of(small_scan(num=12, shape=(3, 3))), 7, estimate(density, support), lag_s=0.5)
    values = np.unique(np.round(update.arrays["phase_1"][np.isfinite(update.arrays["phase_1"])], 4))
    np.testing.assert_allclose(values, [-0.5, 0.5], atol=1e-3)


def test_the_surface_of_a_live_estimate_is_in_the_lab_frame_with_its_phase():
    density, support = box()
    update = estimate_update(plan_of(small_scan(num=12, shape=(3, 3))), 7, estimate(density, support), lag_s=0.5)
    about = update.fields["surface"]
    assert (about["axes"], about["q_invA"]) == (["x", "y", "z"], [0.0, 2.0, 1.0])
    edges = np.ptp(update.arrays["surface_vertices"], axis=0)
    np.testing.assert_allclose(edges, [150.0, 60.0, 70.0], atol=3.0)  # 10, 12 and 14 voxels
    assert set(np.round(update.arrays["surface_phase"], 1)) >= {-0.5, 0.5}


def lab_result(*, spread: bool):
    """A ball of radius 20 voxels that is stretched along x."""
    place = np.stack(np.meshgrid(*[np.arange(56) - 28] * 3, indexing="ij"))
    support = np.linalg.norm(place, axis=0) < 20
    strain = np.where(support, 1e-5 * place[0], np.nan).astype(np.float32)
    std = np.where(support, np.float32(2e-6), np.nan).astype(np.float32)
    lab = LabImage(
        density=support.astype(np.complex64),
        support=support,
        displacement_angstrom=100 * strain,
        strain=strain,
        voxel_nm=4.0,
        q_centre_invA=np.array([0.0, 2.6, 0.5]),
        displacement_std_angstrom=100 * std if spread else None,
        strain_std=std if spread else None,
    )
    return Reconstruction(
        density=lab.density,
        support=support,
        chi=0.01,
        chi_starts=(0.01,),
        metrics={},
        recipe="20*ER",
        seed=0,
        outcome=Outcome.DONE,
        lab=lab,
    )


SUMMARY = {"run": "r", "frames": 9, "num": 9, "chi": 0.01, "seconds": 3.0, "resolution_nm": 12.0}


def test_a_refined_crystal_has_strain_on_its_surface_and_in_its_cuts_with_one_range():
    update = refined_update(SUMMARY, lab_result(spread=True))
    strain = update.arrays["surface_strain"]
    np.testing.assert_allclose(strain, 1e-5 / 4.0 * update.arrays["surface_vertices"][:, 0], atol=1.2e-5)
    assert np.nanmax(update.arrays["strain_1"]) > 0.9 * update.fields["ranges"]["strain"]
    ball = lab_result(spread=True).lab
    share = (np.abs(ball.strain[ball.support]) <= update.fields["ranges"]["strain"]).mean()
    assert share == pytest.approx(0.99, abs=0.005)
    assert update.fields["uncertainty"] == {
        "displacement": float(np.float32(2e-4)),
        "strain": float(np.float32(2e-6)),
    }
    assert update.fields["surface"]["q_invA"] == [0.0, 2.6, 0.5]
    assert sum(array.nbytes for name, array in update.arrays.items() if name.startswith("surface")) < 500_000


def test_one_start_has_no_uncertainty():
    assert refined_update(SUMMARY, lab_result(spread=False)).fields["uncertainty"] == {}


@pytest.mark.parametrize(
    ("said", "rung"),
    [("refraction: of a perfect crystal ...", "refraction"), ("unknown: material unknown", None), (None, None)],
)
def test_the_rung_that_the_crystal_needs_is_told(said, rung):
    provenance = {} if said is None else {"rung": said}
    metrics = {} if rung is None else {"misfit_kinematical": 0.13, "misfit_refraction": 0.01}
    result = replace(lab_result(spread=False), provenance=provenance, metrics=metrics)
    fields = refined_update(SUMMARY, result).fields
    assert (fields["rung"], fields["misfits"]) == (rung, [None, None] if rung is None else [0.13, 0.01])


def test_without_a_geometry_the_surface_is_in_voxels():
    result = replace(lab_result(spread=False), lab=None)
    update = refined_update(SUMMARY, result)
    assert update.fields["surface"]["axes"] == ["rocking", "row", "column"]
    assert update.fields["surface"]["q_invA"] is None
    np.testing.assert_allclose(np.ptp(update.arrays["surface_vertices"], axis=0), 39, atol=1.5)
    assert "strain_0" not in update.arrays


def test_what_is_sent_is_plain():
    whole = lab_result(spread=True)
    for result in (whole, replace(whole, lab=None)):
        update = refined_update(SUMMARY, result)
        json.dumps(dict(update.fields), allow_nan=False)
        assert decode_update(encode_update(update)).fields == update.fields


def test_an_empty_support_is_shown_as_it_is():
    empty = np.zeros((8, 8, 8))
    update = estimate_update(plan_of(small_scan(num=12, shape=(3, 3))), 7, estimate(empty, empty > 0), lag_s=0.5)
    assert update.arrays["amplitude_0"].shape == (8, 8)
    assert np.isnan(update.arrays["phase_0"]).all()

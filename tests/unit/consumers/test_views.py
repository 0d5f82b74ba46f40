"""What the page is shown is a cut through the middle of the crystal, with the phase about zero."""

import numpy as np

from live_bcdi.estimate import LiveEstimate
from live_bcdi.isosurface import isosurface
from live_bcdi.stream.fakes import plan_of, small_scan
from live_bcdi_consumers.views import estimate_update

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


def test_an_empty_support_is_shown_as_it_is():
    empty = np.zeros((8, 8, 8))
    update = estimate_update(plan_of(small_scan(num=12, shape=(3, 3))), 7, estimate(empty, empty > 0), lag_s=0.5)
    assert update.arrays["amplitude_0"].shape == (8, 8)
    assert np.isnan(update.arrays["phase_0"]).all()

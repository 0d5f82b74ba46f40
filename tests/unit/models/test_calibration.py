"""What the preview expects of its errors, judged: objects whose error is known, and frames that arrive."""

import numpy as np
import pytest

from live_bcdi.phasing.agreement import Agreement
from live_bcdi.types import Outcome, Reconstruction
from live_bcdi_models import arriving
from live_bcdi_models.calibration import curve, errors_of


def guessed(rng, *, error, said):
    """A crystal with a normal error of `error` of its amplitude, and a preview that says `said`."""
    grid = np.indices((24, 24, 24)) - 12
    inside = (np.abs(grid) < np.array([6, 5, 4])[:, None, None, None]).all(0)
    truth = (inside * np.exp(0.05j * grid[0] * grid[1])).astype(np.complex64)
    noise = rng.normal(size=(*inside.shape, 2)) @ (1, 1j) * error / np.sqrt(2)
    density = (truth + inside * noise).astype(np.complex64)
    amplitude = np.abs(density)
    agreement = Agreement(
        mode=density,
        weights=np.ones(1),
        amplitude_std=np.full(inside.shape, said / np.sqrt(2) / amplitude.max(), np.float32),
        phase_std_rad=np.full(inside.shape, said / np.sqrt(2), np.float32),
    )
    result = Reconstruction(
        density=density,
        support=inside,
        chi=0.0,
        chi_starts=(0.0,),
        metrics={"expected_error": said},
        recipe="",
        seed=0,
        outcome=Outcome.DONE,
        agreement=agreement,
    )
    return result, truth


@pytest.mark.parametrize(("said", "ratio"), [(0.1, 1.0), (0.05, 2.0)])
def test_who_is_as_sure_as_it_may_be_is_calibrated_and_who_is_surer_is_not(said, ratio):
    rng = np.random.default_rng(0)
    errors = errors_of(iter([guessed(rng, error=0.1, said=said) for _ in range(4)]))
    # of 1600 voxels; aligning takes a little of the error away
    assert np.sqrt(np.mean(errors.true**2) / np.mean(errors.expected**2)) == pytest.approx(ratio, rel=0.05)
    assert np.sqrt(np.mean(errors.true_rad**2)) == pytest.approx(ratio * said / np.sqrt(2), rel=0.06)
    assert errors.whole_true / errors.whole_expected == pytest.approx(ratio, rel=0.05)
    within = [np.mean(errors.true < k * errors.expected / np.sqrt(2)) for k in (1, 2)]
    if ratio == 1.0:
        assert within == pytest.approx([0.393, 0.865], abs=0.04)
    else:
        assert within[1] < 0.5


def test_a_curve_is_by_what_was_expected():
    expected = np.array([3.0, 1.0, 2.0, 4.0])
    first, second = curve(expected, np.array([3.0, 0.0, 0.0, 4.0]), 2)
    np.testing.assert_allclose(first, np.sqrt([2.5, 12.5]))
    np.testing.assert_allclose(second, [0.0, np.sqrt(12.5)])


def test_the_uncertainty_shrinks_as_frames_arrive_and_so_does_the_error(tmp_path):
    told = arriving.simulated(5, output=tmp_path)
    assert told["crystals"]["shown"] >= 2
    expected, true, alike = (
        [told[f"{name} of the frames"][key] for name in arriving.SHARES]
        for key in ("expected_error", "true_error", "correlation")
    )
    assert (np.diff(expected) < 0).all()
    assert true[-1] < true[0] and alike[-1] > alike[0]
    assert (tmp_path / "series.png").stat().st_size > 10_000

"""The defect alarm, and how it is judged, against counting by hand."""

from types import SimpleNamespace

import numpy as np
import pytest

from live_bcdi_models import alarm, alarm_judged
from live_bcdi_models.alarm import evidence, probabilities
from live_bcdi_models.alarm_judged import Evidence, area, curve, scaling


def found(*, screw, odds=(0.0, 0.0)):
    """A ball of 10 voxels, with or without a screw dislocation through its middle, as the polish gives it."""
    x, y, z = (np.indices((32, 32, 32)) - 16.5) + 0.25
    ball = x**2 + y**2 + z**2 < 5.5**2
    phase = np.arctan2(y, x) if screw else 0.1 * x
    best = SimpleNamespace(density=(ball * np.exp(1j * phase)).astype(np.complex64), support=ball)
    return SimpleNamespace(best=best, alarm=np.array(odds))


def test_a_dislocation_is_evidence_where_there_is_one():
    assert evidence(found(screw=False))[0].tolist() == [1, 0, 0]
    kinds = evidence(found(screw=True, odds=(0.5, -2.0)))
    # the line goes through some eight voxels, less the margin on both sides
    assert np.expm1(kinds[0, 2]) >= 5 and kinds[:, 1].tolist() == [0.5, -2.0]


def test_probabilities_are_the_scaled_odds(monkeypatch):
    monkeypatch.setattr(alarm, "SCALING", np.array([[0.0, 1.0, 0.0], [1.0, 2.0, 0.0]]))
    told = probabilities(found(screw=False, odds=(np.log(3), -0.5)))
    assert told == pytest.approx({"dislocation_probability": 0.75, "twin_probability": 0.5})


def test_shipped_scaling_makes_more_of_more_evidence():
    for kind in ("dislocation", "twin"):
        low, high = (probabilities(found(screw=False, odds=(odds, odds))) for odds in (-2.0, 2.0))
        assert 0 < low[f"{kind}_probability"] < high[f"{kind}_probability"] < 1
    assert (
        probabilities(found(screw=True))["dislocation_probability"]
        > probabilities(found(screw=False))["dislocation_probability"]
    )


def test_area_is_how_often_the_pairs_are_in_order_and_what_the_curve_encloses():
    rng = np.random.default_rng(0)
    scores = rng.integers(0, 6, 60).astype(float)  # with many ties
    truth = rng.random(60) < 0.2 + 0.1 * scores
    pairs = scores[truth][:, None] - scores[~truth]
    wanted = np.mean((pairs > 0) + 0.5 * (pairs == 0))
    assert area(scores, truth) == pytest.approx(wanted)
    assert np.trapezoid(*curve(scores, truth)[::-1]) == pytest.approx(wanted)
    assert np.isnan(area(scores, np.zeros(60, bool)))


def test_scaling_finds_the_odds_that_crystals_were_drawn_with():
    rng = np.random.default_rng(1)
    table = np.stack([np.ones(4000), rng.normal(size=4000), rng.normal(size=4000)], axis=1)
    odds = table @ np.array([-1.0, 1.5, 0.0])
    truth = rng.random(4000) < 1 / (1 + np.exp(-odds))
    seen = Evidence(evidence=table[:, None], truth=truth[:, None], counts=np.ones(4000), strains=["weak"] * 4000)
    # 4000 drawn ones tell a weight to about 0.05, and the ridge makes it a tenth smaller
    np.testing.assert_allclose(scaling(seen, 0), [-1.0, 1.5, 0.0], atol=0.25)


def test_crystals_are_judged_with_what_they_have(tmp_path):
    seen = alarm_judged.evidence_of(2, alarm_judged.HELD_OUT, 5)
    assert seen.evidence.shape == (len(seen.strains), 2, 3) and len(seen.strains) >= 3
    assert not seen.truth[:, 1].any()  # no held-out family is twinned
    assert (seen.evidence[:, :, 0] == 1).all() and np.ptp(seen.evidence[:, 0, 1]) > 0

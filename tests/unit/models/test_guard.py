"""What is no single crystal's pattern is told from what is."""

import numpy as np
import pytest

from live_bcdi.phasing import Pattern
from live_bcdi_models.chance import Chance
from live_bcdi_models.grid import Grid
from live_bcdi_models.guard import unlike
from live_bcdi_models.measuring import make_batch
from live_bcdi_models.simulator import HELD_OUT, TRAINED
from live_bcdi_models.strangers import STRANGERS

SAID = {
    "two peaks": "two peaks",
    "powder ring": "powder ring",
    "saturated": "saturated",
    "empty": "nearly empty",
    "noise": "no peak",
}


def said(intensity, mask=None):
    pattern = Pattern(intensity=intensity, mask=np.zeros(intensity.shape, bool) if mask is None else mask)
    return unlike(pattern, Grid.of(pattern))


@pytest.mark.parametrize(("name", "at_least"), [(name, 15 if name == "two peaks" else 24) for name in STRANGERS])
def test_a_stranger_is_recognised_and_named(name, at_least):
    """Of 24. Two crystals whose fringes run into each other can pass for one that is strongly strained."""
    found = [said(STRANGERS[name](seed)) for seed in range(24)]
    assert sum(SAID[name] in (each or "") for each in found) >= at_least


@pytest.mark.parametrize("families", [TRAINED, HELD_OUT], ids=["trained", "held out"])
def test_crystals_as_trained_with_all_their_flaws_are_seldom_refused(families):
    """Gaps, missing frames, few counts, drift, strong strain: 2 % of 400 were refused; of 80, six or more is less
    likely than one in two hundred at 2 %."""
    batch = make_batch(80, Chance(21), families=families)
    found = [said(counts, ~known) for counts, known in zip(batch.intensity.numpy(), batch.measured.numpy())]
    assert sum(each is not None for each in found) < 6


def test_a_larger_field_is_looked_at_as_a_whole():
    """A second peak, beyond what the network sees of 96 voxels."""
    small = STRANGERS["saturated"](3)  # any one crystal; not cut off by adding two of it
    one = np.random.default_rng(0).poisson(_wide(small / 3)).astype(np.float32)
    assert said(one) is None
    assert "two peaks" in said(one + 0.7 * np.roll(one, (30, 25, 0), (0, 1, 2)))


def test_a_peak_whose_middle_is_masked_is_told():
    counts = make_batch(1, Chance(4)).intensity[0].numpy()
    mask = np.zeros(counts.shape, bool)
    mask[15:18, 15:18, 15:18] = True
    assert "nothing was measured at the middle" in said(counts, mask)
    frames = np.zeros(counts.shape, bool)
    frames[12:] = True
    assert "nothing was measured" not in (said(counts, frames) or ""), "a scan that has not come so far"


def _wide(counts):
    return np.pad(counts, 32)

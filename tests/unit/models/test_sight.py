"""A network at work: half precision sees the same crystals as single precision."""

import os
from dataclasses import replace

import numpy as np
import pytest
import torch

from live_bcdi.phasing import Pattern
from live_bcdi_models.layers import windowed
from live_bcdi_models.losses import correlation
from live_bcdi_models.sight import VIEWS, look, multiplies_halves, shipped
from live_bcdi_models.training import held_out
from live_bcdi_models.weights import save_weights


@pytest.mark.parametrize("strain", ["weak", "medium", "strong"])
def test_bfloat16_sees_what_single_precision_sees(strain):
    """bfloat16 rounds at 0.4 %; over some twenty convolutions that may add up to a few per cent of the object, by
    whose square the correlation falls. Projections between them may send a single strongly strained crystal
    elsewhere, so that the bounds are of most. How sure it is, is an expectation that is right within a third."""
    network, _ = shipped("cpu")
    batch, alike = held_out(9)[strain], []
    for k in range(len(batch.target)):
        pattern = Pattern(intensity=batch.intensity[k].numpy(), mask=~batch.measured[k].numpy())
        told = tuple(batch.oversampling[k].tolist())
        single, half = (look(network, pattern, told, VIEWS[:2], half=half) for half in (False, True))
        for one, other in zip(single, half):
            assert one.density.dtype == other.density.dtype == np.complex64
            pair = (windowed(torch.from_numpy(each.density)[None]) for each in (one, other))
            alike.append(float(correlation(*pair)[0]))
            inside = np.abs(one.density) > 0.2
            assert np.median(np.abs(np.log(other.variance[inside] / one.variance[inside]))) < 0.3
        assert not np.array_equal(single[0].density, half[0].density), "that it was asked for makes a difference"
    assert np.median(alike) > 0.99 and min(alike) > 0.9


def test_which_devices_have_half_precision_is_told():
    assert multiplies_halves("cpu") in (True, False)


def test_weights_that_were_replaced_are_loaded_again(tmp_path):
    path = tmp_path / "mine.safetensors"
    network, card = shipped("cpu")
    first = save_weights(network, replace(card, seed=1), path)
    assert shipped("cpu", path)[1].seed == first.seed == 1
    save_weights(network, replace(card, seed=2), path)
    os.utime(path, ns=(0, path.stat().st_mtime_ns + 1))
    assert shipped("cpu", path)[1].seed == 2

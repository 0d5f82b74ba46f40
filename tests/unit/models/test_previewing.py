"""The way from a pattern through a network to a reconstruction, with a network that knows the answer."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from live_bcdi.estimate import Unlike
from live_bcdi.phasing import Pattern, Plan, Start, phase_pattern, retrieve
from live_bcdi.phasing.metrics import centred_transform
from live_bcdi.types import ScanError
from live_bcdi_models import polishing, preview, previewing, sight
from live_bcdi_models.chance import Chance
from live_bcdi_models.layers import windowed
from live_bcdi_models.losses import correlation
from live_bcdi_models.measuring import Conditions, make_batch
from live_bcdi_models.networks import Guess, Network
from live_bcdi_models.previewing import NetworkGuess, preview_of
from live_bcdi_models.sight import VIEWS, look
from live_bcdi_models.simulator import HELD_OUT, Spread
from live_bcdi_models.strangers import STRANGERS

EDGE = 32
CARD = SimpleNamespace(network="known", sha256="0" * 64, notes={})


class Known(Network):
    """Gives the same object in every view, turned as the view is, and how sure it was told to be."""

    def __init__(self, density, variance=0.01):
        super().__init__()
        self.anything = torch.nn.Parameter(torch.zeros(1))
        self.density, self.variance = density, variance
        self.views = VIEWS

    def forward(self, intensity, measured, oversampling):
        assert intensity.shape[1:] == measured.shape[1:] == (EDGE,) * 3 and measured.dtype == torch.bool
        turned = np.stack([view.of(self.density) for view in self.views[: len(intensity)]])
        density = windowed(torch.from_numpy(turned))
        return Guess(density=density, log_variance=torch.full(density.shape, float(np.log(self.variance))))


@pytest.fixture(scope="module")
def crystals():
    """Strongly strained, of families that no training sees, 1e5 to 1e7 counts."""
    conditions = Conditions(photons=(1e5, 1e7), missing=(0, 0), gaps=(0, 0), told=0, blur=(0, 0))
    spread = Spread(strain_rad=(1.0, 2.0), oversampling=(2.5, 4.0))
    return make_batch(3, Chance(12), families=HELD_OUT, spread=spread, conditions=conditions)


@pytest.fixture
def knowing(monkeypatch):
    def know(network):
        monkeypatch.setattr(previewing, "shipped", lambda device, weights=None: (network, CARD))

    return know


def pattern_of(crystals, index):
    return Pattern(intensity=crystals.intensity[index].numpy(), mask=~crystals.measured[index].numpy())


def likeness(found, crystals, index):
    return float(correlation(torch.from_numpy(found)[None], crystals.target[index][None])[0])


@pytest.mark.parametrize("view", VIEWS, ids=range(len(VIEWS)))
def test_a_view_of_an_object_has_the_view_of_its_pattern(view):
    density = np.zeros((8, 8, 8), np.complex64)
    density[3:6, 2:6, 4:7] = np.random.default_rng(0).normal(size=(3, 4, 3, 2)) @ (1, 1j)
    np.testing.assert_array_equal(view.undone(view.of(density)), density)
    np.testing.assert_allclose(
        np.abs(centred_transform(view.of(density))), view.of(np.abs(centred_transform(density))), atol=1e-5
    )


def test_what_the_network_says_of_each_view_comes_back_in_the_pattern_s_axes(crystals):
    density = crystals.target[0].numpy()
    sights = look(Known(density), pattern_of(crystals, 0), (3.0, 2.5, 4.0), VIEWS)
    inner = (slice(6, 26),) * 3
    for each in sights:
        np.testing.assert_allclose(each.density[inner][1:, 1:, 1:], density[inner][1:, 1:, 1:])
        assert each.variance.shape == (EDGE,) * 3


@pytest.mark.parametrize("index", range(3))
def test_a_network_that_is_right_stays_right(crystals, knowing, index):
    knowing(Known(crystals.target[index].numpy()))
    found = preview_of(pattern_of(crystals, index))
    assert likeness(found.density, crystals, index) > 0.93
    assert found.support.mean() < 0.2
    # as large as the counts ask: sum |F|^2 is that of the pattern, but for what is outside the support
    counts = crystals.intensity[index].sum()
    assert np.sum(np.abs(found.density) ** 2) * found.density.size == pytest.approx(float(counts), rel=0.1)
    assert "unlike" not in found.provenance and found.provenance["network"] == "known 000000000000"


def test_uncertainty_on_the_whole_is_what_the_weights_make_of_the_network_s(crystals, knowing, monkeypatch):
    """With all the weight on the network's own variance, 0.01 and 0.04 of the mean |S|^2."""
    monkeypatch.setattr(polishing, "WEIGHTS", np.array([0.0, 1.0, 0.0, 0.0, 0.0]))
    said = []
    for variance in (0.01, 0.04):
        knowing(Known(crystals.target[0].numpy(), variance))
        result = preview_of(pattern_of(crystals, 0))
        phases = result.agreement.phase_std_rad[result.support]
        assert result.metrics["phase_std_rad"] == pytest.approx(np.median(phases))
        assert np.nanmax(result.agreement.phase_std_rad) <= np.pi / np.sqrt(3) + 1e-6
        assert result.metrics["expected_error"] == pytest.approx(np.sqrt(variance), rel=1e-3)
        said.append(result)
    # half of |e|^2 is along the amplitude
    power = np.mean(np.abs(said[0].density[said[0].support]) ** 2) / np.abs(said[0].density).max() ** 2
    spread = np.mean(said[0].agreement.amplitude_std[said[0].support] ** 2) / power
    assert spread == pytest.approx(0.005, rel=0.1)
    assert (said[1].agreement.amplitude_std >= said[0].agreement.amplitude_std).all()


def test_a_wrong_network_loses_to_the_object_that_there_was(crystals, knowing):
    """What the last refresh found is polished and judged beside what the network sees."""
    knowing(Known(crystals.target[1].numpy()))
    alone = preview_of(pattern_of(crystals, 0))
    beside = preview_of(pattern_of(crystals, 0), also=[crystals.target[0].numpy()])
    assert likeness(beside.density, crystals, 0) > 0.93
    assert beside.metrics["free_llk"] < alone.metrics["free_llk"]


@pytest.mark.parametrize("share", [0.34, 0.6])
def test_a_part_of_a_scan_is_enough(crystals, knowing, share):
    """The network knows the answer; the frames that are not there are free and take nothing from it."""
    knowing(Known(crystals.target[2].numpy()))
    measured = np.arange(EDGE) < round(share * EDGE)
    found = preview(crystals.intensity[2].numpy(), measured=measured)
    assert likeness(found.density, crystals, 2) > 0.75
    masked = preview(crystals.intensity[2].numpy(), mask=np.broadcast_to(~measured[:, None, None], (EDGE,) * 3))
    np.testing.assert_array_equal(found.density, masked.density)


@pytest.mark.parametrize("name", STRANGERS)
def test_a_stranger_gets_iterations_and_a_sentence(crystals, knowing, name):
    knowing(Known(crystals.target[0].numpy()))
    seed = 2
    pattern = STRANGERS[name](seed)
    found = preview(pattern)
    assert found.provenance["unlike"] and "network" not in found.provenance
    assert found.density.shape == (EDGE,) * 3 and found.agreement is None
    blank = Pattern(intensity=pattern, mask=np.zeros(pattern.shape, bool))
    assert list(NetworkGuess()(blank)) == []
    with pytest.raises(Unlike, match=found.provenance["unlike"][:10]):
        preview_of(blank)


def test_starts_of_a_refinement_begin_at_what_the_network_sees(crystals, knowing):
    """Where the network is right, the first start ends nearer to the truth than random phases do."""
    knowing(Known(crystals.target[0].numpy()))
    pattern = pattern_of(crystals, 0)
    recipe = "20*ER + ShrinkWrap + 20*ER"
    guided = phase_pattern(pattern, Plan(recipe=recipe, starts=1, guess=NetworkGuess(views=1)))[0]
    blind = phase_pattern(pattern, Plan(recipe=recipe, starts=1))[0]
    assert guided.provenance["guessed_starts"] == "1"
    assert likeness(guided.density, crystals, 0) > max(0.9, likeness(blind.density, crystals, 0))


def test_a_pattern_of_any_shape_comes_back_in_its_own(crystals, knowing):
    """48 x 64 x 40 voxels of the same crystal: cut to the network's, polished at full size."""
    knowing(Known(crystals.target[0].numpy()))
    shape = (48, 64, 40)
    density = np.zeros(shape, np.complex64)
    density[18:30, 24:38, 14:26] = 1
    counts = np.abs(centred_transform(density)) ** 2
    counts = np.random.default_rng(0).poisson(counts * (1e6 / counts.sum())).astype(np.uint16)
    found = preview(counts)
    assert found.density.shape == found.support.shape == found.agreement.phase_std_rad.shape == shape


def test_what_cannot_be_previewed_is_said(crystals, monkeypatch):
    good = crystals.intensity[0].numpy()
    for intensity, measured, message in (
        (good[0], None, "rocking, row, column"),
        (good * 1j, None, "real numbers"),
        (good, np.ones(5, bool), "32 rocking steps"),
        (good, np.arange(32) < 2, "at least 3"),
        (0 * good, None, "no counts"),
    ):
        with pytest.raises(ScanError, match=message):
            preview(intensity, measured=measured)
    with pytest.raises(ScanError, match="no device 'gpu'"):
        preview(good, device="gpu")
    unsure = Known(crystals.target[0].numpy())
    unsure.forward = lambda *_: Guess(density=torch.zeros((1, 20, 20, 20), dtype=torch.complex64))
    monkeypatch.setattr(previewing, "shipped", lambda device, weights=None: (unsure, CARD))
    with pytest.raises(ScanError, match="how sure"):
        preview(good)


def test_no_weights_is_one_sentence(monkeypatch, tmp_path):
    def nothing(path, *, device):
        raise ScanError("no weights at x; `live-bcdi train` makes them")

    monkeypatch.setattr(sight, "load_weights", nothing)
    sight._loaded.cache_clear()
    with pytest.raises(ScanError, match="live-bcdi train"):
        preview(np.ones((EDGE,) * 3))
    sight._loaded.cache_clear()


@pytest.mark.parametrize("index", range(3))
def test_no_support_grows_beyond_its_room(crystals, index):
    """Where a threshold alone takes in the noise: eight rounds of RAAR from random phases."""
    room = 0.04
    bounded = retrieve(pattern_of(crystals, index), polishing.search(room), start=Start(seed=3))
    assert bounded.support.mean() <= room + 1 / EDGE**3
    assert np.isfinite(bounded.chi)

"""Networks and their losses: what no pattern can tell must not matter, and projections are the solver's."""

from dataclasses import replace

import pytest
import torch

from live_bcdi_models.alternating import solved
from live_bcdi_models.catalogue import NETWORKS
from live_bcdi_models.chance import Chance
from live_bcdi_models.layers import (
    EDGE,
    WINDOW,
    Modulus,
    autocorrelation_in,
    doubled,
    halved,
    padded,
    ramp_of,
    windowed,
)
from live_bcdi_models.losses import correlation, loss_of, oriented, relative_error, twin
from live_bcdi_models.measuring import CLEAN, Batch, make_batch
from live_bcdi_models.simulator import Spread


@pytest.fixture(scope="module")
def batch() -> Batch:
    return make_batch(4, Chance(1))


@pytest.fixture(scope="module")
def bright() -> Batch:
    conditions = replace(CLEAN, photons=(1e8, 1e8), off_centre=(0.0, 1.0))
    return make_batch(6, Chance(2), conditions=conditions, spread=Spread(strain_rad=(0.1, 0.6)))


@pytest.mark.parametrize("name", NETWORKS)
def test_every_network_learns_with_all_of_its_weights(name: str, batch: Batch) -> None:
    torch.manual_seed(0)
    network = NETWORKS[name]()
    loss_of(network, batch).backward()
    without = [key for key, weight in network.named_parameters() if weight.grad is None]
    # an unsupervised one has nothing to learn its uncertainty from, but its head is the last layer's
    assert not without
    assert all(torch.isfinite(weight.grad).all() for weight in network.parameters())
    guess = network(batch.intensity, batch.measured, batch.oversampling)
    assert guess.density.shape == (4, WINDOW, WINDOW, WINDOW) and guess.density.dtype == torch.complex64


@pytest.mark.parametrize("name", NETWORKS)
def test_an_empty_pattern_gives_numbers(name: str) -> None:
    network = NETWORKS[name]().eval()
    with torch.no_grad():
        guess = network(
            torch.zeros(1, *[EDGE] * 3), torch.ones(1, *[EDGE] * 3, dtype=bool), torch.full((1, 3), 3.0)
        )
    assert torch.isfinite(guess.density.abs()).all()


def test_twin_and_global_phase_do_not_matter(bright: Batch) -> None:
    target = windowed(bright.target)
    turned = target * torch.polar(torch.tensor(1.0), torch.tensor(2.1))
    for guess in (turned, twin(turned)):
        # the twin of a window with an even edge has no place for its first planes
        assert relative_error(guess, oriented(target, guess)).max() < 0.02
        assert correlation(guess, target).min() > 0.99
    moved = target.roll((1, -2, 1), (1, 2, 3))
    assert correlation(moved, target).min() > 0.98
    assert (
        relative_error(moved, oriented(target, moved)).min() > 0.05
    )  # the place is not free: it is the centre of mass


def test_twin_has_the_same_moduli(bright: Batch) -> None:
    moduli = [torch.fft.fftn(each, dim=(1, 2, 3)).abs() for each in (bright.target, twin(bright.target))]
    torch.testing.assert_close(*moduli, rtol=1e-3, atol=1e-2)


def test_the_crystal_has_the_measured_moduli(bright: Batch) -> None:
    """Of a crystal in a clean pattern nothing is left to project, but what noise and the window took."""
    pattern = Modulus(bright.intensity, bright.measured)
    target = windowed(bright.target)
    assert pattern.misfit(target).max() < 0.01
    assert relative_error(pattern.projected(target), target).max() < 0.01
    assert pattern.misfit(target.abs().to(target.dtype)).min() > 2 * pattern.misfit(target).max()


def test_projection_gives_the_measured_moduli_where_measured(batch: Batch) -> None:
    pattern = Modulus(batch.intensity, batch.measured, torch.full((4,), 500.0))
    array = padded(windowed(batch.target)) + 0.1
    before, after = (
        torch.fft.fftn(each, dim=(1, 2, 3), norm="ortho") for each in (array, pattern.projected_array(array))
    )
    measured = torch.fft.ifftshift(batch.measured, dim=(1, 2, 3))
    assert not measured.all()
    torch.testing.assert_close(after[~measured], before[~measured], rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(after.abs()[measured], pattern.scaled[measured], rtol=1e-3, atol=1e-3)
    powers = (pattern.scaled.square() * measured).sum((1, 2, 3))
    torch.testing.assert_close(powers, torch.full((4,), 500.0))


def test_hio_inside_finds_the_crystal_from_its_support(bright: Batch) -> None:
    target = windowed(bright.target)
    power = EDGE**3 / bright.oversampling.prod(1)
    support = padded((target.abs() > 0.3 * target.abs().amax((1, 2, 3), keepdim=True)).float())
    start = windowed(support) * torch.polar(torch.ones_like(target.abs()), 0.5 * Chance(3).normal(*target.shape))
    found = solved(Modulus(bright.intensity, bright.measured, power), start, support, bursts=6)
    begun = correlation(start, target)
    assert (correlation(found, target) > begun).float().mean() > 0.8
    assert correlation(found, target).median() > 0.9


def test_ramp_is_that_of_a_peak_off_centre() -> None:
    conditions = replace(CLEAN, photons=(1e8, 1e8), off_centre=(2.0, 1.0))
    batch = make_batch(12, Chance(4), conditions=conditions, spread=Spread(strain_rad=(0.05, 0.1)))
    ramp = ramp_of(batch.intensity)
    weak = torch.tensor([name in ("gaussian", "surface", "core-shell", "flat") for name in batch.crystals.fields])
    target = windowed(batch.target)[weak]

    def left(sign: int) -> torch.Tensor:
        flat = target * torch.polar(torch.ones_like(ramp[weak]), sign * ramp[weak])
        return flat.sum((1, 2, 3)).abs() / target.abs().sum((1, 2, 3))

    # what the box cuts off rings around the crystal with alternating sign, a tenth of the sum
    assert left(-1).min() > 0.7 and (left(-1) > left(1)).all()


def test_autocorrelation_is_that_of_the_crystal(bright: Batch) -> None:
    found = autocorrelation_in(bright.intensity)
    root = torch.complex(found[:, 0], found[:, 1])
    middle = WINDOW // 2
    torch.testing.assert_close(root[:, middle, middle, middle].real, torch.ones(6), atol=1e-3, rtol=0)
    for r in ((1, 0, 0), (-2, 1, 1)):
        shifted = bright.target.roll([2 * k for k in r], (1, 2, 3))
        expected = (shifted.conj() * bright.target).sum((1, 2, 3)) / bright.target.abs().square().sum((1, 2, 3))
        got = root[(slice(None), *[middle + k for k in r])]
        # at 1e8 photons the noise of a normed autocorrelation is 1e-4; its conjugate is that of the twin
        torch.testing.assert_close((got * got.abs()).real, expected.real, atol=5e-3, rtol=0)


def test_halved_loses_nothing() -> None:
    channels = Chance(5).normal(2, 3, 8, 8, 8)
    assert torch.equal(doubled(halved(channels)), channels)


def test_clean_conditions_leave_everything() -> None:
    assert make_batch(3, Chance(6), conditions=CLEAN).measured.all()

"""Adapting to measured patterns: what is learnt and what is not, who judges, and what is left on disk."""

import itertools
import multiprocessing
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from live_bcdi.estimate import Unlike
from live_bcdi.phasing import Pattern, parse
from live_bcdi.phasing.metrics import centred_transform
from live_bcdi.types import ScanError
from live_bcdi_models import adapt, adapting, keeping, polishing, preview
from live_bcdi_models.adapting import Effort, adapt_to, target_of
from live_bcdi_models.chance import Chance
from live_bcdi_models.foretelling import Foretold, Measured, foretold, is_better, verdict
from live_bcdi_models.foretelling import _by_patch as foretelling_by_patch
from live_bcdi_models.keeping import MEMORY, WEIGHTS, adapt_next, newest_weights
from live_bcdi_models.losses import correlation
from live_bcdi_models.measuring import CLEAN, make_batch
from live_bcdi_models.sight import VIEWS
from live_bcdi_models.simulator import HELD_OUT, Spread
from live_bcdi_models.strangers import STRANGERS
from live_bcdi_models.weights import load_weights

KEPT = (True, "because")


@pytest.fixture(scope="module")
def crystals():
    conditions = replace(CLEAN, photons=(1e6, 2e6))
    spread = Spread(strain_rad=(0.4, 0.8), oversampling=(2.6, 3.6))
    return make_batch(2, Chance(5), families=HELD_OUT, spread=spread, conditions=conditions)


@pytest.fixture(scope="module")
def pattern(crystals):
    return Pattern(intensity=crystals.intensity[0].numpy(), mask=~crystals.measured[0].numpy())


@pytest.fixture
def network():
    return load_weights()[0]


@pytest.fixture
def quick(monkeypatch):
    """One view, a short retrieval and batches of one, for tests that ask not how well it is learnt."""
    monkeypatch.setattr(adapting, "VIEWS", VIEWS[:1])
    monkeypatch.setattr("live_bcdi_models.foretelling._VIEWS", VIEWS[:1])
    monkeypatch.setattr(adapting, "_BATCH", 1)
    monkeypatch.setattr(adapting, "_LONG", parse("10*ER"))
    monkeypatch.setattr(polishing, "search", lambda room: parse("10*ER"))
    monkeypatch.setattr(polishing, "RANDOM", 0)


def steps(count):
    """A clock by which `adapt_to` learns for about so many steps: three looks at it are not for them."""
    ticks = itertools.count()
    return Effort(seconds=2 * count + 5.0, clock=lambda: float(next(ticks)))


def likeness(density, truth):
    return float(correlation(torch.from_numpy(density)[None], truth[None])[0])


def foretelling(bare, polished):
    return Foretold(bare=np.array(bare), polished=np.array(polished), chi=0.2, chi_polished=0.1)


def test_the_network_s_misfit_of_a_pattern_falls_as_it_learns_it(pattern, network, quick):
    """In 25 steps on one pattern, deterministic by its clock; the network that began is left as it was."""
    began = {name: value.clone() for name, value in network.named_parameters()}
    done = adapt_to([Measured.of(pattern)], network, steps(25))
    assert 20 <= done.steps <= 30
    assert done.after.chi < 0.8 * done.before.chi
    assert all(torch.equal(began[name], value) for name, value in network.named_parameters())
    same = {name for name, value in done.tried.named_parameters() if torch.equal(began[name], value)}
    assert same == {"doubt.weight", "doubt.bias", "alarm.weight", "alarm.bias"}, "how sure it is, needs truth"


def test_counts_of_free_voxels_change_nothing_that_is_learnt(pattern, network, quick):
    """Neither the object that is aimed at nor a step of learning sees them."""
    measured = Measured.of(pattern)
    assert 0.01 < measured.free.mean() < 0.08
    changed = np.where(measured.free, 77, measured.seen.intensity).astype(np.float32)
    other = replace(measured, seen=Pattern(intensity=changed, mask=measured.seen.mask))
    np.testing.assert_array_equal(target_of(measured, network), target_of(other, network))
    learnt = [adapt_to([each], network, steps(2)) for each in (measured, other)]
    for one, two in zip(*(each.tried.state_dict().values() for each in learnt)):
        assert torch.equal(one, two)
    assert (learnt[0].before.bare != learnt[1].before.bare).all(), "but they judge"


def test_the_object_aimed_at_is_nearer_to_the_truth_than_noise_and_centred(pattern, network, crystals):
    target = target_of(Measured.of(pattern), network)
    assert likeness(target, crystals.target[0]) > 0.8
    told = np.prod(Measured.of(pattern).oversampling)
    assert np.sum(np.abs(target) ** 2) == pytest.approx(32**3 / told, rel=1e-4)
    weight = np.abs(target) ** 2
    centre = [np.sum(grid * weight) / weight.sum() for grid in np.indices(target.shape)]
    np.testing.assert_allclose(centre, 16, atol=0.5)


@pytest.mark.parametrize(
    ("bare", "polished", "kept", "why"),
    [
        (0.8, 1.0, True, "foretold better"),
        (1.0, 0.8, True, "foretold better"),
        (1.0, 1.0, False, "not foretold better"),
        (0.8, 1.3, False, "foretold worse"),
        (1.3, 0.8, False, "foretold worse"),
    ],
)
def test_who_foretells_better_is_kept_and_who_foretells_worse_is_not(bare, polished, kept, why):
    random = np.random.default_rng(0)
    was, ended = random.lognormal(1, 1, (2, 50))
    noise = random.normal(1, 0.01, (2, 50))
    said = verdict(foretelling(was, ended), foretelling(was * bare * noise[0] ** (bare != 1), ended * polished))
    assert said[0] is kept and why in said[1]


def test_equal_networks_are_seldom_called_better_by_noise():
    random = np.random.default_rng(1)
    said = [is_better(*random.lognormal(0, 1, (2, 50))) for _ in range(400)]
    assert 0.08 < np.mean(said) < 0.24  # 0.16 by its level, and a deviation of 0.02


def test_a_network_that_knows_nothing_foretells_worse(pattern, network):
    blind = load_weights()[0]
    with torch.no_grad():
        for value in blind.parameters():
            value.mul_(3.0)
    measured = [Measured.of(pattern)]
    assert is_better(foretold(network, measured).bare, foretold(blind, measured).bare)


@pytest.mark.parametrize("name", STRANGERS)
def test_a_stranger_is_not_learnt(name):
    with pytest.raises(Unlike):
        adapt([STRANGERS[name](2)])


def test_what_cannot_be_adapted_to_is_said(pattern, network):
    for scans, masks, message in (
        ([], None, "no pattern"),
        ([pattern.intensity[0]], None, "rocking, row, column"),
        ([pattern.intensity], [], "0 masks"),
    ):
        with pytest.raises(ScanError, match=message):
            adapt(scans, masks=masks)
    for seconds in (0, 301):
        with pytest.raises(ScanError, match="at most 300 s"):
            adapt_to([Measured.of(pattern)], network, Effort(seconds=seconds))


def test_weights_that_were_kept_are_previewed_with(pattern, tmp_path, monkeypatch, quick):
    path = tmp_path / "mine.safetensors"
    monkeypatch.setattr(adapting, "verdict", lambda before, after: (False, "no"))
    assert not adapt([pattern.intensity], seconds=0.1, output=path).kept and not path.exists()
    monkeypatch.setattr(adapting, "verdict", lambda before, after: KEPT)
    adapt([pattern.intensity], seconds=0.1, output=path)
    _, card = load_weights(path)
    assert card.notes["adapted"]["times"] == 1 and card.notes["adapted"]["verdict"] == "because"
    assert "## Adapted" in path.with_suffix(".md").read_text()
    found = preview(pattern.intensity, weights=path)
    assert found.provenance["network"] == f"alternating {card.sha256[:12]}, adapted 1 time"


def test_states_follow_each_other_and_damaged_ones_do_not_count(pattern, tmp_path, monkeypatch, quick):
    verdicts = iter([KEPT, (False, "worse"), KEPT, KEPT])
    monkeypatch.setattr(adapting, "verdict", lambda before, after: next(verdicts))
    monkeypatch.setattr(keeping, "is_better", lambda one, other, **how: False)
    assert newest_weights(tmp_path) is None
    told = [adapt_next(tmp_path, pattern, f"scan {number}", steps(1)) for number in range(3)]
    assert [each["times"] for each in told] == [1, 1, 2]
    assert sorted(each.name for each in tmp_path.iterdir()) == ["000002", "000003"]
    newest = newest_weights(tmp_path)
    assert newest == tmp_path / "000003" / WEIGHTS
    noted = load_weights(newest)[1].notes["adapted"]
    assert (noted["rolled_back"], noted["scans"], noted["patterns"]) == (1, ["scan 0", "scan 1", "scan 2"], 3)

    network, card = load_weights(newest)
    other = tmp_path / "other.safetensors"
    keeping.save_weights(network, replace(card, notes={}), other)
    assert newest_weights(tmp_path, other) is None, "they began elsewhere"

    newest.write_bytes(newest.read_bytes()[:-1])
    assert newest_weights(tmp_path) == tmp_path / "000002" / WEIGHTS
    (tmp_path / "000002" / MEMORY).write_bytes(b"")  # as after a power cut
    assert adapt_next(tmp_path, pattern, "scan 3", steps(1))["times"] == 1, "from the beginning"
    assert newest_weights(tmp_path) == tmp_path / "000004" / WEIGHTS


def test_where_the_first_network_foretells_better_it_begins_anew(pattern, tmp_path, monkeypatch, quick):
    monkeypatch.setattr(adapting, "verdict", lambda before, after: KEPT)
    adapt_next(tmp_path, pattern, "scan 0", steps(1))
    monkeypatch.setattr(keeping, "is_better", lambda one, other, **how: True)
    told = adapt_next(tmp_path, pattern, "scan 1", steps(1))
    assert told["times"] == 1 and told["why"].startswith("the first network foretells this scan better")


def test_a_process_killed_as_it_writes_leaves_the_last_good_weights(pattern, tmp_path, monkeypatch, quick):
    monkeypatch.setattr(adapting, "verdict", lambda before, after: KEPT)
    monkeypatch.setattr(keeping, "is_better", lambda one, other, **how: False)
    adapt_next(tmp_path, pattern, "scan 0", steps(1))
    good = newest_weights(tmp_path)
    before = good.read_bytes()
    forked = multiprocessing.get_context("fork")
    writing = forked.Event()

    def stuck(path: Path, **arrays):
        path.write_bytes(b"half")
        writing.set()
        time.sleep(600)

    with monkeypatch.context() as patched:
        patched.setattr(keeping.np, "savez", stuck)
        running = forked.Process(target=adapt_next, args=(tmp_path, pattern, "scan 1", steps(1)))
        running.start()
    assert writing.wait(120)
    running.kill()
    running.join(30)
    (partial,) = tmp_path.glob("*.partial")
    assert {MEMORY, WEIGHTS} <= {each.name for each in partial.iterdir()}
    assert newest_weights(tmp_path) == good and good.read_bytes() == before
    assert adapt_next(tmp_path, pattern, "scan 1", steps(1))["times"] == 2
    assert not list(tmp_path.glob("*.partial"))


def test_the_pattern_of_a_network_s_object_is_its_own(pattern, network):
    """A patch's deviance is of the counts that were not shown: where the crystal is found, that of noise."""
    density = np.zeros((32,) * 3, np.complex64)
    density[12:20, 12:20, 12:20] = 1
    expected = np.abs(centred_transform(density)) ** 2
    counts = np.random.default_rng(0).poisson(expected * (1e6 / expected.sum())).astype(np.float32)
    measured = Measured.on_grid(Pattern(intensity=counts, mask=np.zeros(counts.shape, bool)), (4.0, 4.0, 4.0))
    found = foretold(network, [measured])
    truth = foretelling_by_patch(np.sqrt(expected * (1e6 / expected.sum())), measured)
    assert np.mean(found.polished) == pytest.approx(np.mean(truth), rel=0.3)
    assert found.chi_polished < found.chi

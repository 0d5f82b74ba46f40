"""Simulated crystals against what is known of them."""

import math
from dataclasses import replace

import pytest
import torch

from live_bcdi_models import fields, shapes
from live_bcdi_models.chance import Chance
from live_bcdi_models.fields import DislocationLines
from live_bcdi_models.measuring import CLEAN, detected, make_batch
from live_bcdi_models.simulator import (
    EDGE,
    HELD_OUT,
    TRAINED,
    Crystals,
    Families,
    Spread,
    imaged,
    make_crystals,
    scattered,
)

_FLAT = Families(shapes=TRAINED.shapes, fields={"flat": (1.0, fields.flat)})


@pytest.mark.parametrize("screw_share", [1.0, 0.0, None])
def test_phase_winds_about_a_dislocation_by_h_dot_b(screw_share: float | None) -> None:
    lines = DislocationLines.random(8, Chance(1), screw_share=screw_share)
    turn = torch.linspace(0, 2 * math.pi, 721)
    third = torch.linalg.cross(lines.line, lines.across)
    circle = turn.cos()[:, None] * lines.across[:, None] + turn.sin()[:, None] * third[:, None]
    along = lines.line[:, None] * torch.linspace(0, 1, 721)[:, None]  # any loop about the line winds as often
    phase = lines.phase(lines.point[:, None] + 0.3 * circle + along)
    steps = torch.diff(phase, dim=1)
    wound = torch.remainder(steps + math.pi, 2 * math.pi) - math.pi
    h_dot_b = (lines.h * lines.burgers).sum(-1)
    # single precision over 720 steps
    torch.testing.assert_close(wound.sum(1), -h_dot_b, atol=2e-3, rtol=0)
    assert set((h_dot_b / (2 * math.pi)).round().int().tolist()) <= {1, 2}


def test_no_winding_beside_a_dislocation_and_about_a_dipole() -> None:
    lines = DislocationLines.random(8, Chance(2), screw_share=None)
    turn = torch.linspace(0, 2 * math.pi, 721)
    third = torch.linalg.cross(lines.line, lines.across)
    circle = turn.cos()[:, None] * lines.across[:, None] + turn.sin()[:, None] * third[:, None]
    other = lines.moved(0.3 * lines.across)
    beside = lines.phase((lines.point + 2 * lines.across)[:, None] + 0.5 * circle)
    about_both = lines.point[:, None] + 3 * circle
    for phase in (beside, lines.phase(about_both) - other.phase(about_both)):
        wound = torch.remainder(torch.diff(phase, dim=1) + math.pi, 2 * math.pi) - math.pi
        torch.testing.assert_close(wound.sum(1), torch.zeros(8), atol=2e-3, rtol=0)


def test_edge_dislocation_is_that_of_hirth_and_lothe() -> None:
    """u_x and u_y at 45 degrees, where their terms are known by hand."""
    axes = torch.eye(3)
    for h, expected in (
        (axes[0], math.pi / 4 + 1 / (4 * (1 - 0.33))),
        (axes[1], -(1 - 2 * 0.33) / (4 * (1 - 0.33)) * math.log(2.0)),
    ):
        line = DislocationLines(
            point=torch.zeros(1, 3), line=axes[2:], across=axes[:1], burgers=axes[:1], h=2 * math.pi * h[None]
        )
        phase = line.phase(torch.tensor([[[1.0, 1.0, 0.4]]]))
        assert float(phase) == pytest.approx(-expected, abs=1e-5)


def test_pattern_is_the_fourier_sum_over_the_crystal() -> None:
    crystals = make_crystals(2, Chance(3))
    amplitude = scattered(crystals)
    weight = crystals.density.abs().double().square()
    grid = torch.stack(torch.meshgrid(*[torch.arange(32.0, dtype=torch.float64)] * 3, indexing="ij"), -1)
    for number in range(2):
        centre = (grid * weight[number, ..., None]).sum((0, 1, 2)) / weight[number].sum()
        r = (grid - centre) * crystals.pitch[number].double()
        slopes = torch.tensor([_slope(crystals, number, axis) for axis in range(3)], dtype=torch.float64)
        found, expected = [], []
        for q in ((0, 0, 0), (3, -2, 5), (-7, 1, 0), (10, 10, -9)):
            turn = -(2 * math.pi / EDGE * (r * torch.tensor(q)).sum(-1) + ((grid - centre) * slopes).sum(-1))
            value = (
                crystals.density[number].to(torch.complex128) * torch.polar(torch.ones_like(turn), turn)
            ).sum()
            expected.append(value)
            found.append(amplitude[number][tuple(k + EDGE // 2 for k in q)].to(torch.complex128))
        ratio = torch.stack(found) / torch.stack(expected)
        # one normalisation for all, to the single precision of the sums
        scale = ratio[0]
        for got, want in zip(found, expected):
            assert abs(got - scale * want) < 1e-4 * abs(scale * expected[0])


def _slope(crystals: Crystals, number: int, axis: int) -> float:
    density = crystals.density[number]
    n = density.shape[axis]
    return float((density.narrow(axis, 1, n - 1) * density.narrow(axis, 0, n - 1).conj()).sum().angle())


def test_a_pattern_of_more_voxels_is_of_the_same_crystal() -> None:
    """Twice as far in q from the same peak: the middle is that of the smaller pattern, but for how finely the
    crystal is drawn, by which its mean slope, and so the peak, moves a little."""
    smooth = Families(
        shapes={"superellipsoid": shapes.superellipsoid}, fields={"gaussian": TRAINED.fields["gaussian"]}
    )
    small, large = (
        scattered(make_crystals(4, Chance(21), families=smooth, spread=Spread(strain_rad=(0.1, 0.5)), edge=edge))
        for edge in (EDGE, 2 * EDGE)
    )
    middle = large[:, 16:48, 16:48, 16:48]
    assert large.shape == (4, 64, 64, 64)
    off = (small.abs() - middle.abs()).square().sum((1, 2, 3)).sqrt()
    assert float(off.max()) < 0.06
    # two different crystals have patterns that are much further apart
    assert float((small[0].abs() - middle[1].abs()).square().sum().sqrt()) > 0.2
    batch = make_batch(1, Chance(21), families=smooth, edge=48)
    assert batch.target.shape == batch.measured.shape == (1, 48, 48, 48)


def test_crystal_and_pattern_are_in_the_middle() -> None:
    amplitude = scattered(make_crystals(16, Chance(4), families=_FLAT))
    index = torch.arange(EDGE) - EDGE // 2
    for array, least in ((imaged(amplitude), 0.15), (amplitude, 0.05)):
        power = array.abs().square()
        for axis in (1, 2, 3):
            profile = power.sum([k for k in (1, 2, 3) if k != axis])
            # what a facet scatters beyond the box is lost on both sides, not quite alike
            assert ((profile * index).sum(1) / profile.sum(1)).abs().max() < least


def test_shift_moves_the_pattern_and_nothing_else() -> None:
    crystals = make_crystals(4, Chance(5))
    still, moved = scattered(crystals), scattered(crystals, torch.tensor([[2.0, -1.0, 0.0]]).expand(4, -1))
    inner = (slice(None), *[slice(6, 26)] * 3)
    expected = still.abs().roll((2, -1), (1, 2))[inner]
    scale = moved.abs()[inner].norm() / expected.norm()  # what leaves the box changes the norm
    torch.testing.assert_close(moved.abs()[inner], expected * scale, atol=2e-3 * float(expected.max()), rtol=0.05)


def test_oversampling_is_as_asked() -> None:
    spread = Spread(oversampling=(2.5, 5.0))
    batch = make_batch(24, Chance(6), families=_FLAT, spread=spread, conditions=CLEAN)
    asked = batch.crystals.oversampling
    assert asked.min() >= 2.5 and asked.max() <= 5.0
    assert (asked.amax(1) / asked.amin(1)).max() > 1.2  # the axes differ
    amplitude = batch.target.abs()
    for axis in (1, 2, 3):
        extent = (
            amplitude.amax([k for k in (1, 2, 3) if k != axis]) > 0.5 * amplitude.amax((1, 2, 3))[:, None]
        ).sum(1)
        # half the maximum on whole voxels: a voxel either side, and a sharp corner is blurred away
        assert ((extent - EDGE / asked[:, axis - 1]).abs() <= 2.5).float().mean() > 0.9


def test_same_seed_same_batch_and_another_one_another() -> None:
    first, again, other = (make_batch(6, Chance(seed)) for seed in (7, 7, 8))
    assert torch.equal(first.intensity, again.intensity) and torch.equal(first.target, again.target)
    assert first.crystals.fields == again.crystals.fields
    assert not torch.equal(first.intensity, other.intensity)


def test_counts_are_poisson_of_the_pattern() -> None:
    pattern = scattered(make_crystals(1, Chance(9))).abs().square().expand(400, -1, -1, -1)
    counts, measured = detected(pattern, replace(CLEAN, photons=(3e5, 3e5)), Chance(10))
    expected = 3e5 * pattern[0]
    bright = expected > 20
    assert measured.all() and bright.sum() > 100
    off = (counts.mean(0) - expected)[bright] / (expected[bright] / 400).sqrt()
    assert off.square().mean() == pytest.approx(
        1, abs=0.3
    )  # each is a standard normal number; some hundred of them
    # the variance of 400 Poisson counts is known to 7 %, of a hundred such voxels to 1 %
    assert float((counts.var(0)[bright] / expected[bright]).mean()) == pytest.approx(1, abs=0.05)


def test_photons_cover_five_decades_and_frames_and_rows_go_missing() -> None:
    batch = make_batch(96, Chance(11))
    totals = batch.intensity.sum((1, 2, 3))
    assert totals.max() / totals.min() > 1e4
    assert (batch.intensity[~batch.measured] == 0).all()
    frames = batch.measured.any(3).any(2).float().mean(1)
    assert 0.1 < (frames < 1).float().mean() < 0.6 and frames.min() > 0.3
    dead = ~batch.measured.any(1)
    assert 0.05 < dead.any(2).any(1).float().mean() < 0.5


def test_blur_lowers_the_contrast_and_keeps_the_counts() -> None:
    sharp = replace(CLEAN, photons=(1e8, 1e8))
    blurred = replace(sharp, blur=(1.5, 1.0))
    pattern = scattered(make_crystals(8, Chance(12))).abs().square()
    one, other = (detected(pattern, each, Chance(13))[0] for each in (sharp, blurred))
    torch.testing.assert_close(one.sum((1, 2, 3)), other.sum((1, 2, 3)), rtol=0.01, atol=0)
    assert (other.amax((1, 2, 3)) < one.amax((1, 2, 3))).all()


def test_held_out_families_are_never_trained_on() -> None:
    assert not set(shapes.HELD_OUT) & set(shapes.TRAINED) and not set(fields.HELD_OUT) & set(fields.TRAINED)
    functions = {field for _, field in fields.TRAINED.values()} | set(shapes.TRAINED.values())
    held_out = {field for _, field in fields.HELD_OUT.values()} | set(shapes.HELD_OUT.values())
    assert not functions & held_out
    drawn = make_batch(300, Chance(14), conditions=CLEAN).crystals
    assert set(drawn.shapes) == set(shapes.TRAINED) and set(drawn.fields) == set(fields.TRAINED)
    other = make_batch(60, Chance(14), families=HELD_OUT, conditions=CLEAN).crystals
    assert set(other.shapes) == set(shapes.HELD_OUT) and set(other.fields) == set(fields.HELD_OUT)
    assert other.dislocated.tolist() == [name == "dipole" for name in other.fields]

"""Numbers and components of a series, against crystals and patterns whose answer is known."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from live_bcdi.config import Preprocessing, load_config
from live_bcdi.geometry import axes_across, q_lab_invA, rocking_axis_lab
from live_bcdi.operando import (
    EDGE,
    Pattern,
    components,
    numbers_of,
    pattern_of,
    peak_table,
    series_fields,
    strain_spread,
)
from live_bcdi.preprocess import prepare
from live_bcdi.sim import simulate_scan
from live_bcdi.sim.crystals import random_truth
from live_bcdi.sim.scattering import bragg_geometry, measure, scan_steps
from live_bcdi.types import DiffractionVolume, LabImage, Outcome, Reconstruction, ScanError

REACH = (0.02, 0.02, 0.02)
RANDOM = np.random.default_rng(5)


def lab_image(spacing=2.35, strain=None, strain_std=None):
    shape = (6, 6, 6)
    support = np.zeros(shape, bool)
    support[1:5, 1:5, 1:5] = True
    return LabImage(
        density=np.ones(shape, np.complex64),
        support=support,
        displacement_angstrom=np.zeros(shape, np.float32),
        strain=np.where(support, 0.0 if strain is None else strain, np.nan).astype(np.float32),
        voxel_nm=5.0,
        q_centre_invA=np.array([0.0, 0.6, 0.8]) * 2 * np.pi / spacing,
        strain_std=None if strain_std is None else np.where(support, strain_std, np.nan).astype(np.float32),
    )


def volume_of(intensity, mask=None, q=2.7):
    return DiffractionVolume(
        intensity=np.asarray(intensity, np.float32),
        mask=np.zeros(np.shape(intensity), bool) if mask is None else mask,
        centre=(0.0, 0.0, 0.0),
        q_centre_invA=np.array([0.0, q, 0.0]),
        q_steps_invA=np.eye(3) * 1e-3,
    )


def reconstruction(lab=None, volume=None):
    return Reconstruction(
        density=np.zeros((4, 4, 4), np.complex64),
        support=np.zeros((4, 4, 4), bool),
        chi=0.01,
        chi_starts=(0.01,),
        metrics={},
        recipe="ER",
        seed=0,
        outcome=Outcome.DONE,
        lab=lab,
        volume=volume,
    )


def summary(run, time_s, lab, *, series="gold", state=None):
    table = {"series": series, "time_s": time_s, "state": state, **numbers_of(reconstruction(lab))}
    return {"run": run, "name": run.upper(), "chi": 0.01, "resolution_nm": 20.0, "operando": table}


def gaussian(centre, width, edge=48, counts=1e6):
    axes = np.meshgrid(*(np.arange(edge) - edge // 2 - at for at in centre), indexing="ij")
    return counts * np.exp(-sum(axis**2 for axis in axes) / (2 * width**2))


def test_a_larger_lattice_gives_a_positive_change_of_spacing():
    """h shrinks as the planes move apart: by 0.2 % here."""
    runs = [summary("a", 0.0, lab_image(2.35)), summary("b", 1.0, lab_image(2.35 * 1.002))]
    changes = [row["d_change"] for row in series_fields(runs, {})["runs"]]
    np.testing.assert_allclose(changes, [0.0, 0.002], atol=1e-12)


def turned_scan(mdeg, strain):
    """The simulated crystal, turned about the part of the rocking axis across h and about h x that."""
    geometry = bragg_geometry(load_config(Path("config/34idc.toml")), (32, 32))
    h, steps = q_lab_invA(geometry, *geometry.arm_pixel), scan_steps(geometry)
    truth = random_truth(h, steps, strain="weak", oversampling=3.0, seed=1)
    x, y, z = rocking_axis_lab(geometry)
    turn = np.deg2rad(np.array(mdeg) / 1e3) @ axes_across(h, (float(x), float(y), float(z)))
    moved = (h + np.cross(turn, h)) / (1 + strain) - h  # u_h = g . r moves the peak by -|h| g
    gradient = truth.gradient_angstrom_per_nm - moved * 10 / np.linalg.norm(h)
    return measure(
        replace(truth, gradient_angstrom_per_nm=tuple(gradient)), geometry, shape=(24, 32, 32), photons=1e6
    )


def test_the_rotation_from_the_first_run_is_in_the_rows():
    """Of 1e6 photons it is right to some error bars, which are below 1 mdeg and 1e-5."""
    runs = []
    for number, (mdeg, strain) in enumerate([((0, 0), 0.0), ((4.0, -3.0), 1e-4), ((0, 0), 0.0)]):
        scan = turned_scan(mdeg, strain)
        made = reconstruction(volume=prepare(scan, Preprocessing(shape=(24, 32, 32)))[0])
        runs.append(summary(str(number), float(number), None))
        runs[-1]["operando"]["peak"] = json.loads(json.dumps(peak_table(made, scan)))
    runs[2]["operando"]["peak"] = {**runs[2]["operando"]["peak"], "h_invA": [1.0, None, 2.0]}  # a damaged file
    still, moved, damaged = series_fields(runs, {})["runs"]
    assert still["rotation_mdeg"] == [0, 0] and still["peak_change"] == 0
    assert max(moved["rotation_std_mdeg"]) < 1 and moved["peak_change_std"] < 1e-5
    error = np.array([*moved["rotation_mdeg"], moved["peak_change"]]) - [4.0, -3.0, 1e-4]
    assert (np.abs(error) < 5 * np.array([*moved["rotation_std_mdeg"], moved["peak_change_std"]])).all()
    assert damaged["rotation_mdeg"] is damaged["peak_change"] is None


def test_a_peak_that_cannot_be_located_is_none():
    scan = turned_scan((0, 0), 0.0)
    assert peak_table(reconstruction(), scan) is None
    assert peak_table(reconstruction(volume=volume_of(np.zeros((8, 8, 8)))), scan) is None


def test_the_spread_of_the_strain_and_what_the_starts_say_of_it():
    """Half of the crystal at +e, half at -e has the standard deviation e; if each voxel is off by sigma in the
    direction that makes it larger, that is off by sigma."""
    strain = np.where(np.arange(6)[:, None, None] < 3, 3e-4, -3e-4) * np.ones((6, 6, 6))
    assert strain_spread(lab_image(strain=strain)) == (pytest.approx(3e-4), None)
    std, error = strain_spread(lab_image(strain=strain, strain_std=4e-5))
    assert (std, error) == (pytest.approx(3e-4), pytest.approx(4e-5, rel=1e-5))


def test_what_is_not_known_is_none():
    assert set(numbers_of(reconstruction()).values()) == {None}
    masked = np.zeros((4, 4, 4), bool)
    masked[0] = True
    numbers = numbers_of(reconstruction(volume=volume_of(np.full((4, 4, 4), 2.0), masked)))
    assert numbers["intensity"] == 96.0
    assert numbers["d_angstrom"] == pytest.approx(2 * np.pi / 2.7)
    assert numbers["strain_std"] is None


def patterns_of(rows):
    return [Pattern(counts=np.asarray(row, np.float32), reach_invA=REACH) for row in rows]


def test_the_first_component_of_a_mixture_is_the_fraction():
    """Two states in changing parts, as a two-phase reaction has them, at any brightness."""
    first, second = RANDOM.random((2, EDGE, EDGE, EDGE))
    first, second = first / first.sum(), second / second.sum()
    fractions = np.array([0.0, 0.2, 0.7, 1.0, 0.5])
    mixed = [(1 - x) * first + x * second for x in fractions]
    found = components(patterns_of([row * bright for row, bright in zip(mixed, (1e3, 1e5, 7e4, 2e3, 1e4))]))
    np.testing.assert_allclose(found.scores[:, 0] / found.scores[3, 0], fractions, atol=2e-5)  # of float32 counts
    assert found.explained[0] > 0.999999
    size = np.linalg.norm(second - first) / np.linalg.norm(np.mean(mixed, axis=0))
    assert found.scores[3, 0] == pytest.approx(size, rel=1e-5)  # positive: the run that went farthest


def test_the_components_are_those_of_the_covariance_of_the_bins():
    """Brute force: the singular vectors of the bins themselves."""
    rows = RANDOM.random((6, EDGE, EDGE, EDGE))
    found = components(patterns_of(rows))
    flat = rows.reshape(6, -1).astype(np.float32).astype(float)
    flat /= flat.sum(axis=1, keepdims=True)
    mean = flat.mean(axis=0)
    vectors, values, _ = np.linalg.svd(flat - mean, full_matrices=False)
    expected = (vectors * values / np.linalg.norm(mean))[:, :3]
    np.testing.assert_allclose(np.abs(found.scores), np.abs(expected - expected[0]), rtol=1e-4, atol=1e-7)
    np.testing.assert_allclose(found.explained, (values**2 / (values**2).sum())[:3], rtol=1e-6)
    assert (found.scores.max(axis=0) >= -found.scores.min(axis=0)).all()


def test_few_runs_and_runs_that_are_the_same():
    (row,) = RANDOM.random((1, EDGE, EDGE, EDGE))
    assert components([]).scores.shape == (0, 0)
    assert components(patterns_of([row])).scores.shape == (1, 0)
    same = components(patterns_of([row, row, row]))
    np.testing.assert_allclose(same.scores, 0, atol=1e-9)
    assert not np.isnan(same.explained).any()


def test_a_run_that_does_not_fit_is_named_and_changes_nothing():
    rows = RANDOM.random((4, EDGE, EDGE, EDGE))
    unseen = rows[0].copy()
    unseen[: EDGE // 2 + 2] = np.nan
    short = Pattern(counts=rows[1].astype(np.float32), reach_invA=(0.02, 0.005, 0.02))
    others = patterns_of(rows)
    found = components([others[0], *patterns_of([unseen, 0 * rows[0]]), short, *others[1:]])
    assert found.unfit == {
        1: "only 44% of its pattern was measured",
        2: "its pattern has no counts",
        3: "its pattern reaches 0.005/Å along row, others 0.02/Å",
    }
    assert np.isnan(found.scores[[1, 2, 3]]).all()
    np.testing.assert_allclose(found.scores[[0, 4, 5, 6]], components(others).scores)


def test_what_one_run_did_not_measure_is_left_out_of_all():
    rows = RANDOM.random((3, EDGE, EDGE, EDGE))
    rows[2] = rows[0]
    rows[2, 3] = np.nan
    found = components(patterns_of(rows))
    np.testing.assert_allclose(found.scores[2], 0, atol=1e-6)


def test_a_pattern_is_about_its_peak_wherever_between_the_voxels_that_is():
    """A Gaussian of 2.5 voxels, moved by up to half of one: splines leave 0.5 % of that, and without them it
    would be 15 %, 0.5 / (sqrt(2) 2.5)."""
    still = pattern_of(volume_of(gaussian((0, 0, 0), 2.5)))
    for centre in ((0.5, 0.0, 0.0), (0.3, -0.45, 0.2)):
        moved = pattern_of(volume_of(gaussian(centre, 2.5)))
        off = np.linalg.norm(moved.counts - still.counts) / np.linalg.norm(still.counts)
        assert off < 0.01
    assert np.unravel_index(still.counts.argmax(), still.counts.shape) == (EDGE // 2,) * 3


def test_a_pattern_is_in_steps_of_q_and_not_of_voxels():
    """The same peak on voxels of half the size, and so with twice their number, is the same pattern."""
    coarse = volume_of(gaussian((0, 0, 0), 3.0, 60))
    fine = replace(volume_of(gaussian((0, 0, 0), 6.0, 120)), q_steps_invA=np.eye(3) * 5e-4)
    found = [pattern_of(volume) for volume in (coarse, fine)]
    np.testing.assert_allclose(found[0].reach_invA, found[1].reach_invA)
    off = np.linalg.norm(found[0].counts - found[1].counts) / np.linalg.norm(found[0].counts)
    assert off < 0.02  # means over a bin of two voxels against values in the middle of one
    narrower = replace(found[1], reach_invA=tuple(0.8 * reach for reach in found[1].reach_invA))
    assert abs(components([found[0], narrower]).scores[1, 0]) > 0.1


def test_masked_voxels_are_not_zeros():
    mask = np.zeros((48, 48, 48), bool)
    mask[:, 20:22] = True
    found = pattern_of(volume_of(np.where(mask, 0, gaussian((0, 0, 0), 3.0)), mask))
    whole = pattern_of(volume_of(gaussian((0, 0, 0), 3.0)))
    seen = np.isfinite(found.counts)
    assert 0.85 < seen.mean() < 1
    with pytest.raises(ScanError, match="no counts"):
        pattern_of(volume_of(np.zeros((32, 32, 32))))
    both = components([whole, found, pattern_of(volume_of(gaussian((0, 0, 0), 4.0)))])
    assert abs(both.scores[1, 0]) < 0.15 * both.scores[2, 0]


@pytest.fixture(scope="module")
def growing():
    """Six gold crystals whose displacement grows from half to 1.75 of what it was; five of equal ones."""
    from live_bcdi.cli import config_path

    config, shape = load_config(config_path("34idc")), (40, 48, 48)
    _, truth = simulate_scan(config=config, shape=shape, strain="medium", seed=3)
    geometry = bragg_geometry(config, shape[1:])

    def pattern(factor, seed):
        waves = tuple(replace(wave, amplitude_angstrom=factor * wave.amplitude_angstrom) for wave in truth.waves)
        slope = tuple(factor * part for part in truth.gradient_angstrom_per_nm)
        grown = replace(truth, waves=waves, gradient_angstrom_per_nm=slope)
        scan = measure(grown, geometry, shape=shape, photons=2e6, seed=seed)
        return pattern_of(prepare(scan, Preprocessing())[0])

    factors = 0.5 + 0.25 * np.arange(6)
    return [pattern(factor, seed) for seed, factor in enumerate(factors)], [
        pattern(1.0, seed) for seed in range(5)
    ]


def test_measured_patterns_of_growing_strain_go_one_way_and_far_beyond_noise(growing):
    """Photon noise of 2e6 counts moves it by 1.5 %, strain that grows 3.5 times by 30 %."""
    grown, same = (components(patterns) for patterns in growing)
    assert (np.diff(grown.scores[:, 0]) > 0).all()
    assert grown.explained[0] > 0.97
    assert grown.scores[-1, 0] == pytest.approx(0.3, abs=0.03)
    assert np.abs(same.scores).max() < 0.02
    assert same.explained[0] < 0.4


def test_fields_are_of_the_newest_series_and_say_what_is_not_known():
    state = {"name": "voltage", "unit": "V", "value": 3.5, "std": 0.1, "readings": 2, "from": "baseline"}
    unknown = {"name": "voltage", "unit": "V", "value": None, "why": "it was not said"}
    runs = [
        summary("a", 0.0, lab_image(), series="other"),
        summary("b", 1.0, None, state=unknown),
        summary("c", 2.0, lab_image(2.0), state=state),
        summary("d", 3.0, lab_image(2.2), state=state),
    ]
    rows = RANDOM.random((2, EDGE, EDGE, EDGE))
    patterns = dict(zip("cd", patterns_of(rows))) | {"b": "its file is gone", "a": patterns_of(rows)[0]}
    fields = series_fields(runs, patterns)
    assert (fields["series"], fields["state"]) == ("gold", {"name": "voltage", "unit": "V"})
    b, c, d = fields["runs"]
    assert (b["state"], b["state_why"], b["d_change"]) == (None, "it was not said", None)
    assert (b["components"], b["components_why"]) == ([], "its file is gone")
    assert (c["state"], c["state_std"], c["d_change"], c["components"]) == (3.5, 0.1, 0.0, [0.0])
    assert d["d_change"] == pytest.approx(0.1)
    assert d["components"][0] > 0 and fields["explained"] == [pytest.approx(1.0)]

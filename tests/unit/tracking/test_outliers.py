"""Bad scans among repeats of a simulated crystal, one kind at a time; and fifty good ones."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from live_bcdi.config import Preprocessing, load_config
from live_bcdi.geometry import q_lab_invA
from live_bcdi.preprocess import prepare
from live_bcdi.sim.crystals import random_truth
from live_bcdi.sim.scattering import bragg_geometry, diffraction_amplitude, rocking_step_deg, scan_steps
from live_bcdi.tracking import outliers, scan_facts
from live_bcdi.types import RockingScan, ScanError

SHAPE = (40, 48, 48)
PHOTONS = 1e6
SETTINGS = Preprocessing(binning=(1, 1, 1))
GEOMETRY = bragg_geometry(load_config(Path("config/34idc.toml")), SHAPE[1:])
STEPS = scan_steps(GEOMETRY)


def expected(shift=(0.0, 0.0, 0.0), seed=1, strain="medium"):
    h = q_lab_invA(GEOMETRY, *GEOMETRY.arm_pixel)
    truth = random_truth(h, STEPS, strain=strain, oversampling=3.0, seed=seed)
    gradient = truth.gradient_angstrom_per_nm - STEPS @ np.asarray(shift) * 10 / np.linalg.norm(h)
    moved = replace(truth, gradient_angstrom_per_nm=tuple(gradient))
    intensity = np.abs(diffraction_amplitude(moved, STEPS, SHAPE)) ** 2
    return intensity * (PHOTONS / intensity.sum())


def scan_of(pattern, random, **changes):
    counts = random.poisson(pattern).astype(np.int32)
    angles = (np.arange(SHAPE[0]) - SHAPE[0] // 2) * rocking_step_deg(GEOMETRY)
    monitor = 1e5 * random.normal(1, 0.01, SHAPE[0])
    made = RockingScan(name="made", intensity=counts, angles_deg=angles, geometry=GEOMETRY, monitor=monitor)
    return replace(made, saturation_counts=2e4, **changes)


def facts_of(scan):
    return scan_facts(scan, *prepare(scan, SETTINGS))


def good(count, seed):
    """The crystal drifts by a third of a voxel a scan, the beam by a tenth."""
    random = np.random.default_rng(seed)
    drift = np.cumsum(random.normal(0, 0.3, (count, 3)), axis=0)
    for shift in drift - drift.mean(axis=0):
        yield scan_of(expected(shift) * random.uniform(0.9, 1.1), random)


@pytest.fixture(scope="module")
def repeats():
    return [facts_of(scan) for scan in good(9, seed=2)]


def bad_scan(kind):
    random = np.random.default_rng(11)
    at_rest = expected()
    scan = scan_of(at_rest, random)
    counts = scan.intensity
    if kind == "alien":
        other = np.roll(expected(seed=4), (7, -15, 14), axis=(0, 1, 2))
        return scan_of(at_rest + 0.1 * other, random)
    if kind == "hot":
        counts[:, 30:32, ::9] += 300
    if kind == "turned away":
        return scan_of(expected((-18.5, 0, 0)), random)
    if kind == "lost":
        return scan_of(np.full(SHAPE, 0.02), random)
    if kind == "beam":
        counts[18:] = 0
        return replace(scan, monitor=np.where(np.arange(SHAPE[0]) < 18, scan.monitor, 50.0))
    if kind == "jump":
        later = random.poisson(expected((1.5, 4.0, -3.0)))
        counts[20:] = later[20:]
    if kind == "stale":
        counts[19:22] = counts[18]
    if kind == "missing":
        return replace(scan, have=~np.isin(np.arange(SHAPE[0]), (12, 13)))
    if kind == "saturated":
        return replace(scan, intensity=np.minimum(4 * counts, 20000))
    return scan


BAD = {
    "alien": "another crystal",
    "hot": "hot",
    "turned away": "turned away",
    "lost": "the crystal is lost",
    "beam": "beam",
    "jump": "differs from the others'",
    "stale": "are the one before",
    "missing": "2 frames are missing",
    "saturated": "are saturated",
}


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_scan_is_told_and_why(repeats, kind):
    found = outliers([*repeats[:4], facts_of(bad_scan(kind)), *repeats[4:]])
    assert BAD[kind] in "; ".join(found[4]), found
    assert not any(found[:4]) and not any(found[5:]), found


def test_a_bad_scan_may_be_the_first_and_there_may_be_several(repeats):
    found = outliers([facts_of(bad_scan("jump")), *repeats, facts_of(bad_scan("lost")), facts_of(bad_scan("hot"))])
    assert [bool(each) for each in found] == [True] + [False] * 9 + [True, True]


def test_fifty_good_scans_raise_no_alarm():
    found = outliers([facts_of(scan) for scan in good(50, seed=5)])
    assert not any(found), [each for each in found if each]


def test_too_high_is_four_standard_deviations_from_the_median_whatever_the_bad_ones(repeats):
    """Four of them are 50 here; two scans at a thousand would carry a mean and its deviation along."""
    scatter = [92, 108, 100, 95, 105, 88, 112, 100, 97, 103]
    found = outliers([replace(repeats[0], hot=hot) for hot in (*scatter, 122, 170, 1000, 1000)])
    assert [bool(each) for each in found] == [False] * 11 + [True] * 3
    assert found[11] == ("170 pixels and voxels are hot",)


def test_of_few_scans_nothing_is_said(repeats):
    assert outliers([*repeats[:3], facts_of(bad_scan("jump"))]) == ((), (), (), ())


def test_a_scan_without_counts_has_no_facts():
    scan = bad_scan("none")
    empty = replace(scan, intensity=np.zeros_like(scan.intensity))
    with pytest.raises(ScanError, match="no counts"):
        facts_of(empty)

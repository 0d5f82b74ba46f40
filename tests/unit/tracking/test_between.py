"""Rotations and strains that were put in, against scans of three beamlines made without our own algebra."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from live_bcdi.config import Preprocessing, load_config
from live_bcdi.geometry import chain_matrix, pixel_place_m, q_lab_invA, rotation_matrix, with_rocking_angle
from live_bcdi.preprocess import prepare
from live_bcdi.sim.scattering import bragg_geometry, rocking_step_deg
from live_bcdi.tracking import find_peak, find_peaks, motion_between, seen_as
from live_bcdi.types import RockingScan, ScanError

SHAPE = (36, 40, 40)
WIDTH = 1.6  # voxels, of the Gaussian pattern
BEAMLINES = ("34idc", "id01", "p10")
SETTINGS = Preprocessing(shape=(32, 32, 32), binning=(1, 1, 1))


def beamline(name):
    """With a crystal whose planes no motor is aligned with: all circles stand somewhere."""
    geometry = bragg_geometry(load_config(Path("config") / f"{name}.toml"), SHAPE[1:])
    angles = {"chi": 88.0, "phi": -7.0, "mu": 3.0}
    sample = tuple(
        circle if circle.motor == geometry.rocking else replace(circle, angle_deg=angles.get(circle.motor, 0.0))
        for circle in geometry.sample
    )
    return replace(geometry, sample=sample)


def counted(geometry, *, turn=None, strain=0.0, moved_um=(0.0, 0.0, 0.0), photons=1e6, seed=None):
    """A rocking scan, pixel by pixel: the crystal turned by the lab matrix `turn` on its holder, its planes apart
    by `strain`, moved in the lab. `geometry` holds the crystal whose peak is on the middle pixel at rest."""
    return scan_of(geometry, crystal(geometry, turn=turn, strain=strain), moved_um, photons, seed)


def crystal(geometry, turn=None, strain=0.0):
    """h in the frame of the innermost circle."""
    h = q_lab_invA(geometry, *geometry.arm_pixel)
    return chain_matrix(geometry.sample).T @ ((np.eye(3) if turn is None else turn) @ h) / (1 + strain)


def scan_of(geometry, h, moved_um=(0.0, 0.0, 0.0), photons=1e6, seed=None, centre_deg=None):
    rest_deg = next(c.angle_deg for c in geometry.sample if c.motor == geometry.rocking)
    centre_deg = rest_deg if centre_deg is None else centre_deg
    angles = centre_deg + rocking_step_deg(geometry) * (np.arange(SHAPE[0]) - SHAPE[0] // 2)
    row, column = np.meshgrid(*(np.arange(n) for n in SHAPE[1:]), indexing="ij")
    k = 2 * np.pi * geometry.energy_kev / 12.398419843320026
    ray = pixel_place_m(geometry, row, column) - np.array(moved_um) * 1e-6
    q = k * (ray / np.linalg.norm(ray, axis=-1, keepdims=True) - np.array(geometry.beam_direction))
    sigma = WIDTH * k * geometry.pixel_um[0] * 1e-6 / geometry.distance_m
    frames = []
    for angle in angles:
        here = chain_matrix(with_rocking_angle(geometry, angle).sample) @ h
        frames.append(np.exp(-((q - here) ** 2).sum(axis=-1) / (2 * sigma**2)))
    expected = np.array(frames)
    expected *= photons / expected.sum()
    counts = expected if seed is None else np.random.default_rng(seed).poisson(expected)
    return RockingScan(name="made", intensity=counts.astype(np.float32), angles_deg=angles, geometry=geometry)


def peak_of(scan):
    return find_peak(prepare(scan, SETTINGS)[0], scan)


def across(geometry):
    """The two axes of `Motion`, by their words, in the lab."""
    h = q_lab_invA(geometry, *geometry.arm_pixel)
    h = h / np.linalg.norm(h)
    outer = []
    for circle in geometry.sample:
        if circle.motor == geometry.rocking:
            axis = chain_matrix(outer) @ np.array(circle.axis)
            break
        outer.append(circle)
    first = axis - (axis @ h) * h
    return axis, first / np.linalg.norm(first), np.cross(h, first / np.linalg.norm(first))


@pytest.mark.parametrize("name", BEAMLINES)
@pytest.mark.parametrize(
    ("mdeg", "strain"), [((6.0, 0.0), 0.0), ((0.0, 6.0), 0.0), ((0.0, 0.0), 2e-4), ((-4.0, 3.0), -1e-4)]
)
def test_what_was_turned_and_strained_is_found(name, mdeg, strain):
    """Without noise. A Gaussian on the pixels is located to 1e-4 voxels of some 6 mdeg and 1e-4."""
    geometry = beamline(name)
    _, first, second = across(geometry)
    turn = rotation_matrix(tuple(first), mdeg[0] / 1e3) @ rotation_matrix(tuple(second), mdeg[1] / 1e3)
    found = motion_between(peak_of(counted(geometry)), peak_of(counted(geometry, turn=turn, strain=strain)))
    assert found.rotation_mdeg == pytest.approx(mdeg, abs=0.01)
    assert found.strain == pytest.approx(strain, abs=3e-7)


@pytest.mark.parametrize("name", BEAMLINES)
def test_a_turn_about_the_rocking_axis_is_seen_by_its_part_across_h(name):
    geometry = beamline(name)
    axis, first, _ = across(geometry)
    turned = counted(geometry, turn=rotation_matrix(tuple(axis), 5e-3))
    found = motion_between(peak_of(counted(geometry)), peak_of(turned))
    assert found.rotation_mdeg == pytest.approx((5 * float(axis @ first), 0.0), abs=0.01)
    assert found.strain == pytest.approx(0.0, abs=3e-7)


def test_a_turn_about_h_is_not_seen():
    geometry = beamline("34idc")
    h = q_lab_invA(geometry, *geometry.arm_pixel)
    turned = counted(geometry, turn=rotation_matrix(tuple(h / np.linalg.norm(h)), 1.0))
    found = motion_between(peak_of(counted(geometry)), peak_of(turned))
    assert (*found.rotation_mdeg, found.strain) == pytest.approx((0.0, 0.0, 0.0), abs=1e-6)


@pytest.mark.parametrize("name", BEAMLINES)
def test_motors_that_moved_between_are_no_rotation(name):
    """The rocking range, another circle and the arm stand elsewhere; the crystal sits on its holder as before."""
    geometry = beamline(name)
    h = crystal(geometry)
    rest_deg = next(c.angle_deg for c in geometry.sample if c.motor == geometry.rocking)
    before = peak_of(scan_of(geometry, h))
    later = scan_of(geometry, h, centre_deg=rest_deg + 4 * rocking_step_deg(geometry))
    found = motion_between(before, peak_of(later))
    assert found.rotation_mdeg == pytest.approx((0, 0), abs=0.01)
    arm = (replace(geometry.arm[0], angle_deg=geometry.arm[0].angle_deg + 0.02), *geometry.arm[1:])
    other = next(n for n, circle in enumerate(geometry.sample) if circle.motor != geometry.rocking)
    sample = list(geometry.sample)
    sample[other] = replace(sample[other], angle_deg=sample[other].angle_deg + 0.02)
    elsewhere = replace(geometry, arm=arm, sample=tuple(sample))
    found = motion_between(before, peak_of(scan_of(elsewhere, h)))
    assert found.rotation_mdeg == pytest.approx((0, 0), abs=0.02)
    assert found.strain == pytest.approx(0, abs=3e-7)


@pytest.mark.parametrize("name", BEAMLINES)
@pytest.mark.parametrize("axis", range(3))
def test_a_translation_is_taken_for_what_is_said(name, axis):
    geometry = beamline(name)
    moved = np.zeros(3)
    moved[axis] = 30.0
    found = motion_between(peak_of(counted(geometry)), peak_of(counted(geometry, moved_um=moved)))
    said = seen_as(geometry, *geometry.arm_pixel)[:, axis] * 30.0
    assert found.rotation_mdeg == pytest.approx(said[:2], abs=0.02)
    assert found.strain == pytest.approx(said[2], abs=1e-6)


@pytest.mark.parametrize("photons", [300, 1e4, 1e6])
def test_the_error_bars_are_those_of_repeats(photons):
    """Of 60 pairs the standard deviation is known to 10 %: four of them are granted. At 1e6 photons they are
    below 1 mdeg and 1e-5."""
    geometry = beamline("34idc")
    turn = rotation_matrix(tuple(across(geometry)[2]), 3e-3)
    ratios = []
    for seed in range(60):
        before = peak_of(counted(geometry, photons=photons, seed=2 * seed))
        found = motion_between(before, peak_of(counted(geometry, turn=turn, photons=photons, seed=2 * seed + 1)))
        errors = np.array([found.rotation_mdeg[0], found.rotation_mdeg[1] - 3.0, found.strain])
        ratios.append(errors / [*found.rotation_std_mdeg, found.strain_std])
        assert photons < 1e6 or (max(found.rotation_std_mdeg) < 1.0 and found.strain_std < 1e-5)
    np.testing.assert_allclose(np.std(ratios, axis=0), 1, atol=0.4)
    np.testing.assert_allclose(np.mean(ratios, axis=0), 0, atol=4 / np.sqrt(60))


def test_a_gap_beside_the_peak_pulls_at_neither_of_two_peaks_that_are_compared():
    """Each by itself they are off by 0.4 mdeg; together, by what a cubic spline makes of the borders."""
    geometry = beamline("34idc")
    bad = np.zeros(SHAPE[1:], bool)
    bad[:, 21:24] = True
    turn = rotation_matrix(tuple(across(geometry)[2]), 10e-3)
    pairs = []
    for scan in (counted(geometry), counted(geometry, turn=turn)):
        holed = replace(scan, bad_pixels=bad)
        pairs.append((prepare(holed, SETTINGS)[0], holed))
    alone = motion_between(*(find_peak(*pair) for pair in pairs))
    together = motion_between(*find_peaks(*pairs))
    assert abs(alone.rotation_mdeg[1] - 10.0) > 0.3
    assert together.rotation_mdeg == pytest.approx((0.0, 10.0), abs=0.05)
    assert together.strain == pytest.approx(0.0, abs=3e-6)


def test_what_cannot_be_compared_is_said():
    peak = peak_of(counted(beamline("34idc")))
    with pytest.raises(ScanError, match="lies along h"):
        motion_between(replace(peak, rocking_axis=tuple(peak.h_invA / np.linalg.norm(peak.h_invA))), peak)
    with pytest.raises(ScanError, match="no counts"):
        motion_between(replace(peak, counts=0.0), peak)
    scan = counted(beamline("34idc"))
    other = prepare(scan, Preprocessing(shape=(32, 32, 36), binning=(1, 1, 1)))[0]
    with pytest.raises(ScanError, match="one shape"):
        find_peaks((prepare(scan, SETTINGS)[0], scan), (other, scan))

"""Repeats of a known pattern, moved by known fractions of a voxel."""

from dataclasses import replace

import numpy as np
import pytest

from live_bcdi.combine import sum_volumes
from live_bcdi.types import DiffractionVolume, ScanError

SHAPE = (32, 36, 40)
SHIFTS = [(0.0, 0.0, 0.0), (1.3, -0.6, 0.25), (-2.0, 0.5, -1.45)]


def expected(shift=(0.0, 0.0, 0.0), counts=3e4):
    """Fringes of six voxels: a real pattern is sampled at least twice a fringe."""
    axes = [np.arange(n) - n // 2 - s for n, s in zip(SHAPE, shift)]
    z, y, x = np.meshgrid(*axes, indexing="ij")
    return counts * (np.sinc(z / 6) * np.sinc(y / 7) * np.sinc((x + 0.3 * y) / 6.5)) ** 2


def volume(shift=(0.0, 0.0, 0.0), noise=None, mask=None, **changes):
    intensity = expected(shift)
    if noise is not None:
        intensity = np.random.default_rng(noise).poisson(intensity)
    mask = np.zeros(SHAPE, bool) if mask is None else mask
    made = DiffractionVolume(
        intensity=np.where(mask, 0, intensity).astype(np.float32),
        mask=mask,
        centre=(0.0, 0.0, 0.0),
        q_centre_invA=np.array([2.0, 1.0, 0.5]),
        q_steps_invA=np.diag([2e-4, 5e-4, 5e-4]),
    )
    return replace(made, **changes)


def test_shifts_are_found_to_a_twentieth_of_a_voxel():
    found = sum_volumes([volume(shift) for shift in SHIFTS])
    # what was moved by s is moved back by -s
    np.testing.assert_allclose(found.shifts, -np.array(SHIFTS), atol=0.05)
    assert min(found.correlations) > 0.995


def test_the_sum_is_the_pattern_times_the_number_of_scans():
    found = sum_volumes([volume(shift, noise=seed) for seed, shift in enumerate(SHIFTS)])
    inside = np.zeros(SHAPE, bool)
    inside[4:-4, 4:-4, 4:-4] = True
    error = (found.volume.intensity - 3 * expected())[inside]
    # Poisson noise of the sum, and what cubic interpolation and a shift of 1/40 make of fringes of six voxels
    assert np.sqrt(np.mean(error**2)) < np.sqrt(np.mean(3 * expected()[inside])) + 0.01 * 9e4 * 0.1
    assert found.volume.intensity[16, 18, 20] == pytest.approx(9e4, rel=0.02)
    assert not found.volume.mask[inside].any()


def test_masked_in_one_scan_is_filled_by_the_others_and_masked_in_all_stays():
    one, all_ = np.zeros(SHAPE, bool), np.zeros(SHAPE, bool)
    one[10:13, 15:18, 20:23] = True
    all_[20, :, 5] = True
    found = sum_volumes([volume(mask=one | all_), volume(mask=all_), volume(mask=all_)])
    hole = found.volume.intensity[11, 16, 21]
    assert hole == pytest.approx(3 * expected()[11, 16, 21], rel=0.02)
    assert not found.volume.mask[10:13, 15:18, 20:23].any()
    assert found.volume.mask[20, :, 5].all()
    assert not found.volume.intensity[found.volume.mask].any()


def test_one_scan_is_itself():
    alone = volume(noise=1)
    found = sum_volumes([alone])
    np.testing.assert_array_equal(found.volume.intensity, alone.intensity)
    assert found.shifts == ((0.0, 0.0, 0.0),)


def two_domains(noise=None, counts=3e4):
    """Six voxels of the rocking axis apart."""
    two = (expected((3, 0, 0), counts) + expected((-3, 0, 0), counts)) / 2
    return replace(volume(), intensity=np.asarray(two, np.float32))


def test_another_state_has_a_low_correlation():
    _, same, other = sum_volumes([volume(), volume(noise=1), two_domains()]).correlations
    assert same > 0.98
    assert other < 0.9


def repeat(seed, counts):
    return replace(
        volume(), intensity=np.random.default_rng(seed).poisson(expected(counts=counts)).astype(np.float32)
    )


@pytest.mark.parametrize("counts", [100.0, 1e3, 3e4])
def test_repeats_correlate_whatever_their_counts(counts):
    """Of 100 at the maximum the plain correlation is 0.9. This one, of 900 voxels, is right to a per cent."""
    found = sum_volumes([repeat(seed, counts) for seed in range(4)])
    assert min(found.correlations) > 0.98


def test_what_shows_another_state_is_left_out():
    scans = [volume(), volume(noise=1), two_domains(), volume(noise=2)]
    found = sum_volumes(scans, least_correlation=0.97)
    assert found.used == (True, True, False, True)
    without = sum_volumes([scans[0], scans[1], scans[3]])
    np.testing.assert_array_equal(found.volume.intensity, without.volume.intensity)


def test_a_first_scan_that_is_the_odd_one_is_refused():
    with pytest.raises(ScanError, match=r"1 of 3 scans agree with the first \(correlations 1\.000, 0\.[0-9]+, "):
        sum_volumes([two_domains(), volume(), volume(noise=1)], least_correlation=0.97)


def test_a_hole_is_filled_by_share_of_the_flux():
    """The scan with the hole had twice the beam of the other: the other saw a third of what there was."""
    hole = np.zeros(SHAPE, bool)
    hole[14:17, 16:19, 20:23] = True
    strong = replace(volume(mask=hole), intensity=np.where(hole, 0, 2 * expected()).astype(np.float32))
    found = sum_volumes([strong, volume()])
    np.testing.assert_allclose(found.volume.intensity[hole], 3 * expected()[hole], rtol=0.02)


def test_scans_too_weak_to_compare_are_summed():
    found = sum_volumes([repeat(0, 5.0), repeat(1, 5.0)], least_correlation=0.97)
    assert np.isnan(found.correlations).all()
    assert found.used == (True, True)


@pytest.mark.parametrize(
    ("volumes", "message"),
    [
        ([], "no scans"),
        ([volume(), volume(q_steps_invA=np.diag([2.1e-4, 5e-4, 5e-4]))], "scan 1 .* another geometry"),
        ([volume(), volume((12.0, 0, 0))], "do not show the same peak"),
        (
            [
                volume(),
                replace(volume(), intensity=np.ones((8, 8, 8), np.float32), mask=np.zeros((8, 8, 8), bool)),
            ],
            "different shapes",
        ),
    ],
)
def test_what_cannot_be_summed_is_said(volumes, message):
    with pytest.raises(ScanError, match=message):
        sum_volumes(volumes)

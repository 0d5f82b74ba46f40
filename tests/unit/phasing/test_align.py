import numpy as np
import pytest
from scipy import ndimage

from live_bcdi.phasing.align import (
    aligned_to,
    canonical,
    phase_slopes,
    twin,
    with_ramp,
    without_ramp,
)


def moduli(density):
    return np.abs(np.fft.fftn(density))


def test_twin_keeps_every_modulus_and_undoes_itself(known):
    np.testing.assert_allclose(moduli(twin(known.density)), moduli(known.density), atol=2e-4)
    np.testing.assert_array_equal(twin(twin(known.density)), known.density)


@pytest.mark.parametrize("turned", [False, True])
def test_the_ambiguities_do_not_change_the_canonical_object(known, turned):
    reference, support = canonical(known.density, known.support)
    other = np.roll(known.density, (3, -2, 7), axis=(0, 1, 2)) * np.exp(0.7j)
    other = twin(other) if turned else other
    again, again_support = canonical(other.astype(np.complex64), np.abs(other) > 0)
    np.testing.assert_allclose(again, reference, atol=1e-5)
    np.testing.assert_array_equal(again_support, support)


@pytest.mark.parametrize("turned", [False, True])
def test_alignment_undoes_shift_twin_and_phase(known, turned):
    # band-limited, so that a fraction of a voxel is a well-defined shift
    smooth = np.fft.ifftn(ndimage.fourier_gaussian(np.fft.fftn(known.density), 1.2)).astype(np.complex64)
    moved = np.fft.ifftn(ndimage.fourier_shift(np.fft.fftn(smooth), (2.3, -4.6, 1.0))) * np.exp(2j)
    moved = twin(moved.astype(np.complex64)) if turned else moved.astype(np.complex64)
    back = aligned_to(smooth, moved)
    # the parabola finds the peak of the correlation to a few hundredths of a voxel
    assert np.linalg.norm(back - smooth) < 0.05 * np.linalg.norm(smooth)
    np.testing.assert_allclose(moduli(back), moduli(moved), atol=1e-3)


def test_ramp_is_taken_out_about_the_middle_and_reported(known):
    flat, _ = without_ramp(known.density)
    ramped = with_ramp(flat, (0.2, -0.1, 0.05))
    again, slopes = without_ramp(ramped)
    np.testing.assert_allclose(slopes, (0.2, -0.1, 0.05), atol=2e-3)
    np.testing.assert_allclose(phase_slopes(again), 0, atol=1e-5)
    assert ramped[16, 16, 16] == pytest.approx(flat[16, 16, 16])


def test_a_ramp_moves_the_pattern_towards_positive_frequencies(known):
    n = known.density.shape[0]
    moved = with_ramp(known.density, (2 * np.pi * 3 / n, 0.0, 0.0))
    np.testing.assert_allclose(moduli(moved), np.roll(moduli(known.density), 3, axis=0), atol=2e-3)


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("shape", [(96, 96, 96), (65, 130, 72)])
def test_alignment_of_a_large_volume_is_as_good(shape, turned):
    """The shift is looked for on 64 frequencies an axis, whose voxels are larger: whole voxels, some odd axes."""
    x, y, z = np.meshgrid(*[np.arange(n) - n // 2 for n in shape], indexing="ij")
    inside = (abs(x + 0.2 * y) < 7) & (abs(y) < 8) & (z + x < 9) & (z > -8) & (z - y < 11)
    density = (inside * np.exp(1j * (np.sin(0.3 * x) + 0.5 * np.cos(0.25 * y + 0.1 * z)))).astype(np.complex64)
    moved = np.roll(twin(density) if turned else density, (7, 5, -4), axis=(0, 1, 2)) * np.exp(1j)
    back = aligned_to(density, moved.astype(np.complex64))
    # 0.01 voxel at the sharp surface; a parabola through the low frequencies' voxels leaves 0.06 to 0.17
    assert np.linalg.norm(back - density) < 0.01 * np.linalg.norm(density)

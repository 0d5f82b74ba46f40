import numpy as np
import pytest

from live_bcdi.phasing import metrics

STEPS = np.diag([1e-3, 1e-3, 1e-3])


def test_chi_of_a_known_misfit():
    intensity = np.full((4, 4, 4), 9.0)
    mask = np.zeros((4, 4, 4), bool)
    mask[0] = True
    modulus = np.where(mask, 1e6, 3.3)  # masked voxels say nothing
    assert metrics.chi(modulus, intensity, mask) == pytest.approx(0.3**2 / 9)
    assert metrics.chi_operando(modulus, intensity, mask) == pytest.approx(0.3**2 / 3.3**2)


@pytest.mark.parametrize("counts", [3.0, 50.0])
def test_deviance_is_about_one_for_counting_noise(counts):
    expected = np.full((40, 40, 40), counts)
    measured = np.random.default_rng(0).poisson(expected).astype(float)
    use = np.ones(expected.shape, bool)
    # its mean over 64000 voxels scatters by 0.006; at few counts it is above 1 by about 1/(6 c)
    assert metrics.poisson_deviance(np.sqrt(expected), measured, use) == pytest.approx(1, abs=0.12)
    assert metrics.poisson_deviance(1.2 * np.sqrt(expected), measured, use) > 1.3


def test_transform_is_centred_and_of_the_stated_sign():
    n = 8
    density = np.zeros((n, n, n), np.complex64)
    density[n // 2 + 1, n // 2, n // 2] = 1
    expected = np.exp(-2j * np.pi * (np.arange(n) - n // 2) / n)
    np.testing.assert_allclose(metrics.centred_transform(density)[:, 0, 0], expected, atol=1e-6)


def test_sharpness_of_an_even_object():
    density = np.zeros((10, 10, 10), np.complex64)
    density[:5, :5, :4] = 1j
    assert metrics.sharpness(density) == pytest.approx(10)


def test_first_mode_of_equal_and_of_unlike_objects(known):
    assert metrics.first_mode([known.density, 1j * known.density]) == pytest.approx(1)
    unlike = []
    for k in range(4):
        unlike.append(np.zeros_like(known.density))
        unlike[k][k, 0, 0] = 1
    assert metrics.first_mode(unlike) == pytest.approx(0.25)


def test_prtf_of_equal_starts_is_one_to_the_edge(known):
    mask = np.zeros(known.intensity.shape, bool)
    intensity = np.abs(metrics.centred_transform(known.density)) ** 2
    found = metrics.transfer_function([known.density, known.density], intensity, mask, STEPS)
    np.testing.assert_allclose(found.prtf, 1, atol=1e-3)
    assert found.resolution_nm == pytest.approx(2 * np.pi / found.q_invA[-1] / 10)


def test_prtf_falls_where_the_starts_differ(known):
    # equal below |q| = 8 voxels, independent phases above it
    rng = np.random.default_rng(0)
    transform = metrics.centred_transform(known.density)
    radius = np.linalg.norm(np.stack(np.indices(transform.shape)) - 16, axis=0)
    starts = []
    for _ in range(16):
        phases = np.where(radius < 8, 1, np.exp(2j * np.pi * rng.random(transform.shape)))
        back = np.fft.ifftn(np.fft.ifftshift(transform * phases))
        starts.append(np.fft.fftshift(back).astype(np.complex64))
    found = metrics.transfer_function(starts, np.abs(transform) ** 2, np.zeros(transform.shape, bool), STEPS)
    # 1/e is crossed between the shells at 7 and 9 voxels: period 2 pi / (8e-3) in ångström
    assert found.resolution_nm == pytest.approx(2 * np.pi / 8e-3 / 10, rel=0.13)
    assert np.isnan(metrics.transfer_function(starts[:1], np.abs(transform) ** 2, radius < 0, STEPS).resolution_nm)


def test_thresholds_are_crossed_where_the_line_is():
    """1 - k / 10 at shells k: 1/e at k = 6.32, 0.5 at k = 5; a curve that stays above ends at its last shell."""
    q = np.arange(11) * 1e-3
    curve = 1 - np.arange(11) / 10
    assert metrics.crossing_nm(q, curve - np.exp(-1)) == pytest.approx(
        2 * np.pi / (10 * (1 - np.exp(-1)) * 1e-3) / 10
    )
    assert metrics.crossing_nm(q, curve - 0.45) == pytest.approx(2 * np.pi / 5.5e-3 / 10)
    assert metrics.crossing_nm(q, np.ones(11)) == pytest.approx(2 * np.pi / 10e-3 / 10)
    assert np.isnan(metrics.crossing_nm(q[:1], curve[:1]))


def test_the_gram_matrix_is_that_of_the_whole_objects(known):
    rng = np.random.default_rng(0)
    starts = [known.density * np.exp(1j * rng.random(known.density.shape)).astype(np.complex64) for _ in range(3)]
    expected = [[np.vdot(a.astype(complex), b) for b in starts] for a in starts]
    np.testing.assert_allclose(metrics.gram_matrix(starts), expected, rtol=1e-6)

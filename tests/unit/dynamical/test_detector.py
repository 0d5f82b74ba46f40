"""The far field against the sum it stands for, and a whole weak scan against the repository's own geometry."""

from dataclasses import replace
from types import SimpleNamespace

import finufft
import numpy as np
import pytest

from live_bcdi.dynamical import Characteristics, along_diffracted, detector
from live_bcdi.dynamical.detector import FarField, departures, frame_at, pixel_momenta, pixel_samples
from live_bcdi.geometry import q_crystal_invA, rocking_circle, two_theta_deg
from live_bcdi.types import Geometry, Rotation, ScanError

GEOMETRY = Geometry(
    energy_kev=9.0,
    distance_m=0.5,
    pixel_um=(55.0, 55.0),
    arm_pixel=(12.0, 16.0),
    beam_direction=(0.0, 0.0, 1.0),
    row_direction=(0.0, -1.0, 0.0),
    column_direction=(1.0, 0.0, 0.0),
    sample=(Rotation(motor="theta", axis=(0.0, 1.0, 0.0), angle_deg=10.0),),
    arm=(
        Rotation(motor="delta", axis=(0.0, 1.0, 0.0), angle_deg=32.1),
        Rotation(motor="gamma", axis=(-1.0, 0.0, 0.0), angle_deg=12.6),
    ),
    rocking="theta",
)
PEAK = (11.0, 17.0)


def grid(shape, edges):
    return np.meshgrid(*[(np.arange(n) - n // 2) * step for n, step in zip(shape, edges)], indexing="ij")


def test_the_far_field_is_the_sum():
    rng = np.random.default_rng(0)
    wave = rng.normal(size=(2, 8, 7)) + 1j * rng.normal(size=(2, 8, 7))
    edges = np.array([2e-8, 3e-8])
    momenta = 3e8 * rng.normal(size=(4, 5, 3, 2))  # also beyond what the grid has: it is periodic
    x, y = grid((8, 7), edges)
    phases = momenta[..., :1, None] * x + momenta[..., 1:, None] * y
    expected = np.einsum("nxy,rcsxy->nrcs", wave, np.exp(-1j * phases))
    field = FarField(momenta, edges)
    np.testing.assert_allclose(field.amplitudes(wave), expected, atol=1e-10)
    np.testing.assert_allclose(field.intensities(wave), np.mean(np.abs(expected) ** 2, axis=-1), rtol=1e-9)
    by = rng.normal(size=(2, 4, 5))
    step = 1e-6 * (rng.normal(size=wave.shape) + 1j * rng.normal(size=wave.shape))
    change = np.sum(by * (field.intensities(wave + step) - field.intensities(wave - step)))
    known = field.pull_back(wave, by, field.amplitudes(wave))
    np.testing.assert_array_equal(known, field.pull_back(wave, by))
    assert 2 * np.sum((np.conj(field.pull_back(wave, by)) * step).real) == pytest.approx(change, rel=1e-7)


def test_single_precision():
    """2e-5 of the largest amplitude, and four times that where such amplitudes are transformed back."""
    rng = np.random.default_rng(1)
    wave = rng.normal(size=(3, 40, 36)) + 1j * rng.normal(size=(3, 40, 36))
    field, by = FarField(3e8 * rng.normal(size=(30, 20, 2, 2)), np.array([2e-8, 3e-8])), rng.random((3, 30, 20))
    for name, given, tolerance in (("amplitudes", (), 4e-5), ("pull_back", (by,), 2e-4)):
        double, single = (getattr(field, name)(wave.astype(kind), *given) for kind in (complex, np.complex64))
        assert single.dtype == np.complex64
        np.testing.assert_allclose(single, double, atol=tolerance * np.abs(double).max())


@pytest.mark.parametrize("count", [1, 2, 5])
def test_threads_give_the_same_bits(count):
    rng = np.random.default_rng(2)
    wave = (rng.normal(size=(count, 30, 32)) + 1j * rng.normal(size=(count, 30, 32))).astype(np.complex64)
    given, by = (1e8 * rng.normal(size=(20, 24, 1, 2)), np.array([2e-8, 3e-8])), rng.random((count, 20, 24))
    alone, abreast = FarField(*given), FarField(*given, threads=3)
    np.testing.assert_array_equal(abreast.amplitudes(wave), alone.amplitudes(wave))
    np.testing.assert_array_equal(abreast.pull_back(wave, by), alone.pull_back(wave, by))


def test_a_weak_scan_is_the_transform_on_the_measured_grid():
    """Frames of a sheared grid: |A(q)|^2 at the q that `geometry` has for every pixel of every frame. The
    tangent plane and the crystal's own turning cost a percent of the peak of the outermost frames."""
    frame = frame_at(GEOMETRY, *PEAK)
    assert frame.two_theta == pytest.approx(np.deg2rad(two_theta_deg(GEOMETRY, *PEAK)), abs=1e-12)
    edges = np.array([2.5e-8, 2.5e-8, 2.5e-8 / np.tan(frame.two_theta)])
    chi = {"chi_0": 0j, "chi_h": 1e-9 + 0j, "chi_hbar": 1e-9 + 0j}
    beams = along_diffracted(frame.wavelength_m, frame.two_theta, **chi)
    rng = np.random.default_rng(1)
    density = np.zeros((24, 20, 20), complex)
    density[6:16, 5:14, 6:15] = np.exp(1j * rng.normal(size=(10, 9, 9)))
    centre = rocking_circle(GEOMETRY).angle_deg
    angles = centre + np.linspace(-0.06, 0.06, 5)
    turns = departures(GEOMETRY, *PEAK, angles)
    eh = Characteristics(beams, edges).march(density, np.abs(density), turns).eh
    found = FarField(pixel_samples(GEOMETRY, PEAK, (24, 32)), edges).intensities(eh)
    rows, columns = np.meshgrid(np.arange(24), np.arange(32), indexing="ij")
    start = q_crystal_invA(GEOMETRY, centre, *PEAK)
    inside = np.nonzero(density)
    places = np.stack([axis[inside] for axis in grid(density.shape, edges)], axis=1)
    for k, angle in enumerate(angles):
        q = 1e10 * (q_crystal_invA(GEOMETRY, angle, rows, columns) - start) @ frame.axes.T
        expected = np.abs(np.exp(-1j * q @ places.T) @ density[inside]) ** 2
        scale = np.abs(0.5 * beams.wave_number * chi["chi_h"] * edges[2]) ** 2
        np.testing.assert_allclose(found[k] / scale, expected, atol=0.02 * expected.max())


def test_samples_fill_the_pixel():
    samples = pixel_samples(GEOMETRY, PEAK, (3, 4), across=4)
    assert samples.shape == (3, 4, 16, 2)
    middles = pixel_momenta(GEOMETRY, PEAK, *np.meshgrid(range(3), range(4), indexing="ij"))
    np.testing.assert_allclose(samples.mean(axis=2), middles, atol=1e-4 * np.abs(middles).max())
    spread = samples[1, 1].max(axis=0) - samples[1, 1].min(axis=0)
    whole = pixel_samples(GEOMETRY, PEAK, (3, 4), across=400)[1, 1]
    np.testing.assert_allclose(spread, 0.75 * (whole.max(axis=0) - whole.min(axis=0)), rtol=1e-2)


def pixels_mirrored(patch):
    flipped = SimpleNamespace(
        nufft2d2=lambda *given, isign, **rest: finufft.nufft2d2(*given, isign=-isign, **rest),
        nufft2d1=lambda *given, isign, **rest: finufft.nufft2d1(*given, isign=-isign, **rest),
    )
    patch.setattr(detector, "finufft", flipped)


def left_handed(patch):
    whole = frame_at

    def mirrored(*given):
        frame = whole(*given)
        return replace(frame, axes=frame.axes * [[1], [-1], [1]])

    patch.setattr(detector, "frame_at", mirrored)


def turned_back(patch):
    whole = departures
    patch.setitem(globals(), "departures", lambda *given: -whole(*given))


@pytest.mark.parametrize("change", [pixels_mirrored, left_handed, turned_back])
def test_a_mutant_fails(change, monkeypatch):
    change(monkeypatch)
    with pytest.raises(AssertionError):
        test_a_weak_scan_is_the_transform_on_the_measured_grid()


def test_what_cannot_be_used():
    with pytest.raises(ScanError, match="direct beam"):
        frame_at(replace(GEOMETRY, arm=()), 12.0, 16.0)
    with pytest.raises(ScanError, match="pairs"):
        FarField(np.zeros((4, 3)), np.ones(2))

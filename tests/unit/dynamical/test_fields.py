"""The exit waves against an integration of the equations as they stand (no gauge, no splitting) by the exponential
Heun rule of the paper, against each other, and against the paper's gold cube."""

import os

import numpy as np
import pytest

from live_bcdi.dynamical import Characteristics, FourierShift, along_diffracted, fields, transport_of
from live_bcdi.types import ScanError

WAVELENGTH = 12.398419843320026e-10 / 8
TWO_THETA = np.deg2rad(44.76)
K = 2 * np.pi / WAVELENGTH
# gold (002), 8 keV, pi polarised: the paper's, with the absorption that the tables have
GOLD = {"chi_0": -9.407e-5 + 0.850e-5j, "chi_h": 5.255e-5 - 0.599e-5j, "chi_hbar": 5.255e-5 - 0.599e-5j}


def voxel(dx):
    return np.array([dx, dx, dx / np.tan(TWO_THETA)])


def blob(shape, edges, *, radius=0.25e-6, seed=0):
    """A smooth strained crystal, its density a function of position; (S, s0)."""
    rng = np.random.default_rng(seed)
    axes = [(np.arange(n) - n // 2) * step for n, step in zip(shape, edges)]
    x, y, z = np.meshgrid(*axes, indexing="ij")
    return smooth(x, y, z, rng.normal(size=3), radius)


def smooth(x, y, z, slopes, radius=0.25e-6):
    s0 = np.exp(-(((x**2 + y**2 + z**2) / radius**2) ** 2))
    phase = 3 * (slopes[0] * x * z + slopes[1] * x**2 + slopes[2] * y * z) / radius**2
    return 0.9 * s0 * np.exp(1j * phase), s0


def heun(sampled, shape, edges, delta_q, chi):
    """Eh at the exit by the exponential Heun rule in the transverse Fourier space (paper, Eq. 3, its sign and its
    2 pi put right): density at (x, y, z) from `sampled`, the rocking phase in the coupling, no splitting."""
    axes = [(np.arange(n) - n // 2) * step for n, step in zip(shape[:2], edges)]
    x, y = np.meshgrid(*axes, indexing="ij")
    rate = np.tan(TWO_THETA) * 2 * np.pi * np.fft.fftfreq(shape[0], edges[0])[:, None]
    step, z = edges[2], -(shape[2] // 2 + 0.5) * edges[2]
    carry = np.exp(1j * rate * step)

    def coupled(e0, eh, z):
        density, s0 = sampled(x, y, z)
        shifted = density * np.exp(1j * (delta_q[0] * x + delta_q[1] * y + delta_q[2] * z))
        by_0 = 0.5j * K / np.cos(TWO_THETA) * (chi["chi_0"] * s0 * e0 + chi["chi_hbar"] * np.conj(shifted) * eh)
        return by_0, 0.5j * K * (chi["chi_0"] * s0 * eh + chi["chi_h"] * shifted * e0)

    def moved(e0):
        return np.fft.ifft(np.fft.fft(e0, axis=0) * carry, axis=0)

    e0, eh = np.ones(shape[:2], complex), np.zeros(shape[:2], complex)
    for _ in range(shape[2]):
        d0, dh = coupled(e0, eh, z)
        guess = coupled(moved(e0 + step * d0), eh + step * dh, z + step)
        e0 = moved(e0 + 0.5 * step * d0) + 0.5 * step * guess[0]
        eh = eh + 0.5 * step * (dh + guess[1])
        z += step
    return eh


def test_orders_of_convergence_and_one_limit():
    """Strang and Heun err by dz^2, with other errors, and tend to the same fields; the transports agree."""
    slopes, angle = np.array([0.7, -0.4, 0.5]), 4e-4
    strong = {name: 6 * value for name, value in GOLD.items()}
    beams = along_diffracted(WAVELENGTH, TWO_THETA, **strong)
    delta_q = beams.turned([angle])
    dx, nx = 12.5e-9, 192
    strang, rule, whole = [], [], []
    for slices in (36, 72, 144):
        edges = np.array([dx, dx, 0.9e-6 / slices])
        axes = [(np.arange(n) - n // 2) * step for n, step in zip((nx, 2, slices), edges)]
        middle = 0.5 * edges[2]  # n is even: the middle of the volume is half a slice before voxel n//2's centre
        x, y, z = np.meshgrid(axes[0], axes[1], axes[2] + middle, indexing="ij")
        density, s0 = smooth(x, y, z, slopes)
        passage = FourierShift(beams, edges).march(density, s0, delta_q)
        strang.append(passage.eh[0] * np.exp(1j * delta_q[0, 2] * middle))

        def sampled(x, y, z, middle=middle):
            return smooth(x, y, z + middle, slopes)

        found = heun(sampled, (nx, 2, slices), edges, delta_q[0], strong)
        rule.append(found * np.exp(1j * delta_q[0, 2] * middle))
    for series in (strang, rule):
        steps = [np.abs(series[i + 1] - series[i]).max() for i in range(2)]
        assert np.log2(steps[0] / steps[1]) == pytest.approx(2, abs=0.25)
    limits = [series[2] + (series[2] - series[1]) / 3 for series in (strang, rule)]
    assert np.abs(limits[0]).max() > 0.3
    np.testing.assert_allclose(limits[0], limits[1], atol=1e-3 * np.abs(limits[1]).max())
    for n in (48, 96):
        edges = voxel(0.9e-6 / n)
        shape = (2 * n, 2, n)
        volume = blob(shape, edges)
        pair = [kind(beams, edges).march(*volume, delta_q).eh for kind in (Characteristics, FourierShift)]
        whole.append(np.abs(pair[0] - pair[1]).max() / np.abs(pair[0]).max())
    assert max(whole) < 1e-9  # a smooth crystal is moved by a whole pixel without error


def test_curvature_is_the_ewald_sphere():
    """In the weak limit a slice at z gives the momentum q a phase sqrt(k^2 - q^2) z, and not k z."""
    n, edges = 64, np.array([8e-9, 8e-9, 4e-8])
    density = np.zeros((n, n, 28), complex)
    x = (np.arange(n) - n // 2) * edges[0]
    density[:, :, 4] = 1e-6 * np.exp(-(x[:, None] ** 2 + x**2) / (2 * 20e-9**2))
    beams = along_diffracted(WAVELENGTH, TWO_THETA, **GOLD)
    no_turn = beams.turned([0.0])
    flat, curved = (
        np.fft.fft2(FourierShift(beams, edges, curvature=on).march(density, 0 * density.real, no_turn).eh[0])
        for on in (False, True)
    )
    q = 2 * np.pi * np.fft.fftfreq(n, edges[0])
    expected = np.exp(1j * (28 - 4.5) * edges[2] * (np.sqrt(K**2 - q[:, None] ** 2 - q**2) - K))
    there = np.abs(flat) > 1e-3 * np.abs(flat).max()
    assert np.abs(expected[there] - 1).max() > 0.2
    np.testing.assert_allclose((curved / flat)[there], expected[there], atol=1e-4)


def test_a_translation_moves_the_fields():
    """By whole voxels: across, the fields; along z, E0's place; the rocking phase goes with the crystal."""
    edges, angle = voxel(2e-8), np.array([3e-4])
    rng = np.random.default_rng(5)
    density, s0 = np.zeros((64, 8, 24), complex), np.zeros((64, 8, 24))
    density[30:44, 2:5, 4:18] = rng.random((14, 3, 14)) * np.exp(1j * rng.normal(size=(14, 3, 14)))
    s0[30:44, 2:5, 4:18] = 1
    moved = [np.roll(each, (3, 1, 2), axis=(0, 1, 2)) for each in (density, s0)]
    beams = along_diffracted(WAVELENGTH, TWO_THETA, **GOLD)
    first, second = (
        Characteristics(beams, edges).march(*volume, beams.turned(angle)) for volume in ((density, s0), moved)
    )
    phase = np.exp(1j * beams.turned(angle)[0] @ (np.array([3, 1, 2]) * edges))
    np.testing.assert_allclose(second.eh, np.roll(first.eh, (3, 1), axis=(1, 2)) * phase, atol=1e-12)
    np.testing.assert_allclose(second.e0, np.roll(first.e0, (3 + 2, 1), axis=(1, 2)), atol=1e-12)


def test_a_phase_ramp_is_a_rotation():
    """S exp(i delta_q.r) at no turn diffracts as S turned by dtheta."""
    edges, angle = voxel(2e-8), 5e-4
    density, s0 = blob((32, 4, 24), edges)
    beams = along_diffracted(WAVELENGTH, TWO_THETA, **GOLD)
    places = np.meshgrid(*[(np.arange(n) - n // 2) * d for n, d in zip(density.shape, edges)], indexing="ij")
    ramped = density * np.exp(1j * np.tensordot(beams.turned([angle])[0], places, 1))
    turned = Characteristics(beams, edges).march(density, s0, beams.turned([angle]))
    still = Characteristics(beams, edges).march(ramped, s0, beams.turned([0.0]))
    np.testing.assert_allclose(still.eh, turned.eh, atol=1e-12)
    np.testing.assert_allclose(still.e0, turned.e0, atol=1e-12)


def test_single_precision_and_threads():
    edges = voxel(2e-8)
    density, s0 = blob((32, 5, 24), edges)
    angles = np.linspace(-1e-3, 1e-3, 40)  # more than a block
    setting = (tuple(edges), WAVELENGTH, TWO_THETA)
    double = fields(density, s0, *setting, **GOLD, dthetas=angles)
    single = fields(density.astype(np.complex64), s0, *setting, **GOLD, dthetas=angles)
    alone = fields(density, s0, *setting, **GOLD, dthetas=angles[33:34])
    assert single[1].dtype == np.complex64 and double[1].shape == (40, 32, 5)
    for one, two, three in zip(double, single, alone):
        np.testing.assert_allclose(two, one, atol=2e-5)
        np.testing.assert_allclose(three[0], one[33], atol=1e-13)


def test_the_gold_cube_of_the_paper():
    """1 um, (002), 8 keV, pi, within 0.2 degrees: refraction moves the rocking curve's centroid by 2.05 mdeg, and
    the crystal diffracts 0.517 of what the transform has (found by another program with tabulated constants; the
    constants here are the paper's, and both numbers depend on them in the second digit)."""
    n, fine, turn = 66, 4, TWO_THETA / 2
    edges = voxel(1.4e-6 / 64)
    x, z = ((np.arange(n * fine) - n // 2 * fine - fine / 2 + 0.5) * d / fine for d in (edges[0], edges[2]))
    along, across = np.cos(turn) * x[:, None] + np.sin(turn) * z, np.cos(turn) * z - np.sin(turn) * x[:, None]
    inside = (np.abs(along) < 0.5e-6) & (np.abs(across) < 0.5e-6)
    part = inside.reshape(n, fine, n, fine).mean(axis=(1, 3))[:, None]
    degrees, curves = np.linspace(-0.2, 0.2, 257), []
    for share in (1.0, 1e-4):
        chi = {name: share * value for name, value in GOLD.items()}
        setting = (tuple(edges), WAVELENGTH, TWO_THETA)
        _, eh = fields(part.astype(complex), part, *setting, **chi, dthetas=np.deg2rad(degrees))
        curves.append(np.sum(np.abs(eh) ** 2, axis=(1, 2)) / share**2)
    middles = [1e3 * np.sum(degrees * curve) / curve.sum() for curve in curves]
    assert middles[0] - middles[1] == pytest.approx(2.05, abs=0.1)
    assert curves[0].sum() / curves[1].sum() == pytest.approx(0.517, abs=0.015)


GOOD = {
    "voxel_m": (1e-8, 1e-8, 1e-8),
    "wavelength_m": WAVELENGTH,
    "two_theta": TWO_THETA,
    "dthetas": [0.0],
    **GOLD,
}


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"two_theta": 2.0}, "bisector"),
        ({"two_theta": 0.0}, "two_theta"),
        ({"wavelength_m": -1.0}, "wavelength"),
        ({"voxel_m": (1e-8, 1e-8)}, "voxel_m"),
        ({"voxel_m": 0.0}, "voxel_m"),
        ({"dthetas": []}, "an angle"),
        ({"dthetas": [np.nan]}, "finite"),
        ({"chi_0": complex(np.nan)}, "finite"),
        ({"chi_0": -9e-5 - 1e-6j}, "absorbs"),
        ({"chi_h": 94.0 + 0j}, "no X-rays"),
        ({"S": np.ones((3, 3), complex)}, "one shape"),
        ({"s0": np.ones((3, 3, 4))}, "one shape"),
        ({"S": np.full((3, 3, 3), np.inf + 0j)}, "finite"),
        ({"transport": "magic"}, "magic"),
        ({"transport": "characteristics"}, "FourierShift"),
        ({"device": "abacus"}, "abacus"),
    ],
)
def test_what_cannot_be_used(changed, says):
    good = GOOD | {"S": np.ones((3, 3, 3), complex), "s0": np.ones((3, 3, 3))} | changed
    if "device" in changed:
        good["voxel_m"] = tuple(voxel(1e-8))
    with pytest.raises(ScanError, match=says):
        fields(**good)


def test_threads_are_as_many_as_are_asked_for():
    beams = along_diffracted(WAVELENGTH, TWO_THETA, **GOLD)
    edges = tuple(voxel(2e-8))
    assert transport_of(beams, edges, 8, device="cpu")._kernels._threads == 1
    assert transport_of(beams, edges, 8, device="cpu", threads=3)._kernels._threads == 3
    assert transport_of(beams, edges, 8, device="cpu", threads=0)._kernels._threads == len(os.sched_getaffinity(0))
    crystal = blob((12, 8, 10), edges)
    given = (edges, WAVELENGTH, TWO_THETA, *GOLD.values(), [0.0, 1e-4])
    alone, shared = (fields(*crystal, *given, device="cpu", threads=threads) for threads in (1, 3))
    for one, other in zip(alone, shared):
        np.testing.assert_array_equal(one, other)

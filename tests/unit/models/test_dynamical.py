"""The reversed march against torch's own gradient of the same march written in torch, and against differences."""

import numpy as np
import pytest
import torch

from live_bcdi.dynamical import Beams, Characteristics, FourierShift, along_diffracted
from live_bcdi_models.dynamical import exit_waves

K, TWO_THETA = 2 * np.pi / 1.55e-10, 0.78
EDGES = np.array([2e-8, 2e-8, 2e-8 / np.tan(TWO_THETA)])
CHI = {"chi_0": 10 * (-9.4e-5 + 0.9e-5j), "chi_h": 10 * (5.2e-5 - 0.6e-5j), "chi_hbar": 10 * (5.1e-5 + 0.5e-5j)}
BEAMS = along_diffracted(2 * np.pi / K, TWO_THETA, **CHI)
TILTED = Beams(wave_number=K, k0=(-0.28, 0.0, 0.96), kh=(0.48, 0.6, 0.64), **CHI)


def crystal(shape=(9, 3, 6)):
    rng = np.random.default_rng(3)
    inside = np.zeros(shape, bool)
    inside[1:-2, :-1, 1:-1] = rng.random((shape[0] - 3, shape[1] - 1, shape[2] - 2)) < 0.9
    density = np.where(inside, rng.normal(size=shape) + 1j * rng.normal(size=shape), 0)
    return inside, density, np.where(inside, rng.random(shape), 0)


def by_torch(density, s0, delta_q):
    """Eh of the characteristic march, by torch.matrix_exp and its own gradient; row by row, slice by slice."""
    a0, ah, b, c = BEAMS.generator(EDGES[2])
    nx, ny, nz = density.shape
    generator = torch.stack([a0 * s0, b * density.conj(), c * density, ah * s0], -1).reshape(nx, ny, nz, 2, 2)
    there = torch.matrix_exp(generator)
    e0 = torch.ones(len(delta_q), nx, ny, dtype=density.dtype)
    fh = torch.zeros_like(e0)
    turn = torch.exp(-1j * delta_q[:, 2] * EDGES[2])[:, None, None]
    for j in range(nz):
        if j:
            e0 = torch.cat([e0[:, 1:], torch.ones_like(e0[:, :1])], 1)
            fh = fh * turn
        m = there[:, :, j]
        e0, fh = m[..., 0, 0] * e0 + m[..., 0, 1] * fh, m[..., 1, 0] * e0 + m[..., 1, 1] * fh
    x, y = ((torch.arange(n, dtype=torch.float64) - n // 2) * step for n, step in zip((nx, ny), EDGES))
    place = (
        delta_q[:, :1, None] * x[:, None]
        + delta_q[:, 1:2, None] * y
        + delta_q[:, 2:, None] * ((nz - 1 - nz // 2) * EDGES[2])
    )
    return fh * torch.exp(1j * place)


def by_march(*all_):
    return exit_waves(Characteristics(BEAMS, EDGES), *all_)[1]


@pytest.mark.parametrize(("kind", "tolerance"), [(np.complex128, 1e-10), (np.complex64, 1e-4)])
def test_the_gradient_is_torchs(kind, tolerance):
    """Torch's in double precision, ours in both."""
    inside, density, s0 = crystal()
    turns = BEAMS.turned([-1e-3, 0.0, 2e-3])
    measured = torch.rand(3, *density.shape[:2], generator=torch.Generator().manual_seed(0))
    found = []
    for wave, kept in ((by_torch, density), (by_march, density.astype(kind))):
        leaves = [torch.tensor(each, requires_grad=True) for each in (kept, s0.astype(kept.real.dtype), turns)]
        eh = wave(*leaves)
        loss = torch.sum((torch.abs(torch.fft.fft2(eh)) - measured) ** 2)
        loss.backward()
        found.append((loss.item(), *(leaf.grad.numpy() for leaf in leaves)))
    expected, ours = found
    assert ours[0] == pytest.approx(expected[0], rel=0.01 * tolerance)
    assert ours[1].dtype == kind
    for wanted, got in zip(expected[1:3], ours[1:3]):
        np.testing.assert_allclose(got[inside], wanted[inside], atol=tolerance * np.abs(wanted).max())
    np.testing.assert_allclose(ours[3], expected[3], atol=tolerance * np.abs(expected[3]).max())


@pytest.mark.parametrize(
    "transport",
    [
        Characteristics(BEAMS, EDGES),
        Characteristics(BEAMS, EDGES * [1, 1, 2]),
        FourierShift(BEAMS, EDGES * [1, 1, 0.7]),
        FourierShift(BEAMS, EDGES, curvature=True),
        FourierShift(TILTED, EDGES),
        FourierShift(TILTED, EDGES, curvature=True),
    ],
)
def test_gradients_by_differences(transport):
    """Both fields, everything that can be varied, in double precision."""
    rng = np.random.default_rng(4)
    inside, density, s0 = crystal()
    turns = BEAMS.turned([-1e-3, 2e-3]) + np.array([0, 1e5, 0])
    by = rng.normal(size=(2, 2, *density.shape[:2])) + 1j * rng.normal(size=(2, 2, *density.shape[:2]))

    def value(*all_):
        passage = transport.march(*all_)
        return np.sum((np.conj(by[0]) * passage.e0 + np.conj(by[1]) * passage.eh).real)

    found = transport.march(density, s0, turns).pull_back(*by)
    along = (
        inside * (rng.normal(size=density.shape) + 1j * rng.normal(size=density.shape)),
        inside * rng.normal(size=density.shape),
        1e6 * rng.normal(size=turns.shape),
    )
    for k, gradient in enumerate((found.density, found.s0, found.delta_q)):
        steps = [np.zeros_like(each) for each in along]
        steps[k] = 1e-5 * along[k]
        up = value(density + steps[0], s0 + steps[1], turns + steps[2])
        down = value(density - steps[0], s0 - steps[1], turns - steps[2])
        assert np.sum((np.conj(gradient) * along[k]).real) == pytest.approx((up - down) / 2e-5, rel=1e-5)


def test_single_precision_has_the_same_gradient():
    _, density, s0 = crystal((40, 3, 30))
    turns = BEAMS.turned(np.linspace(-1e-3, 1e-3, 5))
    rng = np.random.default_rng(6)
    by = rng.normal(size=(5, 40, 3)) + 1j * rng.normal(size=(5, 40, 3))
    double, single = (
        Characteristics(BEAMS, EDGES).march(density.astype(kind), s0, turns).pull_back(None, by)
        for kind in (np.complex128, np.complex64)
    )
    assert single.density.dtype == np.complex64
    for name in ("density", "s0", "delta_q"):
        wanted, got = getattr(double, name), getattr(single, name)
        np.testing.assert_allclose(got, wanted, atol=1e-4 * np.abs(wanted).max())


def test_views_that_torch_conjugates_or_negates_later_are_taken_as_they_are_meant():
    _, density, s0 = crystal()
    turned = [torch.from_numpy(density).conj(), torch.from_numpy(1j * s0).conj().imag]
    assert turned[1].is_neg()
    delta_q = torch.from_numpy(BEAMS.turned([1e-4]))
    transport = Characteristics(BEAMS, EDGES)
    found = exit_waves(transport, *turned, delta_q)[1]
    np.testing.assert_array_equal(found, transport.march(density.conj(), -s0, delta_q.numpy()).eh)

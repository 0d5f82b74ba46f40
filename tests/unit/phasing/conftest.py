"""A small crystal whose object is known: an irregular polyhedron with a smooth phase, in a 32^3 volume."""

from dataclasses import dataclass

import numpy as np
import pytest
from numpy.typing import NDArray


@dataclass(frozen=True, kw_only=True)
class Known:
    density: NDArray[np.complex64]
    support: NDArray[np.bool_]
    intensity: NDArray[np.float64]


def crystal(shape=(32, 32, 32), strain_rad=1.0) -> NDArray[np.complex64]:
    x, y, z = np.meshgrid(*[np.arange(n) - n // 2 for n in shape], indexing="ij")
    # no inversion centre: a centrosymmetric support cannot tell the object from its twin
    inside = (x > -6) & (x < 5) & (y > -5) & (y < 6) & (z > -6) & (z < 6) & (x + y + z < 7) & (x - 2 * y < 8)
    phase = strain_rad * (np.sin(0.35 * x + 0.2) + 0.5 * np.cos(0.3 * y + 0.15 * z))
    return np.where(inside, np.exp(1j * phase), 0).astype(np.complex64)


@pytest.fixture(scope="session")
def known() -> Known:
    density = crystal()
    transform = np.fft.fftshift(np.fft.fftn(density))
    photons = 1e7 / np.sum(np.abs(transform) ** 2)
    counts = np.random.default_rng(1).poisson(photons * np.abs(transform) ** 2)
    return Known(density=density, support=density != 0, intensity=counts.astype(float))

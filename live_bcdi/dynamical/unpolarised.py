"""Unpolarised light: half is polarised across the scattering plane, half in it; the two do not interfere."""

import numpy as np

from ..geometry import Floats
from ..types import ComplexArray, FloatArray
from .transport import Gradient, Passage, Transport


class Unpolarised:
    """`Transport` of both polarisations, each marched with its own C: `sigma` with the chi_h of C = 1, `pi` with
    that of cos two_theta (`Beams.in_plane`). Fields are (n, 2, nx, ny), of amplitude 1 each where they come in;
    `FarField` counts the mean of their intensities, so that what refines with one transport does with this."""

    def __init__(self, sigma: Transport, pi: Transport) -> None:
        self._two = sigma, pi

    @property
    def identity(self) -> str:
        return f"unpolarised {' '.join(each.identity for each in self._two)}"

    def march(self, density: ComplexArray, s0: FloatArray, delta_q: Floats) -> "UnpolarisedPassage":
        sigma, pi = (each.march(density, s0, delta_q) for each in self._two)
        return UnpolarisedPassage(sigma, pi)


class UnpolarisedPassage:
    """`Passage` of two."""

    def __init__(self, sigma: Passage, pi: Passage) -> None:
        self._two = sigma, pi
        self.eh: ComplexArray = np.stack([sigma.eh, pi.eh], axis=1)

    @property
    def e0(self) -> ComplexArray:
        return np.stack([each.e0 for each in self._two], axis=1)

    def pull_back(self, by_e0: ComplexArray | None, by_eh: ComplexArray | None) -> Gradient:
        one, other = (
            each.pull_back(*(None if by is None else by[:, number] for by in (by_e0, by_eh)))
            for number, each in enumerate(self._two)
        )
        return Gradient(
            density=one.density + other.density, s0=one.s0 + other.s0, delta_q=one.delta_q + other.delta_q
        )

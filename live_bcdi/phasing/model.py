"""What a detector is expected to count of an object: c(q) = (gamma * |F|^2)(q) + b.

gamma is the coherence kernel, |F|^2 blurred by the finite coherence of the beam (and by whatever else blurs it, as
a pixel does); b is a background, the same in every voxel. Without either c = |F|^2.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from ..types import FloatArray, ScanError
from .kernels_numpy import Object, PhasingKernels, per_start

Floats = NDArray[np.floating[Any]]
_AXES = (1, 2, 3)
_TINY = np.float32(1e-30)


@dataclass(frozen=True, kw_only=True, slots=True)
class Model:
    """Of one object, on the host: `coherence` is gamma, (odd, odd, odd) voxels of q about q = 0, not negative,
    symmetric, of sum 1, or None for a coherent beam; `background` is b in counts a voxel."""

    coherence: NDArray[np.float64] | None = None
    background: float = 0.0

    def __post_init__(self) -> None:
        gamma = self.coherence
        if gamma is not None and (gamma.ndim != 3 or not all(n % 2 for n in gamma.shape)):
            raise ScanError(f"a coherence kernel has three odd lengths, not {gamma.shape}")
        if not (np.isfinite(self.background) and self.background >= 0):
            raise ScanError(f"the background is a number of counts, not {self.background}")

    def expected(self, power: FloatArray) -> NDArray[np.float64]:
        """c of a centred |F|^2, (rocking, row, column); periodic."""
        blurred = np.asarray(power, np.float64)
        if self.coherence is not None:
            transfer = _transfer(self.coherence, power.shape)
            blurred = np.maximum(fft.irfftn(fft.rfftn(blurred) * transfer, power.shape), 0)
        return blurred + self.background

    def modulus(self, transform: Object) -> FloatArray:
        """sqrt(c) of a centred transform F: |F| itself for a coherent beam without background."""
        if self.coherence is None and self.background == 0:
            return np.abs(transform)
        return np.sqrt(self.expected(transform.real**2 + transform.imag**2))

    def metrics(self) -> dict[str, float]:
        """What was estimated, by name; empty for a coherent beam without background."""
        if self.coherence is None and self.background == 0:
            return {}
        names = ("coherence_width_rocking", "coherence_width_row", "coherence_width_column")
        return {"background_counts": self.background, **dict(zip(names, self.widths()))}

    def widths(self) -> tuple[float, float, float]:
        """Standard deviation of gamma along each axis, in voxels of q; 0 for a coherent beam."""
        if self.coherence is None:
            return 0.0, 0.0, 0.0
        rocking, row, column = (_deviation(self.coherence, axis) for axis in range(3))
        return rocking, row, column

    def coherence_length_nm(
        self, direct_basis_nm: NDArray[np.float64], shape: tuple[int, ...]
    ) -> tuple[float, ...]:
        """Along each axis of the object, in nm: for a Gaussian gamma of deviation w voxels the mutual coherence of
        two points m voxels apart is exp(-m^2 / 2 xi^2), xi = N / (2 pi w) (the xi of a Gaussian Schell-model beam;
        Vartanyants & Singer, New J. Phys. 12, 035004 (2010)). Infinite for a coherent beam. `direct_basis_nm` is
        that of `geometry.direct_basis_nm`, and what is meant are separations along its columns."""
        edges = np.linalg.norm(direct_basis_nm, axis=0)
        return tuple(
            float(edge * n / (2 * np.pi * width)) if width > 0 else float("inf")
            for edge, n, width in zip(edges, shape, self.widths(), strict=True)
        )


COHERENT = Model()


@dataclass(frozen=True, kw_only=True, slots=True)
class Models:
    """Of all starts, on the kernels' machine: `coherence` (starts, odd, odd, odd), `transfer` its Fourier
    transform (starts, rocking, row, column), real since gamma is symmetric; `background` (starts,). None where not
    used."""

    coherence: Floats | None = None
    transfer: NDArray[np.float32] | None = None
    background: Floats | None = None

    def project(self, kernels: PhasingKernels, density: Object, out: Object) -> NDArray[np.float64]:
        """As `PhasingKernels.project`, with F sqrt(I / c) in place of F sqrt(I) / |F| and sum((sqrt(c) -
        sqrt(I))^2) for the misfit (Clark et al., Nature Comm. 3, 993 (2012)). Not strictly a projection."""
        if self.transfer is None and self.background is None:
            return kernels.project(density, out)
        kernels.transform(density, out)
        root = np.sqrt(self.expected(kernels, out))
        wanted = kernels.moduli()
        measured = wanted >= 0
        short = np.where(measured, root - wanted, 0)
        misfit: NDArray[np.float64] = np.sum(short**2, axis=_AXES, dtype=np.float64)
        out *= np.where(measured, wanted / np.maximum(root, _TINY), np.float32(1))
        kernels.inverse(out, out)
        return misfit

    def expected(self, kernels: PhasingKernels, transform: Object) -> Floats:
        """c of transforms F, (starts, rocking, row, column)."""
        counts: Floats = transform.real**2 + transform.imag**2
        if self.transfer is not None:
            # rounding leaves a transform with some 1e-7 of the bright voxels in the dark ones; gamma(0) |F|^2 is
            # the least that c can be
            least = per_start(self._at_zero()) * counts
            counts = np.maximum(self.blurred(kernels, counts).real, least)
        return counts if self.background is None else counts + per_start(self.background)

    def blurred(self, kernels: PhasingKernels, values: NDArray[Any]) -> NDArray[Any]:
        """gamma * values; of complex ones both parts, each by itself. Its own adjoint: gamma is symmetric."""
        if self.transfer is None:
            return values
        buffer = kernels.empty(len(values))
        buffer[...] = values
        kernels.transform(buffer, buffer)
        buffer *= self.transfer
        kernels.inverse(buffer, buffer)
        return buffer

    def _at_zero(self) -> Floats:
        assert self.coherence is not None
        a, b, c = (n // 2 for n in self.coherence.shape[1:])
        return self.coherence[:, a, b, c].astype(np.float32)

    def alone(self, start: int) -> "Models":
        """Those of one start, as views."""
        own = slice(start, start + 1)
        parts = (self.coherence, self.transfer, self.background)
        gamma, transfer, level = (None if part is None else part[own] for part in parts)
        return Models(coherence=gamma, transfer=transfer, background=level)

    def of(self, kernels: PhasingKernels, start: int) -> Model:
        """That of one start, on the host; of one that is not finite, a coherent beam without background."""
        gamma = None if self.coherence is None else kernels.get(self.coherence[start]).astype(np.float64)
        level = 0.0 if self.background is None else float(kernels.get(self.background[start : start + 1])[0])
        if not np.isfinite(level) or (gamma is not None and not np.isfinite(gamma).all()):
            return Model()
        return Model(coherence=gamma, background=level)


def with_coherence(kernels: PhasingKernels, models: Models, gamma: Floats) -> Models:
    """The same models with another gamma, (starts, odd, odd, odd)."""
    lengths = zip(kernels.moduli().shape, gamma.shape[1:], strict=True)
    waves = [kernels.put(_waves(n, edge // 2).astype(np.complex64)) for n, edge in lengths]
    transfer: NDArray[np.float32] = kernels.empty(len(gamma)).real
    for start, kernel in zip(transfer, gamma.astype(np.complex64)):  # one by one: the same bits in any company
        for wave in waves:
            kernel = np.tensordot(kernel, wave, axes=(0, 1))  # the new axis goes last: they rotate
        start[...] = kernel.real
    return Models(coherence=gamma, transfer=transfer.copy(), background=models.background)


def batched(kernels: PhasingKernels, models: list[Model]) -> Models:
    """Models of some starts as one. Raises ScanError where coherence kernels differ in shape."""
    gammas = [each.coherence for each in models if each.coherence is not None]
    background = np.array([each.background for each in models], np.float32)
    together = Models(background=kernels.put(background) if background.any() else None)
    if not gammas:
        return together
    if len({gamma.shape for gamma in gammas}) > 1:
        raise ScanError("the starts have coherence kernels of different shapes")
    coherent = np.zeros(gammas[0].shape)
    coherent[tuple(np.array(coherent.shape) // 2)] = 1
    every = [coherent if each.coherence is None else each.coherence for each in models]
    return with_coherence(kernels, together, kernels.put(np.array(every)))


def _waves(n: int, half: int) -> NDArray[np.complex128]:
    """exp(-2 pi i m j / n) for m = 0 ... n - 1 and j = -half ... half, (n, 2 half + 1)."""
    return np.asarray(np.exp(-2j * np.pi / n * np.outer(np.arange(n), np.arange(-half, half + 1))))


def _transfer(gamma: NDArray[np.float64], shape: tuple[int, ...]) -> NDArray[np.complex128]:
    """The half of gamma's transform that `rfftn` has."""
    a, b, c = (_waves(n, length // 2) for n, length in zip(shape, gamma.shape))
    return np.asarray(np.einsum("jkl,aj,bk,cl->abc", gamma, a, b, c[: shape[2] // 2 + 1], optimize=True))


def _deviation(gamma: NDArray[np.float64], axis: int) -> float:
    profile = gamma.sum(axis=tuple(k for k in range(3) if k != axis))
    place = np.arange(len(profile)) - len(profile) // 2
    return float(np.sqrt(np.sum(profile * place**2) / np.sum(profile)))

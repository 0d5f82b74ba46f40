"""`live-bcdi bench`: what an iteration costs, as a ratio to its two Fourier transforms in the same run.

Times are medians of interleaved repeats, so that a busy machine slows both sides of a ratio.
"""

import statistics
import time
import tracemalloc
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyfftw
from scipy import fft

from .estimate import warm_up
from .phasing import Pattern, as_recipe, retrieve
from .phasing.kernels_cpu import Kernels as CpuKernels
from .phasing.kernels_numpy import Kernels as NumpyKernels
from .phasing.operators import ER, HIO, RAAR, ShrinkWrap, State
from .phasing.recipe import Operator
from .pipeline import reconstruct
from .types import RockingScan

Shape = tuple[int, int, int]
BACKENDS: Mapping[str, Callable[..., Any]] = {"numpy": NumpyKernels, "cpu": CpuKernels}
PER_SHRINKWRAP = 10


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """One backend at one shape: milliseconds of wall time a step; `pair_ms` is that of the transforms alone."""

    shape: Shape
    backend: str
    threads: int
    pair_ms: float
    fft: str
    steps_ms: Mapping[str, float]

    def ratios(self) -> dict[str, float]:
        """Each step over the two transforms alone."""
        return {name: step / self.pair_ms for name, step in self.steps_ms.items()}


def phasing(shapes: Sequence[Shape], *, threads: int = 1, repeats: int = 7) -> list[Row]:
    """ER, HIO, RAAR, and HIO with shrinkwrap every iteration and every tenth, for each shape and backend.

    The pair of a backend is its own transform library's forward and inverse of the whole array, in place where
    the library can: scipy for numpy, FFTW with its measured plan for cpu.
    """
    return [_row(shape, backend, threads, repeats) for shape in shapes for backend in BACKENDS]


def _row(shape: Shape, backend: str, threads: int, repeats: int) -> Row:
    state = _state(shape, backend, threads)
    name, pair = _pair(shape, backend, threads)
    steps = {
        "ER": lambda: _apply(state, ER()),
        "HIO": lambda: _apply(state, HIO()),
        "RAAR": lambda: _apply(state, RAAR()),
        "HIO+SW every": lambda: _apply(state, HIO(), ShrinkWrap()),
        "HIO+SW tenth": lambda: _apply(state, *[HIO()] * PER_SHRINKWRAP, ShrinkWrap()),
    }
    times = _interleaved({"pair": pair, **steps}, repeats)
    times["HIO+SW tenth"] /= PER_SHRINKWRAP
    pair_ms = times.pop("pair")
    return Row(shape=shape, backend=backend, threads=threads, pair_ms=pair_ms, fft=name, steps_ms=times)


def _apply(state: State, *operators: Operator) -> None:
    for operator in operators:
        operator.apply(state)


def _interleaved(steps: Mapping[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Median milliseconds of each step; every repeat does each once. The first is not counted."""
    times: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(repeats + 1):
        for name, step in steps.items():
            began_s = time.perf_counter()
            step()
            times[name].append((time.perf_counter() - began_s) * 1e3)
    return {name: statistics.median(values[1:]) for name, values in times.items()}


def _state(shape: Shape, backend: str, threads: int) -> State:
    """A box with a smooth phase, its pattern with noise, and the box as support."""
    support = np.zeros(shape, bool)
    support[tuple(slice(n // 2 - n // 6, n // 2 + n // 6) for n in shape)] = True
    phase = sum(np.cos(2 * np.pi * axis / n) for axis, n in zip(np.ogrid[tuple(map(slice, shape))], shape))
    crystal = np.where(support, np.exp(1j * phase), 0).astype(np.complex64)
    intensity = np.fft.fftshift(np.abs(fft.fftn(crystal)) ** 2)
    counts = np.random.default_rng(0).poisson(intensity * (1e7 / intensity.sum()))
    kernels = BACKENDS[backend](np.sqrt(counts).astype(np.float32), threads)
    density = kernels.empty(1)
    density[...] = kernels.put(crystal)
    return State(
        kernels=kernels, density=density, projected=kernels.empty(1), support=kernels.put(support[None].copy())
    )


def _pair(shape: Shape, backend: str, threads: int) -> tuple[str, Callable[[], object]]:
    if backend == "numpy":
        array = np.ones(shape, np.complex64)
        return "scipy", lambda: fft.ifftn(fft.fftn(array, workers=threads), workers=threads, overwrite_x=True)
    array = pyfftw.empty_aligned(shape, np.complex64)
    flags = ("FFTW_MEASURE",)
    forward = pyfftw.FFTW(array, array, (0, 1, 2), "FFTW_FORWARD", flags, threads)
    inverse = pyfftw.FFTW(array, array, (0, 1, 2), "FFTW_BACKWARD", flags, threads)
    array[...] = 0

    def both() -> None:
        forward.execute()
        inverse.execute()

    return "FFTW measured", both


@dataclass(frozen=True, kw_only=True, slots=True)
class Memory:
    """Peak of one start in complex64 volumes of `shape`."""

    shape: Shape
    volumes: float


def memory(shape: Shape) -> Memory:
    """Peak of what numpy and FFTW's aligned arrays allocate, the pattern given to it not included."""
    warm_up()  # what the first retrieval of a process loads is not its memory
    pattern = np.random.default_rng(0).standard_gamma(1.0, shape, np.float32)
    given = Pattern(intensity=pattern, mask=np.zeros(shape, bool))
    tracemalloc.start()
    try:
        retrieve(given, as_recipe("3*HIO + ShrinkWrap + 3*ER"))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    return Memory(shape=shape, volumes=peak / (8 * float(np.prod(shape))))


@dataclass(frozen=True, kw_only=True, slots=True)
class TimeToChi:
    """A whole retrieval of a scan with default settings: its chi, and the wall and CPU seconds it took."""

    name: str
    chi: float
    wall_s: float
    cpu_s: float


def time_to_chi(scan: RockingScan, *, threads: int = 1) -> TimeToChi:
    """Default `reconstruct` after a warm-up; CPU time is that of all threads."""
    warm_up()
    wall_s, cpu_s = time.perf_counter(), time.process_time()
    result = reconstruct(scan, threads=threads)
    return TimeToChi(
        name=scan.name,
        chi=result.chi,
        wall_s=time.perf_counter() - wall_s,
        cpu_s=time.process_time() - cpu_s,
    )

"""`live-bcdi bench`: what an iteration costs, as a ratio to its two Fourier transforms in the same run.

Times are medians of interleaved repeats, so that a busy machine slows both sides of a ratio.
"""

import multiprocessing
import statistics
import time
import tracemalloc
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from scipy import fft

from .estimate import warm_up
from .peer import STEPS, PeerRun, run_cohere
from .phasing import Pattern, Plan, Start, parse, retrieve
from .phasing.automatic import choose, traits_of
from .phasing.coarse import retrieve_coarse
from .phasing.devices import device_of
from .phasing.engine import KernelFactory, Retrieval, retrieve_all
from .phasing.generations import Generation, generations
from .phasing.kernels_cpu import Kernels as CpuKernels
from .phasing.kernels_numpy import Amplitude, Mix, Object
from .phasing.kernels_numpy import Kernels as NumpyKernels
from .phasing.operators import ER, HIO, RAAR, ShrinkWrap, State
from .phasing.recipe import Operator
from .pipeline import reconstruct
from .preprocess import diffraction_volume
from .transforms import Step, pairs
from .types import BoolArray, RockingScan, ScanError

Shape = tuple[int, int, int]
PER_SHRINKWRAP = 10
ABREAST = 20
_LOOK_EVERY = 10
_MEMORY_RECIPE = "3*HIO + ShrinkWrap + 3*ER"


def backends() -> dict[str, KernelFactory]:
    """The kernels of every machine there is: "cuda" only where it can be used."""
    found: dict[str, KernelFactory] = {"numpy": NumpyKernels, "cpu": CpuKernels}
    with suppress(ScanError):
        found["cuda"] = device_of("cuda").kernels
    return found


def batching() -> list[str]:
    """The backends that are made to work on many starts; the oracle is not."""
    return [name for name in backends() if name != "numpy"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """One backend at one shape: milliseconds of wall time a step, of the transforms alone by each library
    (`pairs_ms`), and of the fastest of these (`pair_ms`, its name `fft`)."""

    shape: Shape
    backend: str
    threads: int
    pair_ms: float
    fft: str
    steps_ms: Mapping[str, float]
    pairs_ms: Mapping[str, float]

    def ratios(self) -> dict[str, float]:
        """Each step over the fastest two transforms alone."""
        return {name: step / self.pair_ms for name, step in self.steps_ms.items()}


def phasing(shapes: Sequence[Shape], *, threads: int = 1, repeats: int = 7) -> list[Row]:
    """ER, HIO, RAAR, and HIO with shrinkwrap every iteration and every tenth, for each shape and backend."""
    return [_row(shape, name, threads, repeats) for shape in shapes for name in backends()]


def _row(shape: Shape, backend: str, threads: int, repeats: int) -> Row:
    state = _state(shape, backend, threads)
    alone = _cufft(shape) if backend == "cuda" else pairs(shape, threads=threads)
    steps: dict[str, Step] = {
        "ER": lambda: _apply(state, ER()),
        "HIO": lambda: _apply(state, HIO()),
        "RAAR": lambda: _apply(state, RAAR()),
        "HIO+SW every": lambda: _apply(state, HIO(), ShrinkWrap()),
        "HIO+SW tenth": lambda: _apply(state, *[HIO()] * PER_SHRINKWRAP, ShrinkWrap()),
    }
    times = _interleaved({**alone, **steps}, repeats, state.kernels.settle)
    times["HIO+SW tenth"] /= PER_SHRINKWRAP
    pairs_ms = {name: times.pop(name) for name in alone}
    best = min(pairs_ms, key=lambda name: pairs_ms[name])
    return Row(
        shape=shape,
        backend=backend,
        threads=threads,
        pair_ms=pairs_ms[best],
        fft=best,
        steps_ms=times,
        pairs_ms=pairs_ms,
    )


def _cufft(shape: Shape) -> dict[str, Step]:
    from .phasing.kernels_cuda import transforms_alone  # needs cupy, which few machines have

    return {"cuFFT": transforms_alone(shape)}


def _apply(state: State, *operators: Operator) -> None:
    for operator in operators:
        operator.apply(state)
    state.misfits.clear()


def _interleaved(steps: Mapping[str, Step], repeats: int, settle: Step) -> dict[str, float]:
    """Median milliseconds of each step until it has settled; every repeat does each once. The first is not
    counted."""
    times: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(repeats + 1):
        for name, step in steps.items():
            settle()
            began_s = time.perf_counter()
            step()
            settle()
            times[name].append((time.perf_counter() - began_s) * 1e3)
    return {name: statistics.median(values[1:]) for name, values in times.items()}


def _crystal(shape: Shape) -> tuple[np.ndarray, np.ndarray]:
    """A box with a smooth phase, and where it is."""
    support = np.zeros(shape, bool)
    support[tuple(slice(n // 2 - n // 6, n // 2 + n // 6) for n in shape)] = True
    phase = sum(np.cos(2 * np.pi * axis / n) for axis, n in zip(np.ogrid[tuple(map(slice, shape))], shape))
    return np.where(support, np.exp(1j * phase), 0).astype(np.complex64), support


def _pattern(shape: Shape) -> Pattern:
    """What the box scatters: ten million photons with their noise."""
    intensity = np.fft.fftshift(np.abs(fft.fftn(_crystal(shape)[0])) ** 2)
    counts = np.random.default_rng(0).poisson(intensity * (1e7 / intensity.sum()))
    return Pattern(intensity=counts.astype(np.float32), mask=np.zeros(shape, bool))


def _state(shape: Shape, backend: str, threads: int, starts: int = 1) -> State:
    """The box's pattern and the box itself, as often as there are starts."""
    crystal, support = _crystal(shape)
    kernels = backends()[backend](_pattern(shape).amplitude(), threads)
    density = kernels.empty(starts)
    density[...] = kernels.put(crystal)
    supports = kernels.put(np.repeat(support[None], starts, axis=0))
    return State(kernels=kernels, density=density, projected=kernels.empty(starts), support=supports)


@dataclass(frozen=True, kw_only=True, slots=True)
class Abreast:
    """One HIO iteration of `starts` starts: together along their leading axis, and one after the other."""

    shape: Shape
    backend: str
    starts: int
    together_ms: float
    one_by_one_ms: float


def abreast(shape: Shape, backend: str, *, threads: int = 1, starts: int = ABREAST, repeats: int = 3) -> Abreast:
    """Whether a batch is cheaper than its starts."""
    many, one = (_state(shape, backend, threads, count) for count in (starts, 1))
    steps: dict[str, Step] = {
        "many": lambda: _apply(many, HIO()),
        "one": lambda: _apply(one, *[HIO()] * starts),
    }
    times = _interleaved(steps, repeats, many.kernels.settle)
    return Abreast(
        shape=shape, backend=backend, starts=starts, together_ms=times["many"], one_by_one_ms=times["one"]
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class Memory:
    """Peak of one start of the cpu kernels in complex64 volumes of `shape`: what numpy and FFTW's aligned arrays
    allocate, and what the process holds of the machine's memory (None where the system does not tell)."""

    shape: Shape
    volumes: float
    resident: float | None


def memory(shape: Shape) -> Memory:
    """Peak of a retrieval, the pattern given to it not included. In a process of its own: memory that an earlier
    retrieval left to the allocator would hide that of this one."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        resident = pool.submit(_peak_resident, shape).result()
        traced = pool.submit(_peak_traced, shape).result()
    volume = 8 * float(np.prod(shape))
    return Memory(shape=shape, volumes=traced / volume, resident=None if resident is None else resident / volume)


def _retrieval(shape: Shape) -> Callable[[], object]:
    warm_up()  # what the first retrieval of a process loads is not its memory
    pattern = np.random.default_rng(0).standard_gamma(1.0, shape, np.float32)
    given = Pattern(intensity=pattern, mask=np.zeros(shape, bool))
    return lambda: retrieve(given, parse(_MEMORY_RECIPE))


def _peak_traced(shape: Shape) -> float:
    run = _retrieval(shape)
    tracemalloc.start()
    try:
        run()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def _peak_resident(shape: Shape) -> float | None:
    """Growth of the resident set to its high-water mark, bytes; Linux counts it, and forgets it on a written 5."""
    process = Path("/proc/self")
    if not (process / "clear_refs").exists():
        return None
    run = _retrieval(shape)
    (process / "clear_refs").write_text("5")
    before = _status_bytes("VmRSS")
    run()
    return _status_bytes("VmHWM") - before


def _status_bytes(key: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(1024 * float(line.split()[1]) for line in lines if line.startswith(f"{key}:"))


@dataclass(frozen=True, kw_only=True, slots=True)
class TimeToChi:
    """A whole retrieval of a scan with default settings: its chi, and the wall and CPU seconds it took."""

    name: str
    chi: float
    wall_s: float
    cpu_s: float
    starts: int


def time_to_chi(scan: RockingScan, *, threads: int = 1, starts: int | None = None) -> TimeToChi:
    """Default `reconstruct` after a warm-up, from the counts to the strain; CPU time is that of all threads."""
    warm_up()
    wall_s, cpu_s = time.perf_counter(), time.process_time()
    result = reconstruct(scan, Plan(threads=threads, starts=starts))
    return TimeToChi(
        name=scan.name,
        chi=result.chi,
        wall_s=time.perf_counter() - wall_s,
        cpu_s=time.process_time() - cpu_s,
        starts=len(result.chi_starts),
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class Reached:
    """The chi that a retrieval would have returned if it had been stopped at this time."""

    wall_s: float
    cpu_s: float
    chi: float


def chi_curve(scan: RockingScan, *, threads: int = 1) -> list[Reached]:
    """One start of the default recipe on the CPU, from the counts on: every new best chi, and when. There is no
    other start to be guided by. What looking costs is not counted."""
    warm_up()
    watch = _Watch()
    volume = diffraction_volume(scan)
    pattern = Pattern(intensity=volume.intensity, mask=volume.mask)
    start = Start(seed=int(np.random.SeedSequence(0).generate_state(1)[0]))
    for generation in generations(choose(pattern, traits_of(pattern)).recipe):
        end = _followed(pattern, generation, start, threads, watch)
        watch.saw(end.chi)
        start = Start(initial=end.density)
    best = np.minimum.accumulate([point.chi for point in watch.points])
    return [point for point, least, before in zip(watch.points, best, [np.inf, *best]) if least < before]


def _followed(pattern: Pattern, now: Generation, start: Start, threads: int, watch: "_Watch") -> Retrieval:
    def watched(amplitude: Amplitude, workers: int) -> CpuKernels:
        return _WatchedKernels(amplitude, workers, watch, pattern.total_counts)

    def retrieve_now(seen: Pattern, starts: Sequence[Start]) -> list[Retrieval]:
        kernels = watched if now.by == 1 else CpuKernels  # the chi of coarse voxels is another one
        return retrieve_all(seen, now.recipe, starts, threads=threads, kernels=kernels)

    if now.by == 1:
        return retrieve_now(pattern, [start])[0]
    return retrieve_coarse(pattern, now.by, [start], retrieve_now)[0]


class _Watch:
    """Wall and CPU seconds since it was made, less those of its pauses."""

    def __init__(self) -> None:
        self.points: list[Reached] = []
        self._wall_s, self._cpu_s = time.perf_counter(), time.process_time()

    @contextmanager
    def paused(self) -> Iterator[None]:
        wall_s, cpu_s = time.perf_counter(), time.process_time()
        yield
        self._wall_s += time.perf_counter() - wall_s
        self._cpu_s += time.process_time() - cpu_s

    def saw(self, chi: float) -> None:
        """Write down `chi`, now."""
        wall_s, cpu_s = time.perf_counter() - self._wall_s, time.process_time() - self._cpu_s
        self.points.append(Reached(wall_s=wall_s, cpu_s=cpu_s, chi=chi))


class _WatchedKernels(CpuKernels):
    """Finds out after every tenth update what chi the object has in its support; the iterations do not see it."""

    def __init__(self, amplitude: Amplitude, threads: int, watch: _Watch, total_counts: float) -> None:
        super().__init__(amplitude, threads)
        self._watch, self._total_counts, self._updates = watch, total_counts, 0
        self._scratch = self.empty(1)

    def mix(self, density: Object, projected: Object, support: BoolArray, weights: Mix) -> None:
        super().mix(density, projected, support, weights)
        self._updates += 1
        if self._updates % _LOOK_EVERY:
            return
        with self._watch.paused():
            chi = float(self.project(density * support, self._scratch)[0]) / self._total_counts
        self._watch.saw(chi)


def cohere_row(shape: Shape, python: Path, row: Row) -> Row:
    """cohere_core's iterations on the same pattern, beside the transforms of `row`, measured just before."""
    pattern = _pattern(shape)
    runs = {name: run_cohere(python, pattern, step, threads=row.threads) for name, step in STEPS.items()}
    steps_ms = {name: run.wall_s / run.iterations * 1e3 for name, run in runs.items()}
    return replace(row, backend=f"cohere {runs['ER'].version}", steps_ms=steps_ms)


def cohere_scan(scan: RockingScan, python: Path, *, threads: int = 1) -> PeerRun:
    """cohere_core's own recipe for scan 54 on the volume that we phase."""
    volume = diffraction_volume(scan)
    return run_cohere(python, Pattern(intensity=volume.intensity, mask=volume.mask), threads=threads)

"""What the CUDA kernels cost: HIO over its two cuFFTs, starts abreast against starts alone, and memory a start.

python benchmarks/gpu.py                  # 128^3 and 256^3; needs cupy and a device
python benchmarks/gpu.py --lengths 96 --starts 8

NO FIGURE EXISTS YET: this has not been run, for want of a device. Aims: a ratio of 1.4 or less at 128^3 and 256^3,
20 starts abreast cheaper than 20 alone, 6 complex64 volumes a start or less.

Times are between CUDA events, about many steps in a queue, so that the host's own time shows only where the device
waits for it; medians of rounds in which each thing is timed once.
"""

import argparse
import statistics
from collections.abc import Callable, Mapping

import cupy as cp
import numpy as np
from cupy.cuda import cufft
from cupyx.scipy.fft import get_fft_plan

from live_bcdi.phasing.devices import device_of
from live_bcdi.phasing.kernels_cuda import Kernels
from live_bcdi.phasing.operators import DM, HIO, ShrinkWrap, State
from live_bcdi.phasing.recipe import Recipe, parse

Step = Callable[[], None]
MEMORY_RECIPE = "2*HIO + ShrinkWrap + 2*DM + ShrinkWrap(smallest=0.01) + PhaseRange + Detwin + ER"


def begin(length: int, starts: int) -> State:
    """Noise with the right counts: what an iteration costs does not depend on the object."""
    random = np.random.default_rng(0)
    shape = (length, length, length)
    kernels = Kernels(np.sqrt(random.standard_gamma(1.0, shape, np.float32)))
    density, support = kernels.empty(starts), np.zeros((starts, *shape), bool)
    support[:, length // 3 : -length // 3, length // 3 : -length // 3, length // 3 : -length // 3] = True
    on_device = kernels.put(support)
    density[...] = 1
    density *= on_device
    return State(kernels=kernels, density=density, projected=kernels.empty(starts), support=on_device)


def pair(state: State) -> Step:
    """The two transforms alone, as an iteration has them: out of place and back in place, with one plan."""
    plan = get_fft_plan(state.density, axes=(1, 2, 3))

    def both() -> None:
        plan.fft(state.density, state.projected, cufft.CUFFT_FORWARD)
        plan.fft(state.projected, state.projected, cufft.CUFFT_INVERSE)

    return both


def follow(state: State, recipe: Recipe) -> Step:
    operators = list(recipe)

    def step() -> None:
        for operator in operators:
            operator.apply(state)
        del state.misfits[:-1]

    return step


def milliseconds(steps: Mapping[str, Step], *, rounds: int, queued: int) -> dict[str, float]:
    """Median of one step, `queued` at a time."""
    for step in steps.values():
        step()
    times: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(rounds):
        for name, step in steps.items():
            start, end = cp.cuda.Event(), cp.cuda.Event()
            start.record()
            for _ in range(queued):
                step()
            end.record()
            end.synchronize()
            times[name].append(cp.cuda.get_elapsed_time(start, end) / queued)
    return {name: statistics.median(each) for name, each in times.items()}


def speed(length: int, starts: int, rounds: int) -> None:
    one, many = begin(length, 1), begin(length, starts)
    tenth = 10 * HIO() + ShrinkWrap()
    quick = milliseconds(
        {"pair": pair(one), "HIO": follow(one, HIO()), "tenth": follow(one, tenth), "DM": follow(one, DM())},
        rounds=rounds,
        queued=20,
    )
    slow = milliseconds(
        {
            "pair": pair(many),
            "HIO": follow(many, HIO()),
            "tenth": follow(many, tenth),
            "alone": follow(one, starts * HIO()),
        },
        rounds=rounds,
        queued=3,
    )
    for count, times in ((1, quick), (starts, slow)):
        ratios = times["HIO"] / times["pair"], times["tenth"] / 10 / times["pair"]
        print(
            f"{length}^3, {count:2d} abreast: two cuFFTs {times['pair']:.3f} ms, HIO {times['HIO']:.3f} ms,"
            f" ratio {ratios[0]:.2f}, with shrinkwrap each tenth {ratios[1]:.2f}"
        )
    print(f"{length}^3: {starts} abreast {slow['HIO']:.3f} ms an iteration, by themselves {slow['alone']:.3f} ms")


def memory(length: int, starts: int) -> None:
    """Peak of the pool in complex64 volumes a start, the pattern's own included."""
    pool = cp.get_default_memory_pool()
    pool.free_all_blocks()
    before = pool.total_bytes()
    state = begin(length, starts)
    follow(state, parse(MEMORY_RECIPE))()
    state.kernels.settle()
    volumes = (pool.total_bytes() - before) / (8 * length**3 * starts)
    print(f"{length}^3, {starts:2d} abreast: {volumes:.2f} complex64 volumes a start")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lengths", type=int, nargs="*", default=(128, 256))
    parser.add_argument("--starts", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=9)
    options = parser.parse_args()
    device = device_of("cuda")
    name = cp.cuda.runtime.getDeviceProperties(cp.cuda.Device().id)["name"].decode()
    print(f"{name}, cupy {cp.__version__}, cuFFT {cufft.getVersion()}")
    for length in options.lengths:
        starts = min(options.starts, device.abreast((length, length, length)))
        for count in (1, starts):
            memory(length, count)
        speed(length, starts, options.rounds)


if __name__ == "__main__":
    main()

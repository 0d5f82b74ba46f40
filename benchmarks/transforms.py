"""Forward and inverse transform of a whole complex64 array, by library and shape, beside our modulus projection.

python benchmarks/transforms.py --threads 1
OMP_WAIT_POLICY=passive KMP_BLOCKTIME=0 python benchmarks/transforms.py --threads 2 --shape 128 128 128
python benchmarks/transforms.py --pieces

The variables keep the idle threads of one library from spinning while another is timed.
Milliseconds of wall time, medians of interleaved repeats. The projection is what an iteration does between two
real-space updates: both transforms, the measured moduli, the misfit. `--pieces`: microseconds of what a slab
scheme is made of, 64 contiguous lines of some lengths, in place and from one buffer to another, and square planes.
"""

import argparse
import time
from collections.abc import Mapping
from statistics import median

import numpy as np
import pyfftw

from live_bcdi.phasing.kernels_cpu import Kernels
from live_bcdi.transforms import Step, pairs

SHAPES = [
    (48, 64, 64),
    (64, 64, 64),
    (96, 96, 96),
    (128, 128, 128),
    (160, 128, 128),
    (192, 192, 192),
    (60, 256, 256),
    (256, 256, 210),
    (256, 256, 256),
]
LENGTHS = (48, 60, 64, 96, 128, 160, 192, 210, 256, 512)
PLANES = (64, 96, 128, 192, 256)


def projection(shape: tuple[int, int, int], threads: int) -> Step:
    """Our kernels' modulus projection of one start, with a masked plane."""
    rng = np.random.default_rng(0)
    amplitude = rng.random(shape, np.float32)
    amplitude[0] = -1
    kernels = Kernels(amplitude, threads)
    density, out = kernels.empty(1), kernels.empty(1)
    density[...] = rng.random(shape, np.float32)
    return lambda: kernels.project(density, out)


def lines(length: int, flag: str, *, in_place: bool) -> Step:
    """64 contiguous lines there and back by FFTW, without what other plans have learned."""
    pyfftw.forget_wisdom()
    first = pyfftw.empty_aligned((64, length), np.complex64)
    other = first if in_place else pyfftw.empty_aligned((64, length), np.complex64)
    forward = pyfftw.FFTW(first, other, (1,), "FFTW_FORWARD", (flag,))
    inverse = pyfftw.FFTW(other, first, (1,), "FFTW_BACKWARD", (flag,))
    pyfftw.forget_wisdom()
    first[...] = 0
    return lambda: (forward.execute(), inverse.execute())


def pieces() -> None:
    print("| 64 lines of | estimated in place | estimated to another buffer | measured in place |")
    print("|---|---|---|---|")
    for length in LENGTHS:
        steps = {
            "in place": lines(length, "FFTW_ESTIMATE", in_place=True),
            "to another": lines(length, "FFTW_ESTIMATE", in_place=False),
            "measured": lines(length, "FFTW_MEASURE", in_place=True),
        }
        print(_row(str(length), [1e3 * value for value in milliseconds(steps, 50).values()]))
    print()
    for index, edge in enumerate(PLANES):
        took = milliseconds(pairs((edge, edge)), 50)
        if index == 0:
            print("| plane of | " + " | ".join(took) + " |")
            print("|---|" + "---|" * len(took))
        print(_row(f"{edge} × {edge}", [1e3 * value for value in took.values()]))


def _row(name: str, cells: list[float]) -> str:
    return f"| {name} | " + " | ".join(f"{value:.0f}" for value in cells) + " |"


def milliseconds(steps: Mapping[str, Step], repeats: int) -> dict[str, float]:
    """Median of each; every repeat does each once, and the first does not count."""
    times: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(repeats + 1):
        for name, step in steps.items():
            began = time.perf_counter()
            step()
            times[name].append(1e3 * (time.perf_counter() - began))
    return {name: median(each[1:]) for name, each in times.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", type=int, nargs=3, action="append")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--pieces", action="store_true")
    asked = parser.parse_args()
    if asked.pieces:
        pieces()
        return
    for index, shape in enumerate(map(tuple, asked.shape or SHAPES)):
        steps = {**pairs(shape, threads=asked.threads), "our projection": projection(shape, asked.threads)}
        if index == 0:
            print("| shape | " + " | ".join(steps) + " | over the fastest pair |")
            print("|---|" + "---|" * (len(steps) + 1))
        took = milliseconds(steps, asked.repeats)
        ours = took["our projection"]
        fastest = min(value for name, value in took.items() if name != "our projection")
        cells = " | ".join(f"{value:.1f}" for value in took.values())
        print(f"| {' × '.join(map(str, shape))} | {cells} | {ours / fastest:.2f} |", flush=True)


if __name__ == "__main__":
    main()

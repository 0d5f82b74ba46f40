"""Forward and inverse transform of a whole complex64 array, by library and shape, beside our modulus projection.

python benchmarks/transforms.py --threads 1
python benchmarks/transforms.py --threads 2 --shape 128 128 128

Milliseconds of wall time, medians of interleaved repeats. The projection is what an iteration does between two
real-space updates: both transforms, the measured moduli, the misfit.
"""

import argparse
import time
from collections.abc import Mapping
from statistics import median

import numpy as np

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


def projection(shape: tuple[int, int, int], threads: int) -> Step:
    """Our kernels' modulus projection of one start, with a masked plane."""
    rng = np.random.default_rng(0)
    amplitude = rng.random(shape, np.float32)
    amplitude[0] = -1
    kernels = Kernels(amplitude, threads)
    density, out = kernels.empty(1), kernels.empty(1)
    density[...] = rng.random(shape, np.float32)
    return lambda: kernels.project(density, out)


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
    asked = parser.parse_args()
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

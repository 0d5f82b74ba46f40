"""Phase retrieval, measured: iterations against their own FFTs, and the gold crystal S0054 over several seeds.

python benchmarks/phasing.py fft                     # CPU-ms an iteration and its ratio to the two FFTs
python benchmarks/phasing.py scan scan.h5 --seeds 3  # chi, agreement, size, time of the default recipe
"""

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyfftw

from live_bcdi.phasing import metrics
from live_bcdi.phasing.align import aligned_to
from live_bcdi.phasing.kernels_cpu import Kernels
from live_bcdi.phasing.kernels_numpy import Mix
from live_bcdi.pipeline import reconstruct
from live_bcdi.strain import extent_nm
from live_bcdi.transport.hdf5 import read_scan

SHAPES = [(64, 64, 64), (96, 128, 128), (128, 128, 128), (192, 192, 192)]


def cpu_ms(work: Callable[[], object], repeats: int = 9) -> float:
    """Median CPU time of a call, the first two (compilation, cold caches) left out."""
    times = []
    for _ in range(repeats + 2):
        began = time.process_time()
        work()
        times.append(time.process_time() - began)
    return 1e3 * float(np.median(times[2:]))


def fft_pair_ms(shape: tuple[int, int, int]) -> float:
    """The fastest pair there is to compare with: FFTW with measured plans, in place, one thread."""
    array = pyfftw.empty_aligned(shape, np.complex64)
    plans = [
        pyfftw.FFTW(array, array, axes=(0, 1, 2), direction=way, flags=("FFTW_MEASURE",), threads=1)
        for way in ("FFTW_FORWARD", "FFTW_BACKWARD")
    ]
    array[...] = 1
    return cpu_ms(lambda: [plan.execute() for plan in plans])


def measure_iterations() -> None:
    print(f"{'shape':>16} {'FFT pair':>9} {'HIO':>9} {'ratio':>6} {'+ shrinkwrap/10':>16} {'ratio':>6}   (CPU-ms)")
    for shape in SHAPES:
        rng = np.random.default_rng(0)
        amplitude = rng.random(shape, np.float32)
        support = rng.random(shape) < 0.1
        kernels = Kernels(amplitude)
        density, projected = kernels.empty(), kernels.empty()
        density[...] = rng.random(shape, np.float32)

        def hio(
            kernels: Kernels = kernels,
            density: np.ndarray = density,
            projected: np.ndarray = projected,
            support: np.ndarray = support,
        ) -> None:
            kernels.project(density, projected)
            kernels.mix(density, projected, support, Mix(1.0, 0.0, -0.9, 1.0))

        pair, iteration = fft_pair_ms(shape), cpu_ms(hio)
        smooth = cpu_ms(lambda kernels=kernels, projected=projected: kernels.smooth(projected, 1.0))
        wrapped = iteration + smooth / 10
        print(
            f"{shape!s:>16} {pair:9.2f} {iteration:9.2f} {iteration / pair:6.2f}"
            f" {wrapped:16.2f} {wrapped / pair:6.2f}"
        )


def measure_scan(path: Path, seeds: int, threads: int) -> None:
    scan = read_scan(path)
    found = []
    for seed in range(seeds):
        wall, cpu = time.perf_counter(), time.process_time()
        result = reconstruct(scan, seed=seed, threads=threads)
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        found.append(result.density)
        assert result.lab is not None and result.resolution is not None
        size = " x ".join(f"{edge:.0f}" for edge in extent_nm(result.lab.support, result.lab.voxel_nm))
        spread = float(np.angle(result.lab.density[result.lab.support]).std())
        print(
            f"seed {seed}: chi {result.chi:.5f} (worst start {max(result.chi_starts):.4f}),"
            f" deviance {result.metrics['poisson_deviance']:.3f}, first mode {result.metrics['first_mode']:.3f},"
            f" resolution {result.resolution.resolution_nm:.1f} nm, lab x y z {size} nm,"
            f" phase std {spread:.2f} rad, {wall:.1f} s, {cpu:.1f} CPU-s"
        )
    aligned = [found[0], *(aligned_to(found[0], each) for each in found[1:])]
    print(f"first mode of the {seeds} results: {metrics.first_mode(aligned):.4f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["fft", "scan"])
    parser.add_argument("path", type=Path, nargs="?")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    asked = parser.parse_args()
    if asked.what == "fft":
        measure_iterations()
    elif asked.path is None:
        parser.error("scan needs the path of a scan; make it with live-bcdi import")
    else:
        measure_scan(asked.path, asked.seeds, asked.threads)


if __name__ == "__main__":
    main()

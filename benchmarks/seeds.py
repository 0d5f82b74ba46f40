"""The default recipe on one scan from several seeds: chi, size, time of each, and how far they agree.

    python benchmarks/seeds.py scan.h5 --seeds 10

What an iteration costs is measured by `live-bcdi bench phasing`.
"""

import argparse
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from live_bcdi.phasing import Plan, metrics
from live_bcdi.phasing.align import aligned_to
from live_bcdi.pipeline import reconstruct
from live_bcdi.strain import extent_nm
from live_bcdi.transport.hdf5 import read_scan
from live_bcdi.types import RockingScan


def measure_scan(scan: RockingScan, seeds: int, threads: int) -> None:
    found = []
    for seed in range(seeds):
        wall, cpu = time.perf_counter(), time.process_time()
        result = reconstruct(scan, Plan(seed=seed, threads=threads))
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
    parser.add_argument("scan", type=Path, help="made with live-bcdi import")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--without-flatfield", action="store_true")
    asked = parser.parse_args()
    scan = read_scan(asked.scan)
    measure_scan(replace(scan, flatfield=None) if asked.without_flatfield else scan, asked.seeds, asked.threads)


if __name__ == "__main__":
    main()

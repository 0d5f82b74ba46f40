"""What an iteration of HIO costs a voxel, by the length of the array: which lengths are good ones.

python benchmarks/fft_lengths.py           # lengths of factors 2, 3, 5, 7 and the primes beside some of them
"""

import argparse
import time

import numpy as np

from live_bcdi.phasing import Pattern, Start, parse, retrieve

LENGTHS = (90, 96, 97, 98, 100, 101, 104, 105, 108, 110, 112, 113, 120, 121, 125, 126, 127, 128, 140, 144, 160)


def ns_a_voxel(length: int, axis: int, iterations: int, other: int) -> float:
    """Of `iterations` of HIO on an array of `length` along `axis` and `other` along the two others."""
    shape = [other, other, other]
    shape[axis] = length
    counts = np.random.default_rng(0).poisson(3.0, shape).astype(np.float32)
    pattern = Pattern(intensity=counts, mask=np.zeros(shape, bool))
    support = np.zeros(shape, bool)
    support[tuple(slice(n // 3, 2 * n // 3) for n in shape)] = True
    times = []
    for recipe in (parse("2*HIO"), parse(f"{iterations + 2}*HIO")):
        best = np.inf
        for _ in range(3):
            began_s = time.perf_counter()
            retrieve(pattern, recipe, start=Start(seed=0, support=support))
            best = min(best, time.perf_counter() - began_s)
        times.append(best)
    return (times[1] - times[0]) / iterations / counts.size * 1e9


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lengths", type=int, nargs="*", default=LENGTHS)
    parser.add_argument("--iterations", type=int, default=10)
    parser.add_argument("--other", type=int, default=96, help="length of the two other axes")
    options = parser.parse_args()
    print("| length | along rocking, ns a voxel | along columns, ns a voxel |")
    for length in options.lengths:
        rocking, column = (ns_a_voxel(length, axis, options.iterations, options.other) for axis in (0, 2))
        print(f"| {length} | {rocking:.1f} | {column:.1f} |", flush=True)


if __name__ == "__main__":
    main()

"""Frames a second that the frame writer takes on one core, compression and a flush of every frame included.

python benchmarks/frame_writer.py [FOLDER]
"""

import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from live_bcdi.transport.hdf5 import FrameWriter

CASES = (((256, 256), "i4", 3000, 1000), ((1024, 1024), "u2", 600, 200))  # shape, dtype, frames, wanted a second


def pictures(shape: tuple[int, int], dtype: str) -> list[np.ndarray]:
    """A Bragg peak on a faint background, as counts."""
    random = np.random.default_rng(0)
    rows, columns = np.indices(shape)
    distance = (rows - shape[0] / 2) ** 2 + (columns - shape[1] / 2) ** 2
    return [random.poisson(1e4 * np.exp(-distance / 400) + 0.02).astype(dtype) for _ in range(8)]


def rate_hz(folder: Path, shape: tuple[int, int], dtype: str, frames: int) -> tuple[float, float]:
    """(frames a second, worst frame in ms)."""
    images = pictures(shape, dtype)
    worst_s = 0.0
    began_s = time.perf_counter()
    with FrameWriter(folder / f"{dtype}.h5", shape, dtype) as writer:
        for index in range(frames):
            before_s = time.perf_counter()
            writer.append(images[index % 8], angle_deg=float(index), timestamp_s=float(index))
            worst_s = max(worst_s, time.perf_counter() - before_s)
    return frames / (time.perf_counter() - began_s), worst_s * 1e3


def main() -> None:
    with tempfile.TemporaryDirectory(dir=sys.argv[1] if len(sys.argv) > 1 else None) as folder:
        for shape, dtype, frames, wanted in CASES:
            rate, worst_ms = rate_hz(Path(folder), shape, dtype, frames)
            print(f"{shape} {dtype}: {rate:.0f} frames/s (wanted {wanted}), slowest frame {worst_ms:.1f} ms")


if __name__ == "__main__":
    main()

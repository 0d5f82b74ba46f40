"""What the intake thread of the live consumer pays, by detector size: a frame, a snapshot, a page update; and what
the system takes to hand out memory that is new, which a volume is made of.

python benchmarks/intake.py                        # 256 x 256, 1030 x 1065, 2167 x 2070
python benchmarks/intake.py --shape 512 512 --frames 100
"""

import argparse
import time
from collections.abc import Callable

import numpy as np

from live_bcdi.stream.fakes import plan_of, small_geometry
from live_bcdi.stream.live import LiveRun
from live_bcdi.stream.pixels import warm_up
from live_bcdi.types import Frame, RockingScan

SHAPES = [(256, 256), (1030, 1065), (2167, 2070)]
EDGE = 64


def described_scan(shape: tuple[int, int], frames: int) -> RockingScan:
    """A scan with everything that a frame or a snapshot has to be cut from; its own frames are empty."""
    rng = np.random.default_rng(0)
    return RockingScan(
        name="intake",
        intensity=np.broadcast_to(np.zeros(1, np.uint16), (frames, *shape)),
        angles_deg=np.linspace(30.0, 31.0, frames),
        geometry=small_geometry(),
        bad_pixels=rng.random(shape) < 1e-3,
        flatfield=rng.normal(1.0, 0.02, shape).astype(np.float32),
        saturation_counts=60_000.0,
        hkl=(1.0, 1.0, 1.0),
    )


def pictures(shape: tuple[int, int]) -> list[np.ndarray]:
    """Four frames of sparse counts with a peak in the middle, as a detector gives them."""
    rng = np.random.default_rng(1)
    row, column = np.ogrid[: shape[0], : shape[1]]
    far2 = (row - shape[0] // 2) ** 2 + (column - shape[1] // 2) ** 2
    mean = 0.02 + 1000 / (1 + far2 / 25) ** 2
    return [rng.poisson(mean).astype(np.uint16) for _ in range(4)]


def milliseconds(work: Callable[[], object], repeats: int = 5) -> float:
    """Median wall time of a call."""
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        work()
        times.append(time.perf_counter() - began)
    return 1e3 * float(np.median(times))


def measure(shape: tuple[int, int], frames: int) -> tuple[float, float, float, float]:
    """Median ms of a frame, a snapshot, a page update while the scan runs, and the update that ends it."""
    plan, images = plan_of(described_scan(shape, frames)), pictures(shape)
    warm_up()
    live = LiveRun(plan, time.perf_counter)
    adds, updates, snapshots = [], [], []
    for index in range(frames):
        frame = Frame(
            run=plan.run,
            index=index,
            angle_deg=30.0 + index / (frames - 1),
            monitor=float("nan"),
            timestamp_s=float(index),
            image=images[index % len(images)],
        )
        if index == 1:
            live.assembler.frames[1:] = 0  # what the system takes to hand out memory depends on it, not on us
        adds.append(milliseconds(lambda frame=frame: live.add(frame), 1))
        updates.append(milliseconds(live.update, 1))
        if index % 8 == 7:
            snapshots.append(milliseconds(lambda: live.snapshot(EDGE), 1))
    last = milliseconds(lambda: live.update(at_peak=True), 1)
    return float(np.median(adds)), snapshots[-1], max(updates[frames // 2 :]), last


def new_memory(megabytes: int = 1024) -> tuple[float, float]:
    """Milliseconds to write to a MB, the first time and the second."""
    memory = np.zeros((megabytes, 1_000_000), np.uint8)
    first, second = (milliseconds(lambda: memory.fill(1), 1) for _ in range(2))
    return first / megabytes, second / megabytes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", type=int, nargs=2, action="append", metavar=("ROWS", "COLUMNS"))
    parser.add_argument("--frames", type=int, default=64)
    given = parser.parse_args()
    print("memory: {:.2f} ms to write to a MB the first time, {:.2f} ms the second".format(*new_memory()))
    print(
        f"{'detector':>12} {'add':>8} {f'snapshot({EDGE})':>13} {'update, worst':>14} {'last update':>12}   (ms)"
    )
    for shape in given.shape or SHAPES:
        add, snapshot, update, last = measure(tuple(shape), given.frames)
        print(f"{shape[0]:>5} x {shape[1]:<4} {add:>8.2f} {snapshot:>13.2f} {update:>14.2f} {last:>12.2f}")


if __name__ == "__main__":
    main()

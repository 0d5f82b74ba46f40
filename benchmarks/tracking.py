"""How well the angles of a scan are found from its frames: simulated crystals that jitter by known amounts.

python benchmarks/tracking.py --seeds 4

64 frames of a crystal that fills a sixth of the rocking axis. Root mean square errors in rocking steps, over all
frames and weighted by their counts; shift and stretch of the whole scan, which nothing shows, are not in the
jitter. "std" is what the tracking says its error is. A still crystal that is moved is a false alarm.
"""

import argparse
import time
from pathlib import Path

import numpy as np

from live_bcdi.config import load_config
from live_bcdi.sim import simulate_moving
from live_bcdi.tracking import track_scan

CONFIG = Path("config/34idc.toml")
FRAMES = 64
JITTERS = (0.0, 0.1, 0.3, 0.6)
PHOTONS = (1e5, 1e6, 1e7)


def offsets(size: float, seed: int) -> np.ndarray:
    """Independent offsets of root mean square `size` without shift and stretch."""
    index, drawn = np.arange(FRAMES), np.random.default_rng([seed, 7]).normal(size=FRAMES)
    drawn -= np.polyval(np.polyfit(index, drawn, 1), index)
    return size * drawn / np.sqrt(np.mean(drawn**2))


def row(size: float, photons: float, seeds: int) -> str:
    figures, seconds = [], []
    for seed in range(seeds):
        true = offsets(size, seed)
        scan, _ = simulate_moving(config=load_config(CONFIG), offsets_steps=true, photons=photons, seed=seed)
        clock = time.perf_counter()
        found = track_scan(scan)
        seconds.append(time.perf_counter() - clock)
        counts = scan.intensity.sum(axis=(1, 2))
        error = found.offset_steps - true
        squares = [np.mean(error**2), np.mean(found.std_steps**2)]
        squares += [np.average(values**2, weights=counts) for values in (true, error)]
        figures.append([*squares, found.corrected])
    after, std, before_light, after_light, corrected = np.mean(figures, axis=0)
    shown = " | ".join(f"{np.sqrt(value):.3f}" for value in (after, std, before_light, after_light))
    return f"| {size} | {photons:.0e} | {shown} | {corrected * seeds:.0f} of {seeds} | {np.median(seconds):.1f} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=4)
    asked = parser.parse_args()
    print("| jitter | photons | error | std | jitter, by counts | error, by counts | corrected | s |")
    print("|---|---|---|---|---|---|---|---|")
    for size in JITTERS:
        for photons in PHOTONS:
            print(row(size, photons, asked.seeds), flush=True)


if __name__ == "__main__":
    main()

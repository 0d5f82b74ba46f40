"""How often the next place of a crystal is within the error bars that were foretold.

    python benchmarks/prediction.py [--many 120]

Trajectories have steps of the order of 1: a walk; a drift; both; a drift that itself walks; places that scatter
with no memory; a slow wave, which is none of what is assumed; and a crystal that stands still.
"""

import argparse

import numpy as np
from numpy.typing import NDArray

from live_bcdi.tracking.prediction import foretell

KINDS = ("walk", "drift", "walk and drift", "drift that walks", "scatter", "wave of 25 scans", "still")


def trajectories(kind: str, scans: int, many: int, random: np.random.Generator) -> NDArray[np.float64]:
    """(scans, many) places."""
    time = np.arange(scans)[:, None]
    walk = np.cumsum(random.normal(size=(scans, many)), axis=0)
    drift = random.normal(size=(1, many))
    made = {
        "walk": walk,
        "drift": drift * time,
        "walk and drift": drift * time + 0.5 * walk,
        "drift that walks": np.cumsum(0.2 * walk + drift, axis=0),
        "scatter": random.normal(size=(scans, many)),
        "wave of 25 scans": 5 * np.sin(2 * np.pi * (time / 25 + random.random((1, many)))),
        "still": np.zeros((scans, many)),
    }
    return np.asarray(made[kind], np.float64)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--many", type=int, default=120)
    many = parser.parse_args().many
    random = np.random.default_rng(0)
    print("| motion | error bar | after 3 scans | 10 scans | 30 scans | median std, rms error after 30 |")
    print("|---|---|---|---|---|---|")
    for kind in KINDS:
        for std in (0.1, 1.0):
            cells = []
            for scans in (3, 10, 30):
                truth = trajectories(kind, scans + 1, many, random)
                seen = truth[:-1] + std * random.normal(size=(scans, many))
                told = foretell(np.arange(float(scans)), seen, np.full((scans, many), std))
                off = np.abs([each.value for each in told] - truth[-1])
                one, two = (np.array([getattr(each, name) for each in told]) for name in ("std", "std2"))
                cells.append(f"{100 * np.mean(off < one):.0f} %, {100 * np.mean(off < two):.0f} %")
            cells.append(f"{np.median(one):.2f}, {np.sqrt(np.mean(off**2)):.2f}")
            print(f"| {kind} | {std:g} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()

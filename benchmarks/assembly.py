"""A crystal that rotates freely: our assembly and bcdi-assemble on the same simulated frames.

python benchmarks/assembly.py --seeds 2
python benchmarks/assembly.py --peer FOLDER --state FOLDER --seconds 200 --photons 1e3 --kinds oscillating

100 frames of 100 x 100 pixels, the crystal an eighth of all axes, as in the examples of bcdi-assemble: an
oscillation on a ramp, an N (there, back and there again), a ramp of uneven slope, and rolls of +- 15 pixels along
the powder ring. FOLDER holds a copy of maxiv-science/bcdi-assemble (its package bcdiass), which is not part of
this repository. It runs as in examples/body_strain, in one process, with an envelope as large as the crystal and
its temperature scaled to the photons; it works SECONDS, writes where it is to the state folder, and goes on from
there when called again.

Errors are root mean square over frames, weighted by counts and not: angles in grid steps, after the best straight
line (direction, offset and scale are not known), rolls in pixels after the best shift. "volume" is the correlation
of the square roots of the volume and the true one, at the true places. Seconds are of one thread's CPU.
"""

import argparse
import resource
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from live_bcdi.config import load_config
from live_bcdi.sim import Tumbling, simulate_tumbling
from live_bcdi.tracking import Roll, assemble

CONFIG = Path("config/34idc.toml")
FRAMES = 100
REACH = 45.0
FAR = 1e5  # pixels to the centre of the roll: a shift along the columns, as bcdi-assemble takes it by default
PHOTONS = (1e2, 1e3, 1e4)
KINDS = ("oscillating", "N", "slopes")
ITERATIONS = 100
ROLLS = 10
FIRST, LAST = 24, 100  # places of bcdi-assemble's volume
EFFECTIVE = (50, 1000)  # photons in the brightest frame that its temperature lets count, first and last


def trajectory(kind: str, random: np.random.Generator) -> np.ndarray:
    k, ramp = np.arange(FRAMES), np.linspace(-1, 1, FRAMES)
    drawn = random.random(FRAMES) - 0.5
    slow = np.real(np.fft.ifft(np.fft.fft(drawn) * (k < FRAMES // 4)))
    slow *= 0.05 / np.abs(slow).max()
    if kind == "slopes":
        return REACH * np.interp(k / FRAMES, [0, 0.375, 0.625, 0.75, 1], [-1, -0.2, 0, 0.4, 1])
    if kind == "N":
        return REACH * (np.interp(k / FRAMES, [0, 0.5, 0.7, 1], [-1, 0.2, -0.1, 1]) + slow)
    swing = 0.2 * np.sin(2 * np.pi * k / (FRAMES / 5)) * (1 - np.abs(k / (FRAMES / 2) - 1))
    return REACH * (ramp + swing + slow)


def simulated(kind: str, photons: float, seed: int) -> Tumbling:
    random = np.random.default_rng([seed, 11])
    angles, nodes = trajectory(kind, random), 5
    rolls = 30 * np.interp(np.arange(FRAMES), np.arange(nodes + 1) * FRAMES / nodes, random.random(nodes + 1))
    return simulate_tumbling(
        config=load_config(CONFIG),
        angles_steps=angles,
        rolls_deg=np.rad2deg((rolls - 15) / FAR),
        centre=(50.0 + FAR, 50.0),
        photons=photons,
        seed=seed,
    )


def shown(made: Tumbling, angles: np.ndarray, rolls_px: np.ndarray, volume: Any, seconds: float) -> str:
    bright = made.counts.sum(axis=(1, 2)).astype(float)
    figures = []
    for weight in (bright, np.ones(FRAMES)):
        line = np.polyfit(angles, made.angles_steps, 1, w=np.sqrt(weight))
        figures.append(np.sqrt(np.average((np.polyval(line, angles) - made.angles_steps) ** 2, weights=weight)))
    true = np.deg2rad(made.rolls_deg) * FAR
    for weight in (bright, np.ones(FRAMES)):
        apart = rolls_px - true
        apart -= np.average(apart, weights=bright)
        figures.append(np.sqrt(np.average(apart**2, weights=weight)))
    steps = np.arange(len(made.volume)) - len(made.volume) // 2
    line = np.polyfit(made.angles_steps, angles, 1, w=np.sqrt(bright))
    shift = float(np.average(rolls_px - true, weights=bright))
    figures.append(correlation(made.volume, volume(np.polyval(line, steps), shift)))
    return " | ".join(f"{value:.2f}" for value in figures) + f" | {seconds:.1f} |"


def correlation(true: np.ndarray, found: np.ndarray) -> float:
    """Of square roots, at the best shift along the columns: the common roll is not known."""
    roots = np.sqrt(true), np.sqrt(np.maximum(found, 0))
    tried = (
        np.corrcoef(roots[0].ravel(), np.roll(roots[1], shift, axis=2).ravel())[0, 1] for shift in range(-9, 10)
    )
    return max(tried)


def at(volume: np.ndarray, places: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """The volume's slices at `wanted`, by linear interpolation; the ends go on."""
    index = np.interp(wanted, places, np.arange(len(places)))
    low = np.minimum(index.astype(int), len(places) - 2)
    part = (index - low)[:, None, None]
    return (1 - part) * volume[low] + part * volume[low + 1]


def ours(made: Tumbling) -> str:
    clock = time.process_time()
    found = assemble(made.counts, roll=Roll(centre=made.centre), terms=29)
    seconds = time.process_time() - clock
    pixels = np.deg2rad(found.rolls_deg) * FAR
    return shown(made, found.angles, pixels, lambda wanted, _: at(found.volume, found.places, wanted), seconds)


def cpu() -> float:
    return time.process_time() + sum(resource.getrusage(resource.RUSAGE_CHILDREN)[:2])


def peer(made: Tumbling, folder: Path, state: Path, seconds: float) -> tuple[str, int]:
    """Its row so far and its iterations."""
    vars(np).setdefault("int", int)  # it was written for an older numpy
    sys.path.insert(0, str(folder))
    from bcdiass.utils import C, M, generate_envelope, generate_initial, pre_align_rolls

    data, aligned = pre_align_rolls(made.counts.astype(float), None)
    brightest, until = data.sum(axis=(1, 2)).max(), time.monotonic() + seconds
    if state.exists():
        kept = dict(np.load(state))
    else:
        kept = {"W": generate_initial(data, FIRST), "iteration": 0, "fudge": EFFECTIVE[0] / brightest, "used": 0.0}
    while kept["iteration"] < ITERATIONS and time.monotonic() < until:
        clock, number, fudge, model = cpu(), int(kept["iteration"]), min(1.0, float(kept["fudge"])), kept["W"]
        model, chance, _ = M(model, data, Nl=ROLLS, beta=fudge, nproc=1, find_direction=False)
        model, _ = C(model, generate_envelope(len(model), data.shape[-1], support=(0.25, 0.25, 0.25)))
        kept["P"], kept["whole"] = chance, model
        if number and number % 5 == 0:
            model = np.pad(model, ((2, 2), (0, 0), (0, 0))) if len(model) < LAST else model
            fudge = fudge * 2**0.5 if fudge < EFFECTIVE[1] / brightest else fudge
        kept |= {"W": model, "iteration": number + 1, "fudge": fudge, "used": kept["used"] + cpu() - clock}
    np.savez(state, **kept)
    places = np.arange(len(kept["P"]))
    angles = kept["P"].sum(axis=1).T @ places
    rolls = aligned + kept["P"].sum(axis=0).T @ (np.arange(ROLLS) - ROLLS // 2)
    row = shown(made, angles, rolls, lambda wanted, _: at(kept["whole"], places, wanted), float(kept["used"]))
    return row, int(kept["iteration"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--photons", type=float, nargs="+", default=PHOTONS)
    parser.add_argument("--kinds", nargs="+", default=KINDS, choices=KINDS)
    parser.add_argument("--peer", type=Path)
    parser.add_argument("--state", type=Path, default=Path("build/assembly"))
    parser.add_argument("--seconds", type=float, default=200.0)
    asked = parser.parse_args()
    print("| trajectory | photons a frame | by | angle, by counts | angle | roll, by counts | roll | volume | s |")
    print("|---|---|---|---|---|---|---|---|---|")
    for kind in asked.kinds:
        for photons in asked.photons:
            for seed in range(asked.seeds):
                made = simulated(kind, photons, seed)
                print(f"| {kind} | {photons:.0e} | assemble | {ours(made)}", flush=True)
                if asked.peer:
                    asked.state.mkdir(parents=True, exist_ok=True)
                    state = asked.state / f"{kind}-{photons:.0e}-{seed}.npz"
                    row, done = peer(made, asked.peer, state, asked.seconds)
                    print(f"| {kind} | {photons:.0e} | bcdi-assemble, {done} iterations | {row}", flush=True)


if __name__ == "__main__":
    main()

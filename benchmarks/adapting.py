"""What it is worth to adapt the network to measured patterns: chi^2 and likeness with the truth, before and after.

python benchmarks/adapting.py --series 6 --scans 6 --seconds 20
python benchmarks/adapting.py --scan SCAN.h5 --seconds 60

A series is one crystal of a family that no training saw, whose strain grows scan by scan; after every scan the
network adapts to it and to those before, from what the scan before left. "shipped" is the network of the package;
"foresees" the adapted one before it has seen the scan, "adapted" after, or rolled back; "tried" the one that was
judged, whatever the verdict. chi^2 is Eq. 1 of Serban et al. (2024), of what the network sees, as theirs is, and
of the preview, which polishes it. Seconds are of one CPU thread, whatever else the machine does. `--loss moduli`
leaves out the object that the retrieval finds, as they do; `--simulated 4` adds simulated ones,
with truth, every fourth batch.
"""

import argparse
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from live_bcdi.config import Preprocessing, load_config
from live_bcdi.phasing import Pattern
from live_bcdi.phasing.kernels_numpy import Object
from live_bcdi.phasing.metrics import centred_transform, chi_operando
from live_bcdi.pipeline import prepared
from live_bcdi.transport.hdf5 import read_scan
from live_bcdi_models.adapting import REMEMBERED, Adapted, Effort, adapt_to
from live_bcdi_models.chance import Chance
from live_bcdi_models.foretelling import Measured
from live_bcdi_models.grid import scaled
from live_bcdi_models.losses import correlation
from live_bcdi_models.measuring import CLEAN, detected
from live_bcdi_models.networks import Network
from live_bcdi_models.polishing import polished
from live_bcdi_models.sight import VIEWS, look
from live_bcdi_models.simulator import HELD_OUT, Spread, imaged, make_crystals, scattered
from live_bcdi_models.training import held_out, score
from live_bcdi_models.weights import load_weights

SERIES_SEED = 9_000_011  # no training has it
PHOTONS = (1e5, 1e6, 1e7)  # of the series in turn
STRAIN = {"medium": (0.4, 0.9), "strong": (1.0, 1.8)}  # radians, from the first scan to the last
NETWORKS = ("shipped", "foresees", "adapted", "tried")
COLUMNS = ("chi2", "likeness", "chi2 of the preview", "likeness of the preview")


def series(number: int, scans: int) -> tuple[str, Iterator[tuple[Measured, Object]]]:
    """What the crystal is, and its patterns with the truth."""
    strain = list(STRAIN)[number % len(STRAIN)]
    photons = PHOTONS[number % len(PHOTONS)]
    return f"{number}: {strain}, {photons:.0e} photons", _patterns(number, scans, STRAIN[strain], photons)


def _patterns(
    number: int, scans: int, strain: tuple[float, float], photons: float
) -> Iterator[tuple[Measured, Object]]:
    conditions = replace(CLEAN, photons=(photons, photons))
    for index, strength in enumerate(np.geomspace(*strain, scans)):
        spread = Spread(strain_rad=(strength, strength))
        crystals = make_crystals(1, Chance(SERIES_SEED + number), families=HELD_OUT, spread=spread)
        amplitude = scattered(crystals)
        chance = Chance(SERIES_SEED + 1000 * (number + 1) + index)
        counts, there = detected(amplitude.abs().square(), conditions, chance)
        seen = Pattern(intensity=counts[0].numpy(), mask=~there[0].numpy())
        yield Measured.of(seen), imaged(amplitude)[0].numpy()


def values(network: Network, pattern: Measured, truth: Object | None) -> tuple[float, ...]:
    """`COLUMNS` of one network and pattern, as `preview` looks at it: NaN without a truth."""
    sights = look(network, pattern.seen, pattern.oversampling, VIEWS[:3])
    bare = [sight.density for sight in sights]
    best = polished(pattern.seen, sights, []).best.density
    return (
        float(np.mean([_chi(each, pattern.seen) for each in bare])),
        float(np.mean([_likeness(each, truth) for each in bare])),
        _chi(best, pattern.seen),
        _likeness(best, truth),
    )


def _chi(density: Object, seen: Pattern) -> float:
    modulus = np.abs(centred_transform(scaled(density, seen)))
    return chi_operando(modulus, seen.intensity, seen.mask)


def _likeness(density: Object, truth: Object | None) -> float:
    if truth is None:
        return float("nan")
    return float(correlation(torch.from_numpy(density)[None], torch.from_numpy(truth)[None])[0])


def follow(number: int, asked: argparse.Namespace) -> dict[str, list[tuple[float, ...]]]:
    """Adapts along a series; the values by network, and a line for each scan."""
    shipped, _ = load_weights(asked.weights)
    network: Network = shipped
    remembered: tuple[Measured, ...] = ()
    found: dict[str, list[tuple[float, ...]]] = {name: [] for name in (*NETWORKS, "kept")}
    title, patterns = series(number, asked.scans)
    print(f"\nseries {title}")
    for index, (pattern, truth) in enumerate(patterns):
        effort = _effort(asked, seed=index)
        at_first, before = values(shipped, pattern, truth), values(network, pattern, truth)
        done = adapt_to([pattern], network, effort, remembered)
        network, remembered = done.network, done.patterns[-REMEMBERED:]
        tried = values(done.tried, pattern, truth)
        for name, row in zip(NETWORKS, (at_first, before, tried if done.kept else before, tried)):
            found[name].append(row)
        found["kept"].append((float(done.kept), done.seconds))
        likeness = f"likeness {before[1]:.3f} to {tried[1]:.3f}, of the preview {before[3]:.3f} to {tried[3]:.3f}"
        print(f"  scan {index}: {_said(done)}\n    {likeness}", flush=True)
    if asked.forgets:
        print(f"  other crystals: {_elsewhere(shipped):.3f} shipped, {_elsewhere(network):.3f} adapted")
    return found


def _elsewhere(network: Network) -> float:
    """Likeness with the truth of other crystals, measured badly."""
    return float(torch.cat([score(network, batch) for batch in held_out(48).values()]).mean())


def _effort(asked: argparse.Namespace, seed: int) -> Effort:
    return Effort(
        seconds=asked.seconds,
        seed=seed,
        clock=time.process_time,
        rate=asked.rate,
        simulated=asked.simulated,
        aimed=asked.loss == "both",
    )


def of_a_scan(path: Path, asked: argparse.Namespace) -> None:
    """One measured scan, of which nobody knows the truth."""
    settings = load_config(asked.config).preprocess if asked.config else Preprocessing()
    volume, _ = prepared([read_scan(path)], settings)
    pattern = Measured.of(Pattern(intensity=volume.intensity, mask=volume.mask))
    shipped, _ = load_weights(asked.weights)
    done = adapt_to([pattern], shipped, _effort(asked, seed=0))
    print(f"{path.stem}: {_said(done)}")
    _print_rows({"shipped": [values(shipped, pattern, None)], "tried": [values(done.tried, pattern, None)]})


def _said(done: Adapted) -> str:
    verdict = "kept" if done.kept else "rolled back"
    return f"{verdict} after {done.steps} steps, {done.seconds:.1f} s: {done.why}"


def _print_rows(found: dict[str, list[tuple[float, ...]]]) -> None:
    print("\n| network | " + " | ".join(COLUMNS) + " |\n|---" * 1 + "|---" * len(COLUMNS) + "|")
    for name, rows in found.items():
        print(f"| {name} | " + " | ".join(f"{value:.3f}" for value in np.mean(rows, axis=0)) + " |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--series", type=int, default=6, help="how many")
    parser.add_argument("--first", type=int, default=0, help="number of the first series")
    parser.add_argument("--scans", type=int, default=6)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--rate", type=float, default=Effort().rate)
    parser.add_argument("--simulated", type=int, default=Effort().simulated)
    parser.add_argument("--loss", choices=("both", "moduli"), default="both")
    parser.add_argument("--forgets", action="store_true", help="also what is forgotten of other crystals")
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--scan", type=Path)
    parser.add_argument("--config", type=Path)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    if asked.scan is not None:
        of_a_scan(asked.scan, asked)
        return
    every: dict[str, list[tuple[float, ...]]] = {}
    for number in range(asked.first, asked.first + asked.series):
        for name, rows in follow(number, asked).items():
            every.setdefault(name, []).extend(rows)
    kept, seconds = np.transpose(every.pop("kept"))
    print(f"\n{len(kept)} adaptations: {kept.sum():.0f} kept, {len(kept) - kept.sum():.0f} rolled back")
    print(f"seconds: median {np.median(seconds):.1f}")
    _print_rows(every)


if __name__ == "__main__":
    main()

"""What the preview is worth against iterations for as long, on simulated crystals of held-out families.

    python benchmarks/preview_polish.py --crystals 24

1e4 to 1e8 photons, everything measured as in training but for missing frames. Beside the preview:

- `network`: the network's first view, nothing else.
- `HIO/ER`: the best of several starts of the automatic recipe's HIO/ER (`live_bcdi_models.plain`).
- `bounded HIO/ER`: starts of HIO/ER whose support may not grow beyond the autocorrelation's, lowest chi.
- `same search`: starts of the preview's own RAAR from random phases, lowest chi: the rest is the network's.

Seconds are of the processor, as many as the preview of that crystal took. Differences are paired, with the
standard error of their mean. These crystals are in no other table.
"""

import argparse
from collections.abc import Callable
from time import process_time

import numpy as np
import torch

from live_bcdi.phasing import Pattern, Recipe, Start, parse, retrieve
from live_bcdi.phasing.kernels_numpy import Object
from live_bcdi.phasing.support import autocorrelation_support
from live_bcdi.types import FloatArray
from live_bcdi_models.grid import Grid
from live_bcdi_models.guard import unlike
from live_bcdi_models.judging import crystals_of, each_of, likeness
from live_bcdi_models.measuring import Conditions
from live_bcdi_models.plain import Iterations
from live_bcdi_models.polishing import free_of, search
from live_bcdi_models.previewing import preview_of
from live_bcdi_models.sight import VIEWS, look, shipped
from live_bcdi_models.simulator import STRAINS

SEED = 9_100_030
CONDITIONS = Conditions(missing=(0, 0), photons=(1e4, 1e8))


def several(pattern: Pattern, recipe_of: Callable[[float], Recipe], seconds: float) -> Object:
    """Of random starts for so long the one of lowest chi."""
    began_s, ends = process_time(), []
    support = autocorrelation_support(pattern.intensity, pattern.mask)
    recipe = recipe_of(float(support.mean()))
    while not ends or process_time() - began_s < seconds:
        ends.append(retrieve(pattern, recipe, start=Start(seed=len(ends), support=support)))
    return min(ends, key=lambda end: end.chi).density


def hio(room: float) -> Recipe:
    return parse(str(search(room)).replace("RAAR", "HIO"))


def measure(pattern: Pattern, truth: Object) -> dict[str, float]:
    began_s = process_time()
    found = preview_of(pattern, device="cpu").density
    took_s = process_time() - began_s
    grid = Grid.of(pattern)
    (sight,) = look(shipped("cpu")[0], grid.seen(pattern), grid.oversampling, VIEWS[:1])
    objects = {
        "preview": found,
        "network": grid.measured_object(sight.density),
        "HIO/ER": Iterations(pattern, free_of(pattern)).several([took_s])[0],
        "bounded HIO/ER": several(pattern, hio, took_s),
        "same search": several(pattern, search, took_s),
    }
    return {"seconds": took_s} | {name: likeness(density, truth) for name, density in objects.items()}


def row(strain: str, values: dict[str, FloatArray]) -> str:
    cells = [f"{values['preview'].mean():.3f}"]
    for name in list(values)[2:]:
        gain = values["preview"] - values[name]
        error = gain.std(ddof=1) / np.sqrt(len(gain))
        cells.append(f"{values[name].mean():.3f} ({gain.mean():+.3f} ± {error:.3f})")
    return f"| {strain} | {len(gain)} | {np.median(values['seconds']):.2f} | {' | '.join(cells)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--crystals", type=int, default=24)
    parser.add_argument("--edge", type=int, default=32, help="voxels an axis")
    parser.add_argument("--seed", type=int, default=SEED)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    everything = []
    for strain in STRAINS:
        crystals = list(each_of(crystals_of(asked.crystals, strain, asked.seed, CONDITIONS, asked.edge)))
        seen = [(pattern, truth) for pattern, truth in crystals if not unlike(pattern, Grid.of(pattern))]
        if not everything:
            measure(*seen[0])  # what is loaded and compiled once takes no part
            names = list(measure(*seen[0]))[2:]
            print(f"| strain | crystals | s | preview | {' | '.join(f'{name} (gain)' for name in names)} |")
            print("|---" * (len(names) + 4) + "|")
        rows = [measure(pattern, truth) for pattern, truth in seen]
        everything += rows
        print(row(strain, {name: np.array([each[name] for each in rows]) for name in rows[0]}), flush=True)
    print(row("all", {name: np.array([each[name] for each in everything]) for name in everything[0]}))


if __name__ == "__main__":
    main()

"""What half precision costs and saves: the network, and the preview, in bfloat16 beside single precision.

python benchmarks/preview_precision.py --crystals 32

Milliseconds are medians on one thread, one after the other in turn; correlations are with the truth, on crystals
of families that no training saw, measured as in training. `difference` is the mean over all crystals of bfloat16
less single precision, with its standard error.
"""

import argparse
import statistics
import time
from functools import partial

import numpy as np
import torch

from live_bcdi.estimate import Unlike
from live_bcdi.phasing import Pattern
from live_bcdi_models import previewing
from live_bcdi_models.losses import correlation
from live_bcdi_models.previewing import preview_of
from live_bcdi_models.sight import VIEWS, device_of, look, multiplies_halves, shipped
from live_bcdi_models.training import held_out

PRECISIONS = {"float32": False, "bfloat16": True}


def likeness(density: np.ndarray, truth: torch.Tensor) -> float:
    return float(correlation(torch.from_numpy(density)[None], truth[None].cpu())[0])


def milliseconds(device: str, views: int, repeats: int) -> dict[str, float]:
    """Of the network alone."""
    network, _ = shipped(device)
    batch = next(iter(held_out(3).values()))
    pattern = Pattern(intensity=batch.intensity[0].numpy(), mask=~batch.measured[0].numpy())
    spent: dict[str, list[float]] = {name: [] for name in PRECISIONS}
    for _ in range(repeats):
        for name, half in PRECISIONS.items():
            began_s = time.perf_counter()
            look(network, pattern, (3.0, 3.0, 3.0), VIEWS[:views], half=half)
            spent[name].append(1e3 * (time.perf_counter() - began_s))
    return {name: statistics.median(each[2:]) for name, each in spent.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--crystals", type=int, default=32, help="of each strain")
    parser.add_argument("--strain", help="only of this one: weak, medium or strong")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--repeats", type=int, default=12)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    device = device_of(asked.device)
    print(f"{device}, instructions for bfloat16: {multiplies_halves(device)}\n")
    print("| | float32 | bfloat16 | difference |\n|---|---|---|---|")
    for views in (1, 3):
        spent = milliseconds(device, views, asked.repeats)
        print(f"| network, {views} view(s), ms | {spent['float32']:.1f} | {spent['bfloat16']:.1f} | |")
    network, _ = shipped(device)
    for strain, batch in held_out(3 * asked.crystals).items():
        if asked.strain not in (None, strain):
            continue
        alone: dict[str, list[float]] = {name: [] for name in PRECISIONS}
        polished: dict[str, list[float]] = {name: [] for name in PRECISIONS}
        for k, truth in enumerate(batch.target):
            pattern = Pattern(intensity=batch.intensity[k].numpy(), mask=~batch.measured[k].numpy())
            told = tuple(float(each) for each in batch.oversampling[k])
            for name, half in PRECISIONS.items():
                alone[name].append(
                    likeness(look(network, pattern, told, VIEWS[:1], half=half)[0].density, truth)  # type: ignore[arg-type]
                )
                previewing.look = partial(look, half=half)  # type: ignore[attr-defined]
                try:
                    polished[name].append(likeness(preview_of(pattern, device=device).density, truth))
                except Unlike:
                    continue
        for what, found in ((f"network, {strain}", alone), (f"preview, {strain}", polished)):
            single, half_ = (np.array(found[name]) for name in PRECISIONS)
            change = half_ - single
            error = change.std(ddof=1) / np.sqrt(len(change))
            print(
                f"| {what} strain, {len(single)} crystals | {single.mean():.4f} | {half_.mean():.4f} |"
                f" {change.mean():+.4f} ± {error:.4f} |"
            )


if __name__ == "__main__":
    main()

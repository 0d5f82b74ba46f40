"""The networks of `live_bcdi_models.catalogue`, trained equally long on the same crystals: how near each comes.

python benchmarks/networks.py --minutes 3

Minutes are of one CPU thread, whatever else the machine does. Scores are complex correlations with the truth on
held-out families (dipoles, inclusions, bent crystals; rods, tetrahedra, necked balls), everything measured as in
training: 1e3 to 1e8 photons, gaps, background, partial scans.
"""

import argparse
import time
from dataclasses import replace

import torch

from live_bcdi_models.catalogue import NETWORKS
from live_bcdi_models.layers import Modulus
from live_bcdi_models.networks import Network
from live_bcdi_models.training import PRESETS, Training, held_out


def chi(network: Network, crystals: int) -> float:
    """Mean modulus error on held-out crystals."""
    found = []
    for batch in held_out(crystals).values():
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
            guess = network(batch.intensity, batch.measured, batch.oversampling)
        found.append(Modulus(batch.intensity, batch.measured).misfit(guess.density).sqrt())
    return float(torch.cat(found).mean())


def milliseconds(network: Network) -> float:
    """Median of one preview, of a batch of one; of the processor, one thread."""
    batch = next(iter(held_out(3).values()))
    spent = []
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        for _ in range(12):
            began = time.process_time()
            network(batch.intensity, batch.measured, batch.oversampling)
            spent.append(1e3 * (time.process_time() - began))
    return sorted(spent)[len(spent) // 2]


def measure(name: str, asked: argparse.Namespace) -> str:
    given = {"seconds": 60 * asked.minutes, "batch": asked.batch, "held_out": asked.crystals}
    training = Training(replace(PRESETS["cpu-1h"], network=name, **given), seed=asked.seed)
    training.run()
    parameters = sum(each.numel() for each in training.network.parameters()) / 1e6
    scores = " | ".join(f"{value:.3f}" for value in training.scores().values())
    return (
        f"| {name} | {parameters:.2f} | {training.progress.samples} | {scores} |"
        f" {chi(training.network, asked.crystals):.3f} | {milliseconds(training.network):.0f} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=3.0)
    parser.add_argument("--network", choices=list(NETWORKS), action="append")
    parser.add_argument("--crystals", type=int, default=96)
    parser.add_argument("--batch", type=int, default=PRESETS["cpu-1h"].batch)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    print("| network | million weights | crystals seen | all | weak | medium | strong | chi | ms |")
    print("|---|---|---|---|---|---|---|---|---|")
    for name in asked.network or NETWORKS:
        print(measure(name, asked), flush=True)


if __name__ == "__main__":
    main()

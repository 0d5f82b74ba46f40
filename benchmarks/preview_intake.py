"""What the network costs the intake: `live-bcdi bench stream`, in which estimates rest every other second.

python benchmarks/preview_intake.py --repeats 3

Latencies are in ms, from a frame's exposure to its being in the volume, of the seconds in which estimates are
made and of those between them, so that whatever else the machine does weighs on both alike. A peak comes after a
quarter of the run: from then on each refresh asks the network.
"""

import argparse
import os
import statistics
from dataclasses import replace
from pathlib import Path

from live_bcdi.bench_stream import cases, measure
from live_bcdi.config import load_config

BEAMLINE = Path(__file__).resolve().parents[1] / "config" / "34idc.toml"
FIGURES = ("p50", "p99", "max")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--shape", default="256x256")
    parser.add_argument("--dtype", default="int32")
    parser.add_argument("--rate", type=float, default=1000.0)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--without", action="store_true", help="estimates by iterations")
    parser.add_argument("--config", type=Path, default=BEAMLINE)
    given = parser.parse_args()
    settings = load_config(given.config).changed(live={"network": not given.without})
    (case,) = cases(given.shape, given.dtype, given.rate, given.seconds, None)
    print("| frames/s | " + " | ".join(f"{name} | resting" for name in FIGURES), end="")
    print(" | estimates | previews | received | same as the file | CPU of estimates, s | load |")
    print("|---" * 13 + "|")
    ratios = []
    for _ in range(given.repeats):
        told = measure(replace(case, rest_s=1.0), settings)
        pairs = [(told[f"latency_ms_{name}"], told[f"latency_ms_{name}_resting"]) for name in FIGURES]
        ratios.append([working / resting for working, resting in pairs])
        late = " | ".join(f"{value:.3g}" for pair in pairs for value in pair)
        whole = f"{told['received']} of {told['sent']} | {told['equal']} | {told['cpu_s']['estimate']:.1f}"
        numbers = f"{told['estimates']} | {told['previews']} | {whole} | {os.getloadavg()[0]:.1f}"
        print(f"| {told['achieved_hz']:.0f} | {late} | {numbers} |", flush=True)
    medians = [statistics.median(each) for each in zip(*ratios)]
    print("\nmedian ratios: " + ", ".join(f"{name} {value:.2f}" for name, value in zip(FIGURES, medians)))


if __name__ == "__main__":
    main()

"""How good the decisions of `live_bcdi.steering` are, on simulated crystals and the virtual beamline.

    python benchmarks/deciders.py cc [--crystals 8]       CC* against the noise-free pattern, and 4 x the dose
    python benchmarks/deciders.py rocking [--crystals 8]  fringes and ranges from quick scans
    python benchmarks/deciders.py find [--crystals 50]    a peak up to a degree off, by shorter and shorter sweeps

Each prints a table; all random choices are seeded.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from live_bcdi.config import load_config
from live_bcdi.geometry import q_lab_invA
from live_bcdi.phasing.metrics import shells
from live_bcdi.sim.beamline import Beamline
from live_bcdi.sim.crystals import STRAINS, random_truth
from live_bcdi.sim.hazards import ROUGH
from live_bcdi.sim.scattering import bragg_geometry, diffraction_amplitude, scan_steps
from live_bcdi.sim.scenes import virtual_beamline
from live_bcdi.steering import (
    Found,
    Look,
    Maximise,
    Next,
    PreScan,
    Search,
    Sweep,
    Swept,
    Wanted,
    advise_range,
    find_spots,
    next_look,
    next_sweep,
    resolved,
    shells_of,
    signal_by_shell,
)
from live_bcdi.steering.spots import peak_counts

CONFIG = load_config(Path(__file__).resolve().parents[1] / "config" / "34idc.toml")
SHAPE = (64, 64, 64)
PHOTONS = (1e4, 3e4, 1e5, 3e5, 1e6)
TRANSMISSIONS = (0.02, 0.3, 1.0)  # a search that sees nothing is made again, brighter
Floats = NDArray[np.float64]


def light(seed: int, places: Floats | None = None) -> tuple[Floats, Floats]:
    """|A|^2 of crystal `seed`, 1 in sum, at `places` along the rocking axis; and its steps of q."""
    geometry = bragg_geometry(CONFIG, SHAPE[1:])
    steps = scan_steps(geometry)
    strain = tuple(STRAINS)[seed % len(STRAINS)]
    h = q_lab_invA(geometry, *geometry.arm_pixel)
    truth = random_truth(h, steps, strain=strain, oversampling=3.0, seed=seed)
    shape = SHAPE if places is None else (len(places), *SHAPE[1:])
    values = np.abs(diffraction_amplitude(truth, steps, shape, rocking=places)) ** 2
    return values / values.sum(), steps


def cc(crystals: int) -> None:
    """Mean error of CC* over shells, and of the resolution foretold at four times the dose."""
    free = np.zeros(SHAPE, bool)
    patterns = [light(seed) for seed in range(crystals)]
    shell, width = shells(SHAPE, patterns[0][1])
    print("photons  background  |CC* - true|  of shells with CC* > 0.5   4 x dose: ratio  scatter  at the limit")
    for photons in PHOTONS:
        for background in (0.0, 0.02):
            off, strong, ratios, ended = [], [], [], 0
            for seed, (pattern, steps) in enumerate(patterns):
                random = np.random.default_rng([seed, int(photons)])
                expected = photons * pattern + background
                counts = random.poisson(expected)
                found = signal_by_shell(counts, free, steps)
                inside = found.q_invA <= found.end_invA
                numbers = np.rint(found.q_invA / width).astype(int)[inside]
                true = np.array([np.corrcoef(counts[shell == k], expected[shell == k])[0, 1] for k in numbers])
                error = np.abs(found.cc_star()[inside] - true)
                off.append(error)
                strong.append(error[true > 0.5])
                told = resolved(found, dose_ratio=4.0)
                measured = resolved(signal_by_shell(random.poisson(4 * expected), free, steps))
                ended += measured.at_limit
                ratios.append(np.log(told.resolution_nm / measured.resolution_nm))
            print(
                f"{photons:7.0e}  {background:10.2f}  {np.concatenate(off).mean():12.3f}"
                f"  {np.concatenate(strong).mean():25.3f}   {np.exp(np.mean(ratios)):15.2f}"
                f"  {np.std(ratios):7.2f}  {ended:3d} of {crystals}"
            )


def rocking(crystals: int) -> None:
    """The fringe spacing found over the true one, which is that of the box around the crystal, and the points a
    fringe that three asked for give."""
    wanted = Wanted(dose_s=100.0, limits_deg=(-100.0, 100.0))
    print("frames  points a fringe  counts  fringe found / true (least, mean, most)   points then (least, mean)")
    for frames, points in ((16, 3.0), (24, 3.0), (32, 4.0), (48, 4.0)):
        for photons in (3e3, 1e5):
            found = []
            for seed in range(crystals):
                places = (np.arange(frames) - frames // 2) * 3.0 / points
                counts = np.random.default_rng(seed).poisson(light(seed, places)[0] * photons)
                one = np.ones(frames)
                pre = PreScan(frames=counts, angles_deg=places / 3.0, seconds=one, transmission=one)
                told = advise_range(pre, wanted)
                found.append((told.fringe_deg, 1 / told.step_deg))
            fringe, after = np.array(found).T
            print(
                f"{frames:6d}  {points:15.1f}  {photons:6.0e}  {fringe.min():18.2f}, {fringe.mean():.2f},"
                f" {fringe.max():.2f}  {after.min():34.2f}, {after.mean():.2f}"
            )


def find(crystals: int) -> None:
    """Seeded cases with neighbours, a powder ring, and a bad day's hazards."""
    print("misaligned  misplaced   found right   looks: mean, p95   theta error: median, p95 (mdeg)")
    for degrees, um in ((0.3, 5.0), (1.0, 0.0), (1.0, 10.0), (1.0, 20.0)):
        results = list(_cases(degrees, um, crystals))
        right = [each for each in results if each[0] < 0.03]
        looks = np.array([each[1] for each in results])
        errors = 1e3 * np.array([each[0] for each in right])
        print(
            f"{degrees:6.1f} deg  {um:6.0f} um   {len(right):4d} of {crystals:3d}"
            f"   {looks.mean():10.1f}, {np.quantile(looks, 0.95):.0f}"
            f"   {np.median(errors):15.1f}, {np.quantile(errors, 0.95):.1f}"
        )


def _cases(degrees: float, um: float, crystals: int) -> Iterator[tuple[float, int]]:
    for seed in range(crystals):
        line = virtual_beamline(
            CONFIG, misaligned_deg=degrees, misplaced_um=um, neighbours=2, powder=True, hazards=ROUGH, seed=seed
        )
        yield _case(line, degrees)


def _case(line: Beamline, degrees: float) -> tuple[float, int]:
    """How far theta is off its truth in the end, and how many exposures that took."""
    start, reach, looks = line.readback("theta"), 1.5 * degrees, 0
    for transmission in TRANSMISSIONS:
        line.attenuate(transmission)
        search = Search(
            start_deg=start,
            limits_deg=(start - reach, start + reach),
            coarse_deg=1.6,
            fine_deg=0.05,
            pixel=(64.0, 64.0),
            most=40,
        )
        found, taken = _searched(line, search)
        looks += taken
        if isinstance(found, Found):
            top, taken = _topped(line, found, reach)
            looks += taken
            line.move({"theta": top - 0.1})
            line.move({"theta": top})
            return abs(line.miss(line.field.grains[0]).rocking_deg), looks
    return np.inf, looks


def _searched(line: Beamline, search: Search) -> tuple[object, int]:
    seen: list[Swept] = []
    bad = np.zeros(line.shape, bool)
    bad[tuple(np.array(line.field.dead, int).reshape(-1, 2).T)] = True
    rings = shells_of(np.linalg.norm(q_lab_invA(line.geometry(), *np.indices(line.shape)), axis=-1))
    while isinstance(told := next_sweep(seen, search), Sweep):
        line.move({"theta": told.low_deg - 0.1})
        line.move({"theta": told.low_deg})
        image = line.expose(1.0, turning=("theta", told.high_deg)).counts
        seen.append(Swept(sweep=told, dose_s=1.0, spots=tuple(find_spots(image, bad, rings))))
    return told, len(seen)


def _topped(line: Beamline, found: Found, reach: float) -> tuple[float, int]:
    """To the top of the peak, by standing exposures that come from below."""
    wanted = Maximise(
        start=found.angle_deg,
        width=0.015,
        limits=(found.angle_deg - reach, found.angle_deg + reach),
        tolerance=1e-3,
        most=12,
    )
    looks: list[Look] = []
    while isinstance(told := next_look(looks, wanted), Next):
        line.move({"theta": told.position - 0.1})
        line.move({"theta": told.position})
        exposure = line.expose(0.3)
        counts, background = peak_counts(exposure.counts, (found.spot.row, found.spot.column), 24)
        dose_s = max(exposure.monitor, 1.0) / 1e6
        looks.append(Look(position=told.position, counts=counts, dose_s=dose_s, background=background))
    return told.position, len(looks)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("cc", "rocking", "find"))
    parser.add_argument("--crystals", type=int, default=8)
    given = parser.parse_args()
    {"cc": cc, "rocking": rocking, "find": find}[given.what](given.crystals)


if __name__ == "__main__":
    main()

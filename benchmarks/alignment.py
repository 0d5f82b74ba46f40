"""Crystals aligned on the virtual beamline on a rough day, by `align_crystal` and by a fixed grid.

    python benchmarks/alignment.py [--cases 200] [--first 0] [--grid]

Up to 1 degree and 20 um off, two neighbours, a powder ring, backlash, drift, kicks, trips. Each case prints a
line; at the end a table. `--grid` takes the grid instead. All random choices are seeded.
"""

import argparse
import logging
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from bluesky import RunEngine
from bluesky.run_engine import call_in_bluesky_event_loop

from live_bcdi.config import load_config
from live_bcdi.geometry import q_lab_invA
from live_bcdi.sim.beamline import Beamline, Exposure
from live_bcdi.sim.hazards import ROUGH
from live_bcdi.sim.scenes import virtual_beamline
from live_bcdi.steering import Spot, find_spots, shells_of
from live_bcdi.steering.aiming import arm_onto
from live_bcdi.steering.spots import peak_counts
from live_bcdi.types import ScanError
from live_bcdi_plans.align import align_crystal
from live_bcdi_plans.alignment import Settings
from live_bcdi_plans.virtual import VirtualStation

Floats = np.ndarray

CONFIG = load_config(Path(__file__).resolve().parents[1] / "config" / "34idc.toml")
SEARCH = {"range_deg": 1.5, "across_deg": 1.2, "range_um": 30.0, "settings": Settings(across="chi")}
ANGLE_DEG, PLACE_UM, PIXELS = 0.005, 2.0, 2.0  # aligned: within these
# The grid over the same region: sweeps as long as the peak is wide, in rows of the other rotation, then steps
# along the rocking circle, y, x, and the rocking circle again.
ROWS_DEG, SWEEP_DEG, STEP_DEG, STEP_UM = (-1.0, 0.0, 1.0), 0.1, 0.02, 3.0
LOOK_S, SWEEP_S = 0.3, 1.0
BOX = 24


@dataclass(frozen=True, kw_only=True)
class Case:
    """How it ended: how far off in truth, in `exposures`, simulated seconds, and seconds of full beam."""

    angle_deg: float
    place_um: float
    pixels: float
    exposures: int
    seconds: float
    dose_s: float
    why: str

    @property
    def aligned(self) -> bool:
        within = abs(self.angle_deg) < ANGLE_DEG and self.place_um < PLACE_UM and self.pixels < PIXELS
        return not self.why and within


def cases(first: int, count: int) -> Iterator[Case]:
    engine = RunEngine({})
    for seed in range(first, first + count):
        line = virtual_beamline(
            CONFIG, misaligned_deg=1.0, misplaced_um=20.0, neighbours=2, powder=True, hazards=ROUGH, seed=seed
        )
        with tempfile.TemporaryDirectory() as folder:
            station = VirtualStation(line, directory=Path(folder), frames_address=f"ipc://{folder}/frames")
            call_in_bluesky_event_loop(station.connect())
            yield case(engine, station, line)
            station.close()


def case(engine: RunEngine, station: VirtualStation, line: Beamline) -> Case:
    said: dict[str, Any] = {"why": ""}
    counted: list[int] = []

    def exposures(name: str, document: dict[str, Any]) -> None:
        if name == "event" and "decision-exposures" in document["data"]:
            counted.append(document["data"]["decision-exposures"])

    token = engine.subscribe(exposures)
    try:
        engine(align_crystal(station, **SEARCH))
    except ScanError as error:
        said["why"] = str(error)
    engine.unsubscribe(token)
    return ended(line, counted[-1], said["why"])


def ended(line: Beamline, exposures: int, why: str) -> Case:
    line.settle()
    miss = line.miss(line.field.grains[0])
    return Case(
        angle_deg=miss.rocking_deg,
        place_um=float(np.hypot(*miss.across_um)),
        pixels=float(np.hypot(miss.row - line.shape[0] / 2, miss.column - line.shape[1] / 2)),
        exposures=exposures,
        seconds=line.time_s,
        dose_s=line.dose_s,
        why=why,
    )


def grids(first: int, count: int) -> Iterator[Case]:
    for seed in range(first, first + count):
        line = virtual_beamline(
            CONFIG, misaligned_deg=1.0, misplaced_um=20.0, neighbours=2, powder=True, hazards=ROUGH, seed=seed
        )
        yield ended(line, Grid(line).aligned(), "")


class Grid:
    """All of a grid, whatever is seen: the brightest sweep, then parabolas through the steps' logarithms."""

    def __init__(self, line: Beamline) -> None:
        self.line, self.exposures = line, 0
        self.bad = np.zeros(line.shape, bool)
        self.bad[tuple(np.array(line.field.dead, int).reshape(-1, 2).T)] = True
        self.pixel = (line.shape[0] / 2, line.shape[1] / 2)

    def aligned(self) -> int:
        line, home = self.line, self.line.positions
        angle = self.searched(home["theta"])
        angle = self.stepped("theta", np.arange(angle - 0.1, angle + 0.101, STEP_DEG))
        for motor in ("y", "x"):
            self.stepped(motor, np.arange(-30.0, 30.1, STEP_UM))
        self.stepped("theta", np.arange(angle - 0.1, angle + 0.101, STEP_DEG))
        seen = find_spots(self.exposed(LOOK_S, None).counts, self.bad)
        if seen:
            self.onto(seen[0])
        line.settle()
        return self.exposures

    def searched(self, start: float) -> float:
        """In the full beam: what is saturated is bright, and that is all that is asked."""
        rings = shells_of(np.linalg.norm(q_lab_invA(self.line.geometry(), *np.indices(self.line.shape)), axis=-1))
        best = (0.0, start, 0.0, None)
        for across in ROWS_DEG:
            self.go("chi", across)
            for low in np.arange(start - 1.5, start + 1.5 - 1e-9, SWEEP_DEG):
                self.go("theta", float(low))
                spots = find_spots(self.exposed(SWEEP_S, float(low) + SWEEP_DEG).counts, self.bad, rings)
                if spots and spots[0].counts > best[0]:
                    best = (spots[0].counts, float(low) + SWEEP_DEG / 2, across, spots[0])
        _, angle, across, spot = best
        self.go("chi", across)
        self.go("theta", angle)
        if spot is not None:
            self.onto(spot)
        return angle

    def stepped(self, motor: str, places: Floats) -> float:
        """To where a Gaussian through the logarithm of the counts has its top."""
        rates = []
        for place in places:
            self.go(motor, float(place))
            exposure = self.dimmed()
            counts, background = peak_counts(exposure.counts, self.pixel, BOX, self.bad)
            rates.append(max(counts - background, 1.0) / max(exposure.monitor, 1.0))
        values = np.array(rates)
        high = values > 0.3 * values.max()
        middle = float(places[int(values.argmax())])
        if high.sum() > 2:
            curve = np.polyfit(places[high] - middle, np.log(values[high]), 2)
            if curve[0] < 0:
                middle += float(np.clip(-curve[1] / 2 / curve[0], -STEP_UM, STEP_UM))
        self.go(motor, middle)
        return middle

    def dimmed(self) -> Exposure:
        """The exposures that find the attenuator are not counted."""
        self.line.attenuate(1.0)
        while (exposure := self.line.expose(LOOK_S)).saturated and self.line.transmission > 1e-4:
            self.line.attenuate(self.line.transmission / 8)
        self.exposures += 1
        return exposure

    def exposed(self, seconds: float, sweep_to: float | None) -> Exposure:
        self.exposures += 1
        return self.line.expose(seconds, turning=None if sweep_to is None else ("theta", sweep_to))

    def go(self, motor: str, place: float) -> None:
        for below in (10.0 if motor in "xyz" else 0.1, 0.0):
            self.line.move({motor: place - below})

    def onto(self, spot: Spot) -> None:
        limits = {axis.motor: axis.limits for axis in CONFIG.diffractometer.arm if axis.limits}
        for motor, place in arm_onto(self.line.geometry(), (spot.row, spot.column), self.pixel, limits).items():
            self.go(motor, place)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=200)
    parser.add_argument("--first", type=int, default=0, help="the first seed: a table in pieces")
    parser.add_argument("--grid", action="store_true")
    given = parser.parse_args()
    logging.disable(logging.ERROR)
    done = []
    for seed, each in enumerate((grids if given.grid else cases)(given.first, given.cases), given.first):
        done.append(each)
        print(
            f"{seed:4d} {'aligned' if each.aligned else 'NOT':7s} {1e3 * each.angle_deg:8.2f} mdeg"
            f" {each.place_um:6.2f} um {each.pixels:6.2f} px {each.exposures:3d} exposures"
            f" {each.seconds:5.0f} s {each.dose_s:6.2f} s of beam {each.why}",
            flush=True,
        )
    report(done)


def report(done: list[Case]) -> None:
    right = [each for each in done if each.aligned]
    told = sum(1 for each in done if each.why)
    print(
        f"\naligned {len(right)} of {len(done)}; {told} failed with a reason, "
        f"{len(done) - len(right) - told} are off and do not know it"
    )
    for name, scale in (("angle_deg", 1e3), ("place_um", 1.0), ("pixels", 1.0)):
        values = scale * np.abs([getattr(each, name) for each in right])
        print(f"{name:10s} median {np.median(values):.2f}, 95 % {np.quantile(values, 0.95):.2f} (angles in mdeg)")
    for name in ("exposures", "seconds", "dose_s"):
        values = np.array([getattr(each, name) for each in done])
        print(f"{name:10s} mean {values.mean():.1f}, 95 % {np.quantile(values, 0.95):.1f}")


if __name__ == "__main__":
    main()

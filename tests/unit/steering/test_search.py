"""The search on a small analytic beamline: a peak with a width in the swept angle, its neighbours, a ring."""

import math
from dataclasses import dataclass, field

import numpy as np
import pytest

from live_bcdi.steering.search import Found, Lost, Search, Sweep, Swept, coarse_rows, next_sweep
from live_bcdi.steering.spots import Spot
from live_bcdi.types import ScanError

WIDTH_DEG = 0.02
SEARCH = Search(
    start_deg=10.0,
    limits_deg=(9.0, 11.0),
    coarse_deg=1.0,
    fine_deg=0.04,
    pixel=(64.0, 64.0),
    across_start_deg=90.0,
    across_limits_deg=(89.0, 91.0),
    reach_deg=0.7,
)


@dataclass
class Peak:
    """`rate` counts a second at its top; it is on the detector within 0.7 deg of `across`."""

    angle: float
    across: float = 90.0
    rate: float = 1e4
    pixel: tuple = (64.0, 64.0)
    static: bool = False


@dataclass
class Beamline:
    peaks: list
    seed: int = 0
    flashes: list = field(default_factory=list)

    def swept(self, sweep, number):
        random = np.random.default_rng([self.seed, number])
        spots = [self._spot(peak, sweep, random) for peak in self.peaks]
        spots += [spot for at, spot in self.flashes if at == number]
        return Swept(sweep=sweep, dose_s=1.0, spots=tuple(spot for spot in spots if spot is not None))

    def _spot(self, peak, sweep, random):
        if abs(sweep.across_deg - peak.across) > 0.7:
            return None
        at = [math.erf((edge - peak.angle) / WIDTH_DEG / math.sqrt(2)) for edge in (sweep.low_deg, sweep.high_deg)]
        share = 1.0 if peak.static else (at[1] - at[0]) / 2 * WIDTH_DEG * math.sqrt(2 * math.pi) / sweep.span_deg
        counts = random.poisson(peak.rate * share)
        row = peak.pixel[0] + (sweep.across_deg - peak.across) * 50
        return a_spot(row, peak.pixel[1], counts) if counts > 12 else None


def a_spot(row, column, counts):
    return Spot(
        row=row,
        column=column,
        row_std=0.1,
        column_std=0.1,
        counts=float(counts),
        background=1.0,
        covariance=(4, 0, 4),
    )


def found(line, search=SEARCH):
    seen = []
    while isinstance(told := next_sweep(seen, search), Sweep):
        assert search.limits_deg[0] <= told.low_deg < told.high_deg <= search.limits_deg[1]
        assert search.across_limits_deg[0] <= told.across_deg <= search.across_limits_deg[1]
        assert told not in {each.sweep for each in seen}
        seen.append(line.swept(told, len(seen)))
        assert len(seen) <= search.most
    return told, len(seen)


def test_a_peak_anywhere_is_found_in_a_dozen_exposures():
    taken = []
    for seed in range(100):
        random = np.random.default_rng(seed)
        peak = Peak(angle=random.uniform(9.02, 10.98), across=random.uniform(89.0, 91.0))
        told, looks = found(Beamline([peak], seed))
        assert isinstance(told, Found) and abs(told.angle_deg - peak.angle) < 0.06
        taken.append(looks)
    # 2 deg in sweeps of 0.03: 64 standing exposures, and three times as many across
    assert np.mean(taken) < 12 and max(taken) <= 16


def test_what_stays_while_the_sample_turns_is_no_peak():
    """A spot of a ring, or of the holder."""
    static = Peak(angle=10.0, rate=500.0, static=True)
    told, _ = found(Beamline([static, Peak(angle=9.3, pixel=(64.0, 90.0))]))
    assert isinstance(told, Found) and abs(told.angle_deg - 9.3) < 0.05
    assert isinstance(found(Beamline([static]))[0], Lost)


def test_of_neighbours_that_are_as_bright_the_one_expected_is_kept():
    told, _ = found(Beamline([Peak(angle=9.4, pixel=(20.0, 100.0)), Peak(angle=9.7, pixel=(66.0, 62.0))]))
    assert isinstance(told, Found) and abs(told.angle_deg - 9.7) < 0.05
    assert told.spot.row == pytest.approx(66.0)


def test_what_flashes_once_is_forgotten():
    """A shower of cosmic rays: neither half has it again."""
    flash = (0, a_spot(64.0, 64.0, 5000.0))
    told, _ = found(Beamline([Peak(angle=10.7, pixel=(30.0, 30.0))], flashes=[flash]))
    assert isinstance(told, Found) and abs(told.angle_deg - 10.7) < 0.05


def test_a_peak_at_a_seam_is_found():
    for angle in (10.0, 9.5, 9.0, 11.0, 10.25):
        told, _ = found(Beamline([Peak(angle=angle)]))
        assert isinstance(told, Found) and abs(told.angle_deg - angle) < 0.06


def test_nothing_there_is_lost_with_all_of_the_region_looked_at():
    told, looks = found(Beamline([]))
    assert isinstance(told, Lost) and "9 to 11" in told.why
    assert looks == sum(map(len, coarse_rows(SEARCH))) == 6
    few = Search(start_deg=0.0, limits_deg=(-1.0, 1.0), coarse_deg=0.1, fine_deg=0.1, pixel=(0.0, 0.0), most=5)
    assert "5 exposures" in found(Beamline([]), few)[0].why


def test_a_search_without_a_region_is_refused():
    with pytest.raises(ScanError, match="within"):
        Search(start_deg=5.0, limits_deg=(0.0, 1.0), coarse_deg=1.0, fine_deg=0.1, pixel=(0.0, 0.0))
    with pytest.raises(ScanError, match="too large"):
        Search(start_deg=0.5, limits_deg=(0.0, 1e9), coarse_deg=1e-6, fine_deg=1e-6, pixel=(0.0, 0.0))
    with pytest.raises(ScanError, match="positive"):
        Search(start_deg=0.5, limits_deg=(0.0, 1.0), coarse_deg=0.1, fine_deg=1.0, pixel=(0.0, 0.0))

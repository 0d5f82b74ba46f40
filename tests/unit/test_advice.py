"""Advice follows from numbers: each rule is met just beyond its threshold and not just below, with the numbers."""

import numpy as np
import pytest

from live_bcdi.advice import (
    Advice,
    PatternFacts,
    ResultFacts,
    ScanFacts,
    advise_result,
    advise_scan,
    curve_of,
)

GOOD = PatternFacts(counts=2e6, oversampling=(3.8, 4.2, 3.3), asymmetry=0.15)


def slab(angles, centre=0.0, half_width=0.02, top=1e6):
    """The curve of a slab: (sin x / x)^2, half of it at x = 1.3916."""
    return np.round(top * np.sinc(1.3916 / np.pi * (angles - centre) / half_width) ** 2)


def facts(**changes):
    """A good scan: all that is told of it differs by `changes`."""
    angles = np.linspace(-0.2, 0.2, 81)
    table = {
        "angles_deg": angles,
        "totals": slab(angles),
        "have": np.ones(81, bool),
        "monitor": np.full(81, 1000.0),
        "planned_deg": (-0.2, 0.2),
        "shape": (256, 200),
        "peak": (128, 100),
        "peak_counts": 1e5,
        "rim_counts": 5.0,
        "saturation_counts": 2e5,
        "ended": True,
        "pattern": GOOD,
    }
    return ScanFacts(**{**table, **changes})


def rules(advice):
    return [each.rule for each in advice]


def only(advice) -> Advice:
    assert len(advice) == 1, rules(advice)
    return advice[0]


def test_a_good_scan_is_left_alone_in_the_end_and_at_every_frame_on_the_way():
    assert advise_scan(facts()) == ()
    for count in range(1, 81):
        assert advise_scan(facts(have=np.arange(81) < count, ended=False, pattern=None)) == ()


def test_saturated_pixels():
    said = only(advise_scan(facts(saturated=12)))
    assert (said.rule, said.level) == ("saturated", "warning")
    assert "12 pixels" in said.why and "2e+05 counts" in said.why
    assert "1 pixel " in only(advise_scan(facts(saturated=1))).why
    assert advise_scan(facts(saturated=12, saturation_counts=None)) == ()


def test_the_centre_and_the_width_of_the_curve():
    curve = curve_of(facts(totals=slab(np.linspace(-0.2, 0.2, 81), centre=0.031) + 4000.0))
    assert curve.centre_deg == pytest.approx(0.031, abs=2.5e-3)  # half a step
    assert curve.half_width_deg == pytest.approx(0.02, abs=0.005)  # whole steps
    assert curve.fell == (True, True)


@pytest.mark.parametrize("sign", [1, -1])
def test_a_range_that_ends_in_the_peak_is_extended_to_three_fringes(sign):
    """Also where the scan goes down, and the angles fall."""
    angles = sign * np.linspace(-0.2, 0.02, 45)
    scan = {"angles_deg": angles, "totals": slab(angles), "planned_deg": (angles[0], angles[-1])}
    flags = {name: np.ones(45, bool) for name in ("have",)} | {"monitor": np.full(45, np.nan)}
    said = only(advise_scan(facts(**scan, **flags, pattern=None)))
    assert said.rule == ("cut_off_above" if sign > 0 else "cut_off_below")
    extended = float(said.what.split(" by ")[1].split()[0])
    # at least as far as on the other side (0.2 deg), from the peak's centre, which is known to half a step or so
    assert extended == pytest.approx(0.2 - 0.02, abs=0.015)
    assert "50%" in said.why
    flags["have"] = np.arange(45) < 43
    assert advise_scan(facts(**scan, **flags, pattern=None, ended=False)) == (), "it may still fall"


def test_a_start_within_the_peak_is_said_as_soon_as_the_peak_is_passed():
    angles = np.linspace(-0.025, 0.195, 45)
    scan = {"angles_deg": angles, "totals": slab(angles), "planned_deg": (-0.025, 0.195), "pattern": None}
    scan |= {"monitor": np.full(45, np.nan), "ended": False}
    assert advise_scan(facts(**scan, have=np.arange(45) < 5)) == ()  # at the peak itself
    said = advise_scan(facts(**scan, have=np.arange(45) < 27))
    assert rules(said) == ["cut_off_below"]


def test_an_aborted_scan_is_not_asked_for_more_range():
    have = np.arange(81) < 42
    assert advise_scan(facts(have=have, pattern=None)) == ()


def test_a_peak_off_the_middle_of_the_range():
    angles = np.linspace(-0.2, 0.2, 81)
    assert advise_scan(facts(totals=slab(angles, centre=0.09, half_width=0.01))) == ()
    said = only(advise_scan(facts(totals=slab(angles, centre=0.11, half_width=0.01))))
    assert (said.rule, said.level) == ("off_range", "info")
    assert said.what == "Centre the next scan at 0.11 deg."


def test_nothing_but_background_is_no_peak():
    noise = np.random.default_rng(1).poisson(400.0, 81).astype(float)
    said = only(advise_scan(facts(totals=noise, pattern=None, peak_counts=8.0)))
    assert (said.rule, said.level) == ("no_peak", "error")
    assert advise_scan(facts(totals=noise, pattern=None, ended=False, peak_counts=8.0)) == ()
    assert "no_peak" in rules(advise_scan(facts(totals=np.zeros(81), pattern=None, peak_counts=0.0)))


def test_a_lost_beam_by_the_monitor():
    monitor = np.full(81, 1000.0)
    monitor[30:34] = 20.0
    said = only(advise_scan(facts(monitor=monitor)))
    assert (said.rule, said.level) == ("beam", "warning")
    assert "4 frames (first 30, last 33)" in said.why
    assert said.level == "warning"
    now = advise_scan(facts(monitor=monitor, have=np.arange(81) < 33, ended=False, pattern=None))
    assert (only(now).level, only(now).rule) == ("error", "beam")
    assert advise_scan(facts(monitor=np.full(81, 101.0))) == ()  # low, and even


def test_a_lost_beam_without_a_monitor_is_a_hole_in_the_curve():
    """The zeros of the curve are none: between the fringes one frame alone is dark."""
    angles = np.linspace(-0.2, 0.2, 81)
    unknown = {"monitor": np.full(81, np.nan)}
    for centre in np.linspace(0, 0.005, 11):
        for half_width in (0.005, 0.01, 0.02, 0.05):
            said = advise_scan(facts(totals=slab(angles, centre, half_width), **unknown))
            assert "beam" not in rules(said)
    totals = slab(angles)
    totals[38:41] = 0
    said = advise_scan(facts(totals=totals, **unknown))
    assert "3 frames (first 38, last 40)" in said[rules(said).index("beam")].why
    have = np.arange(81) < 41
    (now,) = [
        each
        for each in advise_scan(facts(totals=totals, have=have, ended=False, **unknown))
        if each.rule == "beam"
    ]
    assert now.level == "error"


def test_the_region():
    assert advise_scan(facts(rim_counts=900.0)) == ()
    said = only(advise_scan(facts(rim_counts=1100.0)))
    assert said.rule == "region" and "1.1%" in said.why
    assert advise_scan(facts(rim_counts=50.0, peak_counts=500.0)) == ()  # too few to tell
    assert advise_scan(facts(peak=(70, 100))) == ()
    said = only(advise_scan(facts(peak=(60, 100))))
    assert said.rule == "off_region" and "by 68 rows and 0 columns" in said.what


def test_steps_and_distance():
    def pattern(*oversampling):
        return facts(pattern=PatternFacts(counts=2e6, oversampling=oversampling, asymmetry=0.01))

    said = only(advise_scan(pattern(1.9, 4.0, 4.0)))
    assert (said.level, said.what) == ("error", "Halve the rocking step.")
    assert only(advise_scan(pattern(2.5, 4.0, 4.0))).level == "info"
    said = only(advise_scan(pattern(4.0, 4.0, 1.5)))
    assert said.what == "Move the detector 2 times as far away." and "columns is 1.5" in said.why
    half = np.arange(81) < 41
    early = ScanFacts(
        **{name: getattr(pattern(1.9, 4, 4), name) for name in ScanFacts.__dataclass_fields__}
        | {"have": half, "ended": False}
    )
    assert advise_scan(early) == (), "a curve that has not fallen makes the crystal look longer"


@pytest.mark.parametrize(
    ("counts", "asymmetry", "times"),
    [
        (1e5, 0.15, "10"),
        (2e4, 0.07, "5"),
        (4e3, 0.02, "2.5"),
        (6e5, 0.15, None),
        (6e4, 0.07, None),
        (6e3, 0.02, None),
    ],
)
def test_counts_that_the_strain_needs(counts, asymmetry, times):
    said = advise_scan(facts(pattern=PatternFacts(counts=counts, oversampling=(4, 4, 4), asymmetry=asymmetry)))
    assert [each.what.split()[1] for each in said] == ([] if times is None else [times])


def test_a_result():
    good = {
        "pattern": GOOD,
        "chi_starts": (0.0112, 0.0113),
        "first_mode": 0.989,
        "resolution_nm": 25.0,
        "limit_nm": 12.5,
    }
    assert advise_result(ResultFacts(**good)) == ()
    said = only(advise_result(ResultFacts(**{**good, "chi_starts": (0.09, 0.1, float("inf"))})))
    assert said.rule == "scatter" and "1.11 times" in said.why
    assert rules(advise_result(ResultFacts(**{**good, "first_mode": 0.92}))) == ["scatter"]
    assert rules(advise_result(ResultFacts(**{**good, "resolution_nm": 40.0}))) == ["resolution"]
    assert advise_result(ResultFacts(pattern=GOOD)) == ()


def test_the_worst_comes_first():
    pattern = PatternFacts(counts=1e3, oversampling=(1.5, 2.5, 1.5), asymmetry=0.2)
    said = advise_scan(facts(saturated=3, pattern=pattern, peak=(20, 100)))
    assert [each.level for each in said] == ["error", "error", "warning", "warning", "info"]

"""How the crystal moves, on the page in headless Chromium: what is drawn and said equals what was fed."""

import re
from collections.abc import Iterator

import numpy as np
import pytest

from live_bcdi.dashboard import fake_feed
from live_bcdi.stream.updates import Update

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
SCAN = fake_feed.simulated_scan(num=31, edge=64)
PANEL, DRIFT = "#motion-panel", "#drift-panel"


@pytest.fixture
def page(browser, address) -> Iterator:
    page = browser.new_page(viewport={"width": 1600, "height": 1000})
    errors = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto("http://{}:{}".format(*address))
    page.wait_for_selector("body:not(.lost)")
    yield page
    page.close()
    assert errors == []


def says(page, part: str, text: str | re.Pattern) -> None:
    playwright.expect(page.locator(part)).to_have_text(text)


def drawn(page, panel: str, label: str) -> None:
    """Wait until the canvas was drawn with this in its description."""
    expected = playwright.expect(page.locator(f"{panel} canvas"))
    expected.to_have_attribute("aria-label", re.compile(re.escape(label)))


def test_it_is_one_line_until_there_are_two_scans(hub, page):
    canvas = page.locator(f"{PANEL} canvas")
    says(page, f"{PANEL} .note", "no scan yet")
    hub.publish(fake_feed.motion(1))
    says(page, f"{PANEL} .note", "LiCoO2 grain, hkl 1 0 -5: 1 scan; the strip begins with the second")
    assert not canvas.is_visible()
    hub.publish(fake_feed.motion(2))
    drawn(page, PANEL, "Motion through 2 scans of LiCoO2 grain, hkl 1 0 -5; newest: S0041, turned 1.32 ± 0.24 and")
    assert canvas.is_visible()


def test_the_next_scan_is_foretold_with_its_error_bars(hub, page):
    hub.publish(fake_feed.motion())
    says(page, f"{PANEL} .note", "LiCoO2 grain, hkl 1 0 -5: 14 scans, 1 no good (✕)")
    says(
        page,
        f"{PANEL} .about-motion",
        "next scan, set up as S0053: peak at 0.29740 ± 0.00060°, row 59.57 ± 0.12, column 63.080 ± 0.090"
        " (turned 13.10 ± 0.50 and −5.89 ± 0.40 mdeg)",
    )


def test_a_crystal_that_is_lost_is_told_and_what_is_foretold_is_of_before(hub, page):
    hub.publish(fake_feed.motion(8, lost=True))
    note = page.locator(f"{PANEL} .note.alert")
    playwright.expect(note).to_have_text(
        "✕ the newest scan did not see the crystal: the peak has 4.1% of the usual counts: the crystal is lost"
    )
    expected = r"^next scan, set up as the last that saw it: .*, from before the last scan\)$"
    says(page, f"{PANEL} .about-motion", re.compile(expected))
    hub.publish(fake_feed.motion(9))
    playwright.expect(note).to_have_count(0)


def test_the_keys_go_from_scan_to_scan_and_print_why_one_is_no_good(hub, page):
    hub.publish(fake_feed.motion())
    drawn(page, PANEL, "Motion through 14 scans")
    page.locator(f"{PANEL} canvas").focus()
    page.keyboard.press("End")
    says(
        page, f"{PANEL} .readout", re.compile(r"^S0053, turned .* mdeg, Δd/d .*, intensity 87 %, peak at 0\.29830")
    )
    page.keyboard.press("Home")
    for _ in range(6):
        page.keyboard.press("ArrowRight")
    says(page, f"{PANEL} .readout", "S0046, ✕ the monitor is at 3% of the usual: the beam was lost")


@pytest.mark.parametrize("fields", [{"of": "series"}, {"of": "series", "scans": [], "prediction": None}])
def test_what_is_not_whole_does_not_break_the_page(hub, page, fields):
    hub.publish(Update(topic="tracking", fields=fields))
    update = fake_feed.motion(4)
    for name in ("rotation_1_mdeg", "angle_deg"):
        update.fields["prediction"][name] = {"value": 0.0, "std": None, "std2": None}
    hub.publish(update)
    drawn(page, PANEL, "Motion through 4 scans")
    says(page, f"{PANEL} .about-motion", re.compile("is not known: two scans must have seen it$"))
    assert "cannot be drawn" not in page.locator(PANEL).inner_text()


def test_the_angles_within_the_scan_are_drawn_with_the_drift(hub, page):
    hub.publish(fake_feed.run_started(SCAN))
    hub.publish(fake_feed.live(SCAN, 20))
    drawn(page, DRIFT, "peak on the detector (pixel) of 21 frames")
    hub.publish(fake_feed.turned(SCAN, 20))
    says(page, f"{DRIFT} .note", "turned within the scan in 20 of 31 frames, 0.46 steps rms")
    drawn(page, DRIFT, "angle off the motor\u2019s (steps) of 21 frames: angle within")
    page.locator(f"{DRIFT} canvas").focus()
    page.keyboard.press("ArrowRight")
    told = fake_feed.turned(SCAN, 20).arrays["found_steps"]
    says(page, f"{DRIFT} .readout", re.compile("steps off"))
    text = page.locator(f"{DRIFT} .readout").inner_text()
    found = re.search(r"^frame (\d+), (\S+) ± \S+ steps off", text)
    assert found, text
    assert float(found[2].replace("−", "-")) == pytest.approx(told[int(found[1])], abs=0.006)


def test_of_a_scan_in_which_no_motion_is_seen_no_angles_are_drawn(hub, page):
    hub.publish(fake_feed.run_started(SCAN))
    hub.publish(fake_feed.live(SCAN, 30))
    update = fake_feed.turned(SCAN)
    silent = {name: np.full(31, np.nan, np.float32) for name in ("found_steps", "std_steps")}
    hub.publish(
        Update(
            topic="tracking",
            run=SCAN.run,
            fields={**update.fields, "corrected": False, "reason": "no motion seen: log evidence 1.2"},
            arrays={**update.arrays, **silent},
        )
    )
    says(page, f"{DRIFT} .note", "no motion seen within the scan")
    seen = "motion seen, but correcting it would multiply the angles' error by 1.2"
    hub.publish(
        Update(topic="tracking", run=SCAN.run, fields={**update.fields, "corrected": False, "reason": seen})
    )
    says(page, f"{DRIFT} .note", f"within the scan: {seen}")
    drawn(page, DRIFT, "peak on the detector (pixel) of 31 frames")
    hub.publish(
        Update(topic="tracking", run=SCAN.run, fields={"of": "scan", "whole": True, "why": "steps are too coarse"})
    )
    says(page, f"{DRIFT} .note", "angles not tracked: steps are too coarse")

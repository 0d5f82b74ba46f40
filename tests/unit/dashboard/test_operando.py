"""The series on the page, in headless Chromium: what is drawn and said equals what was fed."""

import csv
import io
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from live_bcdi.dashboard import fake_feed

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
PANEL = "#operando-panel"


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
    playwright.expect(page.locator(f"{PANEL} {part}")).to_have_text(text)


def shows(page, label: str) -> None:
    """Wait until the canvas was drawn with this in its description."""
    expected = playwright.expect(page.locator(f"{PANEL} canvas"))
    expected.to_have_attribute("aria-label", re.compile(re.escape(label)))


def pressed(page) -> list[str]:
    return page.locator(f"{PANEL} [data-axis][aria-pressed=true]").all_inner_texts()


def test_it_is_hidden_and_says_why_until_there_are_two_results(hub, page):
    canvas = page.locator(f"{PANEL} canvas")
    says(page, ".note", "no result yet")
    assert not canvas.is_visible()
    hub.publish(fake_feed.series((2.5,)))
    says(page, ".note", "LiCoO2 grain, hkl 1 0 -5: 1 result; the strip begins with the second")
    assert not canvas.is_visible()
    assert page.locator(f"{PANEL} .csv").is_disabled()
    hub.publish(fake_feed.series((2.5, 3.0)))
    says(page, ".note", "LiCoO2 grain, hkl 1 0 -5: 2 runs, the newest ringed")
    assert canvas.is_visible()
    assert pressed(page) == ["voltage"]


def test_the_keys_go_along_the_axis_and_print_the_values(hub, page):
    """3.0 V twice: the first time while it is charged, the second while it is discharged."""
    hub.publish(fake_feed.series())
    shows(page, "Series of 6 runs of LiCoO2 grain, hkl 1 0 -5; newest: S0045, voltage 3 V")
    page.locator(f"{PANEL} canvas").focus()
    page.keyboard.press("ArrowRight")
    says(
        page,
        ".readout",
        re.compile(
            r"^S0040, voltage 2.5 V, strain 1.1×10⁻⁴ ± 2×10⁻⁵, Δd/d 0,"
            r" turned 0.00 ± 0.24 and 0.00 ± 0.12 mdeg, PC1 0.0 %, χ 0.012$"
        ),
    )
    for name in ("S0041", "S0045", "S0042"):
        page.keyboard.press("ArrowRight")
        says(page, ".readout", re.compile(f"^{name},"))
    page.keyboard.press("End")
    says(page, ".readout", re.compile("^S0043, voltage 4 V"))
    page.locator(f"{PANEL} [data-axis=time]").click()
    page.locator(f"{PANEL} canvas").focus()
    page.keyboard.press("End")
    says(page, ".readout", re.compile("^S0045"))


def test_a_point_opens_its_run_in_the_history(hub, page, address):
    hub.publish(fake_feed.series())
    shows(page, "Series of 6 runs")
    canvas = page.locator(f"{PANEL} canvas")
    canvas.focus()
    page.keyboard.press("End")
    says(page, ".readout", re.compile("^S0043"))
    with page.expect_popup() as opened:
        page.keyboard.press("Enter")
    expected = "http://{}:{}/history?a=5f0c1de2-0000-4000-8000-000000000043".format(*address)
    assert opened.value.url == expected
    place = page.evaluate(
        "() => document.querySelector('#operando-panel canvas').getBoundingClientRect().toJSON()"
    )
    found = None
    for across in range(60, 500, 12):  # the first plot rises from its lower left: some point is under a diagonal
        canvas.hover(position={"x": across, "y": place["height"] * (0.78 - 0.6 * across / 520)})
        page.wait_for_timeout(20)
        if page.locator(f"{PANEL} .readout").inner_text():
            found = across
            break
    assert found is not None, "the pointer meets no run"
    with page.expect_popup() as opened:
        canvas.click(position={"x": found, "y": place["height"] * (0.78 - 0.6 * found / 520)})
    assert "/history?a=5f0c1de2-" in opened.value.url


def test_without_a_state_it_is_by_time_and_says_so(hub, page):
    hub.publish(fake_feed.series((2.5, 3.0), name=None))
    hub.publish(fake_feed.series((None, None), name=None))
    says(page, ".about-series", "by time: no state is configured ([operando] state)")
    assert pressed(page) == ["time"]
    hub.publish(fake_feed.series((None, None)))
    says(page, ".about-series", "▲ by time: neither the start document nor an event has 'voltage'")
    assert page.locator(f"{PANEL} [data-axis=state]").is_disabled()
    hub.publish(fake_feed.series((2.5, None, 3.0)))
    says(page, ".about-series", re.compile("^▲ S0041 only on the axis of time: neither"))
    assert pressed(page) == ["voltage"]


def test_a_run_that_does_not_fit_is_named(hub, page):
    update = fake_feed.series()
    update.fields["runs"][1] |= {"components": [], "components_why": "its pattern has no counts"}
    hub.publish(update)
    says(page, ".about-series", "▲ S0041 not in PC1: its pattern has no counts")
    page.locator(f"{PANEL} canvas").focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    says(page, ".readout", re.compile("not in PC1: its pattern has no counts"))


def test_it_is_saved_as_csv_with_nothing_that_a_spreadsheet_would_run(hub, page):
    update = fake_feed.series()
    update.fields["runs"][2]["name"] = '=cmd("x")'
    hub.publish(update)
    shows(page, "Series of 6 runs")
    with page.expect_download() as saved:
        page.locator(f"{PANEL} .csv").click()
    rows = list(csv.DictReader(io.StringIO(Path(saved.value.path()).read_text(encoding="utf-8"))))
    assert [float(row["state"]) for row in rows] == list(fake_feed.VOLTAGES)
    assert [float(row["d_change"]) for row in rows] == [run["d_change"] for run in update.fields["runs"]]
    assert [float(row["PC1"]) for row in rows] == [run["components"][0] for run in update.fields["runs"]]
    angles = [[float(row[f"rotation_{axis}_mdeg"]) for axis in (1, 2)] for row in rows]
    assert angles == [run["rotation_mdeg"] for run in update.fields["runs"]]
    assert rows[2]["name"] == '\'=cmd("x")'


@pytest.mark.parametrize("fields", [{}, {"runs": []}, {"series": None, "runs": [{"run": "a"}, {"run": "b"}]}])
def test_what_is_not_whole_does_not_break_the_page(hub, page, fields):
    hub.publish(fake_feed.Update(topic="operando", fields=fields))
    hub.publish(fake_feed.series())
    shows(page, "Series of 6 runs")


def test_a_series_of_before_the_rotation_was_known_is_drawn(hub, page):
    update = fake_feed.series()
    for run in update.fields["runs"]:
        run |= {"rotation_mdeg": None, "rotation_std_mdeg": None}
    hub.publish(update)
    shows(page, "Series of 6 runs")
    assert "turned" not in page.locator(f"{PANEL} canvas").get_attribute("aria-label")
    assert "cannot be drawn" not in page.locator(f"{PANEL} .note").inner_text()


def test_two_runs_that_are_the_same_are_drawn(hub, page):
    hub.publish(fake_feed.series((3.0, 3.0)))
    shows(page, "Series of 2 runs")
    assert "cannot be drawn" not in page.locator(f"{PANEL} .note").inner_text()

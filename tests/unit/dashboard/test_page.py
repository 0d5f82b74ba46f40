"""The page in headless Chromium: what is shown equals what was fed, and it says so when something is wrong."""

import base64
import io
import re
import time
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from live_bcdi.advice import Advice
from live_bcdi.dashboard import Hub, fake_feed
from live_bcdi.stream.updates import Update

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
SCAN = fake_feed.simulated_scan(num=31, edge=64)
SETTLE = "() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))"
MAX_PAGE_BYTES = 1_000_000


class Clock:
    """The server's clock, which a test may put forward."""

    def __init__(self) -> None:
        self.ahead_s = 0.0

    def __call__(self) -> float:
        return time.time() + self.ahead_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def hub(clock: Clock) -> Hub:
    return Hub(clock)


@pytest.fixture
def page(browser, address) -> Iterator:
    """The page, connected; at the end it must have asked no other host and have had no error."""
    page = browser.new_page(viewport={"width": 1600, "height": 1000})
    asked, errors = [], []
    page.on("request", lambda request: asked.append(request.url))
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto("http://{}:{}".format(*address))
    page.wait_for_selector("body:not(.lost)")
    yield page
    page.close()
    assert errors == []
    assert all(url.startswith("http://{}:{}/".format(*address)) for url in asked)


def expect_text(page, **texts: str) -> None:
    """Wait until the elements of these ids read so; underscores stand for hyphens."""
    for name, text in texts.items():
        playwright.expect(page.locator(f"#{name.replace('_', '-')}")).to_have_text(text)


def show_run(hub: Hub, index: int = 20, **options) -> Update:
    hub.publish(fake_feed.run_started(SCAN))
    live = fake_feed.live(SCAN, index, **options)
    hub.publish(live)
    return live


def pixels(page, panel: str) -> np.ndarray:
    """What a panel's canvas shows once it has been drawn, (height, width, RGBA)."""
    page.evaluate(SETTLE)
    address = page.locator(f"#{panel} canvas").evaluate("canvas => canvas.toDataURL()")
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(address.split(",")[1]))).convert("RGBA"))


def test_numbers_are_those_that_were_fed(hub, page):
    live = show_run(hub, missing=(3, 4))
    estimate = fake_feed.live_estimate(SCAN, 19)
    hub.publish(estimate)
    for beat in fake_feed.heartbeats(busy="refine"):
        hub.publish(beat)
    fields = live.fields
    expect_text(
        page,
        title="test beamline",
        run_name="S0054",
        run_about="gold nanocrystal (1 1 1)",
        state_label="Scanning",
        count="19",
        num="/ 31",
        rate="20",
        left="about 1 s left",
        angle=f"{fields['angle_deg']:.4f}",
        bragg="17.158",
        spacing="2.3349",
        q="2.6910",
        peak=", ".join(str(value) for value in fields["peak"]),
        saturated="0",
        dead=str(fields["dead"]),
        lost_frames="2",
        missing="–",
        chi=f"{estimate.fields['chi']:.3g}",
        resolution="–",
        estimate_label="live estimate, S0054 (19/31)",
    )
    assert page.locator("#rocking-panel .note").inner_text() == "▲ 2 frames not there yet: 3, 4"
    assert page.locator("#services li[data-service=refine]").inner_text() == "● refine busy"
    assert page.locator("#progress").get_attribute("aria-valuenow") == "19"
    for panel in ("frame-panel", "rocking-panel", "crystal-panel"):
        colours = np.unique(pixels(page, panel).reshape(-1, 4), axis=0)
        assert len(colours) > 50, f"{panel} is blank"  # text alone gives a handful of grey levels and edges
        assert page.locator(f"#{panel} canvas").get_attribute("aria-label")


def test_refined_result_is_shown_and_the_live_one_can_be_had_back(hub, page):
    show_run(hub)
    hub.publish(fake_feed.live_estimate(SCAN, 21))
    expect_text(page, estimate_label="live estimate, S0054 (21/31)")
    hub.publish(fake_feed.run_stopped(SCAN))
    expect_text(page, state_label="Scan done")
    hub.publish(fake_feed.refined_estimate(SCAN))
    hub.publish(fake_feed.result(SCAN))
    expect_text(page, state_label="Refined", estimate_label="refined, S0054", chi="0.0118", resolution="25.2")
    assert "in Tiled as refined/" in page.locator("#result").inner_text()
    page.get_by_role("button", name="live", exact=True).click()
    expect_text(page, estimate_label="live estimate, S0054 (21/31)")


def test_a_preview_says_what_it_is_how_sure_and_why_there_is_none(hub, page):
    """It takes the place of the live estimate, and the live estimate its, whichever is the newer."""
    show_run(hub)
    hub.publish(fake_feed.live_estimate(SCAN, 17))
    live = fake_feed.live_estimate(SCAN, 21)
    odds = {"dislocation": 0.83, "twin": 0.2}
    preview = replace(live, fields={**live.fields, "kind": "preview", "phase_std_rad": 0.347, "defects": odds})
    hub.publish(preview)
    expect_text(page, estimate_label="preview, S0054 (21/31)", surface_label="preview, S0054")
    assert page.get_by_role("button", name="live", exact=True).get_attribute("aria-pressed") == "true"
    about = page.locator("#surface-about").inner_text()
    assert "phase uncertain by 0.35 rad (median)" in about
    assert "dislocation likely (83 %)" in about and "twin" not in about
    hub.publish(replace(live, fields={**live.fields, "frames": 25, "unlike": "two peaks or more"}))
    expect_text(page, estimate_label="live estimate, S0054 (25/31)")
    about = page.locator("#surface-about").inner_text()
    assert "no preview by the network: two peaks or more" in about and "rad (median)" not in about


def test_what_is_of_an_earlier_run_says_so(hub, page):
    show_run(hub)
    hub.publish(fake_feed.refined_estimate(SCAN))
    hub.publish(Update(topic="run", run="next", fields={"state": "started", "name": "S0055", "num": 9}))
    expect_text(page, run_name="S0055", count="0", num="/ 9", estimate_label="refined, S0054 (an earlier run)")


def test_a_page_opened_late_shows_the_state(hub, address, browser):
    show_run(hub)
    hub.publish(fake_feed.live_estimate(SCAN, 21))
    page = browser.new_page()
    page.goto("http://{}:{}".format(*address))
    expect_text(page, run_name="S0054", count="21", estimate_label="live estimate, S0054 (21/31)")
    page.close()


def test_silence_and_death_are_shown(hub, page, clock):
    show_run(hub)
    for beat in fake_feed.heartbeats():
        hub.publish(beat)
    expect_text(page, state_label="Scanning")
    clock.ahead_s = 7.0
    for beat in fake_feed.heartbeats(failed="live"):
        if beat.fields["service"] != "refine":
            hub.publish(beat)
    expect_text(page, state_label="Stale")
    assert "no frame for" in page.locator("#state-detail").inner_text()
    assert page.locator("#services li[data-service=live] > span:first-child").inner_text() == "✕ live failed"
    assert "✕ refine silent" in page.locator("#services li[data-service=refine]").inner_text()
    assert "✓ archiver ready" in page.locator("#services li[data-service=archiver]").inner_text()


def test_a_death_that_nobody_could_tell_of_is_seen_by_the_next_process(hub, page, clock):
    """The broker's own: what the supervisor says of it has no way to the page."""
    beats = {beat.fields["service"]: beat for beat in fake_feed.heartbeats()}
    for beat in beats.values():
        hub.publish(beat)
    words = page.locator("#services li[data-service=broker] > span:first-child")
    playwright.expect(words).to_have_text("✓ broker ready")
    again = Update(topic="health", fields={**beats["broker"].fields, "pid": 5000})
    hub.publish(again)
    playwright.expect(words).to_have_text("✕ broker died, started again")
    clock.ahead_s = 6.0
    hub.publish(again)
    playwright.expect(words).to_have_text("✓ broker ready")


def tone(page, name: str) -> str:
    """How an element of the strip is marked: nothing while all is well."""
    kind = page.locator(f"#{name}").get_attribute("data-kind")
    return "" if kind in (None, "", "idle") else kind


def test_the_strip_is_grey_while_all_is_well(hub, page):
    show_run(hub)
    hub.publish(fake_feed.live_estimate(SCAN, 21))
    hub.publish(fake_feed.queue(running=1, waiting=2, later=3))
    expect_text(
        page,
        stream_words="no frame lost",
        received="21",
        lost_frames="0",
        refilled="0",
        duplicates="0",
        waiting="0",
        skipped="10",
        to_preview="0.5 s",
        to_result="–",
        running="1",
        runs_waiting="2",
        later="3",
        outbox="0",
    )
    assert {tone(page, name) for name in ("stream", "age", "lost-frames", "refilled", "missing", "outbox")} == {""}


def test_the_strip_says_what_was_lost_and_what_the_file_gave_back(hub, page):
    show_run(hub, missing=(3, 4))
    expect_text(page, stream_words="2 frames lost, to be taken from the file")
    assert (tone(page, "stream"), tone(page, "lost-frames"), tone(page, "missing")) == ("warn", "warn", "")
    hub.publish(fake_feed.live(SCAN, 30, refilled=2))
    hub.publish(fake_feed.run_stopped(SCAN))
    hub.publish(fake_feed.result(SCAN))
    expect_text(
        page,
        stream_words="2 frames lost on the way, taken from the file",
        refilled="2",
        missing="0",
        to_result="63 s",
    )
    assert (tone(page, "stream"), tone(page, "refilled")) == ("warn", "warn")


def test_the_strip_is_red_where_a_frame_is_in_no_file(hub, page):
    show_run(hub, 30, missing=(3,))
    hub.publish(fake_feed.run_stopped(SCAN))
    expect_text(page, stream_words="1 frame missing, in no file", missing="1")
    assert (tone(page, "stream"), tone(page, "missing")) == ("bad", "bad")
    expect_text(page, state_label="Scan done")
    assert page.locator("#rocking-panel .note").inner_text() == "✕ 1 frame missing: 3"


def test_frames_that_an_aborted_scan_never_took_are_not_missing(hub, page):
    show_run(hub, 9, missing=(3,))
    hub.publish(Update(topic="run", run=SCAN.run, fields={"state": "stopped", "exit_status": "abort"}))
    expect_text(page, state_label="Scan abort", missing="1")


def test_the_age_of_the_newest_frame_goes_on_while_nothing_comes(hub, page, clock):
    """Nothing is published after the first frame: only the clock of the server, once a second."""
    show_run(hub)
    playwright.expect(page.locator("#age")).to_have_text(re.compile(r"^\d\.\d s ago"))
    clock.ahead_s = 40.0
    playwright.expect(page.locator("#age")).to_have_text(re.compile(r"^4\d s ago"))
    assert tone(page, "age") == "warn"
    expect_text(page, state_label="Stale")
    assert page.locator("#stream-words").inner_text().startswith("no frame for 4")


def test_the_strip_is_red_where_a_service_is_silent(hub, page, clock):
    show_run(hub)
    for beat in fake_feed.heartbeats():
        hub.publish(beat)
    expect_text(page, stream_words="no frame lost")
    clock.ahead_s = 7.0
    for beat in fake_feed.heartbeats():
        if beat.fields["service"] != "archiver":
            hub.publish(beat)
    playwright.expect(page.locator("#stream-words")).to_have_text(re.compile("archiver silent"))
    assert tone(page, "stream") == "bad"


def test_results_that_wait_for_tiled_are_amber_after_a_while(hub, page, clock):
    show_run(hub)
    hub.publish(fake_feed.queue(outbox=2))
    expect_text(page, outbox="2")
    assert tone(page, "outbox") == ""  # one that was just written waits a second or two
    clock.ahead_s = 20.0
    show_run(hub)
    hub.publish(fake_feed.queue(outbox=2))
    expect_text(page, stream_words="2 results on disk that Tiled has not taken")
    hub.publish(fake_feed.queue())
    expect_text(page, stream_words="no frame lost")


def test_a_slow_scan_is_not_stale_between_two_frames(hub, page, clock):
    """34-ID-C took 5.5 s a frame: three seconds of silence mean nothing there."""
    show_run(hub, rate_hz=0.18)
    expect_text(page, state_label="Scanning")
    clock.ahead_s = 8.0
    playwright.expect(page.locator("#age")).to_have_text(re.compile(r"^([89]\.|1[0-2] )"))
    expect_text(page, state_label="Scanning")
    clock.ahead_s = 20.0
    expect_text(page, state_label="Stale")


def test_the_page_works_with_a_key(hub, browser, serve):
    """It is asked for once; then it is in no address, and a page whose key was changed asks again."""
    key, other = "0123456789abcdef" * 2, "fedcba9876543210" * 2
    page = browser.new_page()
    addresses = []
    page.on("request", lambda request: addresses.append((request.url, request.headers.get("referer"))))
    with serve(hub, key=key) as (host, port):
        page.goto(f"http://{host}:{port}")
        playwright.expect(page.locator("h1")).to_have_text("The page has a key.")
        page.get_by_label("Key").fill("wrong")
        page.get_by_role("button", name="Open").click()
        playwright.expect(page.locator("h1")).to_have_text("The key is wrong.")
        page.get_by_label("Key").fill(key)
        page.keyboard.press("Enter")
        page.wait_for_selector("body:not(.lost)")
        show_run(hub)
        expect_text(page, run_name="S0054", count="21")
        assert page.url == f"http://{host}:{port}/"
        page.reload()
        expect_text(page, count="21")
        assert page.evaluate("document.cookie") == ""
        assert [url for url, _ in addresses if key in url] == [f"http://{host}:{port}/?key={key}"]
        assert not any(referer for _, referer in addresses)
    with serve(hub, port=port, key=other):
        playwright.expect(page.locator("h1")).to_have_text("The page has a key.")
    page.close()


def test_the_delay_to_the_screen_is_told(hub, page):
    """From the server, and from a time stamp 3 s ago; a frame without one counts for the first alone. Those of the
    first ticks do not count, while the server's clock is not known."""
    delay = page.locator("#delay")
    show_run(hub)
    live = fake_feed.live(SCAN, 20)
    number = 0
    while delay.get_attribute("data-frames") != "3":
        stamp_s = time.time() - 3.0 if number % 2 else None
        fields = {**live.fields, "count": number, "frame_time_s": stamp_s}
        hub.publish(Update(topic="live", run=SCAN.run, fields=fields, arrays=live.arrays))
        expect_text(page, count=str(number))
        page.evaluate(SETTLE)
        number += 1
    words = re.fullmatch(
        r"median of the last 3 frames, from the page's server to the screen; 95 % within (\d+) ms; "
        r"from the detector's time stamp (\d+) ms, 95 % within (\d+) ms",
        delay.get_attribute("title"),
    )
    here_ms, stamp_ms, slowest_ms = map(int, words.groups())
    assert 2950 < stamp_ms <= slowest_ms < 3050 + here_ms  # the page's idea of the server's clock is some ms off


def test_a_lost_server_is_shown_and_found_again(browser, serve):
    hub = Hub()
    with serve(hub) as address:
        page = browser.new_page()
        page.goto("http://{}:{}".format(*address))
        page.wait_for_selector("body:not(.lost)")
        assert not page.locator("#lost").is_visible()
    playwright.expect(page.locator("#lost")).to_contain_text("No connection")
    show_run(hub)
    with serve(hub, port=address[1]):
        playwright.expect(page.locator("#lost")).to_be_hidden()
        expect_text(page, count="21")
    page.close()


def test_failed_refinement_and_aborted_scan(hub, page):
    show_run(hub)
    hub.publish(fake_feed.run_stopped(SCAN))
    hub.publish(Update(topic="result", run=SCAN.run, fields={"name": "S0054", "error": "no counts"}))
    expect_text(page, state_label="No result", state_detail="no counts", result_facts="none: no counts")
    hub.publish(Update(topic="run", run="x", fields={"state": "stopped", "exit_status": "abort"}))
    expect_text(page, state_label="Scan abort")


def test_nothing_known_is_a_dash_and_no_error(hub, page):
    """NaN and None travel as null; a result without geometry has no voxel size."""
    hub.publish(Update(topic="run", run="x", fields={"state": "started", "name": "S1", "num": 5}))
    image = np.zeros((8, 8), np.float32)
    fields = {"count": 1, "num": 5, "index": 0, "rate_hz": 0.0, "bragg_deg": np.nan, "peak": None}
    hub.publish(Update(topic="live", run="x", fields=fields, arrays={"image": image}))
    estimate = fake_feed.refined_estimate(SCAN)
    without = {**estimate.fields, "voxel_nm": None, "axes": list(fake_feed.DETECTOR_AXES), "chi": np.nan}
    hub.publish(Update(topic="estimate", run="x", fields=without, arrays=estimate.arrays))
    expect_text(page, count="1", bragg="–", peak="–", chi="–", estimate_label="refined, S1")
    expect_text(
        page, estimate_about="31 of 31 frames, detector frame, axes not quite orthogonal, computed in 62 s"
    )
    assert "cannot be drawn" not in page.locator("main").inner_text()


def test_one_broken_picture_leaves_the_others(hub, page):
    estimate = fake_feed.refined_estimate(SCAN)
    broken = {name: array for name, array in estimate.arrays.items() if name != "phase_1"}
    hub.publish(Update(topic="estimate", run=SCAN.run, fields=estimate.fields, arrays=broken))
    show_run(hub)
    playwright.expect(page.locator("#crystal-panel .note")).to_contain_text("cannot be drawn")
    expect_text(page, count="21")
    assert len(np.unique(pixels(page, "frame-panel").reshape(-1, 4), axis=0)) > 50


def test_frame_is_drawn_row_down_column_right_and_read_out(hub, page):
    """One bright pixel in a dark frame is found where the readout says it is, by pointer and by keys."""
    image = np.zeros((40, 50), np.float32)
    image[8, 35] = 1000.0
    fields = {"count": 1, "num": 9, "index": 0, "peak": [0, 8, 35], "peak_counts": 1000.0, "image_bin": 2}
    fields |= {"rate_hz": 1.0, "peak": [0, 16, 70]}
    hub.publish(Update(topic="live", run="x", fields=fields, arrays={"image": image}))
    expect_text(page, peak="0, 16, 70")
    page.locator("#frame-panel .enlarge").click()
    shown = pixels(page, "frame-panel")[..., :3].astype(int)
    rows, columns = np.nonzero(np.abs(shown - (252, 255, 164)).sum(axis=2) < 12)
    canvas = page.locator("#frame-panel canvas")
    # the median lies in the pixel, which is larger than the colour bar's end
    canvas.hover(position={"x": float(np.median(columns)), "y": float(np.median(rows))})
    readout = page.locator("#frame-panel .readout")
    playwright.expect(readout).to_have_text("row 16, column 70: 1k counts")
    canvas.focus()
    page.keyboard.press("ArrowRight")
    playwright.expect(readout).to_have_text("row 16, column 72: 0 counts")
    page.keyboard.press("ArrowDown")
    playwright.expect(readout).to_have_text("row 18, column 72: 0 counts")
    page.keyboard.press("Escape")
    assert page.locator(".panel.large").count() == 0


def test_saturated_pixels_have_a_colour_of_their_own(hub, page):
    image = np.full((20, 20), 50.0, np.float32)
    image[5:9, 5:9] = 900.0
    fields = {"count": 1, "num": 9, "index": 0, "saturation_counts": 900.0, "saturated": 16, "rate_hz": 1.0}
    hub.publish(Update(topic="live", run="x", fields=fields, arrays={"image": image}))
    expect_text(page, saturated="16")
    cyan = (pixels(page, "frame-panel")[..., :3] == (0, 229, 255)).all(axis=2)
    shown_edge = 4 / 20 * (pixels(page, "frame-panel").shape[0] - 52)  # of the frame, whose axes take 52 pixels
    legend = 16 * 14
    assert abs(cyan.sum() - legend - shown_edge**2) < 0.1 * shown_edge**2


def test_the_region_that_is_kept_is_marked(hub, page):
    image = np.zeros((40, 50), np.float32)
    fields = {"count": 1, "num": 9, "index": 0, "peak": [0, 16, 70], "image_bin": 2, "rate_hz": 1.0}
    hub.publish(Update(topic="live", run="x", fields=fields, arrays={"image": image}))
    expect_text(page, count="1")
    before = pixels(page, "frame-panel")
    fields |= {"window": [10, 30, 50, 90]}
    hub.publish(Update(topic="live", run="x", fields=fields, arrays={"image": image}))
    playwright.expect(page.locator("#frame-panel .note")).to_have_text(re.compile("dashed: kept in memory$"))
    shown = pixels(page, "frame-panel")
    rows, columns = np.nonzero((shown != before).any(axis=2))
    scale = np.ptp(columns) / (40 / 2)  # pixels of the screen an image's pixel
    assert np.ptp(rows) == pytest.approx(scale * 20 / 2, abs=3)


@pytest.mark.parametrize(
    ("axes", "cut", "right", "down"),
    [
        # what is at large x, y, z: lab cuts are drawn with their vertical axis up, detector cuts with rows down
        (fake_feed.LAB_AXES, 0, True, False),
        (fake_feed.LAB_AXES, 1, True, False),
        (fake_feed.LAB_AXES, 2, True, False),
        (fake_feed.DETECTOR_AXES, 0, True, True),
        (fake_feed.DETECTOR_AXES, 1, True, True),
        (fake_feed.DETECTOR_AXES, 2, True, True),
    ],
)
def test_slices_are_drawn_the_right_way_round(hub, page, axes, cut, right, down):
    """A crystal that is bright at the far end of every axis shows where the arrows say."""
    edges = (20, 24, 28)
    grid = np.meshgrid(*[np.arange(edge) for edge in edges], indexing="ij")
    bright = np.logical_and.reduce([axis >= 0.75 * edge for axis, edge in zip(grid, edges)])
    amplitude = np.where(bright, 1.0, 0.2)
    slices = fake_feed.central_slices(amplitude.astype(complex))
    for axis in range(3):  # the cut through the bright end, so that it shows
        slices[f"amplitude_{axis}"] = amplitude.take(-1, axis).astype(np.float32)
        slices[f"phase_{axis}"] = np.zeros_like(slices[f"amplitude_{axis}"])
    fields = {"kind": "live", "frames": 5, "num": 9, "voxel_nm": [10.0, 5.0, 4.0], "axes": list(axes)}
    hub.publish(Update(topic="estimate", run="x", fields=fields, arrays=slices))
    expect_text(page, estimate_label="live estimate, x (an earlier run) (5/9)")
    shown = pixels(page, "crystal-panel")
    third = (shown.shape[1] - 122) // 3  # the colour bar takes 122 pixels
    cell = shown[: shown.shape[0] // 2, cut * third : (cut + 1) * third, :3].astype(int)
    rows, columns = np.nonzero(np.abs(cell - (253, 231, 37)).sum(axis=2) < 6)
    dim_rows, dim_columns = np.nonzero(np.abs(cell - cell[cell.shape[0] // 2, cell.shape[1] // 2]).sum(axis=2) < 6)
    assert len(rows) > 50
    assert (columns.mean() > dim_columns.mean()) == right
    assert (rows.mean() > dim_rows.mean()) == down
    # Equal aspect in nm: the bright quarter of each axis, drawn with one scale.
    across, along = {0: (2, 1), 1: (2, 0), 2: (0, 1)}[cut]
    length = np.array(edges) / 4 * (10.0, 5.0, 4.0)
    assert np.ptp(columns) / np.ptp(rows) == pytest.approx(length[across] / length[along], rel=0.1)


def test_colour_maps(page):
    """viridis and inferno are matplotlib's; the cyclic map closes, and its steps look alike all around."""
    colours = pytest.importorskip("matplotlib", reason="matplotlib is not installed").colormaps
    tables = page.evaluate(
        """async () => {
            const maps = await import("./colour.js");
            return Object.fromEntries(Object.entries(maps).map(([name, map]) => [name, Array.from(map._bytes)]));
        }"""
    )
    shown = {name: np.reshape(table, (256, 4))[:, :3] for name, table in tables.items()}
    for name in ("viridis", "inferno"):  # 17 points and straight lines are within 7 of 255 levels of the original
        assert np.abs(shown[name] - 255 * np.array(colours[name].colors)).max() < 7
    ring = oklab(shown["cyclic"] / 255)
    steps = np.linalg.norm(np.roll(ring, -1, axis=0) - ring, axis=1)
    assert steps[-1] < 2 * np.median(steps)  # from +pi to -pi is a step like any other
    smooth = np.convolve(np.r_[steps, steps[:16]], np.ones(16) / 16, "valid")
    assert smooth.max() < 2 * smooth.min()
    # Without the red-green axis, angles a quarter turn apart still differ by more than 0.1 (a just visible
    # difference in OKLab is about 0.02).
    blind = ring[:, [0, 2]]
    assert np.linalg.norm(blind - np.roll(blind, 64, axis=0), axis=1).min() > 0.1


def oklab(rgb: np.ndarray) -> np.ndarray:
    """sRGB in 0..1 to OKLab (Ottosson, 2020)."""
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    lms = np.cbrt(
        linear
        @ np.array(
            [
                [0.4122214708, 0.5363325363, 0.0514459929],
                [0.2119034982, 0.6806995451, 0.1073969566],
                [0.0883024619, 0.2817188376, 0.6299787005],
            ]
        ).T
    )
    to_lab = [
        [0.2104542553, 0.7936177850, -0.0040720468],
        [1.9779984951, -2.4285922050, 0.4505937099],
        [0.0259040371, 0.7827717662, -0.8086757660],
    ]
    return lms @ np.array(to_lab).T


@pytest.mark.parametrize("width", [360, 400, 800, 1280, 2560])
def test_nothing_sticks_out_sideways(hub, page, width):
    show_run(hub, missing=(1, 2, 3, 5, 6, 7, 9))
    hub.publish(fake_feed.refined_estimate(SCAN))
    hub.publish(fake_feed.result(SCAN))
    hub.publish(fake_feed.notice("refine", "error", "a" * 300))
    expect_text(page, estimate_label="refined, S0054")
    page.set_viewport_size({"width": width, "height": 800})
    page.evaluate(SETTLE)
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_everything_is_reached_by_tab(hub, page):
    show_run(hub)
    hub.publish(fake_feed.live_estimate(SCAN, 21))
    expect_text(page, estimate_label="live estimate, S0054 (21/31)")
    reached = set()
    for _ in range(20):
        page.keyboard.press("Tab")
        reached.add(
            page.evaluate("(() => { const at = document.activeElement; return at.ariaLabel ?? at.innerText; })()")
        )
    names = ["Enlarge the detector frame", "Logarithmic counts", "Enlarge the crystal", "live"]
    assert set(names) <= reached
    assert {name.split()[0] for name in reached if name} >= {"Detector", "Rocking", "Crystal,"}  # the canvases
    page.get_by_role("button", name="Logarithmic counts").focus()
    page.keyboard.press("Enter")
    assert page.get_by_role("button", name="Logarithmic counts").get_attribute("aria-pressed") == "true"


def said(rule: str, level: str) -> Advice:
    return Advice(rule=rule, level=level, what=f"Do {rule}.", why=f"Because of {rule}: 12 of 13.")


def advised(page) -> list[str]:
    return page.locator("#advice-list li").all_inner_texts()


def test_advice_is_shown_with_its_reason_the_worst_first_and_the_results_word_last(hub, page):
    playwright.expect(page.locator("#no-advice")).to_have_text("none: nothing is measured yet")
    show_run(hub)
    playwright.expect(page.locator("#no-advice")).to_have_text("none: nothing measured so far asks for a change")
    hub.publish(fake_feed.advice(SCAN, "scan", said("step", "info"), said("range", "info")))
    hub.publish(fake_feed.advice(SCAN, "result", said("counts", "warning"), said("step", "error")))
    playwright.expect(page.locator("#advice-list li")).to_have_count(3)
    assert [" ".join(text.split()) for text in advised(page)] == [
        "✕ Do step. Because of step: 12 of 13.",
        "▲ Do counts. Because of counts: 12 of 13.",
        "○ Do range. Because of range: 12 of 13.",
    ]
    assert page.locator("#advice").get_attribute("data-kind") == "bad"
    hub.publish(fake_feed.advice(SCAN, "scan", *(said(f"rule {k}", "warning") for k in range(4))))
    playwright.expect(page.locator("#advice-list li")).to_have_count(4)
    assert advised(page)[3] == "and 3 more: Do rule 2. Do rule 3. Do counts."
    hub.publish(Update(topic="run", run="next", fields={"state": "started", "name": "S0055", "num": 9}))
    playwright.expect(page.locator("#advice-list li")).to_have_count(0)
    assert page.locator("#advice").get_attribute("data-kind") == "idle"


def worked(page) -> list[str]:
    return [" | ".join(text.split("\n")) for text in page.locator("#work-list li").all_inner_texts()]


def test_every_long_job_says_how_far_it_is_and_about_how_long_it_takes(hub, page, clock):
    show_run(hub, rate_hz=0.1)
    hub.publish(fake_feed.queue(fake_feed.job(SCAN, name="S0053"), waiting=1, later=2, outbox=1))
    row = page.locator("#work-list li")
    playwright.expect(row).to_have_count(4)
    scan, job, waiting, outbox = worked(page)
    # 10 frames are left of 31, one every 10 s; a few may have passed since
    assert re.fullmatch(r"Scan S0054 \| about 2 min left \| 21 of 31 frames", scan)
    assert re.fullmatch(
        r"Refining S0053 \| about 45 s left \| generation 1 of 3, start 4 of 8, iteration 61 of 166; "
        r"at work for 3\d s",
        job,
    )
    assert (
        waiting
        == "3 scans to refine | the newest is next, when a place is free; 2 put off until nothing else waits"
    )
    assert re.fullmatch(r"1 result on disk, for Tiled \| for \d s; sent as soon as Tiled answers", outbox)
    assert row.nth(1).locator(".progress").get_attribute("aria-valuenow") == "42"
    clock.ahead_s = 40.0
    playwright.expect(row.nth(1)).to_contain_text("no news for 4")
    assert row.nth(1).get_attribute("data-kind") == "warn" and "left" not in worked(page)[1]
    assert row.nth(3).get_attribute("data-kind") == "warn"
    assert "left" not in worked(page)[0], "a scan that is stale promises nothing"
    hub.publish(fake_feed.queue(fake_feed.job(SCAN, None)))
    hub.publish(fake_feed.run_stopped(SCAN))
    playwright.expect(row).to_have_count(1)
    assert re.fullmatch(r"Refining S0054 \| at work for 3\d s", worked(page)[0]), "a cluster tells no more"
    assert not row.locator(".progress").is_visible()
    hub.publish(fake_feed.queue())
    playwright.expect(page.locator("#no-work")).to_be_visible()


def test_times_that_are_estimated_are_rounded_up(page):
    texts = page.evaluate(
        """async () => {
            const { about } = await import("./plot.js");
            return [0, 1.2, 10, 11, 60, 61, 599, 601, 3600, 3601, 7200, NaN, -5].map(about);
        }"""
    )
    assert texts == [
        *("about 1 s", "about 2 s", "about 10 s", "about 15 s", "about 60 s", "about 1.5 min", "about 10 min"),
        *("about 11 min", "about 60 min", "about 1 h 10 min", "about 2 h", "", ""),
    ]


def test_how_good_each_image_is_and_how_far_its_starts_differ(hub, page):
    show_run(hub)
    hub.publish(fake_feed.live_estimate(SCAN, 21))
    hub.publish(fake_feed.refined_estimate(SCAN))
    playwright.expect(page.locator("#merit thead th")).to_have_count(2)
    assert page.locator("#merit thead th").all_inner_texts() == [
        "live estimate\nS0054, 21 of 31 frames",
        "refined\nS0054",
    ]
    rows = {
        row.locator("th span").inner_text(): [
            " ".join(text.split()) for text in row.locator("td").all_inner_texts()
        ]
        for row in page.locator("#merit tbody tr").all()
    }
    assert rows["χ"][1] == "0.0118 0.0118 to 0.0119 over 3 starts"
    assert rows["χ"][0].endswith("one start")
    assert rows["free log-likelihood"] == ["– none held out", "0.546 0.546 to 0.565 over 3 starts"]
    assert rows["resolution"] == [
        "– needs several starts",
        "19.4 to 25.2 nm PRTF 1/e 19.4; halves of the starts 0.5: 25.2",
    ]
    assert rows["theory it needs"] == ["–", "refraction Fourier: 13 % off; refraction: 0.78 %"]
    assert rows["strain"] == ["–", "±2.3×10⁻⁵ median of std over the starts"]
    ends = {**fake_feed.refined_estimate(SCAN).fields, "resolution_nm": 12.3, "fsc_nm": None}
    hub.publish(Update(topic="estimate", run=SCAN.run, fields={**ends, "chi": 0.02}))
    playwright.expect(page.locator("#merit")).to_contain_text("PRTF 1/e 12.3 (end of the data)")


def test_a_jump_of_the_peak_is_drawn_where_it_was_and_read_out(hub, page):
    """The peak's row steps by 4 pixels between frames 14 and 15; nothing else is drawn than what is known."""
    live = show_run(hub, 30)
    step = np.where(np.arange(31) < 15, 20.0, 24.0).astype(np.float32)
    flat = np.full(31, 40.0, np.float32)
    arrays = {name: array for name, array in live.arrays.items() if name not in ("monitor", "times_s")}
    arrays |= {
        "centroid_row": step,
        "centroid_column": flat,
        "centroid_row_std": flat / 400,
        "centroid_column_std": flat / 400,
    }
    hub.publish(Update(topic="live", run=SCAN.run, fields=live.fields, arrays=arrays))
    canvas = page.locator("#drift-panel canvas")
    playwright.expect(canvas).to_have_attribute(
        "aria-label", "peak on the detector (pixel) of 31 frames: row within 4.00, column within 0.00"
    )
    width = canvas.evaluate("node => node.clientWidth")
    canvas.hover(position={"x": width / 2 + 20, "y": 40})
    readout = page.locator("#drift-panel .readout")
    playwright.expect(readout).to_contain_text(
        re.compile(r"frame 1\d, row 24.00 ± 0.10, column 40.00 ± 0.10, \S+ counts")
    )
    canvas.hover(position={"x": 90, "y": 40})
    playwright.expect(readout).to_contain_text("row 20.00")
    without = {name: array for name, array in arrays.items() if not name.startswith("centroid")}
    hub.publish(Update(topic="live", run=SCAN.run, fields=live.fields, arrays=without))
    playwright.expect(canvas).to_have_attribute("aria-label", re.compile("^counts of 31 frames"))
    assert "cannot be drawn" not in page.locator("#drift-panel").inner_text()


def test_what_a_cold_load_transfers_is_light(hub, address, browser):
    """All that a browser loads, headers included, before the state comes through the websocket, which is data."""
    show_run(hub)
    hub.publish(fake_feed.live_estimate(SCAN, 21))
    hub.publish(fake_feed.refined_estimate(SCAN))
    context = browser.new_context()
    page = context.new_page()
    session = context.new_cdp_session(page)
    session.send("Network.enable")
    loaded = []
    session.on("Network.loadingFinished", lambda event: loaded.append(event["encodedDataLength"]))
    page.goto("http://{}:{}".format(*address))
    expect_text(page, estimate_label="refined, S0054")
    context.close()
    assert len(loaded) > 10, "the modules are counted"
    assert sum(loaded) < MAX_PAGE_BYTES


def test_the_dynamical_image_has_its_button_once_there_is_one(hub, page):
    """It is shown as the surest where it foretells free pixels, beside the kinematical one, which a person may go
    back to; else it waits to be asked for."""
    show_run(hub)
    refined = fake_feed.refined_estimate(SCAN)
    hub.publish(refined)
    button = page.locator("[data-choice=dynamical]")
    expect_text(page, chi=f"{refined.fields['chi']:.3g}", chi_of="refined")
    assert not button.is_visible()
    for chi, unsure in ((0.00171, {"free_misfit": 3.0}), (0.00181, {"free_misfit": None}), (0.00191, {})):
        hub.publish(replace(refined, fields={**refined.fields, **unsure, "kind": "dynamical", "chi": chi}))
        playwright.expect(page.locator("#merit")).to_contain_text(str(chi))
        expect_text(page, chi_of="refined")
    good = {"kind": "dynamical", "chi": 0.00131, "free_misfit": 0.12}
    hub.publish(replace(refined, fields={**refined.fields, **good}))
    expect_text(page, chi="0.00131", chi_of="dynamical")
    assert button.is_visible() and button.get_attribute("aria-pressed") == "true"
    page.click("[data-choice=refined]")
    expect_text(page, chi_of="refined")
    page.click("[data-choice=dynamical]")
    expect_text(page, chi_of="dynamical")
    playwright.expect(page.locator("#merit thead th")).to_have_count(2)

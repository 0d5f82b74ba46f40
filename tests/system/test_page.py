"""The page in Chromium while the real system measures, stalls, refines and loses a service.

Every state is photographed into build/screenshots, or where LIVE_BCDI_SCREENSHOTS says: a page is right when
somebody has looked at it.
"""

import base64
import io
import json
import os
import re
import signal
import subprocess
import sys
import threading
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from live_bcdi.config import load_config
from live_bcdi.sim import simulate_scan
from live_bcdi.supervisor import services_of
from live_bcdi.transport.hdf5 import write_scan
from live_bcdi.transport.tiled import connect, results

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
ROOT = Path(__file__).resolve().parents[2]
ALBUM = Path(os.environ.get("LIVE_BCDI_SCREENSHOTS", ROOT / "build" / "screenshots"))
NUM = 40
RATE_HZ = 4.0  # a busy machine may take seconds for a picture, and the scan must not be over by then
SHOWN_S = 5.0  # what is asked of the page: a service that was killed shows as such within so long
PATIENCE_MS = 60_000
SETTLE = "() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))"
# When the page first showed a service, or the whole system, as gone; by the browser's clock, from now.
WATCH = """(name) => {
  const began = performance.now();
  const gone = () => name === "page"
    ? document.body.classList.contains("lost")
    : document.querySelector(`#services li[data-service=${name}]`)?.dataset.kind === "bad";
  window.shownAfter = null;
  const observer = new MutationObserver(() => {
    if (window.shownAfter === null && gone()) window.shownAfter = (performance.now() - began) / 1000;
  });
  observer.observe(document.body, { subtree: true, childList: true, attributes: true });
}"""


@pytest.fixture(scope="module")
def supervised(system):
    """The system, kept alive by a thread: this one is the browser's."""
    supervisor, config = system
    ending = threading.Event()

    def keep_alive():
        while not ending.is_set():
            list(supervisor.watch(0.1))

    thread = threading.Thread(target=keep_alive)
    thread.start()
    yield SimpleNamespace(pids=supervisor.pids, path=config, config=load_config(config))
    died = not thread.is_alive()
    ending.set()
    thread.join()
    assert not died, "nobody watched over the services"


@contextmanager
def opened(browser, config, *, width=1600, height=1000, scheme="light"):
    """A page on the system, and what it asked for and complained of."""
    page = browser.new_page(viewport={"width": width, "height": height}, color_scheme=scheme)
    notes = SimpleNamespace(page=page, asked=[], complaints=[])
    page.on("request", lambda request: notes.asked.append(request.url))
    page.on("websocket", lambda socket: notes.asked.append(socket.url.replace("ws://", "http://")))
    page.on("pageerror", lambda error: notes.complaints.append(str(error)))
    page.on("console", lambda line: notes.complaints.append(line.text) if line.type == "error" else None)
    page.goto(f"http://{config.page.host}:{config.page.port}")
    playwright.expect(page.locator("#services li")).to_have_count(len(services_of(config)))
    yield notes
    page.close()


@pytest.fixture(scope="module")
def looked(browser, supervised):
    with opened(browser, supervised.config) as notes:
        yield notes


@pytest.fixture(scope="module")
def page(looked):
    return looked.page


def photograph(page, name):
    ALBUM.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=ALBUM / f"{name}.png", full_page=True)


def expect(page, name, text):
    playwright.expect(page.locator(f"#{name}")).to_have_text(text)


def number(page, name):
    """What an element reads, as a number; 0 where it has none."""
    text = page.locator(f"#{name}").inner_text()
    return float(text) if text[:1].isdigit() else 0.0


def wait_for_frames(page, count):
    while number(page, "count") < count:
        page.evaluate(SETTLE)


def pixels(page, panel):
    """What a panel's canvas shows once it is drawn, (row, column, RGBA)."""
    page.evaluate(SETTLE)
    address = page.locator(f"#{panel} canvas").evaluate("canvas => canvas.toDataURL()")
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(address.split(",")[1]))).convert("RGBA")).astype(int)


@pytest.fixture(scope="module")
def plan(supervised, tmp_path_factory):
    """A RunEngine that measures a small crystal."""
    scan, _ = simulate_scan(shape=(NUM, 64, 64), photons=2e6, strain="medium", seed=6, config=supervised.config)
    path = tmp_path_factory.mktemp("scan") / "small.h5"
    write_scan(path, scan)
    command = [sys.executable, "-m", "live_bcdi.cli", "acquire", str(path), "--config", str(supervised.path)]
    process = subprocess.Popen([*command, "--rate", str(RATE_HZ)], stdout=subprocess.PIPE, text=True)
    yield process
    process.kill()
    process.wait()


def look_at_frames(page, seen):
    seen.counts.append(number(page, "count"))
    seen.pictures.append({panel: pixels(page, panel) for panel in ("frame-panel", "rocking-panel")})


@pytest.fixture(scope="module")
def measured(page, plan):
    """What was seen while the scan ran, stalled in the middle, and went on to its end."""
    seen = SimpleNamespace(counts=[], pictures=[])
    expect(page, "state-label", "Scanning")  # and not what is left of an earlier run
    wait_for_frames(page, 3)
    look_at_frames(page, seen)
    wait_for_frames(page, max(12, number(page, "count") + 1))  # the first ones are all but dark
    photograph(page, "scanning")
    plan.send_signal(signal.SIGSTOP)  # detector and motors stand still in the middle of the scan
    try:
        expect(page, "state-label", "Stale")
        look_at_frames(page, seen)
        seen.stale = page.locator("#state").inner_text(), page.locator("#stream-words").inner_text()
        seen.stale_count = number(page, "count")
        photograph(page, "stale")
    finally:
        plan.send_signal(signal.SIGCONT)
    expect(page, "state-label", "Scanning")
    answer, _ = plan.communicate(timeout=PATIENCE_MS / 1000)
    seen.run = json.loads(answer.splitlines()[-1])["run"]
    expect(page, "state-label", "Refined")
    expect(page, "surface-label", re.compile("^refined"))
    expect(page, "outbox", "0")  # Tiled has it
    photograph(page, "refined")
    return seen


def test_frames_arrive(measured):
    """The counter grows by more than the frames of one moment, and both pictures are of other frames."""
    first, second = measured.counts
    assert 3 <= first < second <= NUM
    for panel, before in measured.pictures[0].items():
        assert (measured.pictures[1][panel] != before).any(axis=2).mean() > 1e-3, panel


def test_frames_that_stop_in_the_middle_are_stale(measured):
    """And what came before them stays."""
    badge, words = measured.stale
    assert "Stale" in badge and "no frame for" in badge
    assert words.startswith("no frame for")
    assert measured.counts[0] < measured.stale_count < NUM


def test_the_crystal_is_drawn_and_turns(measured, page):
    """In the middle of the panel, away from triad, legend and scale bar, is something large and shaded."""

    def middle():
        shown = pixels(page, "surface-panel")
        height, width = shown.shape[:2]
        return shown[height // 5 : 3 * height // 4, width // 4 : 3 * width // 4]

    before = middle()
    assert (before[..., 3] > 0).mean() > 0.1
    assert len(np.unique(before.reshape(-1, 4), axis=0)) > 200
    page.locator("#surface-panel canvas").press("Shift+ArrowRight")
    assert (middle() != before).any(axis=2).mean() > 0.05


def test_the_numbers_are_those_in_tiled(measured, page, supervised):
    """Three digits are shown, so that each is right to half a unit of the third: within 0.5 %."""
    ((_, node),) = results(connect(supervised.config), measured.run)
    told = node.metadata
    assert told["frames"] == number(page, "count") == NUM
    assert number(page, "chi") == pytest.approx(told["chi"], rel=5e-3)
    figures = [told["resolution_nm"], (told["fsc_resolution_nm"] or {}).get("0.5")]
    assert number(page, "resolution") == pytest.approx(max(each for each in figures if each), rel=5e-3)
    voxel_nm = page.locator("#estimate-about").inner_text().split("voxel ")[1].split(" nm")[0].split(" × ")
    assert [float(edge) for edge in voxel_nm] == pytest.approx([told["voxel_nm"]] * 3, rel=5e-3)
    assert (
        page.locator("#result-where")
        .inner_text()
        .startswith(f"in Tiled as {told['raw'].replace('raw', 'refined')}")
    )


def test_the_peak_is_that_of_the_frames_in_tiled(measured, page, supervised):
    raw = connect(supervised.config)["raw", measured.run]
    frames = raw["primary"][supervised.config.detector.name].read()[:, 0]
    peak = np.unravel_index(np.argmax(frames), frames.shape)
    expect(page, "peak", ", ".join(map(str, peak)))
    shown = page.locator("#total").inner_text()
    scale = {"k": 1e3, "M": 1e6, "G": 1e9}[shown[-1]]
    assert float(shown[:-1]) * scale == pytest.approx(frames.sum(), rel=5e-3)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("refined_dark", {"scheme": "dark"}),
        ("refined_phone", {"width": 400, "height": 800}),
        ("refined_phone_dark", {"width": 400, "height": 800, "scheme": "dark"}),
    ],
)
def test_it_is_the_same_page_dark_and_on_a_phone(measured, browser, supervised, name, options):
    with opened(browser, supervised.config, **options) as notes:
        says_it_is_refined(notes.page)
        assert notes.page.evaluate("document.documentElement.scrollWidth") <= options.get("width", 1600)
        notes.page.evaluate(SETTLE)
        photograph(notes.page, name)
    assert notes.complaints == []


def says_it_is_refined(page):
    expect(page, "state-label", "Refined")
    expect(page, "surface-label", re.compile("^refined"))
    expect(page, "count", str(NUM))


def test_without_webgl_all_else_is_there(measured, launch, supervised):
    browser = launch("--disable-3d-apis")
    with opened(browser, supervised.config) as notes:
        says_it_is_refined(notes.page)
        playwright.expect(notes.page.locator("#surface-panel .without")).to_be_visible()
        for panel in ("frame-panel", "rocking-panel", "crystal-panel"):
            assert len(np.unique(pixels(notes.page, panel).reshape(-1, 4), axis=0)) > 50, panel
        photograph(notes.page, "refined_without_webgl")
    browser.close()
    assert notes.complaints == []


def killed_and_back(page, supervised, name):
    """Kill a service; after how many seconds the page showed it, by the browser's clock."""
    before = supervised.pids()[name]
    page.evaluate(WATCH, name)  # its clock starts before the kill: what it measures is no less than the truth
    os.kill(before, signal.SIGKILL)
    shown_s = None
    while shown_s is None:
        page.evaluate(SETTLE)
        shown_s = page.evaluate("window.shownAfter")
    photograph(page, f"killed_{name}")
    service = page.locator(f"#services li[data-service={name}]")
    playwright.expect(service).to_have_attribute("data-kind", "ok")
    playwright.expect(page.locator("body")).not_to_have_class("lost")
    assert supervised.pids()[name] != before
    assert f"pid {before}" not in service.locator(".tip").text_content()
    return shown_s


@pytest.mark.parametrize("name", ["live", "refine", "archiver", "tiled_server", "broker"])
def test_a_killed_service_is_shown_within_5_s_and_then_as_recovered(measured, page, supervised, name):
    """The bound is what the page is for: who stands before it decides by it. There is room: the supervisor looks
    every 0.1 s here and 0.5 s in `live-bcdi up`, and what it says is on the screen in a tenth of a second."""
    assert killed_and_back(page, supervised, name) < SHOWN_S


def test_nothing_was_asked_elsewhere_and_nothing_went_wrong(measured, looked, supervised):
    own = f"http://{supervised.config.page.host}:{supervised.config.page.port}/"
    assert len(looked.asked) > 10  # the page, its modules, its websocket
    assert {url for url in looked.asked if not url.startswith(own)} == set()
    assert looked.complaints == []


def test_a_killed_page_is_shown_within_5_s_and_found_again(measured, page, supervised):
    """The last, since a browser that cannot connect complains on the console."""
    assert killed_and_back(page, supervised, "page") < SHOWN_S
    says_it_is_refined(page)  # its server has forgotten the run, the page has not

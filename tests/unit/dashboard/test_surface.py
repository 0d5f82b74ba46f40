"""The crystal's surface in headless Chromium: drawn the right way round, turned by keys, and done without where
there is no WebGL."""

import base64
import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import live_bcdi.dashboard
from live_bcdi.dashboard import fake_feed
from live_bcdi.isosurface import isosurface
from live_bcdi.stream.updates import Update

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
SCAN = fake_feed.simulated_scan(num=31, edge=64)
# Keeps the contexts that the page asks for, so that a test can take one away.
KEEP_CONTEXTS = """
const original = HTMLCanvasElement.prototype.getContext;
window.contexts = [];
HTMLCanvasElement.prototype.getContext = function (kind, ...rest) {
  const context = original.call(this, kind, ...rest);
  if (kind === "webgl2") window.contexts.push(context);
  return context;
};
"""


@pytest.fixture
def page(browser, hub, address):
    """The page, of a run that was announced: what belongs to no known run says whose it is."""
    hub.publish(fake_feed.run_started(SCAN))
    yield from opened(browser, address)


def opened(browser, address):
    """The page, connected; at the end it must have had no error."""
    page = browser.new_page(viewport={"width": 1600, "height": 1000})
    page.add_init_script(KEEP_CONTEXTS)
    errors = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto("http://{}:{}".format(*address))
    page.wait_for_selector("body:not(.lost)")
    yield page
    page.close()
    assert errors == []


def expect_text(page, name: str, text: str) -> None:
    playwright.expect(page.locator(f"#{name}")).to_have_text(text)


def pixels(page, panel: str = "surface-panel") -> np.ndarray:
    """What a panel's canvas shows once it has been drawn, (height, width, RGBA)."""
    settle = "() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))"
    page.evaluate(settle)
    address = page.locator(f"#{panel} canvas").evaluate("canvas => canvas.toDataURL()")
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(address.split(",")[1]))).convert("RGBA")).astype(int)


def crystal(page) -> np.ndarray:
    """The part of the canvas that triad, scale bar and legend leave to the crystal."""
    shown = pixels(page)
    height, width = shown.shape[:2]
    return shown[: int(0.75 * height), : int(0.75 * width)]


def changed(shown: np.ndarray, before: np.ndarray) -> float:
    """The share of pixels that differ."""
    return float((shown != before).any(axis=2).mean())


def ball(axis: int) -> Update:
    """A ball in the lab frame, half stretched: on the positive side of an axis."""
    place = np.indices((40, 40, 40)) - 20
    return half_stretched(np.clip(14.5 - np.linalg.norm(place, axis=0), 0, 1), axis)


def half_stretched(amplitude: np.ndarray, axis: int) -> Update:
    """A crystal of these voxels of 5 nm, strained by 1e-3 on the positive side of an axis, by -1e-3 elsewhere."""
    density, support = amplitude.astype(np.complex64), amplitude > 0.1
    place = np.indices(amplitude.shape)[axis] - amplitude.shape[axis] // 2
    strain = np.where(place > 0, 1e-3, -1e-3).astype(np.float32)
    surface = isosurface(density, support, 5 * np.eye(3), values={"strain": strain})
    fields = fake_feed.refined_estimate(SCAN).fields
    told = {"level": surface.level, "step": surface.step, "axes": ["x", "y", "z"], "q_invA": [0.0, 3.0, 0.0]}
    fields = {**fields, "surface": told, "ranges": {"strain": 1e-3}}
    arrays = fake_feed.central_slices(density, {"strain": np.where(support, strain, np.nan)})
    arrays |= {f"surface_{name}": array for name, array in surface.values.items()}
    arrays |= {"surface_vertices": surface.vertices, "surface_faces": surface.faces}
    return Update(topic="estimate", run=SCAN.run, fields=fields, arrays=arrays)


def by_colour(shown: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where it is orange, stretched; where it is blue, pressed."""
    difference = np.where(shown[..., 3] > 0, shown[..., 0] - shown[..., 2], 0)
    return difference > 40, difference < -40


@pytest.mark.parametrize(
    ("axis", "view", "side"),
    # What lies on the positive side of `axis`, seen by one who looks against `view`: a right-handed frame, y up
    [
        *[("x", "z", "right"), ("y", "z", "up"), ("z", "z", "front")],
        *[("z", "x", "left"), ("y", "x", "up"), ("x", "x", "front")],
        *[("x", "y", "right"), ("z", "y", "down"), ("y", "q", "front")],
    ],
)
def test_the_lab_frame_is_right_handed_on_the_screen(hub, page, axis, view, side):
    hub.publish(ball("xyz".index(axis)))
    expect_text(page, "surface-label", "refined, S0054")
    page.get_by_role("button", name="strain", exact=True).click()
    page.locator(f"[data-view={view}]").click()
    stretched, pressed = by_colour(crystal(page))
    assert stretched.sum() > 5000
    if side == "front":
        assert pressed.sum() < 0.05 * stretched.sum()
        return
    (rows, columns), (other_rows, other_columns) = np.nonzero(stretched), np.nonzero(pressed)
    right, down = columns.mean() - other_columns.mean(), rows.mean() - other_rows.mean()
    along, across = {"right": (right, down), "left": (-right, down), "up": (-down, right), "down": (down, right)}[
        side
    ]
    assert along > 50
    assert abs(across) < 0.2 * along


def test_what_is_in_front_hides_what_is_behind(hub, page):
    """Two balls on the z axis, the smaller one in front."""
    place = np.indices((40, 40, 56)) - np.reshape((20, 20, 28), (3, 1, 1, 1))
    away = [np.linalg.norm(place - np.reshape((0, 0, z), (3, 1, 1, 1)), axis=0) for z in (15, -12)]
    hub.publish(half_stretched(np.maximum(np.clip(5.5 - away[0], 0, 1), np.clip(10.5 - away[1], 0, 1)), 2))
    expect_text(page, "surface-label", "refined, S0054")
    page.get_by_role("button", name="strain", exact=True).click()
    page.locator("[data-view=z]").click()
    stretched, pressed = by_colour(crystal(page))
    assert stretched.sum() / (stretched.sum() + pressed.sum()) == pytest.approx((5 / 10) ** 2, rel=0.1)
    rows, columns = np.nonzero(stretched)
    others = np.nonzero(pressed)
    assert np.ptp(rows) < 0.6 * np.ptp(others[0])
    assert abs(rows.mean() - others[0].mean()) + abs(columns.mean() - others[1].mean()) < 5


def test_the_surface_says_what_it_is_and_how_sure(hub, page):
    estimate = fake_feed.live_estimate(SCAN, 21)
    hub.publish(estimate)
    expect_text(page, "surface-label", "live estimate, S0054")
    about = page.locator("#surface-about")
    level = f"isosurface at {100 * estimate.fields['surface']['level']:.0f} % of the maximum, voxel 9 × 5 × 5 nm"
    assert level in about.inner_text()
    assert "one start on what is measured so far" in about.inner_text()
    assert page.get_by_role("button", name="strain", exact=True).is_disabled()
    refined = fake_feed.refined_estimate(SCAN)
    hub.publish(refined)
    expect_text(page, "surface-label", "refined, S0054")
    page.get_by_role("button", name="strain", exact=True).click()
    limit = refined.fields["ranges"]["strain"]
    assert about.inner_text().startswith(
        f"strain ±{limit * 1e4:.2g}×10⁻⁴; isosurface at 47 % of the maximum, voxel 5 nm"
    )
    words = about.inner_text()
    assert "χ 0.0118; resolution 25.2 nm (FSC 0.5); strain uncertain by 2.3×10⁻⁵ (median over the starts)" in words
    assert len(np.unique(crystal(page).reshape(-1, 4), axis=0)) > 500
    # the choice stays where an estimate has no strain, and comes back with one that has
    page.get_by_role("button", name="live", exact=True).click()
    assert about.inner_text().startswith("phase ±π; ")
    page.get_by_role("button", name="refined", exact=True).click()
    assert about.inner_text().startswith("strain ")


def test_cuts_show_the_strain_with_grey_around_it(hub, page):
    hub.publish(ball(0))
    expect_text(page, "surface-label", "refined, S0054")
    before = pixels(page, "crystal-panel")
    page.get_by_role("button", name="strain", exact=True).click()
    shown = pixels(page, "crystal-panel")
    below = shown[shown.shape[0] // 2 :, :-122, :3]
    assert ((below == (122, 130, 139)).all(axis=2)).mean() > 0.2
    ends = page.evaluate("async () => Array.from((await import('./colour.js')).diverging._bytes)")
    ends = np.reshape(ends, (256, 4))[:, :3]
    for end in (ends[0], ends[255]):
        assert ((below == end).all(axis=2)).sum() > 500
    above = shown[: shown.shape[0] // 2 - 20, :-122]
    np.testing.assert_array_equal(above, before[: above.shape[0], :-122])  # the amplitude stays


def show_all(hub, page) -> None:
    """A run with a frame and a refined crystal, drawn."""
    hub.publish(fake_feed.run_started(SCAN))
    hub.publish(fake_feed.live(SCAN, 0))
    hub.publish(fake_feed.refined_estimate(SCAN))
    expect_text(page, "count", "1")
    expect_text(page, "surface-label", "refined, S0054")
    pixels(page)


def test_keys_and_pointer_turn_it_and_the_view_outlives_an_update(hub, page):
    show_all(hub, page)
    canvas = page.locator("#surface-panel canvas")
    first = crystal(page)
    canvas.focus()
    for key in ("ArrowRight", "ArrowUp", "+"):
        before = crystal(page)
        page.keyboard.press(key)
        assert changed(crystal(page), before) > 0.02, key
    view = crystal(page)
    hub.publish(fake_feed.refined_estimate(SCAN))
    hub.publish(fake_feed.live(SCAN, 1))
    expect_text(page, "count", "2")
    np.testing.assert_array_equal(crystal(page), view)
    page.keyboard.press("Home")
    np.testing.assert_array_equal(crystal(page), first)
    box = canvas.bounding_box()
    page.mouse.move(box["x"] + 200, box["y"] + 200)
    page.mouse.down()
    page.mouse.move(box["x"] + 280, box["y"] + 230, steps=4)
    page.mouse.up()
    dragged = crystal(page)
    assert changed(dragged, first) > 0.02
    page.mouse.move(box["x"] + 100, box["y"] + 100)  # without a button nothing turns
    np.testing.assert_array_equal(crystal(page), dragged)


def test_nothing_is_drawn_while_nothing_changes(hub, page):
    show_all(hub, page)
    page.evaluate(
        """() => { window.drawn = 0; const gl = window.contexts[0]; const draw = gl.drawElements.bind(gl);
                  gl.drawElements = (...rest) => { window.drawn += 1; draw(...rest); }; }"""
    )
    for index in range(1, 6):
        hub.publish(fake_feed.live(SCAN, index))
        expect_text(page, "count", str(index + 1))
    assert page.evaluate("window.drawn") == 0
    page.locator("[data-view=x]").click()
    crystal(page)
    assert page.evaluate("window.drawn") == 1


def test_a_graphics_card_that_goes_is_said_and_one_that_comes_back_draws_again(hub, page):
    hub.publish(fake_feed.refined_estimate(SCAN))
    expect_text(page, "surface-label", "refined, S0054")
    before = crystal(page)
    page.evaluate("window.away = window.contexts[0].getExtension('WEBGL_lose_context'); window.away.loseContext()")
    words = page.locator("#surface-panel .without")
    playwright.expect(words).to_be_visible()
    page.evaluate("window.away.restoreContext()")
    playwright.expect(words).to_be_hidden()
    np.testing.assert_array_equal(crystal(page), before)


def test_without_webgl_the_page_says_so_and_all_else_works(hub, address, launch):
    browser = launch("--disable-3d-apis")
    try:
        for page in opened(browser, address):
            assert page.evaluate("document.createElement('canvas').getContext('webgl2')") is None
            hub.publish(fake_feed.run_started(SCAN))
            hub.publish(fake_feed.live(SCAN, 20))
            hub.publish(fake_feed.refined_estimate(SCAN))
            expect_text(page, "count", "21")
            expect_text(page, "estimate-label", "refined, S0054")
            playwright.expect(page.get_by_text("this browser has no WebGL")).to_be_visible()
            assert not page.locator("#surface-panel canvas").is_visible()
            page.get_by_role("button", name="strain", exact=True).click()
            for panel in ("frame-panel", "rocking-panel", "crystal-panel"):
                assert len(np.unique(pixels(page, panel).reshape(-1, 4), axis=0)) > 50
    finally:
        browser.close()


def test_a_surface_of_an_earlier_run_says_so(hub, page):
    hub.publish(fake_feed.run_started(SCAN))
    hub.publish(fake_feed.refined_estimate(SCAN))
    hub.publish(Update(topic="run", run="next", fields={"state": "started", "name": "S0055", "num": 9}))
    expect_text(page, "surface-label", "refined, S0054 (an earlier run)")
    assert page.locator("#surface-label").get_attribute("data-kind") == "warn"


def test_an_estimate_without_a_surface_says_so(hub, page):
    estimate = fake_feed.refined_estimate(SCAN)
    arrays = {name: array for name, array in estimate.arrays.items() if not name.startswith("surface")}
    hub.publish(Update(topic="estimate", run=SCAN.run, fields={**estimate.fields, "surface": None}, arrays=arrays))
    expect_text(page, "surface-label", "refined, S0054")
    expect_text(page, "surface-about", "")
    assert page.locator("[data-view=x]").is_disabled()
    assert "cannot be drawn" not in page.locator("main").inner_text()


def test_the_diverging_map_is_even_on_both_sides_and_seen_without_red_and_green(page):
    table = page.evaluate("async () => Array.from((await import('./colour.js')).diverging._bytes)")
    rgb = np.reshape(table, (256, 4))[:, :3].astype(float) / 255
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    luminance = linear @ (0.2126, 0.7152, 0.0722)
    assert (np.diff(luminance[:128]) > 0).all()
    assert (np.diff(luminance[128:]) < 0).all()
    np.testing.assert_allclose(luminance, luminance[::-1], atol=0.06)
    yellow = linear[:, :2].mean(axis=1) - linear[:, 2]  # what is left of a hue without the red-green axis
    assert yellow[0] < -0.2
    assert yellow[255] > 0.1


def test_the_page_weighs_far_less_than_a_megabyte():
    static = Path(live_bcdi.dashboard.__file__).parent / "static"
    assert sum(path.stat().st_size for path in static.iterdir()) < 250_000

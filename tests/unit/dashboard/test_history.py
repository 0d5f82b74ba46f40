"""Earlier runs: what a browser is answered, from a Tiled in this process, and what it shows of it in Chromium."""

import asyncio
import base64
import io
import re
import threading
from dataclasses import replace

import httpx
import numpy as np
import pytest
from PIL import Image
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from live_bcdi.config import find_config, load_config
from live_bcdi.dashboard.history import history_routes
from live_bcdi.difference import compare
from live_bcdi.strain import crystal_support, displacement_angstrom, strain_along
from live_bcdi.transport.tiled import store_result
from live_bcdi.types import LabImage, ScanError
from live_bcdi_consumers import history as reader

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
Q_INVA = np.array([3.0, 0.0, 0.0])
STEEP = 1e-3 / 70  # strain a nm along x
FIRST, SECOND, WAITING = "aa-first", "bb-second", "cc-waiting"


def ball(strain_per_nm: float, radius: float = 14.5) -> LabImage:
    """A ball whose strain grows along x, which is along Q."""
    place = np.indices((40, 40, 40)) - 20
    x_nm = 5.0 * place[0]
    u_angstrom = 10 * strain_per_nm * x_nm**2 / 2
    amplitude = np.clip(radius - np.linalg.norm(place, axis=0), 0, 1)
    density = (amplitude * np.exp(-1j * Q_INVA[0] * u_angstrom)).astype(np.complex64)
    support = crystal_support(density)
    return LabImage(
        density=density,
        support=support,
        displacement_angstrom=displacement_angstrom(density, support, Q_INVA[0]),
        strain=strain_along(density, support, Q_INVA, 5.0),
        voxel_nm=5.0,
        q_centre_invA=Q_INVA,
    )


LABS = {FIRST: [ball(0.0)], SECOND: [ball(STEEP), ball(2 * STEEP, 13.5)]}


@pytest.fixture
def root(empty_tiled, result):
    """30 runs, of which the newest has two results and the next one has one."""
    if "raw" in empty_tiled:
        return empty_tiled
    raw = empty_tiled.create_container("raw")
    older = [f"{number:04d}-older" for number in range(27)]
    for number, uid in enumerate([*older, WAITING, FIRST, SECOND]):
        scan = {"name": f"S{number:04d}", "sample": "gold", "hkl": [1.0, 1.0, 1.0]}
        start = {"uid": uid, "time": 1e9 + number, "live_bcdi": {"scan": scan, "planned": {"num": 61}}}
        raw.create_container(uid, metadata={"start": start, "stop": {"exit_status": "success"}})
    for uid, labs in LABS.items():
        for number, lab in enumerate(labs):
            about = {"name": uid, "frames": 61, "num": 61, "finished": 1e9, "file": f"{uid}{number}"}
            store_result(empty_tiled, uid, replace(result, lab=lab, chi=0.01 * (1 + number)), about)
    return empty_tiled


class Switch:
    """Whether Tiled is there."""

    away = False


@pytest.fixture
def switch():
    return Switch()


@pytest.fixture
def history(root, monkeypatch, switch):
    """The real reader; only the way to Tiled is shorter."""

    def require_answer(_config):
        if switch.away:
            raise ScanError("Tiled cannot be reached")

    monkeypatch.setattr(reader, "connect", lambda config: root)
    monkeypatch.setattr(reader, "require_answer", require_answer)
    return reader.TiledHistory(load_config(find_config("34idc")))


@pytest.fixture
def site(hub, serve, history):
    with serve(hub, history=history) as (host, port):
        yield f"http://{host}:{port}"


def test_the_list(site):
    found = httpx.get(f"{site}/history/runs").json()
    assert found["total"] == 30
    assert [row["run"] for row in found["rows"][:3]] == [SECOND, FIRST, WAITING]
    assert [each["version"] for each in found["rows"][0]["results"]] == ["1", "2"]
    assert len(found["rows"]) == 20
    assert len(httpx.get(f"{site}/history/runs?skip=20").json()["rows"]) == 10
    assert [row["name"] for row in httpx.get(f"{site}/history/runs?text=S0003").json()["rows"]] == ["S0003"]
    for nonsense in ("skip=-1", "skip=x", "skip=%C2%B2", f"skip={'9' * 500}"):
        assert httpx.get(f"{site}/history/runs?{nonsense}").status_code == 200


def test_what_is_told_of_a_result_is_what_was_stored(history):
    update = history.result(SECOND)
    lab = LABS[SECOND][1]
    assert (update.run, update.fields["version"]) == (SECOND, "2")
    assert update.fields["facts"]["strain_std"] == pytest.approx(np.nanstd(lab.strain), rel=1e-5)
    assert update.fields["facts"]["spacing_angstrom"] == pytest.approx(2 * np.pi / 3)
    assert history.result(f"{SECOND}/1").fields["chi"] == pytest.approx(0.01)


def test_what_is_told_of_a_difference_is_that_of_the_two(history):
    update = history.difference(FIRST, f"{SECOND}/1")
    found = compare(LABS[FIRST][0], LABS[SECOND][0])
    assert update.fields["rms_strain"] == pytest.approx(found.rms_strain, rel=1e-3)
    middle = found.strain.shape[2] // 2
    np.testing.assert_allclose(update.arrays["d_strain_2"], found.strain[:, :, middle], atol=1e-6)
    np.testing.assert_allclose(update.arrays["b_strain_2"], found.second.strain[:, :, middle], atol=1e-6)
    assert update.fields["notes"] == []
    assert update is history.difference(FIRST, f"{SECOND}/1")  # results never change


def test_doubts_are_said():
    here = ball(STEEP)
    turned = replace(here, q_centre_invA=np.array([3 * np.cos(0.02), 3 * np.sin(0.02), 0]))
    other = replace(here, q_centre_invA=np.array([0.0, 3.0, 0.0]))
    assert reader.notes(compare(here, here)) == []
    assert "turned by 1.1°" in reader.notes(compare(here, turned))[0]
    assert "different reflections" in reader.notes(compare(here, other))[0]
    halves = np.where(np.indices((40, 40, 40))[0] > 24, 3, 1).astype(np.float32)
    lopsided = replace(here, density=here.density * halves)
    inside_out = replace(here, density=here.density[::-1, ::-1, ::-1] * halves[::-1, ::-1, ::-1])
    assert "may be the twin. Nothing was flipped." in reader.notes(compare(lopsided, inside_out))[0]


@pytest.mark.parametrize(
    ("path", "sentence"),
    [
        (f"result?place={WAITING}", "run cc-waiti has no result yet"),
        (f"result?place={SECOND}/7", "has no result 7; it has 1, 2"),
        ("result?place=zz", "0 runs in Tiled begin with 'zz'"),
        ("result", "give the uid of a run"),
        (f"difference?a={FIRST}&b={WAITING}", "has no result yet"),
    ],
)
def test_what_is_not_there_is_one_sentence(site, path, sentence):
    answer = httpx.get(f"{site}/history/{path}")
    assert answer.status_code == 422
    assert sentence in answer.json()["error"]


def test_without_the_key_nothing_is_told(hub, serve, history):
    with serve(hub, key="k" * 64, history=history) as (host, port):
        for path in ("", "/runs", f"/result?place={FIRST}", f"/difference?a={FIRST}&b={SECOND}"):
            address = f"http://{host}:{port}/history{path}"
            assert httpx.get(address).status_code == 401
            assert httpx.get(address, headers={"Authorization": f"Bearer {'k' * 64}"}).status_code == 200
            assert httpx.get(address, headers={"Origin": "http://elsewhere"}).status_code == 403


def test_a_tiled_that_never_answers_holds_up_nothing_else():
    """More questions than there are threads for them, and the page answers all the while."""
    release = threading.Event()

    class Hanging:
        def runs(self, **_asked):
            release.wait()

    async def health(_request):
        return PlainTextResponse("well")

    routes = [Route("/health", health), *history_routes(Hanging(), clock_s=lambda: 0.0, answer_s=0.3)]

    async def ask():
        transport = httpx.ASGITransport(Starlette(routes=routes))
        async with httpx.AsyncClient(transport=transport, base_url="http://page") as client:
            waiting = [asyncio.create_task(client.get("/history/runs")) for _ in range(12)]
            await asyncio.sleep(0)
            well = await client.get("/health")
            assert well.text == "well"
            assert not any(task.done() for task in waiting)
            return await asyncio.gather(*waiting)

    try:
        for answer in asyncio.run(ask()):
            assert answer.status_code == 422
            assert answer.json() == {"error": "Tiled does not answer: nothing came within 0.3 s"}
    finally:
        release.set()


@pytest.fixture
def page(browser, site):
    yield from opened(browser)


def opened(browser):
    """A page; at the end it must have had no error."""
    page = browser.new_page(viewport={"width": 1600, "height": 1000})
    errors = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    yield page
    page.close()
    assert errors == []


def expect(page, selector: str, text) -> None:
    playwright.expect(page.locator(selector)).to_have_text(text)


def compared(page) -> None:
    expect(page, "#registration", re.compile("^B was moved by"))
    settle(page)


def settle(page) -> None:
    page.evaluate("() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")


def pixels(page, panel: str) -> np.ndarray:
    settle(page)
    address = page.locator(f"#{panel} canvas").evaluate("canvas => canvas.toDataURL()")
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(address.split(",")[1]))).convert("RGBA")).astype(int)


def numbers(page) -> dict[str, list[str]]:
    rows = page.locator("#numbers tr").all()
    return {row.locator("th").inner_text(): row.locator("td").all_inner_texts() for row in rows}


def test_two_runs_are_chosen_from_the_list_and_the_address_holds_them(page, site):
    page.goto(f"{site}/")
    page.get_by_role("link", name="History").click()
    expect(page, "#runs-about", "1–20 of 30")
    page.get_by_role("button", name="S0028 as A").click()
    expect(page, "#a-name", FIRST)
    row = page.locator(f"[data-run={SECOND}]")
    row.locator("select").select_option("1")
    row.get_by_role("button", name="as B").press("Enter")
    compared(page)
    assert page.url == f"{site}/history?a={FIRST}/1&b={SECOND}/1"
    found = compare(LABS[FIRST][0], LABS[SECOND][0])
    shown = numbers(page)
    assert shown["χ"] == ["0.01", "0.01", "0"]
    assert shown["std of strain"][1] == f"{np.nanstd(LABS[SECOND][0].strain) * 1e4:.2g}×10⁻⁴"
    assert shown["rms strain"][2] == f"{found.rms_strain * 1e4:.2g}×10⁻⁴"
    text = page.locator("#registration").inner_text()
    assert text.startswith("B was moved by (0.00, 0.00, 0.00) nm")
    assert "100 % of the voxels" in text
    page.go_back()
    expect(page, "#b-name", "choose another run")
    expect(page, "#a-name", FIRST)


def test_a_link_from_another_site_opens_with_a_key_that_was_given(browser, hub, serve, history):
    """Its first request comes without the cookie, which is SameSite=Strict."""
    page = browser.new_page()
    key = "0123456789abcdef" * 2
    with serve(hub, key=key, history=history) as (host, port):
        page.goto(f"http://{host}:{port}/?key={key}")
        page.wait_for_selector("body:not(.lost)")
        page.goto(f"http://localhost:{port}/")  # another site to a browser, and without the cookie
        page.evaluate(
            """address => { const link = document.body.appendChild(document.createElement("a"));
                            link.href = address; link.id = "mail"; link.textContent = "look"; }""",
            f"http://{host}:{port}/history?a={FIRST}",
        )
        page.locator("#mail").click()
        expect(page, "h1", "The page has a key.")
        page.get_by_role("link", name="Go on").click()
        expect(page, "h1", "History")
        expect(page, "#a-name", FIRST)
    page.close()


def test_older_runs_and_a_filter(page, site):
    page.goto(f"{site}/history")
    expect(page, "#runs-about", "1–20 of 30")
    assert page.locator(f"[data-run={WAITING}] button").all()[0].is_disabled()
    assert "no result yet" in page.locator(f"[data-run={WAITING}]").inner_text().replace("\u00a0", " ")
    page.get_by_role("button", name="older").click()
    expect(page, "#runs-about", "21–30 of 30")
    page.locator("#filter-text").fill("S0012")
    expect(page, "#runs-about", "1–1 of 1 found")
    page.locator("#filter-text").fill("nowhere")
    expect(page, "#runs-about", "no run has that")


def colours(cell: np.ndarray) -> np.ndarray:
    """How many pixels are orange (stretched), less those that are blue (pressed), per column of pixels."""
    difference = cell[..., 0] - cell[..., 2]
    return (difference > 30).sum(axis=0) - (difference < -30).sum(axis=0)


def cell(page, column: int, row: int) -> np.ndarray:
    """One of the three by three cuts, without its rim."""
    shown = pixels(page, "cuts-panel")
    size = 14
    left, top, foot = size + 10, size + 10, round(3.2 * size)
    width, height = (shown.shape[1] - left - 16) // 3, (shown.shape[0] - top - foot - 16) // 3
    x, y = left + column * (width + 8), top + row * (height + 8)
    return shown[y + 30 : y + height - 30, x + 40 : x + width - 40, :3]


def test_the_difference_is_b_less_a_and_the_other_way_round_when_they_are_swapped(page, site):
    page.goto(f"{site}/history?a={FIRST}&b={SECOND}/1")
    compared(page)
    b, d = colours(cell(page, 1, 2)), colours(cell(page, 2, 2))  # normal to z: x runs to the right
    half = len(b) // 2
    for seen in (b, d):
        assert seen[:half].sum() < -1000
        assert seen[half:].sum() > 1000
    assert not colours(cell(page, 0, 2)).any()  # A has no strain
    page.get_by_role("button", name="Swap A and B").click()
    expect(page, "#a-name", SECOND)
    compared(page)
    d = colours(cell(page, 2, 2))
    assert d[:half].sum() > 1000
    assert d[half:].sum() < -1000
    assert page.url.endswith(f"?a={SECOND}/1&b={FIRST}")


def test_cameras_turn_together_and_colours_mean_the_same(page, site):
    page.goto(f"{site}/history?a={SECOND}/1&b={SECOND}/2")
    compared(page)
    limit = f"{np.nanpercentile(np.abs(LABS[SECOND][1].strain), 99) * 1e3:.2g}×10⁻³"
    assert page.locator("#ranges").inner_text().startswith(f"A and B: strain ±{limit}; B − A: strain ±")
    names = ("a-surface", "b-surface", "d-surface")
    before = {name: pixels(page, name) for name in names}
    # B is smaller by the voxel that it lacks, on the same scale
    height = {name: np.ptp(np.nonzero(shown[100:, :180, 3] > 0)[0]) for name, shown in before.items()}
    assert height["a-surface"] == height["d-surface"]
    page.locator("#b-surface canvas").focus()
    page.keyboard.press("ArrowRight")
    after = {name: pixels(page, name) for name in names}
    for name in names:
        assert (after[name] != before[name]).any(axis=2).mean() > 0.02, name
    page.get_by_role("button", name="Look as at first").click()
    for name in names:
        np.testing.assert_array_equal(pixels(page, name), before[name])


@pytest.mark.parametrize("quantity", ["amplitude", "phase", "displacement", "strain"])
def test_every_quantity_is_shown_and_is_in_the_address(page, site, quantity):
    page.goto(f"{site}/history?a={FIRST}&b={SECOND}&by={quantity}")
    compared(page)
    assert page.get_by_role("button", name=quantity).get_attribute("aria-pressed") == "true"
    assert f"B − A: {quantity} ±" in page.locator("#ranges").inner_text()
    for panel in ("cuts-panel", "a-surface", "b-surface", "d-surface"):
        assert len(np.unique(pixels(page, panel).reshape(-1, 4), axis=0)) > 50
    page.locator("#cuts-panel canvas").hover(position={"x": 150, "y": 120})
    assert re.search(r"nm: A .+, B .+, B − A ", page.locator("#cuts-panel .readout").inner_text())


def test_a_bad_choice_is_one_sentence_beside_it_and_the_other_stays(page, site):
    page.goto(f"{site}/history?a={FIRST}&b={WAITING}")
    expect(page, "#b-why", re.compile("run cc-waiti has no result yet"))
    expect(page, "#a-name", FIRST)
    assert len(np.unique(pixels(page, "a-surface").reshape(-1, 4), axis=0)) > 50
    assert page.locator("#registration").inner_text() == ""


def test_a_tiled_that_is_away_is_said_and_asked_again(page, site, switch):
    switch.away = True
    page.goto(f"{site}/history?a={FIRST}")
    expect(page, "#runs-why", "Tiled cannot be reached")
    expect(page, "#a-why", "Tiled cannot be reached")
    switch.away = False
    page.reload()
    expect(page, "#runs-about", "1–20 of 30")
    expect(page, "#a-name", FIRST)


def test_without_webgl_the_cuts_remain(site, launch):
    browser = launch("--disable-3d-apis")
    try:
        for page in opened(browser):
            page.set_viewport_size({"width": 400, "height": 800})
            page.goto(f"{site}/history?a={FIRST}&b={SECOND}")
            compared(page)
            assert page.get_by_text("this browser has no WebGL").all()[0].is_visible()
            assert len(np.unique(pixels(page, "cuts-panel").reshape(-1, 4), axis=0)) > 50
            assert page.evaluate("document.documentElement.scrollWidth") <= 400
    finally:
        browser.close()

"""Who is let in: by key, by cookie, by address; and that the key is told to nobody."""

import logging
import re
import socket

import httpx
import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from live_bcdi.config import Config, parse_config
from live_bcdi.dashboard import Hub, page_address, page_key, page_server
from live_bcdi.dashboard.access import is_loopback
from live_bcdi.types import ScanError

KEY = "0123456789abcdef0123456789abcdef"
PATHS = ("/", "/health", "/metrics", "/app.js", "/style.css", "/nothing")


@pytest.fixture
def address(hub, serve):
    with serve(hub, key=KEY) as place:
        yield place


@pytest.fixture
def url(address) -> str:
    return "http://{}:{}".format(*address)


@pytest.fixture
def config(tmp_path):
    """A beamline whose page is at `host`."""
    table = {
        "beamline": "test",
        "diffractometer": {"sample": [{"motor": "th", "axis": "y+"}], "rocking": "th"},
        "detector": {"pixel_um": [55, 55], "arm_pixel": [0, 0], "rows": "y-", "columns": "x+"},
        "storage": {"directory": str(tmp_path)},
    }

    def make(host: str = "127.0.0.1", key_env: str | None = None) -> Config:
        return parse_config({**table, "page": {"host": host, "key_env": key_env}})

    return make


def open_socket(address, **headers):
    return connect(
        "ws://{}:{}/ws".format(*address), sock=socket.create_connection(address), additional_headers=headers
    )


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("given", ["", "Bearer", "Bearer wrong", f"Bearer {KEY}0", "Basic " + KEY, "Bearer \xff"])
def test_without_the_key_there_is_nothing(url, path, given):
    answer = httpx.get(url + path, headers={"Authorization": given.encode("latin-1")})
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == "Bearer"
    assert "It is in the file page/key of the storage folder" in answer.text
    assert ("The key is wrong." in answer.text) == given.startswith("Bearer")
    assert "live_bcdi_frames" not in answer.text and "services" not in answer.text


def test_a_program_sends_the_key_as_bearer(hub, address, url):
    headers = {"Authorization": f"Bearer {KEY}"}
    assert httpx.get(f"{url}/health", headers=headers).json()["browsers"] == 0
    assert "live_bcdi_frames_received_total" in httpx.get(f"{url}/metrics", headers=headers).text
    with open_socket(address, **headers) as page:
        assert page.recv(timeout=20)


@pytest.mark.parametrize("headers", [{}, {"Authorization": "Bearer wrong"}, {"Cookie": f"live_bcdi={KEY}"}])
def test_a_websocket_needs_it_too(hub, address, headers):
    with pytest.raises(InvalidStatus) as refused:
        open_socket(address, **headers)
    assert refused.value.response.status_code == 403
    assert hub.browsers == 0


def test_a_browser_is_given_a_cookie_for_the_key(address, url):
    with httpx.Client(base_url=url) as browser:
        assert browser.get("/").status_code == 401
        first = browser.get("/", params={"key": KEY})
        assert first.status_code == 200 and 'content="0;url=./"' in first.text
        set_cookie = first.headers["set-cookie"].lower()
        assert "httponly" in set_cookie and "samesite=strict" in set_cookie
        assert KEY not in str(first.headers) + first.text  # neither the page nor the cookie tells it
        assert first.headers["referrer-policy"] == "no-referrer"
        assert "no-store" in first.headers["cache-control"]
        for path in PATHS[:-1]:
            assert browser.get(path).status_code == 200
        ((name, value),) = browser.cookies.items()
    with open_socket(address, Cookie=f"{name}={value}", Origin=url) as page:
        assert page.recv(timeout=20)
    with pytest.raises(InvalidStatus):  # a foreign page whose browser would send the cookie
        open_socket(address, Cookie=f"{name}={value}", Origin="http://evil.example")
    with pytest.raises(InvalidStatus):
        open_socket(address, Cookie=f"{name}={value[:-1]}", Origin=url)


def test_a_wrong_key_sets_no_cookie_and_asks_again(url):
    answer = httpx.get(url, params={"key": "wrong"}, headers={"Accept": "text/html"})
    assert answer.status_code == 401 and "set-cookie" not in answer.headers
    assert "The key is wrong." in answer.text and 'type="password"' in answer.text
    assert "wrong" not in answer.text.replace("The key is wrong.", "")


@pytest.mark.parametrize("path", PATHS[1:])
def test_only_the_page_itself_takes_the_key_in_its_address(url, path):
    answer = httpx.get(url + path, params={"key": KEY})
    assert answer.status_code == 401 and "set-cookie" not in answer.headers


def test_the_cookie_of_one_page_does_not_open_another(hub, serve, url):
    with httpx.Client() as browser:
        browser.get(url, params={"key": KEY})
        ((name, value),) = browser.cookies.items()
    with serve(hub, key=KEY[::-1]) as other:
        answer = httpx.get("http://{}:{}/".format(*other), headers={"Cookie": f"{name}={value}"})
    assert answer.status_code == 401


def test_the_key_is_in_no_log(address, url, caplog):
    caplog.set_level(logging.DEBUG)
    for path in ("/", "/health", "/nothing"):
        httpx.Client().get(url + path, params={"key": KEY}, headers={"Authorization": f"Bearer {KEY}"})
    with pytest.raises(InvalidStatus):
        open_socket(address, Authorization="Bearer " + KEY[1:])
    ours = [
        record.getMessage() for record in caplog.records if not record.name.startswith(("http", "websockets.c"))
    ]
    assert not any(KEY[1:] in message for message in ours)


def test_every_answer_has_the_headers(url):
    for answer in (httpx.get(url), httpx.get(url, headers={"Authorization": f"Bearer {KEY}"})):
        policy = answer.headers["content-security-policy"]
        assert "default-src 'self'" in policy and "frame-ancestors 'none'" in policy and "unsafe" not in policy
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert "server" not in answer.headers


@pytest.mark.parametrize(
    ("host", "loopback"),
    [("127.0.0.1", True), ("127.8.8.8", True), ("localhost", True), ("::1", True)]
    + [(host, False) for host in ("0.0.0.0", "::", "10.0.0.7", "beamline.example", "127.0.0.1.evil.example", "")],
)
def test_what_is_loopback(host, loopback, config):
    assert is_loopback(host) == loopback
    assert (page_key(config(host)) is None) == loopback


def test_a_page_for_others_has_a_key_of_its_own(config, tmp_path):
    key = page_key(config("0.0.0.0"))
    path = tmp_path / "page" / "key"
    assert re.fullmatch("[0-9a-f]{64}", key) and path.read_text() == key
    assert path.stat().st_mode & 0o777 == 0o600
    assert page_key(config("0.0.0.0")) == key
    told = page_address(config("10.0.0.7"))
    assert told == f"http://10.0.0.7:5583/?key=KEY, the key being that in {path}"
    path.chmod(0o640)
    with pytest.raises(ScanError, match="others can read the key"):
        page_key(config("0.0.0.0"))


def test_loopback_needs_none_and_makes_none(config, tmp_path):
    assert page_key(config()) is None
    assert page_address(config()) == "http://127.0.0.1:5583"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])
def test_the_environment_may_hold_it(config, monkeypatch, tmp_path, host):
    with_env = config(host, key_env="PAGE_KEY")
    for missing in ("", "too short"):
        monkeypatch.setenv("PAGE_KEY", missing)
        with pytest.raises(ScanError, match=r"\$PAGE_KEY must hold the page's key, of 16 characters"):
            page_key(with_env)
    monkeypatch.setenv("PAGE_KEY", KEY)
    assert page_key(with_env) == KEY
    assert page_address(with_env).endswith("/?key=KEY, the key being that in $PAGE_KEY")
    assert list(tmp_path.iterdir()) == []


def test_a_key_that_can_neither_be_read_nor_made_is_one_clear_error(config, tmp_path):
    (tmp_path / "runs").write_text("a file where a folder should be")
    with pytest.raises(ScanError, match="cannot be read or made"):
        page_key(config(host="0.0.0.0").changed(storage={"directory": str(tmp_path / "runs")}))


def test_a_page_for_others_is_not_served_without_a_key():
    with pytest.raises(ScanError, match="needs a key"):
        page_server(Hub(), title="", host="0.0.0.0")

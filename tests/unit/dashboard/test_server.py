"""The page's server: who is let in, what is served, and that a browser which reads nothing harms nobody."""

import json
import re
import resource
import socket
import struct
import time
from importlib import resources
from pathlib import Path

import httpx
import numpy as np
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from live_bcdi.dashboard import server
from live_bcdi.stream.updates import Update

ROOT = Path(__file__).resolve().parents[3]
STATIC = resources.files("live_bcdi.dashboard") / "static"
MAX_PAGE_BYTES = 250_000


def header(message: bytes) -> dict:
    (length,) = struct.unpack_from("<I", message)
    return json.loads(message[4 : 4 + length])


@pytest.fixture
def url(address) -> str:
    return "http://{}:{}".format(*address)


def open_socket(address, *, origin: str | None, host: str | None = None):
    """A websocket to `address` from a page of `origin`, under the name `host` where one is given."""
    name = host or "{}:{}".format(*address)
    return connect(f"ws://{name}/ws", sock=socket.create_connection(address), origin=origin, max_size=None)


@pytest.mark.parametrize("own", [True, False])
def test_the_first_message_tells_title_and_time(address, url, own):
    with open_socket(address, origin=url if own else None) as page:  # programs send no Origin
        first = header(page.recv(timeout=20))
    assert first["topic"] == "tick" and first["fields"]["title"] == "test beamline"
    assert abs(first["fields"]["time_s"] - time.time()) < 5


@pytest.mark.parametrize("origin", ["http://evil.example", "http://127.0.0.1:1", "{}.evil.example", "null", ""])
def test_a_foreign_page_is_refused(address, url, origin):
    with pytest.raises(InvalidStatus) as refused:
        open_socket(address, origin=origin.format(url))
    assert refused.value.response.status_code == 403


def test_a_foreign_name_for_this_address_is_refused(address, url):
    """What a page would ask for whose own name was pointed at loopback after it was loaded."""
    evil = f"evil.example:{address[1]}"
    with pytest.raises(InvalidStatus) as refused:
        open_socket(address, origin=f"http://{evil}", host=evil)
    assert refused.value.response.status_code == 400
    assert httpx.get(f"{url}/health", headers={"Host": evil}).status_code == 400


@pytest.mark.parametrize("path", ["/", "/health", "/metrics", "/app.js"])
def test_a_request_that_a_foreign_page_made_is_refused(url, path):
    assert httpx.get(url + path, headers={"Origin": url}).status_code == 200
    refused = httpx.get(url + path, headers={"Origin": "http://evil.example"})
    assert (refused.status_code, refused.text) == (403, "The page answers no other site.")
    assert "access-control-allow-origin" not in refused.headers


def test_a_browser_that_says_anything_is_sent_away(address):
    with open_socket(address, origin=None) as page:
        page.send("x" * 100)
        with pytest.raises(ConnectionClosed) as closed:
            while True:
                page.recv(timeout=20)
    assert closed.value.rcvd.code == 1008


def test_no_more_browsers_than_there_is_room_for(hub, address, monkeypatch):
    monkeypatch.setattr(server, "MAX_BROWSERS", 2)
    with open_socket(address, origin=None) as one, open_socket(address, origin=None) as two:
        for page in (one, two):
            page.recv(timeout=20)
        with open_socket(address, origin=None) as third, pytest.raises(ConnectionClosed) as closed:
            third.recv(timeout=20)
        assert closed.value.rcvd.code == 1013
    while hub.browsers:
        time.sleep(0.01)
    with open_socket(address, origin=None) as again:
        again.recv(timeout=20)


def test_health(hub, url):
    hub.publish(Update(topic="health", fields={"service": "live", "state": "ready", "pid": 3}))
    report = httpx.get(f"{url}/health").json()
    assert report["services"]["live"]["state"] == "ready"
    assert report["browsers"] == 0


def test_the_page_is_whole_light_and_asks_nobody_else(url):
    page = httpx.get(url)
    assert page.status_code == 200 and "default-src 'self'" in page.headers["content-security-policy"]
    seen, wanted = set(), {"index.html", "history.html"}
    while wanted:
        name = wanted.pop()
        seen.add(name)
        answer = httpx.get(f"{url}/{name}")
        assert answer.status_code == 200, name
        assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)", answer.text), f"{name} names another host"
        found = re.findall(r"(?:src|href)=\"([\w.]+)\"|from \"\./([\w.]+)\"|url\(([\w.]+)\)", answer.text)
        wanted |= {next(filter(None, groups)) for groups in found} - seen - {"health", "history"}
    files = {entry.name: len(entry.read_bytes()) for entry in STATIC.iterdir()}
    assert seen == set(files), "a file is served that nothing asks for, or asked for that is not there"
    assert sum(files.values()) < MAX_PAGE_BYTES


def test_the_wheel_carries_the_page():
    wheel = pytest.importorskip("hatchling.builders.wheel", reason="hatchling is not installed")
    packed = {entry.distribution_path for entry in wheel.WheelBuilder(str(ROOT)).recurse_included_files()}
    wanted = {f"live_bcdi/dashboard/static/{entry.name}" for entry in STATIC.iterdir()}
    assert wanted and wanted <= packed


def test_deflate_is_off(address):
    with open_socket(address, origin=None) as page:
        assert page.protocol.extensions == []


def stuck_browser(address) -> socket.socket:
    """A websocket that is opened and never read."""
    stuck = socket.create_connection(address)
    host = "{}:{}".format(*address)
    stuck.sendall(
        f"GET /ws HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
    )
    return stuck


def test_a_stuck_browser_costs_nobody_anything(hub, address):
    """400 MB are published past a browser that reads nothing while another one reads all the time."""
    stuck = stuck_browser(address)
    image = np.zeros((512, 512), np.float32)
    image[0, 0] = 1.0
    with open_socket(address, origin=None) as page:
        page.recv()
        while hub.health()["browsers"] < 2:
            time.sleep(0.01)
        before_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        newest, slowest_s = -1, 0.0
        for number in range(400):
            began_s = time.perf_counter()
            hub.publish(Update(topic="live", run="a", fields={"index": number}, arrays={"image": image}))
            slowest_s = max(slowest_s, time.perf_counter() - began_s)
            if number % 4 == 3:
                newest = max(newest, read_until_live(page))
        while newest < 399:
            newest = max(newest, read_until_live(page))
        grown_mib = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kib) / 1024
    # The stuck one may hold the message it is being sent (1 MiB) and the loop's copies of it: 11 MiB were seen,
    # with the reader's. A queue that grows would hold most of the 400.
    assert grown_mib < 60
    assert slowest_s < server.PING_S / 2  # one that waited for a browser would wait until that is dropped
    stuck.close()


def test_a_browser_that_never_reads_is_dropped(hub, serve, monkeypatch):
    """A laptop that was shut: its connection stays open, and what it was sent last would wait for it for ever."""
    monkeypatch.setattr(server, "PING_S", 2.0)  # a busy machine may keep a living one waiting for a second
    with serve(hub) as address:
        stuck = stuck_browser(address)
        while hub.browsers < 1:
            time.sleep(0.01)
        hub.publish(Update(topic="live", run="a", arrays={"image": np.zeros((4096, 4096), np.float32)}))
        with open_socket(address, origin=None) as alive:
            while hub.browsers > 1:  # the test's own time limit ends it
                alive.recv(timeout=20)
            assert header(alive.recv(timeout=20))["topic"]
    stuck.close()


def read_until_live(page) -> int:
    while True:
        message = header(page.recv(timeout=20))
        if message["topic"] == "live":
            return int(message["fields"]["index"])


def test_the_server_ends_while_a_browser_reads_nothing(hub, serve):
    with serve(hub) as address:  # its end asserts that the server ended
        stuck = stuck_browser(address)
        while hub.health()["browsers"] < 1:
            time.sleep(0.01)
        hub.publish(Update(topic="live", run="a", arrays={"image": np.zeros((4096, 4096), np.float32)}))
        read = 0
        while read < 1_000_000:  # from now on the server is in the middle of sending it
            read += len(stuck.recv(100_000))
    stuck.close()

"""Ports, keys and Tiled, each made to fail: real sockets, a real HTTP server."""

import json
import socket
import threading
import time
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import metadata

import pytest
import zmq

from live_bcdi.doctor import network
from live_bcdi.stream.updates import Update
from live_bcdi.transport.keys import make_keys
from live_bcdi.transport.zmq import encode_update, new_socket

KEY = "LIVE_BCDI_TILED_API_KEY"


def one(found, status, *words):
    assert [finding.status for finding in found] == [status], found
    for word in words:
        assert word in found[0].what + found[0].do
    assert found[0].do or status == "ok"


@pytest.fixture
def taken(config):
    """Another program where the page should be."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", config.page.port))
        other.listen()
        yield config.page.port


def test_ports_that_are_free(config):
    one(network.ports(config, {}), "ok", "All 7 addresses are free")
    one(network.ports(config, {}), "ok")  # and still are
    one(network.ports(config.changed(page={"host": "localhost"}), {}), "ok")


def test_a_port_that_another_program_has(config, taken):
    one(
        network.ports(config, {}), "problem", f"[page] port tcp://127.0.0.1:{taken} is held by another", "ss -ltnp"
    )
    one(network.ports(config, {"page": {"pid": 1}}), "ok")
    one(network.ports(config, {"broker": {"pid": 1}}), "problem", "page of the live-bcdi that runs is silent")


def test_an_address_of_another_computer(config):
    """No name ends in .invalid (RFC 2606)."""
    found = network.ports(config.changed(stream={"documents_in": "tcp://beamline.invalid:5577"}), {})
    one(found, "warning", "not of this computer", "firewall")


def test_an_address_that_is_none(config):
    one(network.ports(config.changed(stream={"updates_in": "tcp://127.0.0.1"}), {}), "problem", "tcp://host:port")


def test_what_is_open_beyond_loopback(config, tmp_path, free_port):
    one(network.listening(config), "ok", "loopback")
    everywhere = {"documents_in": f"tcp://0.0.0.0:{free_port()}"}
    one(network.listening(config.changed(stream=everywhere)), "problem", "live-bcdi keys")
    one(network.listening(config.changed(stream={**everywhere, "open": True})), "warning", "lets in everybody")
    make_keys(tmp_path / "keys")
    one(network.listening(config.changed(stream={**everywhere, "keys": tmp_path / "keys"})), "ok", "Keys guard")
    one(network.listening(config.changed(page={"host": "0.0.0.0"})), "warning", "TLS")
    assert not (tmp_path / "page").exists(), "no key is made"
    (tmp_path / "keys" / "clients").chmod(0o777)
    one(network.listening(config.changed(stream={"keys": tmp_path / "keys"})), "problem", "let themselves in")


def test_heartbeats_are_heard(config):
    """What beats at the broker's address, also late; one of which its supervisor says that it failed is not."""
    beats = [{"service": "live", "state": "failed", "pid": None}, {"service": "page", "state": "ready", "pid": 5}]
    socket = new_socket(zmq.PUB, largest_bytes=1000, waiting=100)
    socket.bind(config.stream.updates_out)
    ended = threading.Event()

    def beat():
        while not ended.wait(0.05):
            for fields in beats:
                socket.send_multipart(encode_update(Update(topic="health", fields=fields)))

    thread = threading.Thread(target=beat)
    thread.start()
    try:
        heard = network.hear(config, ["page", "live"])
    finally:
        ended.set()
        thread.join()
        socket.close()
    assert list(heard) == ["page"]
    one(network.services(config, heard, ["page"]), "ok", "All 1 run")
    one(network.services(config, heard, ["page", "live"]), "problem", "silent: live")


def test_nobody_is_heard(config, monkeypatch):
    monkeypatch.setattr(network, "LISTEN_S", 0.1)
    assert network.hear(config, ["page"]) == {}
    one(network.services(config, {}, ["page"]), "ok", "live-bcdi up")


@pytest.fixture
def tiled(config, monkeypatch):
    """A server as much like Tiled as the check asks for, and the configuration that names it."""

    class Answer(BaseHTTPRequestHandler):
        version, skew_s, key = metadata.version("tiled"), 0.0, "right"

        def do_GET(self):
            good = self.path.endswith("/api/v1/") or self.headers.get("Authorization") == f"Apikey {self.key}"
            self.send_response_only(200 if good else 401)
            self.send_header("Date", formatdate(time.time() + self.skew_s, usegmt=True))
            self.end_headers()
            self.wfile.write(json.dumps({"library_version": self.version} if self.version else [1]).encode())

        def log_message(self, *_):
            pass

    monkeypatch.setenv(KEY, "right")
    with ThreadingHTTPServer(("127.0.0.1", 0), Answer) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        uri = f"http://127.0.0.1:{running.server_port}/api/v1"
        yield Answer, config.changed(tiled={"uri": uri})
        running.shutdown()


def test_a_tiled_that_takes_our_key(tiled):
    one(network.tiled(tiled[1], {}), "ok", "takes our key")


def test_a_tiled_that_refuses_our_key(tiled, monkeypatch):
    monkeypatch.setenv(KEY, "a wrong secret")
    found = network.tiled(tiled[1], {})
    one(found, "problem", "refuses our key (401)", f"${KEY}")
    assert "a wrong secret" not in str(found)


@pytest.mark.parametrize(("skew_s", "word"), [(60, "ahead of"), (-60, "behind")])
def test_a_clock_that_is_off(tiled, skew_s, word):
    tiled[0].skew_s = skew_s
    one(network.tiled(tiled[1], {}), "warning", word)
    said = network.tiled(tiled[1], {})[0].what.split("clock is ")[1]
    assert 57 <= float(said.split()[0]) <= 60


def test_a_tiled_of_another_series_and_no_tiled_at_all(tiled):
    tiled[0].version = "0.1.0b13"
    one(network.tiled(tiled[1], {}), "warning", "Tiled 0.1.0b13")
    tiled[0].version = ""
    one(network.tiled(tiled[1], {}), "problem", "is no Tiled")


def test_a_tiled_that_is_away(config, free_port):
    site = config.changed(tiled={"uri": f"http://me:secret@127.0.0.1:{free_port()}/api/v1?api_key=hidden"})
    found = network.tiled(site, {})
    one(found, "problem", "cannot be reached", "wait on disk")
    assert "secret" not in str(found)
    assert "hidden" not in str(found)


def test_a_tiled_that_we_have_no_key_for(tiled, monkeypatch):
    monkeypatch.delenv(KEY)
    uri = tiled[1].tiled.uri.replace("http://", "http://me:secret@") + "?api_key=hidden"
    found = network.tiled(tiled[1].changed(tiled={"uri": uri}), {})
    one(found, "problem", "no key for Tiled", f"${KEY}")
    assert "secret" not in str(found)
    assert "hidden" not in str(found)


def test_computers_that_are_not_there(config, free_port):
    one(network.others(config), "ok")
    dectris = config.changed(stream={"source": "stream2", "frames": "tcp://dcu.invalid:31001"})
    one(network.others(dectris), "problem", "'dcu.invalid'")
    dask = config.changed(jobs={"scheduler": f"tcp://127.0.0.1:{free_port()}"})
    one(network.others(dask), "problem", "does not answer")


def test_an_embedded_tiled_that_is_down(config):
    one(network.tiled(config, {}), "ok", "live-bcdi up")
    one(network.tiled(config, {"page": {}}), "problem", "tiled_server.jsonl")

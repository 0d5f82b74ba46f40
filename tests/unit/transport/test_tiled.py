"""The key of Tiled: the server makes it, everyone else reads it or is told where it was looked for."""

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from live_bcdi.cli import config_path
from live_bcdi.config import Config, StorageConfig, TiledConfig, load_config
from live_bcdi.transport.tiled import api_key, connect, make_api_key
from live_bcdi.types import ScanError

VARIABLE = "LIVE_BCDI_TILED_API_KEY"


@pytest.fixture
def config(tmp_path, monkeypatch) -> Config:
    monkeypatch.delenv(VARIABLE, raising=False)
    return load_config(config_path("34idc")).model_copy(update={"storage": StorageConfig(directory=tmp_path)})


def of_a_site(config: Config, uri: str) -> Config:
    return config.model_copy(update={"tiled": TiledConfig(uri=uri)})


@pytest.fixture
def server():
    """An HTTP server that answers everything with one status."""

    class Answer(BaseHTTPRequestHandler):
        status = 401

        def do_GET(self):
            self.send_response(self.status)
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            self.wfile.write(b"{}")

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Answer) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield Answer, f"http://127.0.0.1:{running.server_port}/api/v1"
        running.shutdown()


def test_the_servers_key_is_for_its_owner_only(config, tmp_path):
    key = make_api_key(config)
    assert len(key) == 64
    assert (tmp_path / "tiled" / "api_key").stat().st_mode & 0o777 == 0o600
    assert make_api_key(config) == api_key(config) == key


def test_a_client_makes_no_key(config, tmp_path):
    with pytest.raises(ScanError, match=rf"no key for Tiled .*{tmp_path}/tiled/api_key .*\${VARIABLE}"):
        api_key(config)
    assert list(tmp_path.iterdir()) == []


def test_where_it_was_looked_for_is_a_whole_path(config, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ScanError, match=f"{tmp_path}/runs/tiled/api_key cannot be read"):
        api_key(config.model_copy(update={"storage": StorageConfig(directory=Path("runs"))}))


def test_the_environment_comes_first(config, monkeypatch):
    make_api_key(config)
    monkeypatch.setenv(VARIABLE, "given")
    assert api_key(config) == make_api_key(config) == "given"


def test_a_sites_key_is_never_ours(config, monkeypatch):
    make_api_key(config)
    site = of_a_site(config, "https://tiled.example/api/v1")
    for find in (api_key, make_api_key):
        with pytest.raises(
            ScanError, match=rf"no key for Tiled at https://tiled.example/api/v1: set \${VARIABLE}"
        ):
            find(site)
    monkeypatch.setenv(VARIABLE, "given")
    assert api_key(site) == "given"


@pytest.mark.parametrize("status", [401, 403])
def test_a_refused_key_is_not_an_absent_server(config, server, monkeypatch, status):
    answer, uri = server
    answer.status = status
    monkeypatch.setenv(VARIABLE, "wrong")
    with pytest.raises(ScanError, match=rf"Tiled at {uri} refused the key \({status}\); .*\${VARIABLE}"):
        connect(of_a_site(config, uri))


def test_a_server_without_a_key_for_it(config, server):
    with pytest.raises(ScanError, match=rf"no key for Tiled at {server[1]}: set \${VARIABLE}"):
        connect(of_a_site(config, server[1]))


def test_an_absent_server(config, free_port):
    with pytest.raises(ScanError, match=r"cannot be reached .*`live-bcdi up`"):
        connect(of_a_site(config, f"http://127.0.0.1:{free_port()}/api/v1"))

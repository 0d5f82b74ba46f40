"""With keys a scan works end to end; without them nothing gets in and nothing comes out."""

import json
import subprocess
import sys
import time

import msgpack
import pytest
import zmq

from live_bcdi.config import load_config
from live_bcdi.session import play, running_system
from live_bcdi.sim import simulate_scan
from live_bcdi.supervisor import Supervisor
from live_bcdi.transport.hdf5 import write_scan
from live_bcdi.types import ScanError

ADDRESSES = ("documents_in", "documents_out", "updates_in", "updates_out")


def command(*arguments):
    line = [sys.executable, "-m", "live_bcdi.cli", *map(str, arguments)]
    return subprocess.run(line, capture_output=True, text=True)


@pytest.fixture(scope="module")
def locked(tmp_path_factory, make_config, free_port):
    """A system with keys, and its configuration."""
    folder = tmp_path_factory.mktemp("locked")
    stream = {name: f"tcp://127.0.0.1:{free_port()}" for name in (*ADDRESSES, "frames", "relay")}
    path = make_config(folder, stream={**stream, "keys": str(folder / "keys")})
    path.write_text('log_level = "DEBUG"\n' + path.read_text())
    made = command("keys", "--config", path, "--json")
    assert made.returncode == 0, made.stderr
    assert set(json.loads(made.stdout)) == {"folder", "server", "client"}
    with Supervisor(path) as supervisor:
        yield supervisor, path


@pytest.fixture(scope="module")
def keyless(locked, tmp_path_factory):
    """The same configuration, as somebody has it who has no keys."""
    path = tmp_path_factory.mktemp("keyless") / "beamline.toml"
    lines = locked[1].read_text().splitlines(keepends=True)
    path.write_text("".join(line for line in lines if not line.startswith("keys = ")))
    return path


@pytest.fixture(scope="module")
def scan_file(locked, tmp_path_factory):
    scan, _ = simulate_scan(
        shape=(24, 32, 32), photons=2e6, strain="medium", seed=4, config=load_config(locked[1])
    )
    path = tmp_path_factory.mktemp("scan") / "small.h5"
    write_scan(path, scan)
    return path


@pytest.fixture(scope="module")
def overheard(locked):
    """What comes to somebody without keys while a scan is measured, and what that somebody sends."""
    stream = load_config(locked[1]).stream
    with zmq.Context() as context:
        ears = [context.socket(zmq.SUB) for _ in range(3)]
        for ear, address in zip(ears, (stream.documents_out, stream.updates_out, stream.frames)):
            ear.linger = 0
            ear.subscribe(b"")
            ear.connect(address)
        mouth = context.socket(zmq.PUB)
        mouth.linger = 0
        mouth.connect(stream.documents_in)
        yield ears, mouth
        mouth.close()
        for ear in ears:
            ear.close()


def test_a_scan_works_and_a_stranger_hears_and_says_nothing(locked, scan_file, overheard):
    ears, mouth = overheard
    forged = b" start " + msgpack.packb({"uid": "forged", "time": time.time()})
    for _ in range(20):
        mouth.send(forged)
    told = play(locked[0], scan_file, locked[1], rate_hz=0, fly=False)
    for _ in range(20):
        mouth.send(forged)
    assert (told["result"]["frames"], told["result"]["missing"]) == (24, [])
    assert (told["live"]["count"], told["live"]["refilled"]) == (24, 0)  # frames came by the stream, not the file
    assert [ear.poll(200) for ear in ears] == [0, 0, 0]
    documents = load_config(locked[1]).storage.directory / "documents"
    assert [path.stem for path in documents.rglob("*.jsonl")] == [told["run"]]


def test_who_has_no_keys_is_told_so(keyless, scan_file):
    done = command("acquire", scan_file, "--config", keyless)
    assert done.returncode == 2
    assert "not to our keys (we have none: set [stream] keys)" in done.stderr
    with pytest.raises(ScanError, match="not to our keys"), running_system(keyless):
        pass


def test_no_secret_leaves_its_file(locked, scan_file, overheard):
    """After a scan, with everything logged: not in a log, a journal, a ticket, a result or the catalogue."""
    folder = locked[1].parent
    key_files = {*folder.rglob("*.key_secret"), folder / "runs" / "tiled" / "api_key"}
    secrets = [path.read_text().split('secret-key = "')[-1].strip()[:40].encode() for path in key_files]
    assert len(set(secrets)) == 3
    others = [path for path in folder.rglob("*") if path.is_file() and path not in key_files]
    assert any(b'"DEBUG"' in path.read_bytes() for path in others if path.parent.name == "log")
    assert [path for path in others if any(secret in path.read_bytes() for secret in secrets)] == []
    assert {path.stat().st_mode & 0o777 for path in key_files} == {0o600}

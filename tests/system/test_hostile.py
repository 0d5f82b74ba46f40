"""Malformed messages at every port of a running system: nothing restarts or swells, and a scan is right."""

import socket
import time
from pathlib import Path

import msgpack
import numpy as np
import pytest
import zmq

from live_bcdi.config import load_config
from live_bcdi.metadata import scan_metadata
from live_bcdi.session import play
from live_bcdi.sim import hostile, simulate_scan
from live_bcdi.supervisor import Supervisor
from live_bcdi.transport.hdf5 import read_result, read_scan, write_scan

SHAPE = (24, 32, 32)
GARBAGE = {
    "nothing": b"",
    "zeros": bytes(100_000),
    "a greeting of another 0MQ": b"\xff" + bytes(8) + b"\x7f\x09",
    "a greeting and then a huge frame": b"\xff"
    + bytes(8)
    + b"\x7f\x03\x00NULL"
    + bytes(48)
    + b"\x02"
    + b"\xff" * 8,
    "half a request": b"GET / HTTP/1.1\r\nHost: x\r\n",
    "a long request": b"GET /" + b"x" * 200_000 + b" HTTP/1.1\r\n\r\n",
    "a request of many headers": b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 20_000 + b"\r\n",
    "a length that is none": b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
    "a huge length": b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999\r\n\r\nx",
    "a path out of the folder": b"GET /../../../../etc/passwd HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
    "a websocket of nothing": b"GET /ws HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\n"
    b"Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
    + b"\xff"
    * 10_000,
    "an answer": b"HTTP/1.1 200 OK\r\n\r\n",
    "a pickle": hostile.PAYLOADS["a pickle"],
}


@pytest.fixture(scope="module")
def running(tmp_path_factory, make_config):
    path = make_config(tmp_path_factory.mktemp("hostile"))
    with Supervisor(path) as supervisor:
        yield supervisor, path


def tree(pids):
    """These processes and all their descendants."""
    parents = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parents[int(stat.parent.name)] = int(stat.read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
    found = set(pids)
    while more := {pid for pid, parent in parents.items() if parent in found} - found:
        found |= more
    return found


def listening(pids):
    """(host as it stands in /proc/net, port) of the TCP sockets on which these processes listen."""
    inodes = set()
    for pid in pids:
        for descriptor in Path(f"/proc/{pid}/fd").glob("*"):
            try:
                inodes.add(str(descriptor.readlink()))
            except OSError:
                continue
    found = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        for line in Path(table).read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and f"socket:[{fields[9]}]" in inodes:
                host, port = fields[1].split(":")
                found.add((host, int(port, 16)))
    return found


def memory_mb(pid):
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) / 1024


def ports_of(config):
    stream = config.stream
    addresses = (stream.documents_in, stream.documents_out, stream.updates_in, stream.updates_out)
    return {*(int(address.rpartition(":")[2]) for address in addresses), config.tiled.port, config.page.port}


def test_nothing_listens_beyond_loopback(running):
    supervisor, path = running
    found = listening(tree(supervisor.pids().values()))
    assert {port for _, port in found} == ports_of(load_config(path))  # so that the look finds what there is
    assert {host for host, _ in found} == {"0100007F"}


def test_every_service_survives_everything_and_a_scan_is_right(running, tmp_path):
    supervisor, path = running
    config = load_config(path)
    pids = supervisor.pids()
    before_mb = {name: memory_mb(pid) for name, pid in pids.items()}
    scan, _ = simulate_scan(shape=SHAPE, photons=2e6, strain="medium", seed=4, config=config)
    write_scan(tmp_path / "small.h5", scan)

    throw_garbage(config)
    throw_messages(supervisor, config, scan_metadata(scan))
    told = play(supervisor, tmp_path / "small.h5", path, rate_hz=0, fly=False)

    assert (told["result"]["frames"], told["result"]["missing"]) == (SHAPE[0], [])
    assert last_live(supervisor, told)["count"] == SHAPE[0]
    (frames,) = (config.storage.directory / "frames").glob(f"*_{told['run'][:8]}.h5")
    np.testing.assert_array_equal(read_scan(frames).intensity, scan.intensity)
    assert np.isfinite(read_result(told["result"]["file"]).chi)
    assert supervisor.pids() == pids  # none was started again
    grown_mb = {name: memory_mb(pid) - before_mb[name] for name, pid in pids.items()}
    assert max(grown_mb.values()) < 400, grown_mb
    log = config.storage.directory / "log"
    assert sum(path.stat().st_size for path in log.glob("*.jsonl")) < 2_000_000  # nobody fills the disk with lines
    assert not hostile.pickle_was_executed()
    assert not Path("/etc/x").exists()


def last_live(supervisor, told):
    """What live said of the run in the end. It waits 2 s for the file of each run that has none, one by one."""
    live, until_s = told["live"], time.monotonic() + 30
    while live.get("count") != SHAPE[0] and time.monotonic() < until_s:
        for update in supervisor.watch(0.2):
            if (update.topic, update.run) == ("live", told["run"]):
                live = update.fields
    return live


def throw_garbage(config):
    """Bytes of no protocol, or of another one, at every port."""
    for port in ports_of(config):
        for what in GARBAGE.values():
            with socket.create_connection(("127.0.0.1", port), timeout=5) as peer:
                try:
                    peer.sendall(what)
                    peer.shutdown(socket.SHUT_WR)
                except OSError:
                    continue  # hung up on already


def throw_messages(supervisor, config, scan_table):
    """Well-formed 0MQ messages that mean nothing, from peers as real as ours, and a flood of them."""
    stream = config.stream
    with zmq.Context() as context:
        mouth = {}
        for name, address in (("documents", stream.documents_in), ("updates", stream.updates_in)):
            mouth[name] = context.socket(zmq.PUB)
            mouth[name].sndhwm, mouth[name].linger = 0, 10_000
            mouth[name].connect(address)
        mouth["frames"] = context.socket(zmq.PUB)
        mouth["frames"].linger = 2000
        mouth["frames"].bind(stream.frames)
        wait_until_heard(supervisor, mouth["updates"])
        for message in hostile.documents().values():
            mouth["documents"].send(message)
        for run in hostile.nonsense(scan_table).values():
            for name, doc in run:
                mouth["documents"].send(f" {name} ".encode() + msgpack.packb(doc))
        for kind, corpus in (("updates", hostile.updates()), ("frames", hostile.frames())):
            for parts in corpus.values():
                mouth[kind].send_multipart(parts or [b""])
        flood = b" event " + msgpack.packb({**hostile._event(), "data": {"x": "x" * 10_000}})
        for _ in range(20_000):
            mouth["documents"].send(flood)
        for socket_ in mouth.values():
            socket_.close()


def wait_until_heard(supervisor, mouth):
    """A publisher's first messages are lost until its connection stands: go on once one came through."""
    probe = [b"notice", msgpack.packb({"run": "", "fields": {"message": "here I am"}, "arrays": []})]
    until_s = time.monotonic() + 10
    while time.monotonic() < until_s:
        mouth.send_multipart(probe)
        if any(update.fields.get("message") == "here I am" for update in supervisor.watch(0.1)):
            return
    pytest.fail("the broker did not pass on an update in 10 s")

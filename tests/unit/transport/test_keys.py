"""Keys: made once, kept private, and without the right ones nothing goes in or out."""

import logging
import os
import stat
from pathlib import Path

import numpy as np
import pytest
import zmq

from live_bcdi.config import load_config
from live_bcdi.stream.fakes import frames_of, small_scan
from live_bcdi.supervisor import check_ports
from live_bcdi.transport.keys import LOCAL, Access, is_loopback, make_client, make_keys
from live_bcdi.transport.zmq import FramePublisher, FrameSubscriber, check_free
from live_bcdi.types import ScanError

BEAMLINE = Path(__file__).resolve().parents[3] / "config" / "34idc.toml"
STREAMS = ("documents_in", "documents_out", "updates_in", "updates_out", "relay", "frames")
FRAME = frames_of(small_scan(num=2, shape=(5, 7)))[1]


@pytest.fixture
def folder(tmp_path):
    make_keys(tmp_path / "keys")
    return tmp_path / "keys"


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


def test_secrets_are_for_the_owner_alone_whatever_the_umask(tmp_path):
    before = os.umask(0)
    try:
        made = make_keys(tmp_path / "keys")
        theirs, public = make_client(tmp_path / "keys", "detector")
    finally:
        os.umask(before)
    secrets = sorted(tmp_path.rglob("*.key_secret"))
    assert [path.name for path in secrets] == ["client.key_secret", "client.key_secret", "server.key_secret"]
    assert {mode(path) for path in secrets} == {0o600}
    assert {mode(path) for path in (tmp_path / "keys", theirs, tmp_path / "keys" / "clients")} == {0o700}
    for path in secrets:
        secret = next(line for line in path.read_text().splitlines() if "secret-key" in line).split('"')[1]
        assert secret not in {*made.values(), public}
        assert all(secret not in other.read_text() for other in tmp_path.rglob("*.key"))


def test_nothing_is_overwritten(folder):
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    with pytest.raises(ScanError, match="never overwritten"):
        make_keys(folder)
    make_client(folder, "one")
    with pytest.raises(ScanError, match="never overwritten"):
        make_client(folder, "one")
    assert {path: path.read_bytes() for path in before} == before


@pytest.mark.parametrize("name", ["", "../x", "client", "clients", "a/b", ".hidden", "x" * 65])
def test_a_client_has_a_plain_name(folder, name):
    with pytest.raises(ScanError, match="no name for a client"):
        make_client(folder, name)


def test_a_key_that_others_may_read_is_refused(folder, free_address):
    (folder / "server.key_secret").chmod(0o640)
    with pytest.raises(ScanError, match=r"others can read .*server.key_secret \(mode 640\)"):
        check_free(free_address, "[stream] documents_in", Access(keys=folder))
    (folder / "client.key_secret").chmod(0o604)
    with pytest.raises(ScanError, match=r"others can read .*client.key_secret \(mode 604\)"):
        FrameSubscriber(free_address, access=Access(keys=folder))


def test_a_folder_of_clients_that_others_may_write_to_is_refused(folder, free_address):
    (folder / "clients").chmod(0o770)
    with pytest.raises(ScanError, match="so let themselves in"):
        FramePublisher(free_address, Access(keys=folder))


@pytest.mark.parametrize("text", [None, "", "curve\n", 'public-key = "x"\nsecret-key = "x"\n', "\xff" * 99])
def test_what_is_no_key_is_said_to_be_none(folder, free_address, text):
    for name in ("server.key_secret", "client.key_secret"):
        path = folder / name
        path.unlink()
        if text is not None:
            path.write_text(text)
            path.chmod(0o600)
    with pytest.raises(ScanError, match=r"server\.key_secret"):
        FramePublisher(free_address, Access(keys=folder))
    with pytest.raises(ScanError, match=r"client\.key_secret"):
        FrameSubscriber(free_address, access=Access(keys=folder))


@pytest.mark.parametrize(
    ("address", "loopback"),
    [
        ("tcp://127.0.0.1:1", True),
        ("tcp://127.8.0.1:1", True),
        ("tcp://localhost:1", True),
        ("tcp://[::1]:1", True),
        ("ipc:///tmp/x", True),
        ("tcp://*:1", False),
        ("tcp://0.0.0.0:1", False),
        ("tcp://[::]:1", False),
        ("tcp://192.168.0.1:1", False),
        ("tcp://eth0:1", False),
        ("tcp://localhost.evil.org:1", False),
        ("tcp://127.0.0.1.evil.org:1", False),
        ("nonsense", False),
    ],
)
def test_what_is_loopback(address, loopback):
    assert is_loopback(address) == loopback


def test_beyond_loopback_needs_keys_or_a_word(folder, free_port):
    address = f"tcp://*:{free_port()}"
    for opens in (lambda access: check_free(address, "[stream] x", access), lambda a: FramePublisher(address, a)):
        with pytest.raises(ScanError, match=r"live-bcdi keys.*\[stream\] open = true"):
            opens(LOCAL)
    for access in (Access(keys=folder), Access(open=True)):
        check_free(f"tcp://*:{free_port()}", "[stream] documents_in", access)
        FramePublisher(f"tcp://*:{free_port()}", access).close()


def crossed(server, client, address):
    """Whether a frame gets from one to the other in a second."""
    publisher = FramePublisher(address, server)
    subscriber = FrameSubscriber(address, access=client)
    try:
        if not publisher.wait_for_subscriber(1.0):
            return False
        publisher.send(FRAME)
        (frame,) = subscriber.receive(5.0)
        np.testing.assert_array_equal(frame.image, FRAME.image)
        return True
    finally:
        publisher.close()
        subscriber.close()


def test_who_is_on_the_computer_that_opens_every_interface_gets_in(folder, free_port):
    assert crossed(Access(keys=folder), Access(keys=folder), f"tcp://*:{free_port()}")
    assert crossed(Access(keys=folder), Access(keys=folder), f"tcp://0.0.0.0:{free_port()}")


@pytest.fixture
def others(tmp_path):
    """Whole, and made by somebody else."""
    make_keys(tmp_path / "others")
    return tmp_path / "others"


@pytest.fixture
def stranger(folder, others):
    """Knows our server's public key, and is not let in."""
    (others / "server.key").write_bytes((folder / "server.key").read_bytes())
    return others


def test_frames_cross_with_keys(folder, free_address):
    assert crossed(Access(keys=folder), Access(keys=folder), free_address)


def test_a_machine_that_was_let_in_later_gets_in(folder, free_port):
    publisher = FramePublisher(f"tcp://127.0.0.1:{(port := free_port())}", Access(keys=folder))
    theirs, _ = make_client(folder, "detector")
    try:
        assert Access(keys=theirs).check_answer(f"tcp://127.0.0.1:{port}", 5.0)
        with pytest.raises(ScanError, match=r"server\.key_secret"):  # a client may not pose as the server
            FramePublisher(f"tcp://127.0.0.1:{free_port()}", Access(keys=theirs))
    finally:
        publisher.close()


@pytest.mark.parametrize("who", ["nobody", "others", "stranger"])
def test_nothing_crosses_without_the_right_keys(folder, free_address, request, who):
    client = LOCAL if who == "nobody" else Access(keys=request.getfixturevalue(who))
    assert not crossed(Access(keys=folder), client, free_address)


def test_nothing_crosses_to_a_server_without_keys(folder, free_address):
    assert not crossed(LOCAL, Access(keys=folder), free_address)


@pytest.mark.parametrize("who", ["nobody", "others", "stranger"])
def test_refused_keys_are_said_to_be(folder, free_address, request, who):
    client = LOCAL if who == "nobody" else Access(keys=request.getfixturevalue(who))
    publisher = FramePublisher(free_address, Access(keys=folder))
    try:
        with pytest.raises(ScanError, match=r"answers, but not to our keys.*server\.key"):
            client.check_answer(free_address, 5.0)
        assert Access(keys=folder).check_answer(free_address, 5.0)
    finally:
        publisher.close()


def test_nobody_there_is_no_refusal(folder, free_address):
    assert not Access(keys=folder).check_answer(free_address)


def test_a_stranger_is_told_of_once(folder, stranger, free_address, caplog):
    publisher = FramePublisher(free_address, Access(keys=folder))
    try:
        with caplog.at_level(logging.WARNING):
            for _ in range(3):
                with pytest.raises(ScanError):
                    Access(keys=stranger).check_answer(free_address, 5.0)
    finally:
        publisher.close()
    assert caplog.text.count("refused a client: no key") == 1
    secrets = [path.read_text().split('secret-key = "')[1][:40] for path in folder.parent.rglob("*.key_secret")]
    assert len(secrets) == 4
    assert all(secret not in caplog.text for secret in secrets)


def test_a_damaged_folder_lets_nobody_in_and_ends_nothing(folder, free_address):
    publisher = FramePublisher(free_address, Access(keys=folder))
    try:
        (folder / "clients" / "bad.key").write_text("nothing\n")
        with pytest.raises(ScanError):
            Access(keys=folder).check_answer(free_address, 5.0)
        (folder / "clients" / "bad.key").unlink()
        assert Access(keys=folder).check_answer(free_address, 5.0)
    finally:
        publisher.close()


def test_a_peer_that_sends_too_much_is_hung_up_on(free_address):
    """XPUB takes subscriptions, and they are short."""
    publisher = FramePublisher(free_address)
    try:
        with zmq.Context() as context, context.socket(zmq.XSUB) as peer:
            peer.linger = 0
            peer.connect(free_address)
            peer.send(b"\x01" + b"x" * 10_000)
            assert not publisher.wait_for_subscriber(0.3)
        subscriber = FrameSubscriber(free_address)
        assert publisher.wait_for_subscriber(5.0)
        subscriber.close()
    finally:
        publisher.close()


@pytest.mark.parametrize("key", ["documents_in", "documents_out", "updates_in", "updates_out", "relay"])
def test_up_refuses_what_others_could_reach_before_it_starts_anything(tmp_path, free_port, key):
    ports = {name: free_port() for name in (*STREAMS, "tiled", "page")}
    stream = {name: f"tcp://127.0.0.1:{ports[name]}" for name in STREAMS}
    config = load_config(BEAMLINE).changed(
        stream={**stream, key: f"tcp://0.0.0.0:{ports[key]}", "source": "documents"},
        tiled={"port": ports["tiled"]},
        page={"port": ports["page"]},
        storage={"directory": tmp_path},
    )
    with pytest.raises(ScanError, match=f"0.0.0.0:{ports[key]} can be reached .* `live-bcdi keys`"):
        check_ports(config)
    check_ports(config.changed(stream={"open": True}))
    make_keys(tmp_path / "keys")
    check_ports(config.changed(stream={"keys": tmp_path / "keys"}))

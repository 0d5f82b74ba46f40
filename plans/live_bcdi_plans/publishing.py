"""What a RunEngine says, to disk and to the broker, so that nothing it said is lost with a service.

with DocumentPublisher(load_config(path)) as publisher:
    RE.subscribe(publisher)
"""

import logging
from collections import deque
from contextlib import suppress
from typing import Any, Self

import msgpack
import zmq
from bluesky.callbacks.zmq import ClientCurve, Publisher
from zmq.utils.monitor import recv_monitor_message

from live_bcdi.config import Config
from live_bcdi.stream import journal
from live_bcdi.stream.claim import Claim
from live_bcdi.transport.keys import Access, access_of, load_secret
from live_bcdi.transport.zmq import encode_document

MOST_OWED = 20_000  # documents that wait for a full disk: some runs of a thousand events
LINGER_MS = 2000  # at the end, for a broker that takes what was sent; without one nobody should wait forever

logger = logging.getLogger("publishing")


class DocumentPublisher:
    """Writes each document to `<storage>/journal/<run>.jsonl` and then sends it to the broker.

    Neither a full disk nor an absent broker makes a plan fail: each is told once, when it begins. What a full disk
    did not take is written when there is room, while this process lives.
    `live-bcdi replay` sends a journal again.
    """

    def __init__(self, config: Config) -> None:
        """Raises OSError where the folder cannot be made: say so before a plan starts, not during it."""
        self.folder = config.storage.directory.absolute() / "journal"
        self.folder.mkdir(parents=True, exist_ok=True)
        self._broker = broker_publisher(config)
        self._monitor = _connections(self._broker)
        self._runs: dict[str, str] = {}
        self._troubles: set[str] = set()
        self._claims: dict[str, Claim] = {}
        self._owed: deque[tuple[str, str, dict[str, Any]]] = deque(maxlen=MOST_OWED)

    def __call__(self, name: str, doc: dict[str, Any]) -> None:
        self._watch_broker()
        self._write(name, doc)
        self._send(name, doc)

    def _write(self, name: str, doc: dict[str, Any]) -> None:
        run = journal.run_of(name, doc, self._runs)
        if run is None:
            return
        self._owed.append((run, name, doc))
        self._write_what_is_owed()
        if name == "stop":
            self._runs = {uid: of for uid, of in self._runs.items() if of != run}

    def _write_what_is_owed(self) -> None:
        """In the order in which it was said; what a full disk does not take waits for the next document."""
        while self._owed:
            run, name, doc = self._owed[0]
            try:
                self._keep(run, name, doc)
            except OSError as error:
                where = f"{self.folder / run}.jsonl cannot be written: {error}"
                self._tell("disk", f"documents are sent, and wait in memory to be kept: {where}")
                return
            except ValueError as error:
                self._tell("form", f"a {name} document is sent but cannot be kept: {error}")
            self._owed.popleft()
        self._troubles.discard("disk")

    def _keep(self, run: str, name: str, doc: dict[str, Any]) -> None:
        path = self.folder / f"{run}.jsonl"
        if name == "start" and run not in self._claims:
            with suppress(OSError):  # not every file system has locks; the journal is worth having without
                self._claims[run] = Claim(path)
        journal.append(path, name, doc)
        if name == "stop" and run in self._claims:
            self._claims.pop(run).release()

    def _send(self, name: str, doc: dict[str, Any]) -> None:
        try:
            self._broker(name, doc)
        except (zmq.ZMQError, TypeError, ValueError, OverflowError, msgpack.PackException) as error:
            self._tell("send", f"a {name} document could not be sent: {type(error).__name__}: {error}")

    def _watch_broker(self) -> None:
        """0MQ drops without a word what is sent while nobody is connected."""
        while self._monitor.poll(0):
            event = recv_monitor_message(self._monitor)["event"]
            if event == zmq.EVENT_DISCONNECTED:
                self._tell(
                    "broker",
                    f"the broker at {self._broker.address} is gone; documents are kept in {self.folder}: the"
                    " archiver takes them from there, or `live-bcdi replay` sends them again",
                )
            elif event == zmq.EVENT_HANDSHAKE_SUCCEEDED:
                self._troubles.discard("broker")

    def _tell(self, trouble: str, message: str) -> None:
        if trouble not in self._troubles:
            self._troubles.add(trouble)
            logger.error(message)

    def close(self) -> None:
        """Close the sockets; what was sent is handed over first, as far as the broker takes it."""
        self._write_what_is_owed()
        self._monitor.close(linger=0)
        self._broker.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def broker_publisher(config: Config) -> Publisher:
    """bluesky's own publisher of documents, in the form that our services read, with the keys that they ask for.

    Raises ScanError where the keys cannot be used.
    """
    curve = curve_of(access_of(config.stream))
    publisher = Publisher(config.stream.documents_in, serializer=encode_document, curve_config=curve)
    publisher._socket.setsockopt(zmq.LINGER, LINGER_MS)  # bluesky keeps its socket to itself
    return publisher


def curve_of(access: Access) -> ClientCurve | None:
    """The keys in the form of bluesky's Publisher. Raises ScanError where they cannot be used."""
    if access.keys is None:
        return None
    load_secret(access.keys / "client.key_secret")
    return ClientCurve(access.keys / "client.key_secret", access.keys / "server.key")


def _connections(publisher: Publisher) -> "zmq.Socket[bytes]":
    """Tells when the broker comes and goes."""
    return publisher._socket.get_monitor_socket(zmq.EVENT_DISCONNECTED | zmq.EVENT_HANDSHAKE_SUCCEEDED)

"""The broker: documents and updates from who sends them to who asks. Holds no state, and reads nothing."""

import zmq

from live_bcdi.transport.keys import Access, Socket, access_of
from live_bcdi.transport.zmq import (
    DOCUMENTS_WAITING,
    MAX_ARRAY_BYTES,
    MAX_DOCUMENT_BYTES,
    MAX_SUBSCRIPTION_BYTES,
    UPDATES_WAITING,
    new_socket,
)

from .service import BEAT_S, Service


def run(service: Service) -> None:
    stream, access = service.config.stream, access_of(service.config.stream)
    documents = _ends(stream.documents_in, stream.documents_out, access, MAX_DOCUMENT_BYTES, DOCUMENTS_WAITING)
    documents[0].send(b"\x01")  # all of them, whoever listens: a plan that starts must not wait for subscriptions
    updates = _ends(stream.updates_in, stream.updates_out, access, MAX_ARRAY_BYTES, UPDATES_WAITING)
    for incoming, outgoing in (documents, updates):
        service.thread(zmq.proxy, incoming, outgoing)
    while not service.stopping.wait(BEAT_S / 2):
        service.beat()


def _ends(into: str, out: str, access: Access, largest_bytes: int, waiting: int) -> tuple[Socket, Socket]:
    incoming = new_socket(zmq.XSUB, largest_bytes=largest_bytes, waiting=waiting)
    outgoing = new_socket(zmq.XPUB, largest_bytes=MAX_SUBSCRIPTION_BYTES, waiting=waiting)
    access.bind(incoming, into)
    access.bind(outgoing, out)
    return incoming, outgoing

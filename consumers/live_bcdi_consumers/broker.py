"""The broker: bluesky's 0MQ proxy for documents, and a plain one for updates. Holds no state."""

import zmq
from bluesky.callbacks.zmq import Proxy

from .service import BEAT_S, Service


def run(service: Service) -> None:
    stream = service.config.stream
    documents = Proxy(in_address=stream.documents_in, out_address=stream.documents_out)
    service.thread(documents.start)
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context.instance()
    incoming, outgoing = context.socket(zmq.XSUB), context.socket(zmq.XPUB)
    incoming.bind(stream.updates_in)
    outgoing.bind(stream.updates_out)
    service.thread(lambda: zmq.proxy(incoming, outgoing))
    while not service.stopping.wait(BEAT_S / 2):
        service.beat()

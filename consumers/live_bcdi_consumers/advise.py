"""The service that advises plans which ask for it: frames and documents in, `steering` updates out. No plan needs
it: without advice it goes on as it was written.
"""

import zmq

from live_bcdi.transport.keys import access_of
from live_bcdi.transport.zmq import DocumentSubscriber, FrameSubscriber

from .advising import Advising
from .service import Service

IDLE_MS = 50


def run(service: Service) -> None:
    stream = service.config.stream
    access = access_of(stream)
    documents = DocumentSubscriber(stream.documents_out, access)
    frames = FrameSubscriber(stream.own_frames, access=access)
    poller = zmq.Poller()
    for socket in (documents.socket, frames.socket):
        poller.register(socket, zmq.POLLIN)
    advising = Advising(service.updates, service.notice)
    try:
        while not service.stopping.is_set():
            poller.poll(0 if frames.waiting else IDLE_MS)
            for frame in frames.receive(0):  # before the documents: a stop comes after the frames of its run
                advising.frame(frame)
            if not frames.waiting:
                for name, doc in documents.receive(0):
                    advising.document(name, doc)
            advising.work()
            service.beat(detail=advising.detail)
    finally:
        documents.close()
        frames.close()

"""The live consumer: frames into a growing volume, and an estimate of the crystal while they come.

Intake has the thread to itself; the estimate runs in a process of its own, one at a time, always on the newest
volume. What the stream loses is refilled from the detector's file, at the latest at `stop`.
"""

import math
import time

import zmq

from live_bcdi.transport.keys import access_of
from live_bcdi.transport.zmq import DocumentSubscriber, FrameSubscriber

from .service import Service
from .watch import Watch

LAST_FRAMES_S = 2.0
IDLE_MS = 50
ESTIMATE_MS = 5  # while an estimate is awaited


def run(service: Service) -> None:
    watch = Watch(service)
    try:
        watch_until_stopped(service, watch)
    finally:
        watch.estimator.shutdown()
        watch.between.stop()
        watch.follower.stop()


def watch_until_stopped(service: Service, watch: Watch) -> None:
    """The intake loop."""
    access = access_of(service.config.stream)
    documents = DocumentSubscriber(service.config.stream.documents_out, access)
    frames = FrameSubscriber(service.config.stream.own_frames, access=access)
    poller = zmq.Poller()
    for socket in (documents.socket, frames.socket):
        poller.register(socket, zmq.POLLIN)
    busy = False
    try:
        while not service.stopping.is_set():
            poller.poll(0 if frames.waiting else 1 if busy else _idle_ms(watch))
            for name, doc in documents.receive(0):
                if name == "stop":
                    _take_what_waits(frames, watch)
                watch.document(name, doc)
            _take(frames, watch)  # after the documents: frames must not overtake the start of their run
            busy = watch.work(idle=frames.waiting == 0)
            watch.tell(frames.waiting)
            service.beat(detail=watch.detail)
    finally:
        documents.close()
        frames.close()


def _idle_ms(watch: Watch) -> int:
    """How long to wait for the next frame: no longer than the page has to wait for the last one."""
    return math.ceil(min(1e3 * watch.until_tell_s(), ESTIMATE_MS if watch.is_estimating else IDLE_MS))


def _take(frames: FrameSubscriber, watch: Watch) -> None:
    for frame in frames.receive(0):
        watch.frame(frame)


def _take_what_waits(frames: FrameSubscriber, watch: Watch) -> None:
    """A run's frames were sent before its stop, on another socket; what takes longer is refilled from the file."""
    until_s = time.monotonic() + LAST_FRAMES_S
    waiting = True
    while waiting and time.monotonic() < until_s:
        waiting = False
        for frame in frames.receive(0.02):
            waiting = True
            watch.frame(frame)

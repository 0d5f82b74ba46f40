"""The live service: what the page is told in the end is the whole scan."""

import threading
import time
from contextlib import contextmanager

import numpy as np
import pytest
import zmq

from live_bcdi.stream.fakes import RUN, frames_of, small_scan, start_document
from live_bcdi.transport.zmq import FramePublisher, encode_document
from live_bcdi_consumers import live

SCAN = small_scan(num=20, shape=(16, 18))
SCAN.angles_deg[3] += 0.001  # not where it was planned


@pytest.fixture
def documents(free_port):
    """A publisher where the broker would be."""
    address = f"tcp://127.0.0.1:{free_port()}"
    with zmq.Context() as context, context.socket(zmq.XPUB) as socket:
        socket.bind(address)
        yield address, socket


def until(condition, timeout_s=20.0):
    end = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end, "it took too long"
        time.sleep(0.02)


@contextmanager
def ours(address):
    publisher = FramePublisher(address)
    assert publisher.wait_for_subscriber(20.0)
    yield publisher.send
    publisher.close()


def test_a_detector_gives_a_whole_scan(service, documents, free_address):
    address, socket = documents
    stream = {"documents_out": address, "frames": free_address}
    service.config = service.config.changed(stream=stream, live={"edge_voxels": 16})
    thread = threading.Thread(target=live.run, args=(service,))
    thread.start()

    def send(name, doc):
        socket.send(b" ".join([b"", name.encode(), encode_document(doc)]))

    def told(topic):
        return [update for update in service.updates.sent if update.topic == topic]

    try:
        assert socket.poll(20_000), "the service did not subscribe"
        with ours(free_address) as expose:
            send("start", start_document(SCAN))
            keys = {"theta": {"dtype": "number", "shape": []}}
            send("descriptor", {"uid": "d", "run_start": RUN, "name": "primary", "data_keys": keys})
            for number, frame in enumerate(frames_of(SCAN), start=1):
                expose(frame)
                data = {"data": {"theta": frame.angle_deg}, "timestamps": {"theta": 0.0}}
                send("event", {"uid": str(number), "descriptor": "d", "seq_num": number, **data})
            send("stop", {"uid": "s", "run_start": RUN, "exit_status": "success"})
            until(lambda: any(update.fields["state"] == "stopped" for update in told("run")))
    finally:
        service.stopping.set()
        thread.join()
    last = told("live")[-1]
    assert last.fields["missing"] == 0
    np.testing.assert_array_equal(last.arrays["angles_deg"], SCAN.angles_deg)
    np.testing.assert_array_equal(last.arrays["totals"], SCAN.intensity.sum(axis=(1, 2)))
    assert told("notice") == []

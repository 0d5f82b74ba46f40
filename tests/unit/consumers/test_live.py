"""The live service with a DECTRIS detector: what the page is told in the end is the whole scan."""

import threading
import time

import numpy as np
import pytest
import zmq

from live_bcdi.sim.stream2 import SimulatedEiger
from live_bcdi.stream.fakes import RUN, small_scan, start_document
from live_bcdi.transport.zmq import encode_document
from live_bcdi_consumers import live

SCAN = small_scan(num=20, shape=(16, 18))


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


def test_a_stream2_detector_gives_a_whole_scan(service, documents, free_address):
    address, socket = documents
    changed = service.config.changed(
        stream={"documents_out": address, "frames": free_address, "source": "stream2"}, live={"edge_voxels": 16}
    )
    service.config = changed
    thread = threading.Thread(target=live.run, args=(service,))
    thread.start()

    def send(name, doc):
        socket.send(b" ".join([b"", name.encode(), encode_document(doc)]))

    def told(topic):
        return [update for update in service.updates.sent if update.topic == topic]

    try:
        assert socket.poll(20_000), "the service did not subscribe"
        with SimulatedEiger(free_address) as detector:
            detector.arm(len(SCAN.intensity), SCAN.intensity.shape[1:])
            send("start", start_document(SCAN))
            keys = {"theta": {"dtype": "number", "shape": []}}
            send("descriptor", {"uid": "d", "run_start": RUN, "name": "primary", "data_keys": keys})
            for number, image in enumerate(SCAN.intensity, start=1):
                detector.send(detector.image_message({"threshold_1": image.astype("<u4")}))
                data = {"data": {"theta": 0.001 * number}, "timestamps": {"theta": 0.0}}
                send("event", {"uid": str(number), "descriptor": "d", "seq_num": number, **data})
            send("stop", {"uid": "s", "run_start": RUN, "exit_status": "success"})
            until(lambda: any(update.fields["state"] == "stopped" for update in told("run")))
    finally:
        service.stopping.set()
        thread.join()
    last = told("live")[-1]
    assert last.fields["missing"] == 0
    np.testing.assert_allclose(last.arrays["angles_deg"], 0.001 * np.arange(1, 21), rtol=1e-15)
    np.testing.assert_array_equal(last.arrays["totals"], SCAN.intensity.sum(axis=(1, 2)))
    assert told("notice") == []

"""The live service killed in the middle of a run, and frames that never come: its last word is the whole scan."""

import os
import signal
import time
from contextlib import closing, contextmanager

import numpy as np
import pytest
import zmq

from live_bcdi.config import load_config
from live_bcdi.metadata import scan_metadata
from live_bcdi.stream.fakes import RUN, frames_of, small_scan, start_document
from live_bcdi.supervisor import Supervisor
from live_bcdi.transport.hdf5 import DATA_PATH, FrameWriter
from live_bcdi.transport.zmq import FramePublisher, encode_document

NUM = 45
SCAN = small_scan(num=NUM, shape=(40, 44))
DROPPED = (5, 11)
DEAD_FROM, DEAD_TO = 15, 30  # frames that are sent while nobody listens


@contextmanager
def documents(address):
    """A function that sends a document to the broker, which listens by then."""
    with zmq.Context() as context, context.socket(zmq.XPUB) as socket:
        socket.connect(address)
        assert socket.poll(20_000), "the broker did not listen"
        yield lambda name, **doc: socket.send(b" ".join([b"", name.encode(), encode_document(doc)]))


def watched(system, wanted, seconds=60.0):
    """The first update that is `wanted`."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        for update in system.watch(0.1):
            if wanted(update):
                return update
    pytest.fail("it was not said in time")


def is_another(update, pid):
    return update.topic == "health" and update.fields["state"] == "ready" and update.fields["pid"] != pid


def test_a_live_service_killed_at_mid_scan_ends_with_every_frame(tmp_path, make_config):
    config = make_config(tmp_path)
    stream = load_config(config).stream
    path = tmp_path / "frames.h5"
    with (
        Supervisor(config) as system,
        documents(stream.documents_in) as say,
        closing(FramePublisher(stream.frames)) as detector,
        FrameWriter(path, SCAN.intensity.shape[1:], SCAN.intensity.dtype, metadata=scan_metadata(SCAN)) as file,
    ):

        def expose(frames, unsent=()):
            for frame in frames:
                readings = {key: getattr(frame, key) for key in ("angle_deg", "monitor", "timestamp_s")}
                file.append(frame.image, **readings)
                if frame.index not in unsent:
                    detector.send(frame)

        frames = frames_of(SCAN)
        assert detector.wait_for_subscriber(20.0)
        say("start", **start_document(SCAN))
        parameters = {"uri": f"file://localhost{path}", "parameters": {"dataset": DATA_PATH}}
        say("stream_resource", uid="r", run_start=RUN, data_key="x", mimetype="application/x-hdf5", **parameters)
        watched(system, lambda update: update.topic == "run" and update.fields["state"] == "started")
        expose(frames[:DEAD_FROM], unsent=DROPPED)
        before = watched(system, lambda update: update.topic == "live" and update.fields["count"] == DEAD_FROM)
        assert (before.fields["refilled"], before.fields["lost"]) == (len(DROPPED), len(DROPPED))

        killed = system.pids()["live"]
        os.kill(killed, signal.SIGKILL)
        expose(frames[DEAD_FROM:DEAD_TO])
        watched(system, lambda update: update.fields.get("service") == "live" and is_another(update, killed))
        for frame in frames[DEAD_TO:-1]:  # the first of them may come before it has subscribed
            expose([frame])
            said = list(system.watch(0.1))
            if any(update.topic == "run" and update.run == RUN for update in said):
                break
        else:
            watched(system, lambda update: update.topic == "run" and update.run == RUN)
        expose(frames[file.count :])
        say("stop", uid="s", run_start=RUN, time=0.0, exit_status="success")
        told = []
        watched(system, lambda update: told.append(update) or update.fields.get("state") == "stopped")
    last = [update for update in told if update.topic == "live"][-1]
    assert last.fields["missing"] == 0
    assert last.fields["refilled"] >= DEAD_TO
    assert last.fields["received"] + last.fields["refilled"] == NUM
    np.testing.assert_array_equal(last.arrays["totals"], SCAN.intensity.sum(axis=(1, 2)))
    np.testing.assert_array_equal(last.arrays["angles_deg"], SCAN.angles_deg)

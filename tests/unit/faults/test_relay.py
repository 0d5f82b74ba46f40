"""The relay passes everything on in order, and when it is bad it does not."""

import zmq

from live_bcdi.faults.relay import Relay


def through(relay_bad, free_port, count=400):
    detector, services = (f"tcp://127.0.0.1:{free_port()}" for _ in range(2))
    with zmq.Context() as context, context.socket(zmq.XPUB) as camera, context.socket(zmq.SUB) as view:
        camera.sndhwm = view.rcvhwm = 0
        camera.linger = 0
        camera.bind(detector)
        with Relay(detector, services, seed=1) as relay:
            view.subscribe(b"")
            view.connect(services)
            assert camera.poll(5000), "the relay subscribes"
            camera.recv()
            while not view.poll(20):
                camera.send(b"begin")  # until the view's subscription is known
            relay.bad = relay_bad
            for index in range(count):
                camera.send(str(index).encode())
            came = []
            while view.poll(1000):
                came.append(view.recv())
    return [int(message) for message in came if message != b"begin"]


def test_frames_come_as_they_were_sent(free_port):
    assert through(False, free_port) == list(range(400))


def test_a_bad_network_loses_repeats_and_reorders(free_port):
    came = through(True, free_port)
    assert len(set(came)) < 400
    assert len(came) > len(set(came))
    assert came != sorted(came)
    assert set(came) <= set(range(400))

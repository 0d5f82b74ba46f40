"""A bad network between the detector and the live view: frames lost, twice, out of order."""

import random
import threading

import zmq

LOST, TWICE, LATE = 0.25, 0.15, 0.15


class Relay:
    """Passes frames on, in a thread, faithfully until `bad` is set. Use as a context manager."""

    def __init__(self, detector: str, services: str, seed: int) -> None:
        self.bad = False
        self.passed, self.dropped, self.repeated, self.delayed = 0, 0, 0, 0
        self._addresses = (detector, services)
        self._random = random.Random(seed)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> "Relay":
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        with zmq.Context() as context, context.socket(zmq.SUB) as incoming, context.socket(zmq.PUB) as outgoing:
            incoming.subscribe(b"")
            incoming.connect(self._addresses[0])
            outgoing.bind(self._addresses[1])
            outgoing.linger = incoming.linger = 0
            held: list[list[bytes]] = []
            while not self._over.is_set():
                messages = [incoming.recv_multipart()] if incoming.poll(50) else []
                if messages and self.bad:
                    messages, held = self._spoil(messages[0], held)
                elif held:
                    messages, held = messages + held, []
                for message in messages:
                    outgoing.send_multipart(message)
                    self.passed += 1

    def _spoil(self, message: list[bytes], held: list[list[bytes]]) -> tuple[list[list[bytes]], list[list[bytes]]]:
        """What goes on now, and what waits for the next frame."""
        luck = self._random.random()
        if luck < LOST:
            self.dropped += 1
            return held, []
        if luck < LOST + TWICE:
            self.repeated += 1
            return [message, *held, message], []
        if luck < LOST + TWICE + LATE:
            self.delayed += 1
            return held, [message]
        return [message, *held], []

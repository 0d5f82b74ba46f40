"""A page on a real server."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import pytest

from live_bcdi.dashboard import Hub, page_server
from live_bcdi.dashboard.history import History

Serve = Callable[..., AbstractContextManager[tuple[str, int]]]


@pytest.fixture
def hub() -> Hub:
    return Hub()


@pytest.fixture
def serve() -> Serve:
    """`with serve(hub, key=...) as (host, port)`: the page on uvicorn, which must end by itself whoever is
    connected."""

    @contextmanager
    def served(
        hub: Hub, port: int = 0, key: str | None = None, history: History | None = None
    ) -> Iterator[tuple[str, int]]:
        listener = socket.create_server(("127.0.0.1", port))
        port = listener.getsockname()[1]
        server = page_server(hub, title="test beamline", port=port, key=key, history=history)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        deadline_s = time.monotonic() + 20
        while not server.started and time.monotonic() < deadline_s:
            time.sleep(0.01)
        assert server.started
        try:
            yield "127.0.0.1", port
        finally:
            server.should_exit = True
            thread.join(timeout=20)
            assert not thread.is_alive(), "the server did not end"

    return served


@pytest.fixture
def address(hub: Hub, serve: Serve) -> Iterator[tuple[str, int]]:
    """Host and port of `hub`'s page."""
    with serve(hub) as place:
        yield place

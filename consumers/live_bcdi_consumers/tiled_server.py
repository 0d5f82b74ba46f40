"""Tiled on loopback, for those who have no server of their own: SQLite catalogue, one API key."""

from contextlib import redirect_stderr
from io import StringIO

import uvicorn
from tiled.catalog import from_uri
from tiled.commandline._catalog import init
from tiled.config import Authentication
from tiled.server.app import build_app

from live_bcdi.transport.tiled import make_api_key

from .service import BEAT_S, Service


def run(service: Service) -> None:
    folder = service.folder("tiled")
    data = service.folder("tiled/data")
    # `tiled catalog init`, here: `init_if_not_exists` runs it in a process of its own, 3 s at every start
    with redirect_stderr(StringIO()):  # what it says is for who types the command
        init(str(folder / "catalog.db"), if_not_exists=True)
    catalog = from_uri(
        str(folder / "catalog.db"),
        writable_storage=[str(data), f"sqlite:///{folder / 'tables.db'}"],
        readable_storage=[str(service.folder("frames"))],
    )
    app = build_app(catalog, authentication=Authentication(single_user_api_key=make_api_key(service.config)))
    server = uvicorn.Server(
        uvicorn.Config(app, host="127.0.0.1", port=service.config.tiled.port, log_level="warning")
    )
    beat = service.thread(_beat, service, server)
    server.run()
    service.stopping.set()
    beat.join(timeout=2)


def _beat(service: Service, server: uvicorn.Server) -> None:
    while not service.stopping.wait(BEAT_S / 2):
        if server.started:
            service.beat(detail=f"http://127.0.0.1:{service.config.tiled.port}")
    server.should_exit = True

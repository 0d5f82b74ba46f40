"""Tiled on loopback, for those who have no server of their own: SQLite catalogue, one API key."""

import uvicorn
from tiled.catalog import from_uri
from tiled.config import Authentication
from tiled.server.app import build_app

from live_bcdi.transport.tiled import make_api_key

from .service import BEAT_S, Service


def run(service: Service) -> None:
    folder = service.folder("tiled")
    data = service.folder("tiled/data")
    catalog = from_uri(
        str(folder / "catalog.db"),
        writable_storage=[str(data), f"sqlite:///{folder / 'tables.db'}"],
        readable_storage=[str(service.folder("frames"))],
        init_if_not_exists=True,
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

"""The page: updates from the broker to whoever has a browser open."""

import uvicorn

from live_bcdi.dashboard import Hub, page_key, page_server
from live_bcdi.transport.keys import access_of
from live_bcdi.transport.zmq import UpdateSubscriber
from live_bcdi.types import ScanError

from .history import TiledHistory
from .service import BEAT_S, Service


def run(service: Service) -> None:
    page = service.config.page
    hub = Hub()
    key = page_key(service.config)
    history = TiledHistory(service.config)
    server = page_server(
        hub, title=service.config.beamline, host=page.host, port=page.port, key=key, history=history
    )
    feed = service.thread(_feed, service, hub, server)
    server.run()
    service.stopping.set()
    feed.join(timeout=2)


def _feed(service: Service, hub: Hub, server: uvicorn.Server) -> None:
    updates = UpdateSubscriber(service.config.stream.updates_out, access=access_of(service.config.stream))
    while not service.stopping.is_set():
        for update in updates.receive(BEAT_S / 2):
            try:
                hub.publish(update)
            except ScanError as error:
                service.log.warning("an update was not shown: %s", error)
        if server.started:
            service.beat(detail=f"http://{service.config.page.host}:{service.config.page.port}")
    server.should_exit = True

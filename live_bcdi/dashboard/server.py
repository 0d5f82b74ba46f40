"""The live page over HTTP: files, a websocket, `/health`, `/metrics`, `/history`. Nothing that it serves asks
another host."""

import asyncio
import contextlib
from collections.abc import Collection, Coroutine
from pathlib import Path
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.staticfiles import StaticFiles
from starlette.websockets import WebSocket, WebSocketDisconnect
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from ..stream.updates import Update
from ..types import ScanError
from .access import LOOPBACK, Guard, is_loopback
from .history import History, history_routes
from .hub import Hub, Mailbox
from .wire import encode

STATIC = Path(__file__).parent / "static"
TICK_S = 1.0  # the page calls the connection lost when it hears nothing for some of these
SHUTDOWN_S = 2  # a browser that reads nothing would hold the server for ever
PING_S = 20.0
MAX_BROWSERS = 64
MAX_CONNECTIONS = 256


def create_app(
    hub: Hub,
    *,
    title: str,
    hosts: Collection[str] = LOOPBACK,
    key: str | None = None,
    history: History | None = None,
) -> Starlette:
    """The page's application. `hosts` are the names under which a browser may ask for it ("*" is any), and `key`
    is what it must know, if anything; `history` reads earlier runs, where they can be read.

    A name that is not listed is refused, since a foreign site can point a name of its own at this address.
    """

    async def health(_request: Request) -> JSONResponse:
        return JSONResponse(hub.health())

    async def metrics(request: Request) -> Response:
        text, content_type = hub.metrics.expose(request.headers.get("accept", ""))
        return Response(text, headers={"Content-Type": content_type})

    async def socket(websocket: WebSocket) -> None:
        await websocket.accept()
        if hub.browsers >= MAX_BROWSERS:
            await websocket.close(code=1013, reason="too many browsers")
            return
        with hub.mailbox() as mailbox:
            await _until_either_ends(_send(websocket, mailbox, hub, title), _listen(websocket))

    return Starlette(
        routes=[
            Route("/health", health),
            Route("/metrics", metrics),
            WebSocketRoute("/ws", socket),
            *([] if history is None else history_routes(history, clock_s=hub.clock_s)),
            Mount("/", StaticFiles(directory=STATIC, html=True)),
        ],
        middleware=[
            Middleware(TrustedHostMiddleware, allowed_hosts=list(hosts), www_redirect=False),
            Middleware(Guard, key=key),
        ],
    )


class _Protocol(WebSocketsSansIOProtocol):
    def keepalive_timeout(self) -> None:
        """Drop who does not answer at once: closing in order would wait for it to read what it was sent."""
        super().keepalive_timeout()
        self.transport.abort()


def page_server(
    hub: Hub,
    *,
    title: str,
    host: str = "127.0.0.1",
    port: int = 5583,
    key: str | None = None,
    history: History | None = None,
) -> uvicorn.Server:
    """The application on uvicorn, set for live frames: deflate costs more time than it saves on loopback.

    Raises ScanError for a page that others could reach and that has no key.
    """
    if key is None and not is_loopback(host):
        raise ScanError(f"a page at {host} can be seen by others and needs a key")
    hosts = (*LOOPBACK, host) if is_loopback(host) else ("*",)  # elsewhere a foreign name has no cookie
    return uvicorn.Server(
        uvicorn.Config(
            create_app(hub, title=title, hosts=hosts, key=key, history=history),
            host=host,
            port=port,
            log_config=None,  # its loggers go where the service sends all others
            log_level="warning",
            access_log=False,  # a request may hold the key
            server_header=False,
            limit_concurrency=MAX_CONNECTIONS,
            ws_per_message_deflate=False,
            ws=_Protocol,
            ws_max_size=4096,  # browsers have nothing to tell us
            ws_ping_interval=PING_S,
            ws_ping_timeout=PING_S,
            timeout_graceful_shutdown=SHUTDOWN_S,
        )
    )


async def _send(websocket: WebSocket, mailbox: Mailbox, hub: Hub, title: str) -> None:
    """What is new, and once a second the server's clock, by which the page tells ages and a lost connection."""
    loop = asyncio.get_running_loop()
    next_tick_s = loop.time()
    while True:
        wait_s = next_tick_s - loop.time()
        if wait_s <= 0:
            now_s = hub.clock_s()
            tick = Update(topic="tick", fields={"title": title, "time_s": now_s})
            await websocket.send_bytes(encode(tick, published_s=now_s))
            next_tick_s = loop.time() + TICK_S
        elif (message := await mailbox.take(wait_s)) is not None:
            await websocket.send_bytes(message)


async def _listen(websocket: WebSocket) -> None:
    """Returns when the browser leaves, or says anything: it has nothing to tell us."""
    if (await websocket.receive())["type"] != "websocket.disconnect":
        await websocket.close(code=1008, reason="the page takes no messages")


async def _until_either_ends(*coroutines: Coroutine[Any, Any, None]) -> None:
    tasks = [asyncio.ensure_future(coroutine) for coroutine in coroutines]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        with contextlib.suppress(WebSocketDisconnect):
            for task in done:
                task.result()
    finally:
        for task in tasks:
            task.cancel()

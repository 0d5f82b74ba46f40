"""The live page over HTTP: static files, one websocket, `/health`. Nothing that it serves asks another host."""

import asyncio
import contextlib
from collections.abc import Collection, Coroutine
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import uvicorn
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import HTTPConnection, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.staticfiles import StaticFiles
from starlette.types import Scope
from starlette.websockets import WebSocket, WebSocketDisconnect

from ..stream.updates import Update
from .hub import Hub, Mailbox
from .wire import encode

STATIC = Path(__file__).parent / "static"
LOOPBACK = ("127.0.0.1", "localhost", "::1", "[::1]")
TICK_S = 1.0  # the page calls the connection lost when it hears nothing for some of these
SHUTDOWN_S = 2  # a browser that reads nothing would hold the server for ever
HEADERS = {
    "Content-Security-Policy": "default-src 'self'; img-src 'self' data:; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",  # always asked for again, so that an upgrade shows; unchanged files cost a 304
}


class _PageFiles(StaticFiles):
    async def get_response(self, path: str, scope: Scope) -> Response:
        response = await super().get_response(path, scope)
        response.headers.update(HEADERS)
        return response


def create_app(hub: Hub, *, title: str, hosts: Collection[str] = LOOPBACK) -> Starlette:
    """The page's application. `hosts` are the names under which a browser may ask for it ("*" is any).

    A name that is not listed is refused, since a foreign site can point a name of its own at this address;
    a websocket is refused where its Origin is not the page's own.
    """

    async def health(_request: Request) -> JSONResponse:
        return JSONResponse(hub.health())

    async def socket(websocket: WebSocket) -> None:
        if not same_origin(websocket):
            await websocket.close(code=1008)
            return
        await websocket.accept()
        with hub.mailbox() as mailbox:
            await _until_either_ends(_send(websocket, mailbox, hub, title), _listen(websocket))

    return Starlette(
        routes=[
            Route("/health", health),
            WebSocketRoute("/ws", socket),
            Mount("/", _PageFiles(directory=STATIC, html=True)),
        ],
        middleware=[Middleware(TrustedHostMiddleware, allowed_hosts=list(hosts), www_redirect=False)],
    )


def page_server(hub: Hub, *, title: str, host: str = "127.0.0.1", port: int = 5583) -> uvicorn.Server:
    """The application on uvicorn, set for live frames: deflate costs more time than it saves on loopback."""
    hosts = LOOPBACK if host in LOOPBACK else ("*",)
    return uvicorn.Server(
        uvicorn.Config(
            create_app(hub, title=title, hosts=hosts),
            host=host,
            port=port,
            log_config=None,  # its loggers go where the service sends all others
            log_level="warning",
            ws_per_message_deflate=False,
            ws_max_size=4096,  # browsers have nothing to tell us
            timeout_graceful_shutdown=SHUTDOWN_S,
        )
    )


def same_origin(connection: HTTPConnection) -> bool:
    """Whether the request comes from our own page, or from no page at all (a program sends no Origin)."""
    origin = connection.headers.get("origin")
    if origin is None:
        return True
    return urlsplit(origin).netloc.lower() == connection.headers.get("host", "").lower() != ""


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
    while (await websocket.receive())["type"] != "websocket.disconnect":
        pass


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

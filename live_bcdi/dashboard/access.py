"""Who may look at the page: on loopback everybody on this machine, beyond it whoever has the key.

A browser is given the key once, as `/?key=KEY`, and keeps a cookie that is made from it; a program sends it as
`Authorization: Bearer KEY`. Neither the log nor a link to elsewhere ever holds it.
"""

import hmac
import ipaddress
import os
import socket
from html import escape
from pathlib import Path
from urllib.parse import urlsplit

from starlette.datastructures import MutableHeaders
from starlette.requests import HTTPConnection
from starlette.responses import HTMLResponse, PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocket

from ..config import Config
from ..private import private_key
from ..types import ScanError

KEY_FILE = "page/key"
LOOPBACK = ("127.0.0.1", "localhost", "::1")
SHORTEST = 16  # characters of a key that someone chose
COOKIE_S = 30 * 86400  # a screen on the wall is started again now and then
HEADERS = {
    "Content-Security-Policy": "default-src 'self'; img-src 'self' data:; "
    "base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}
NEEDED = (
    "It is in the file page/key of the storage folder, on the computer that runs "
    "live-bcdi, or in the environment variable that [page] key_env names."
)
FORM = """<!doctype html><html lang="en"><meta name="color-scheme" content="dark light"><title>live_bcdi</title>
<h1>{heading}</h1><p>{text}</p>
<form action="./"><label>Key <input name="key" type="password" autofocus></label> <button>Open</button></form>
<p>Did a link bring you here, and has this browser had the key before? <a href="">Go on</a>.</p>"""
# The link there goes on likewise: after one in somebody's mail the cookie comes with the second request only.
# A page of our own that goes on, and not a redirect: after a link in somebody's mail, which is another site, a
# browser would not send a SameSite=Strict cookie along with a redirect.
LET_IN = """<!doctype html><html lang="en"><meta name="color-scheme" content="dark light"><title>live_bcdi</title>
<meta http-equiv="refresh" content="0;url=./"><p><a href="./">The live page</a></p>"""


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach what listens at `host`."""
    try:
        return host in LOOPBACK or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def page_key(config: Config) -> str | None:
    """The key of the page; None where it needs none. One is made under the storage folder for a page that others
    can reach. Raises ScanError where it cannot be read, or the variable that should hold it does not."""
    variable = config.page.key_env
    if variable is None:
        return None if is_loopback(config.page.host) else private_key(_key_file(config))
    key = os.environ.get(variable, "").strip()
    if len(key) < SHORTEST:
        raise ScanError(
            f"[page] key_env: ${variable} must hold the page's key, of {SHORTEST} characters or more; "
            "`openssl rand -hex 32` makes one"
        )
    return key


def page_address(config: Config) -> str:
    """Where a person opens the page, and where its key is, never what it is."""
    page = config.page
    wild = page.host in ("0.0.0.0", "::", "")
    host = socket.gethostname() if wild else f"[{page.host}]" if ":" in page.host else page.host
    address = f"http://{host}:{page.port}"
    if page.key_env is not None:
        return f"{address}/?key=KEY, the key being that in ${page.key_env}"
    return address if is_loopback(page.host) else f"{address}/?key=KEY, the key being that in {_key_file(config)}"


def _key_file(config: Config) -> Path:
    return config.storage.directory.absolute() / KEY_FILE


def same_origin(connection: HTTPConnection) -> bool:
    """Whether the request comes from our own page, or from no page at all (a program sends no Origin)."""
    origin = connection.headers.get("origin")
    if origin is None:
        return True
    return urlsplit(origin).netloc.lower() == connection.headers.get("host", "").lower() != ""


class Guard:
    """Refuses requests of other sites and, where there is a `key`, of who does not have it; ASGI middleware."""

    def __init__(self, app: ASGIApp, key: str | None) -> None:
        self._app = app
        self._key = key
        # a cookie goes to every port of the host: each page has its own, and none has the key itself
        self._cookie = f"live_bcdi_{_derived(key, 'name')[:8]}" if key else ""
        self._token = _derived(key, "token") if key else ""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        connection = HTTPConnection(scope)
        refusal = self._refusal(connection)
        if scope["type"] == "http":
            await (refusal or self._app)(scope, receive, _with_headers(send))
        elif refusal is None:
            await self._app(scope, receive, send)
        else:
            await WebSocket(scope, receive, send).close(code=1008)

    def _refusal(self, connection: HTTPConnection) -> Response | None:
        """What is answered in place of the page; None for who may see it."""
        if not same_origin(connection):
            return PlainTextResponse("The page answers no other site.", status_code=403)
        if self._key is None:
            return None
        given = connection.query_params.get("key") if connection.url.path == "/" else None
        if given is not None:
            return self._let_in(connection) if _equal(given, self._key) else _unauthorised(connection, wrong=True)
        scheme, _, bearer = connection.headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer":
            return None if _equal(bearer.strip(), self._key) else _unauthorised(connection, wrong=True)
        cookie = connection.cookies.get(self._cookie, "")
        return None if _equal(cookie, self._token) else _unauthorised(connection, wrong=False)

    def _let_in(self, connection: HTTPConnection) -> Response:
        response = HTMLResponse(LET_IN, headers={"Cache-Control": "no-store"})
        secure = connection.url.scheme == "https"
        response.set_cookie(
            self._cookie, self._token, max_age=COOKIE_S, httponly=True, samesite="strict", secure=secure
        )
        return response


def _derived(key: str, purpose: str) -> str:
    return hmac.new(key.encode(), purpose.encode(), "sha256").hexdigest()


def _equal(one: str, other: str) -> bool:
    return hmac.compare_digest(one.encode(), other.encode())


def _unauthorised(connection: HTTPConnection, *, wrong: bool) -> Response:
    headers = {"WWW-Authenticate": "Bearer", "Cache-Control": "no-store"}
    heading = "The key is wrong." if wrong else "The page has a key."
    if "text/html" in connection.headers.get("accept", ""):
        return HTMLResponse(FORM.format(heading=heading, text=escape(NEEDED)), 401, headers)
    text = f"{heading} {NEEDED} Send it as `Authorization: Bearer KEY`.\n"
    return PlainTextResponse(text, 401, headers)


def _with_headers(send: Send) -> Send:
    async def with_headers(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            headers.update(HEADERS)
            headers.setdefault("Cache-Control", "no-cache")  # an upgrade shows; unchanged files cost a 304
        await send(message)

    return with_headers

"""Earlier runs over HTTP: a list, a result, what changed between two. Whoever reads them does so in a thread, so
that an archive that answers late, or never, holds up neither the live page nor other browsers."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

import anyio
import anyio.to_thread
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Route

from ..stream.updates import Update
from ..types import ScanError
from .wire import encode

PAGE = Path(__file__).parent / "static" / "history.html"
ANSWER_S = 30.0
AT_ONCE = 3  # each may hold two results in memory
ROWS = 20


class History(Protocol):
    """Earlier runs. Blocking; called from several threads. Raises ScanError with a sentence for the browser."""

    def runs(self, *, skip: int, count: int, text: str) -> Mapping[str, Any]: ...

    def result(self, place: str) -> Update: ...

    def difference(self, first: str, second: str) -> Update: ...


def history_routes(history: History, *, clock_s: Callable[[], float], answer_s: float = ANSWER_S) -> list[Route]:
    """`/history` and what it asks for; an answer that takes longer than `answer_s` is given up."""
    desk = _Desk(history, clock_s, answer_s)
    return [
        Route("/history", desk.page),
        Route("/history/runs", desk.runs),
        Route("/history/result", desk.result),
        Route("/history/difference", desk.difference),
    ]


class _Desk:
    """Asks in a thread, and turns what comes into what a browser reads."""

    def __init__(self, history: History, clock_s: Callable[[], float], answer_s: float) -> None:
        self._history, self._clock_s, self._answer_s = history, clock_s, answer_s
        self._slots = anyio.CapacityLimiter(AT_ONCE)

    async def page(self, _request: Request) -> Response:
        return FileResponse(PAGE)

    async def runs(self, request: Request) -> Response:
        asked = request.query_params
        skip = asked.get("skip", "")
        known = int(skip) if skip.isascii() and skip.isdigit() and len(skip) < 8 else 0
        text = asked.get("text", "").strip()
        return await self._answer(lambda: JSONResponse(self._history.runs(skip=known, count=ROWS, text=text)))

    async def result(self, request: Request) -> Response:
        place = request.query_params.get("place", "")
        return await self._answer(lambda: self._message(self._history.result(place)))

    async def difference(self, request: Request) -> Response:
        first, second = (request.query_params.get(name, "") for name in "ab")
        return await self._answer(lambda: self._message(self._history.difference(first, second)))

    def _message(self, update: Update) -> Response:
        return Response(encode(update, published_s=self._clock_s()), media_type="application/octet-stream")

    async def _answer(self, work: Callable[[], Response]) -> Response:
        try:
            with anyio.fail_after(self._answer_s):
                # who waits no longer leaves the thread behind: it ends when Tiled's client gives up
                return await anyio.to_thread.run_sync(work, abandon_on_cancel=True, limiter=self._slots)
        except TimeoutError:
            error = f"Tiled does not answer: nothing came within {self._answer_s:g} s"
        except ScanError as refusal:
            error = str(refusal)
        return JSONResponse({"error": error}, 422)

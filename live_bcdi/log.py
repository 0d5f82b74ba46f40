"""Logs: one JSON object a line in `<storage>/log/<service>.jsonl`, the same in plain words on stderr."""

import json
import logging
import sys
import time
from collections.abc import MutableMapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from .metadata import plain
from .types import ScanError


class JsonLines(logging.Formatter):
    """`{"time", "level", "service", "run", "logger", "message"}`; `run` where the record has one.

    A record of `logger.info(message, extra={"fields": {...}})` has those beside, for who reads logs by program;
    they never take the place of the above.
    """

    def __init__(self, service: str) -> None:
        super().__init__()
        self._service = service

    def format(self, record: logging.LogRecord) -> str:
        table = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{record.msecs:03.0f}Z",
            "level": record.levelname,
            "service": self._service,
            "logger": record.name,
            "message": record.getMessage(),
        }
        if run := getattr(record, "run", ""):
            table["run"] = run
        if record.exc_info:
            table["exception"] = self.formatException(record.exc_info)
        fields = dict(plain(getattr(record, "fields", {})))
        return json.dumps({**table, **{key: value for key, value in fields.items() if key not in table}})


class _LogFile(logging.FileHandler):
    """On a full disk lines are missing, and nothing else happens: they are on stderr too."""

    def handleError(self, record: logging.LogRecord) -> None:
        if not isinstance(sys.exc_info()[1], OSError):
            super().handleError(record)

    def close(self) -> None:
        with suppress(OSError):
            super().close()


def configure(service: str, directory: Path, level: str = "INFO", *, stderr: bool = True) -> None:
    """Send this process's log to `directory`/log/`service`.jsonl, and to stderr unless told not to.

    Raises ScanError where no file can be made there.
    """
    folder = directory / "log"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        to_file = _LogFile(folder / f"{service}.jsonl", encoding="utf-8")
    except OSError as error:
        raise ScanError(
            f"no log can be written in {folder} ({error.strerror}): make that possible, or choose another folder"
            " ([storage] directory)"
        ) from None
    to_file.setFormatter(JsonLines(service))
    handlers: list[logging.Handler] = [to_file]
    if stderr:
        to_screen = logging.StreamHandler(sys.stderr)
        to_screen.setFormatter(logging.Formatter(f"%(asctime)s {service}: %(message)s", "%H:%M:%S"))
        handlers.append(to_screen)
    logging.basicConfig(level=level, handlers=handlers, force=True)
    for noisy in ("httpx", "httpcore", "tiled", "alembic", "uvicorn.access", "asyncio", "numba", "distributed"):
        logging.getLogger(noisy).setLevel("WARNING")


class _AboutRun(logging.LoggerAdapter[logging.Logger]):
    def process(
        self, msg: Any, kwargs: MutableMapping[str, Any]
    ) -> tuple[Any, MutableMapping[str, Any]]:  # the library's own drops what the call has in `extra`
        return msg, {**kwargs, "extra": {**(kwargs.get("extra") or {}), **(self.extra or {})}}


def about_run(name: str, run: str) -> logging.LoggerAdapter[logging.Logger]:
    """A logger whose records carry the scan's uid."""
    return _AboutRun(logging.getLogger(name), {"run": run})

"""Logs: one JSON object a line in `<storage>/log/<service>.jsonl`, the same in plain words on stderr."""

import json
import logging
import sys
import time
from pathlib import Path


class JsonLines(logging.Formatter):
    """`{"time", "level", "service", "run", "logger", "message"}`; `run` where the record has one."""

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
        return json.dumps(table)


def configure(service: str, directory: Path, level: str = "INFO", *, stderr: bool = True) -> None:
    """Send this process's log to `directory`/log/`service`.jsonl, and to stderr unless told not to."""
    folder = directory / "log"
    folder.mkdir(parents=True, exist_ok=True)
    to_file = logging.FileHandler(folder / f"{service}.jsonl", encoding="utf-8")
    to_file.setFormatter(JsonLines(service))
    handlers: list[logging.Handler] = [to_file]
    if stderr:
        to_screen = logging.StreamHandler(sys.stderr)
        to_screen.setFormatter(logging.Formatter(f"%(asctime)s {service}: %(message)s", "%H:%M:%S"))
        handlers.append(to_screen)
    logging.basicConfig(level=level, handlers=handlers, force=True)
    for noisy in ("httpx", "httpcore", "tiled", "alembic", "uvicorn.access", "asyncio", "numba"):
        logging.getLogger(noisy).setLevel("WARNING")


def about_run(name: str, run: str) -> logging.LoggerAdapter[logging.Logger]:
    """A logger whose records carry the scan's uid."""
    return logging.LoggerAdapter(logging.getLogger(name), {"run": run})

"""EPICS records by name, made with caproto, which is imported here and where they are served."""

import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeAlias

import numpy as np

from ..types import ScanError

logger = logging.getLogger("ioc")

Put: TypeAlias = Callable[[Any, Any], Awaitable[Any]]

TEXT = 256  # bytes of a long string


class Records:
    """Records whose names begin with `prefix`, in `pvdb` as caproto serves them.

    A `put` is awaited with the record and the value, before a client that waits is told; what it returns is the
    value, and what it raises makes the put fail. Raises ScanError where caproto is not installed.
    """

    def __init__(self, prefix: str) -> None:
        try:
            import caproto.server
        except ImportError:
            raise ScanError("EPICS needs caproto: pip install 'live_bcdi[epics]'") from None
        logging.getLogger("caproto").setLevel(logging.CRITICAL)  # a traceback for every put that is refused
        self._caproto = caproto
        self._prefix = prefix
        self.pvdb: dict[str, Any] = {}

    def add(self, name: str, value: Any, put: Put | None = None, **how: Any) -> Any:
        """A number or a text of up to 39 bytes."""
        if put is not None:
            how["put"] = _told(name, put)
        if isinstance(value, str):
            how.setdefault("dtype", self._caproto.ChannelType.STRING)
        spec = self._caproto.server.PVSpec(name=self._prefix + name, value=value, **how)
        self.pvdb[self._prefix + name] = spec.create(group=None)
        return self.pvdb[self._prefix + name]

    def choice(self, name: str, choices: Sequence[str], *, value: int = 0, put: Put | None = None) -> Any:
        """One of some words."""
        kind = self._caproto.ChannelType.ENUM
        return self.add(name, value, put, dtype=kind, cls_kwargs={"enum_strings": list(choices)})

    def text(self, name: str, value: str = "", *, put: Put | None = None) -> Any:
        """A text of up to 256 bytes, as areaDetector has file names: a waveform of characters, which holds
        `as_characters` of it."""
        return self.add(name, as_characters(value), put, dtype=bytes, max_length=TEXT)

    def alias(self, name: str, of: str) -> None:
        self.pvdb[self._prefix + name] = self.pvdb[self._prefix + of]

    def pair(self, name: str, make: Callable[..., Any], *args: Any, **how: Any) -> Any:
        """A record, and another whose name ends with _RBV that follows what is put; the latter."""
        readback = make(f"{name}_RBV", *args, **how)

        async def follow(instance: Any, value: Any) -> Any:
            await readback.write(value)
            return value

        make(name, *args, **how, put=follow)
        return readback


def _told(name: str, put: Put) -> Put:
    """The same, and what is refused is in our log, in a sentence."""

    async def checked(instance: Any, value: Any) -> Any:
        try:
            return await put(instance, value)
        except (ScanError, OSError) as error:
            logger.warning("%s: %s", name, error)
            raise

    return checked


def chosen(value: Any, choices: Sequence[str]) -> str:
    """The word that a value of a choice means, which clients put by its number or as it is."""
    return value if isinstance(value, str) else choices[int(value)]


def as_characters(text: str) -> bytes:
    """With the zero at its end: a waveform that is empty is none."""
    return text.encode()[: TEXT - 1] + b"\0"


def as_text(value: Any) -> str:
    """Of a waveform of characters, up to the zero that ends it."""
    characters = value if isinstance(value, bytes) else bytes(np.asarray(value).ravel().astype(np.uint8))
    return characters.split(b"\0")[0].decode(errors="replace")

"""The page's memory: the newest update of each kind, and who waits for one.

A browser holds no queue. It remembers the version it saw last and takes the oldest kind that changed since, so
that a slow browser skips what has been replaced, starves no kind, and costs nobody anything: memory is one
message a kind, however many browsers there are and however long one of them sleeps.
"""

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

from ..metadata import plain
from ..stream.updates import TOPICS, Update
from ..types import ScanError
from .metrics import SERVICES, Metrics
from .wire import encode

RUNS = 8  # names of earlier runs, for a result that comes after the next scan began
NOTICES = 50
Key: TypeAlias = tuple[Hashable, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class _Slot:
    version: int
    update: Update
    published_s: float
    message: bytes


class Mailbox:
    """One browser's place in the hub. Belongs to the event loop that made it."""

    def __init__(self, hub: "Hub") -> None:
        self._hub = hub
        self._loop = asyncio.get_running_loop()
        self._changed = asyncio.Event()
        self._woken = False
        self._seen = 0

    def wake(self) -> None:
        """Called from any thread. At most one wake-up is on its way, so that a busy loop collects no backlog."""
        if not self._woken:
            self._woken = True
            with contextlib.suppress(RuntimeError):  # the loop was closed: nobody reads any more
                self._loop.call_soon_threadsafe(self._changed.set)

    async def take(self, timeout_s: float) -> bytes | None:
        """The next message for this browser; None where nothing changed for `timeout_s`."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                while (slot := self._look()) is None:  # a wake-up may be for what was already seen
                    await self._changed.wait()
                self._seen = slot.version
                return slot.message
        return None

    def _look(self) -> _Slot | None:
        # The flags are lowered before looking: what is published in between wakes us again.
        self._changed.clear()
        self._woken = False
        return self._hub.oldest_after(self._seen)


class Hub:
    """`publish` from any thread; every browser gets the state as it is, then what changes."""

    def __init__(self, clock_s: Callable[[], float] = time.time) -> None:
        self.clock_s = clock_s
        self._lock = threading.Lock()
        self._version = 0
        self._notices = 0
        self._slots: dict[Key, _Slot] = {}
        self._mailboxes: set[Mailbox] = set()
        self.metrics = Metrics(clock_s, lambda: self.browsers)

    @property
    def browsers(self) -> int:
        """How many are connected."""
        return len(self._mailboxes)

    def publish(self, update: Update) -> None:
        """Replace the newest update of its kind. Raises ScanError for what the page cannot show."""
        if update.topic not in TOPICS:
            raise ScanError(f"the page knows no topic {update.topic!r}; there are {', '.join(TOPICS)}")
        with self._lock:
            self._check_room(update)
            self.metrics.take(update)
            if update.topic in ("run", "live"):
                self._keep_run(update)
            if update.topic != "run":
                self._keep(self._key(update), update)
            mailboxes = tuple(self._mailboxes)
        for mailbox in mailboxes:
            mailbox.wake()

    def _check_room(self, update: Update) -> None:
        """Names come from outside, and each takes a slot for good."""
        key = self._key(update) if update.topic in ("health", "estimate", "advice", "tracking") else None
        if key is not None and key not in self._slots and sum(k[0] == key[0] for k in self._slots) >= SERVICES:
            raise ScanError(f"the page has no room for another {update.topic}: {key[1]!r}")

    def _key(self, update: Update) -> Key:
        if update.topic == "notice":  # a log: the newest few, each in a slot of its own
            self._notices += 1
            return ("notice", self._notices % NOTICES)
        name = {"health": "service", "estimate": "kind", "advice": "of", "tracking": "of"}.get(update.topic)
        which = "" if name is None else str(update.fields.get(name))
        if update.topic == "estimate" and which == "preview":
            which = "live"  # of the frames so far there is one estimate, by the network or without it
        return (update.topic,) if name is None else (update.topic, which)

    def _keep(self, key: Key, update: Update) -> None:
        now_s = self.clock_s()
        message = encode(update, published_s=now_s)
        self._version += 1
        self._slots[key] = _Slot(version=self._version, update=update, published_s=now_s, message=message)

    def _keep_run(self, update: Update) -> None:
        """A run's updates are merged, for its end does not repeat its beginning; `seen_s` orders the runs.

        A live update of a run that nobody announced (the page was started again) announces it.
        """
        key = ("run", update.run)
        known = self._slots.get(key)
        if update.topic == "live" and known is not None:
            return
        fields = update.fields if update.topic == "run" else {"state": "started"}
        before = {"seen_s": self.clock_s()} if known is None else known.update.fields
        self._keep(key, Update(topic="run", run=update.run, fields={**before, **fields}))
        runs = [other for other in self._slots if other[0] == "run"]
        for old in runs[:-RUNS]:
            del self._slots[old]

    def oldest_after(self, version: int) -> _Slot | None:
        """The slot that changed first after `version`."""
        with self._lock:
            changed = [slot for slot in self._slots.values() if slot.version > version]
        return min(changed, key=lambda slot: slot.version, default=None)

    @contextlib.contextmanager
    def mailbox(self) -> Iterator[Mailbox]:
        """A browser's mailbox while it is connected."""
        mailbox = Mailbox(self)
        with self._lock:
            self._mailboxes.add(mailbox)
        try:
            yield mailbox
        finally:
            with self._lock:
                self._mailboxes.discard(mailbox)

    def health(self) -> dict[str, Any]:
        """For `/health`: services with the age of their last word, age of each topic, the newest run, and what is
        advised of it."""
        now_s = self.clock_s()
        with self._lock:
            slots = tuple(self._slots.values())
            browsers = len(self._mailboxes)
        ages: dict[str, float] = {}
        services, run = {}, None
        for slot in slots:
            topic, age_s = slot.update.topic, now_s - slot.published_s
            ages[topic] = min(age_s, ages.get(topic, age_s))
            if topic == "health":
                services[str(slot.update.fields.get("service"))] = {**slot.update.fields, "age_s": age_s}
            elif topic == "run":
                run = {**slot.update.fields, "run": slot.update.run}
        advice = [
            each
            for slot in slots
            if slot.update.topic == "advice" and run is not None and slot.update.run == run["run"]
            for each in slot.update.fields.get("advice", ())
        ]
        report = {
            "time_s": now_s,
            "browsers": browsers,
            "services": services,
            "age_s": ages,
            "run": run,
            "advice": advice,
        }
        return dict(plain(report))

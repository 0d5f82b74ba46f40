"""Who gives way to whom on a busy computer.

Linux shares its processors among sessions first, and by niceness only within one (sched(7), autogroup). Every
service is a session of its own, so that a nice worker in it would give way to its own service and to nobody else.
Such a worker gets a session, whose niceness may be taken back, which that of a process may not.
"""

import os
import time
from contextlib import suppress
from pathlib import Path

_SESSION = Path("/proc/self/autogroup")
_TRIES, _PAUSE_S = 4, 0.1  # the kernel lets but one process change a session in 100 ms
_leads = False  # this process made a session for itself
_given: int | None = None  # its niceness


def give_way(nice: int, *, hurrying: bool = False) -> None:
    """This process lets others go first, by 1 to 19 steps of niceness; for good where processors are not shared by
    sessions, else `hurrying` at first, for as long as it loads what it needs."""
    global _leads
    os.nice(nice)
    if nice:
        _leads = True
        with suppress(OSError):  # it leads one
            os.setsid()
        _weigh(0 if hurrying else nice)


def hurry(*, now: bool, nice: int) -> None:
    """A process that gives way is as important as others for as long as it is in a hurry; no other is changed."""
    if _leads:
        _weigh(0 if now else nice)


def _weigh(nice: int) -> None:
    global _given
    for _ in range(_TRIES):
        if nice == _given:
            return
        try:
            _SESSION.write_text(str(nice))
            _given = nice
        except BlockingIOError:
            time.sleep(_PAUSE_S)
        except OSError:  # no such system
            return

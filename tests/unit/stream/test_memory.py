"""Memory that is there before it is written to, and stays what it was."""

import os
import threading
import time

import numpy as np

from live_bcdi.faults.memory import resident_mb
from live_bcdi.stream import memory
from live_bcdi.stream.memory import zeros_ahead

SHAPE = (96, 1024, 1024)  # 100 MB of bytes


def until(wanted, seconds=20.0):
    deadline = time.monotonic() + seconds
    while not wanted() and time.monotonic() < deadline:
        time.sleep(0.005)
    return wanted()


def test_all_of_an_array_is_there_although_nobody_wrote_to_it():
    before = resident_mb(os.getpid())
    array = zeros_ahead(SHAPE, np.uint8)
    assert until(lambda: resident_mb(os.getpid()) - before > 0.95 * array.nbytes / 1e6)


def test_what_is_written_meanwhile_stays_and_the_rest_is_zero():
    threads = threading.active_count()
    array = zeros_ahead(SHAPE, np.uint8)
    for frame in array[::2]:
        frame[:] = 7
    assert until(lambda: threading.active_count() <= threads)
    assert (array[::2] == 7).all()
    assert not array[1::2].any()


def test_an_array_that_nobody_has_any_more_is_asked_for_no_longer(monkeypatch):
    threads, dropped, asked = threading.active_count(), threading.Event(), []

    def madvise(*about):
        asked.append(about)
        dropped.wait(20.0)
        return 0

    monkeypatch.setattr(memory, "_madvise", madvise)
    array = memory.zeros_ahead(SHAPE, np.uint8)
    assert until(lambda: asked)
    del array
    dropped.set()
    assert until(lambda: threading.active_count() <= threads)
    assert len(asked) == 1

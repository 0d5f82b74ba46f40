"""A process that gives way does so as Linux shares processors: by its session."""

import os
import subprocess
from pathlib import Path

import pytest

from live_bcdi import priority
from live_bcdi.jobs import JobPool
from live_bcdi.priority import hurry

SESSION = Path("/proc/self/autogroup")


def standing():
    """(leads a session, niceness of the process, of its session)."""
    words = SESSION.read_text().split() if SESSION.exists() else []
    return os.getsid(0) == os.getpid(), os.nice(0), int(words[-1]) if words else None


@pytest.fixture(scope="module")
def there():
    """A new session here has a niceness of its own."""
    asked = subprocess.run(["cat", SESSION], start_new_session=True, capture_output=True, check=False)
    return bool(asked.stdout.strip())


@pytest.fixture(scope="module")
def pool():
    made = JobPool(workers=1, nice=10)
    yield made
    made.shutdown()


@pytest.fixture(scope="module")
def hurrying():
    made = JobPool(workers=1, nice=10, hurrying=True)
    yield made
    made.shutdown()


def test_a_worker_may_load_its_libraries_first(hurrying, there):
    assert hurrying.submit(standing).result(60)[2] == (0 if there else None)
    hurrying.submit(hurry, now=False, nice=10).result(60)
    assert hurrying.submit(standing).result(60)[2] == (10 if there else None)


def test_a_worker_that_gives_way_does_so_to_every_service_and_may_hurry(pool, there):
    before = standing()
    leads, nice, session = pool.submit(standing).result(60)
    assert (leads, nice) == (True, min(before[1] + 10, 19))
    assert session == (10 if there else None)
    pool.submit(hurry, now=True, nice=10).result(60)
    assert pool.submit(standing).result(60)[1:] == (nice, 0 if there else None)
    assert standing() == before, "nobody else is changed"


def test_who_does_not_give_way_is_never_changed(monkeypatch, tmp_path):
    """Else an estimate in a service's own process, or a test's, would make its session less important."""
    monkeypatch.setattr(priority, "_SESSION", tmp_path / "autogroup")
    hurry(now=True, nice=10)
    hurry(now=False, nice=10)
    assert list(tmp_path.iterdir()) == []


def test_where_processors_are_not_shared_by_sessions_nothing_happens(monkeypatch, tmp_path):
    monkeypatch.setattr(priority, "_SESSION", tmp_path / "no" / "autogroup")
    monkeypatch.setattr(priority, "_given", 10)
    hurry(now=True, nice=10)
    assert priority._given == 10, "it is tried again"


class Refusing:
    """A kernel that lets nobody change a session for a while."""

    def __init__(self, times):
        self.times, self.text = times, None

    def write_text(self, text):
        if self.times:
            self.times -= 1
            raise BlockingIOError
        self.text = text


@pytest.mark.parametrize(("times", "text"), [(2, "10"), (99, None)])
def test_a_session_that_was_just_changed_is_tried_again(monkeypatch, times, text):
    session = Refusing(times)
    monkeypatch.setattr(priority, "_SESSION", session)
    monkeypatch.setattr(priority, "_PAUSE_S", 0)
    monkeypatch.setattr(priority, "_leads", True)
    monkeypatch.setattr(priority, "_given", None)
    hurry(now=False, nice=10)
    assert session.text == text

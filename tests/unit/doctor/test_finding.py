"""A check ends, whatever it meets."""

import threading

from live_bcdi.doctor import finding
from live_bcdi.doctor.finding import bounded, ok
from live_bcdi.types import ScanError


def test_what_hangs_is_a_problem_and_holds_up_nothing():
    for_ever = threading.Event()
    (told,) = bounded("disk", lambda: for_ever.wait() and [], 0.05)
    for_ever.set()
    assert (told.check, told.status) == ("disk", "problem")
    assert "did not end in" in told.what
    assert told.do


def test_what_raises_is_a_problem():
    def fails(error):
        raise error

    (ours,) = bounded("keys", lambda: fails(ScanError("others can read it: chmod it")), 5)
    (other,) = bounded("keys", lambda: fails(ModuleNotFoundError("No module named 'h5py'")), 5)
    assert ours.what == "others can read it: chmod it."
    assert "ModuleNotFoundError: No module named 'h5py'" in other.what
    assert {ours.status, other.status} == {"problem"}
    assert bounded("keys", lambda: [ok("keys", "fine")], 5) == [ok("keys", "fine")]


def test_a_probe_that_hangs_is_ended(monkeypatch):
    """A probe of an argument that is none fails with a status; one without time has none."""
    assert finding.probe(["gpu"], 0.01) == (-1, "")
    status, said = finding.probe(["coffee"], 30)
    assert (status, said) == (1, "'coffee'")

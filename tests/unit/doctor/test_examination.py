"""All checks in turn."""

import sys

from live_bcdi.cli import config_path
from live_bcdi.doctor import examine


def test_a_library_that_is_missing_is_told_and_not_a_traceback(monkeypatch):
    """What needs it is named, the rest is looked at."""
    monkeypatch.setitem(sys.modules, "h5py", None)
    monkeypatch.setitem(sys.modules, "live_bcdi.doctor.network", None)
    monkeypatch.delattr("live_bcdi.doctor.network", raising=False)
    looked = []
    found = {finding.check: finding for finding in examine(config_path("34idc"), looked.append)}
    assert found["HDF5"].status == "problem"
    assert "h5py" in found["HDF5"].what
    assert "live_bcdi.doctor.network" in found["libraries"].what
    assert found["Python"].status == "ok"
    assert looked[:4] == ["Python", "libraries", "FFT", "HDF5"]

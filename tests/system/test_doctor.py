"""`live-bcdi doctor` beside a running system."""

from live_bcdi.doctor import examine


def test_it_knows_the_system_that_runs(system):
    """Ports held by it are no problem, its Tiled takes its key, and each service has an age."""
    _, path = system
    found = {finding.check: finding for finding in examine(path)}
    assert [finding for finding in found.values() if finding.status == "problem"] == []
    assert "All 6 run" in found["services"].what
    assert "those of the live-bcdi that runs" in found["ports"].what
    assert "takes our key" in found["Tiled"].what
    assert "Running for:" in found["restarts"].what
    assert "tiled_server" in found["restarts"].what

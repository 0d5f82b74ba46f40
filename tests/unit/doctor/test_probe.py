"""The probes themselves: that of the GPU on the CPU, files that do not grow for others, locks that do not hold."""

import fcntl
from dataclasses import replace

import pytest

from live_bcdi import phasing
from live_bcdi.doctor import probe
from live_bcdi.phasing import devices
from live_bcdi.transport import frames


@pytest.mark.parametrize(("scale", "said"), [(1.0, ""), (1.1, "it does not give what the CPU gives")])
def test_a_device_that_computes_rightly_and_one_that_does_not(monkeypatch, scale, said):
    real = phasing.phase

    def on_the_cpu(pattern, *, device, **how):
        result = real(pattern, device="cpu", **how)
        return replace(result, density=result.density * (scale if device == "cuda" else 1.0))

    monkeypatch.setattr(phasing, "phase", on_the_cpu)
    monkeypatch.setattr(devices, "device_of", lambda name: None)
    assert probe.main(["gpu"]) == said


def test_a_writer_whose_frames_nobody_sees(tmp_path, monkeypatch):
    monkeypatch.setattr(frames.FrameWriter, "append", lambda self, image, **about: None)
    assert probe.main(["swmr", str(tmp_path)]) == "frame 0 did not appear to a reader in 3 s"


def test_locks_that_do_not_hold(tmp_path, monkeypatch):
    assert probe.main(["lock", str(tmp_path)]) == ""
    monkeypatch.setattr(fcntl, "flock", lambda file, operation: None)
    assert probe.main(["lock", str(tmp_path)]) == "two processes hold one lock at a time"

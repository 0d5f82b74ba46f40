"""Which machine retrieves."""

import logging
import sys
from types import SimpleNamespace

import pytest

from live_bcdi.phasing import devices, kernels_cpu
from live_bcdi.types import ScanError


@pytest.fixture(params=["no cupy", "no driver"])
def without_cuda(request, monkeypatch):
    """Neither way of having no CUDA device depends on what this machine has."""
    if request.param == "no cupy":
        monkeypatch.setitem(sys.modules, "cupy", None)
        monkeypatch.delitem(sys.modules, "live_bcdi.phasing.kernels_cuda", raising=False)
        monkeypatch.delattr("live_bcdi.phasing.kernels_cuda", raising=False)
        return "cupy"

    def fails():
        raise RuntimeError("CUDA driver version is insufficient")

    pretend(monkeypatch, SimpleNamespace(free_bytes=fails))
    return "driver version is insufficient"


def pretend(monkeypatch, module):
    monkeypatch.setitem(sys.modules, "live_bcdi.phasing.kernels_cuda", module)
    monkeypatch.setattr("live_bcdi.phasing.kernels_cuda", module, raising=False)


def test_auto_is_the_cpu_without_a_device(without_cuda, caplog):
    with caplog.at_level(logging.INFO):
        device = devices.device_of("auto")
    assert (device.name, device.kernels) == ("cpu", kernels_cpu.Kernels)
    assert device.abreast((64, 64, 64)) == 1
    assert without_cuda in caplog.text


def test_cuda_without_a_device_says_what_to_do(without_cuda):
    with pytest.raises(ScanError, match=rf"{without_cuda}.*pip install 'live_bcdi\[cuda\]'"):
        devices.device_of("cuda")


def test_as_many_starts_as_six_volumes_each_fit(monkeypatch):
    pretend(monkeypatch, SimpleNamespace(free_bytes=lambda: 1_000_000_000, Kernels=object))
    for name in ("cuda", "auto"):
        device = devices.device_of(name)
        assert (device.name, device.kernels) == ("cuda", object)
        assert device.abreast((128, 128, 128)) == 9  # of 6 * 8 * 128^3 = 100.7 MB
        assert device.abreast((512, 512, 512)) == 1  # not even that may fit, but nobody knows before


def test_an_unknown_device_names_those_there_are():
    with pytest.raises(ScanError, match="no phasing device 'gpu'; there are auto, cpu, cuda"):
        devices.device_of("gpu")

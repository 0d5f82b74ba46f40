"""A CUDA device is used only where its march is the CPU's: faked devices, right, wrong and broken."""

import logging
from importlib import import_module
from types import SimpleNamespace

import numpy as np
import pytest

from live_bcdi.dynamical import along_diffracted, cuda, fields, loops, transport_of
from live_bcdi.dynamical.cuda import CudaRowKernels
from live_bcdi.types import ScanError

BEAMS = along_diffracted(1.5e-10, 0.8, chi_0=-1e-4, chi_h=5e-5, chi_hbar=5e-5)
VOXEL = (2e-8, 2e-8, 2e-8 / float(np.tan(0.8)))


def right(name, size, given, moved):
    """What march.cu does, by the CPU's loops."""
    density, s0, boxes, generator, shape, turn, *used = given
    setting = generator, int(shape[4]), int(shape[3])
    for y in range(size[0]):
        mine, used_up = tuple(field[y] for field in moved), tuple(field[y].copy() for field in used)
        if name == "forward":
            loops.forward(density[y], s0[y], boxes[y], setting, turn, mine)
        else:
            loops.backward(density[y], s0[y], boxes[y], setting, turn, used_up, mine)


def wrong_back(name, size, given, moved):
    right(name, size, given, moved)
    if name == "backward":
        moved[0] *= 1.01  # the gradient by density


def wrong_in_double(name, size, given, moved):
    right(name, size, given, moved)
    if moved[0].dtype == np.float64:
        moved[0] += 1e-8


def not_a_number(name, size, given, moved):
    right(name, size, given, moved)
    moved[0][:] = np.nan


def broken(name, size, given, moved):
    raise RuntimeError("CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES\nmore")


@pytest.fixture
def device(monkeypatch):
    """Says that there is a CUDA device, on which `launch` runs kernels."""

    def made(launch):
        found = {"cpu": "cpu", "auto": "cuda", "cuda": "cuda"}
        module = import_module("live_bcdi.dynamical.fields")  # the package has a function of this name
        monkeypatch.setattr(module, "device_of", lambda wanted: SimpleNamespace(name=found[wanted]))
        monkeypatch.setattr(cuda, "_device", lambda: 0)
        monkeypatch.setattr(cuda, "on_device", launch)
        cuda._mistrust.cache_clear()

    yield made
    cuda._mistrust.cache_clear()


def kernels_of(wanted):
    return transport_of(BEAMS, VOXEL, 8, device=wanted)._kernels


@pytest.mark.parametrize("wanted", ["auto", "cuda"])
def test_a_right_device_is_used(device, wanted, caplog):
    device(right)
    assert isinstance(kernels_of(wanted), CudaRowKernels)
    assert not [each for each in caplog.records if each.levelno >= logging.WARNING]


@pytest.mark.parametrize(
    ("launch", "says"),
    [(wrong_back, "wrong by 0.01"), (wrong_in_double, "wrong by"), (not_a_number, "wrong by nan"),
     (broken, "RuntimeError .CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES.")],
)  # fmt: skip
def test_a_wrong_device_is_left_with_one_warning(device, launch, says, caplog):
    device(launch)
    for _ in range(3):
        assert not isinstance(kernels_of("auto"), CudaRowKernels)
    (told,) = [each for each in caplog.records if each.levelno >= logging.WARNING]
    assert "CUDA device 0 is not used" in told.getMessage()
    with pytest.raises(ScanError, match=f"{says}.*take the device cpu"):
        kernels_of("cuda")
    volume = np.ones((8, 2, 8), complex)
    setting = {"chi_0": -1e-4, "chi_h": 5e-5, "chi_hbar": 5e-5, "dthetas": [0.0]}
    for found, wanted in zip(*(fields(volume, volume.real, VOXEL, 1.5e-10, 0.8, **setting, device=name)
                               for name in ("auto", "cpu"))):  # fmt: skip
        np.testing.assert_array_equal(found, wanted)


def test_each_device_proves_itself_once(device, monkeypatch):
    ran = []

    def counted(name, *rest):
        ran.append(name)
        right(name, *rest)

    device(counted)
    for number in (0, 0, 1, 1):
        monkeypatch.setattr(cuda, "_device", lambda number=number: number)
        kernels_of("auto")
    # two launches each, as one takes 256 angles; two devices, two precisions
    assert ran == ["forward", "forward", "backward", "backward"] * 4

"""Records of the virtual beamline, put and read without a network."""

import asyncio
import sys

import h5py
import numpy as np
import pytest

from live_bcdi.sim.ioc import VirtualIoc
from live_bcdi.sim.records import Records, as_characters, as_text
from live_bcdi.sim.scenes import virtual_beamline
from live_bcdi.types import ScanError

caproto = pytest.importorskip("caproto")

SHAPE = (32, 32)


@pytest.fixture
def ioc(config):
    return VirtualIoc(virtual_beamline(config, shape=SHAPE, strain="none"), prefix="T:", speed=500.0)


def put(ioc, *values):
    """Each awaited as a client does that waits for its put."""

    async def all_of_them():
        for name, value in values:
            await ioc.records.pvdb[f"T:{name}"].write(value)

    asyncio.run(all_of_them())


def read(ioc, name):
    return ioc.records.pvdb[f"T:{name}"].value


def test_a_put_returns_when_the_motor_stands(ioc):
    start = read(ioc, "theta.RBV")
    put(ioc, ("theta.VAL", start + 2.0))
    assert read(ioc, "theta.RBV") == read(ioc, "theta") == start + 2.0
    assert ioc.pace.beamline.readback("theta") == start + 2.0
    assert ioc.pace.beamline.time_s >= 2.0
    assert (read(ioc, "theta.DMOV"), read(ioc, "theta.MOVN")) == (1, 0)


@pytest.mark.parametrize("target", [71.0, float("nan"), float("inf")])
def test_limits_are_kept(ioc, target):
    before = ioc.pace.beamline.positions
    with pytest.raises((ScanError, caproto.CaprotoValueError)):
        put(ioc, ("theta.VAL", target))
    assert ioc.pace.beamline.positions == before
    assert (read(ioc, "theta.LLM"), read(ioc, "theta.HLM")) == (-20.0, 70.0)
    with pytest.raises(ScanError, match="attenuators"):
        put(ioc, ("Transmission", 2.0))


def test_a_motor_stops_where_it_is(config):
    ioc = VirtualIoc(
        virtual_beamline(config, shape=SHAPE, strain="none"), prefix="T:", speed=20.0
    )  # 50 deg in 2.5 s
    start = read(ioc, "theta.RBV")

    async def stopped():
        moving = asyncio.create_task(ioc.records.pvdb["T:theta.VAL"].write(start + 50.0))
        while read(ioc, "theta.RBV") == start:
            await asyncio.sleep(0.001)
        assert read(ioc, "theta.DMOV") == 0
        await ioc.records.pvdb["T:theta.STOP"].write(1)
        await asyncio.wait_for(moving, 5.0)

    asyncio.run(stopped())
    assert start < read(ioc, "theta.RBV") < start + 50.0
    assert read(ioc, "theta.RBV") == read(ioc, "theta.VAL") and read(ioc, "theta.DMOV") == 1


def test_attenuator_and_shutter(ioc):
    put(ioc, ("Transmission", 0.3), ("Shutter", "Closed"))
    assert read(ioc, "Transmission_RBV") == 0.25
    assert not ioc.pace.beamline.shutter_open
    put(ioc, ("cam1:AcquireTime", 0.01), ("cam1:Acquire", 1))
    assert read(ioc, "Monitor") == 0


def test_frames_go_into_the_file_and_the_image(ioc, tmp_path):
    put(
        ioc,
        ("Transmission", 0.02),
        ("HDF1:FilePath", as_characters(f"{tmp_path}/")),
        ("HDF1:FileName", as_characters("a scan")),
        ("HDF1:FileTemplate", as_characters("%s%s_%3.3d.h5")),
        ("HDF1:Capture", 1),
        ("cam1:ImageMode", "Multiple"),
        ("cam1:NumImages", 3),
        ("cam1:AcquireTime", 1.0),
        ("cam1:Acquire", 1),
    )
    assert read(ioc, "HDF1:FilePathExists_RBV") == 1
    assert read(ioc, "HDF1:NumCaptured_RBV") == read(ioc, "cam1:ArrayCounter_RBV") == 3
    assert (read(ioc, "cam1:Acquire_RBV"), read(ioc, "cam1:DetectorState_RBV")) == (0, "Idle")
    put(ioc, ("HDF1:Capture", 0), ("cam1:Acquire", 1))  # not into the file
    path = tmp_path / "a scan_000.h5"
    assert as_text(read(ioc, "HDF1:FullFileName_RBV")) == str(path)
    with h5py.File(path) as file:
        frames = file["entry/data/data"][()]
    assert frames.shape == (3, *SHAPE) and frames.sum() > 1e4
    assert frames.sum(axis=(1, 2)) == pytest.approx(np.full(3, np.sum(read(ioc, "image1:ArrayData"))), rel=0.05)


def test_texts_as_characters():
    for text in ("", "a", "Größe/" * 10):
        assert as_text(as_characters(text)) == text
        assert as_text(np.frombuffer(as_characters(text), np.uint8)) == text
    assert len(as_characters("x" * 1000)) == 256


def test_without_caproto_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "caproto.server", None)
    with pytest.raises(ScanError, match="pip install"):
        Records("T:")

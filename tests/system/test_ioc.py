"""`live-bcdi ioc` as a process, and ophyd-async's own EPICS devices, which know nothing of us, in another."""

import json
import os
import signal
import subprocess
import sys

import numpy as np
import pytest

pytest.importorskip("caproto")
pytest.importorskip("aioca")

CLIENT = """
import json, sys
from pathlib import Path
import bluesky.plan_stubs as bps
import h5py
import numpy as np
from bluesky import RunEngine
from ophyd_async.core import StaticPathProvider, TriggerInfo, UUIDFilenameProvider, init_devices
from ophyd_async.epics.adcore import ADWriterFactory
from ophyd_async.epics.adsimdetector import SimDetector
from ophyd_async.epics.core import epics_signal_r, epics_signal_rw
from ophyd_async.epics.motor import Motor

folder = Path(sys.argv[1])
RE = RunEngine({})
with init_devices():
    theta = Motor("ca://VB:theta")
    camera = SimDetector("VB:", ADWriterFactory.hdf(StaticPathProvider(UUIDFilenameProvider(), folder)))
    transmission = epics_signal_rw(float, "ca://VB:Transmission")
    ring = epics_signal_r(float, "ca://VB:RingCurrent")
told = {"angles": []}

def rock():
    yield from bps.mv(transmission, 0.02)
    told["ring"] = yield from bps.rd(ring)
    told["home"] = home = yield from bps.rd(theta)
    yield from bps.stage(camera)
    yield from bps.prepare(camera, TriggerInfo(number_of_events=1, livetime=1.0), wait=True)
    yield from bps.open_run()
    for angle in np.linspace(home - 0.1, home + 0.1, 9):
        yield from bps.mv(theta, angle)
        yield from bps.trigger_and_read([camera, theta])
        told["angles"].append((yield from bps.rd(theta)))
    yield from bps.close_run()
    yield from bps.unstage(camera)

RE(rock())
try:
    RE(bps.mv(theta, 300.0))
except Exception as error:
    told["refused"] = type(error.__cause__).__name__
(path,) = folder.glob("*.h5")
with h5py.File(path) as file:
    told["counts"] = file["entry/data/data"][()].sum(axis=(1, 2)).tolist()
print(json.dumps(told))
"""


@pytest.fixture
def loopback(free_port):
    return {
        **os.environ,
        "EPICS_CA_SERVER_PORT": str(free_port()),
        "EPICS_CA_ADDR_LIST": "127.0.0.1",
        "EPICS_CA_AUTO_ADDR_LIST": "NO",
    }


def test_epics_devices_scan_the_virtual_beamline(loopback, tmp_path):
    command = [
        sys.executable,
        "-m",
        "live_bcdi.cli",
        "ioc",
        "--speed",
        "50",
        "--misaligned",
        "0",
        "--misplaced",
        "0",
    ]
    with subprocess.Popen(command, env=loopback, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert "VB:theta" in server.stdout.readline()
            client = subprocess.run(
                [sys.executable, "-c", CLIENT, str(tmp_path)],
                env=loopback,
                capture_output=True,
                text=True,
                timeout=120,
                check=False,
            )
            assert client.returncode == 0, client.stderr[-3000:]
        finally:
            server.send_signal(signal.SIGTERM)
        assert server.wait(30) == 0
    told = json.loads(client.stdout.splitlines()[-1])
    assert told["ring"] == 100.0
    assert told["angles"] == pytest.approx(np.linspace(told["home"] - 0.1, told["home"] + 0.1, 9))
    middle = np.average(told["angles"], weights=np.square(told["counts"]))
    assert middle == pytest.approx(told["home"], abs=0.01)
    assert told["refused"] == "MotorLimitsError"

"""The stimulus of a series from what its runs in a Tiled server say, each as one of the ways that there are."""

import json

import numpy as np
import pytest
from typer.testing import CliRunner

from live_bcdi import catalogue
from live_bcdi.cli.app import app
from live_bcdi.config import find_config, load_config
from live_bcdi.series_files import read_states
from live_bcdi.stream.state import KEY
from live_bcdi.transport.tiled import store_result
from live_bcdi.types import Outcome, Reconstruction, ScanError

UIDS = ("a0000000-5ed", "b0000000-5ed", "c0000000-5ed")
ORDERS = (0.0, 0.4, 1.0)
VOLTS = (2.5, 3.0, 4.2)


def result_of(image):
    return Reconstruction(
        density=np.ones((4, 4, 4), np.complex64),
        support=np.ones((4, 4, 4), bool),
        chi=0.1,
        chi_starts=(0.1,),
        metrics={},
        recipe="20*ER()",
        seed=0,
        outcome=Outcome.DONE,
        lab=image,
    )


@pytest.fixture
def root(empty_tiled, image):
    """In the start document; of the scan in it; as the averaged [operando] state, which counts before these."""
    if "raw" in empty_tiled:
        return empty_tiled
    raw = empty_tiled.create_container("raw")
    starts = (
        {"voltage": VOLTS[0]},
        {KEY: {"scan": {"metadata": {"voltage": VOLTS[1]}}}},
        {"voltage": 0.0},
    )
    for number, (uid, start) in enumerate(zip(UIDS, starts)):
        raw.create_container(uid, metadata={"start": {"uid": uid, "time": float(number), **start}})
        state = {"name": "voltage", "unit": "V", "value": VOLTS[number], "std": 0.01}
        table = {"name": f"at {number}", "operando": {"state": state if number > 1 else None}}
        store_result(empty_tiled, uid, result_of(image(ORDERS[number])), table)
    return empty_tiled


def series(*words):
    return CliRunner().invoke(app, ["series", *UIDS, *words, "--json"])


def test_the_verb_reads_the_voltage_of_each_run(root, monkeypatch):
    monkeypatch.setattr(catalogue, "connect", lambda config: root)
    done = series("--stimulus", "voltage")
    assert done.exit_code == 0, done.output
    told = json.loads(done.output)
    assert [row["stimulus"] for row in told["states"]] == list(VOLTS)
    assert [row["name"] for row in told["states"]] == ["at 0", "at 1", "at 2"]
    order = told["trends"]["order_rad"]
    assert order["slope"] > 0 and order["r"] > 0.95
    with pytest.raises(ScanError, match="no result says its 'temperature'"):
        read_states(UIDS, "temperature", None, load_config(find_config("34idc")))

"""A minute of the soak (docs/reliability.md): random faults, and nothing is lost."""

import json
from pathlib import Path

import pytest

from live_bcdi.faults import MUST_BE_ZERO, Settings, soak

BEAMLINE = Path(__file__).resolve().parents[2] / "config" / "34idc.toml"


@pytest.mark.timeout(400)
def test_random_faults_lose_no_frame_and_no_result(tmp_path):
    said = []  # of this seed the first scans have most kinds of faults
    told = soak(BEAMLINE, Settings(seed=173, seconds=60), tmp_path / "soak", keep=True, say=said.append)
    assert told["wrong"] == []
    assert {key: told[key] for key in MUST_BE_ZERO} == dict.fromkeys(MUST_BE_ZERO, 0)
    assert told["runs_complete"] >= 5
    assert told["faults_done"] >= 3
    assert told["frames"] >= 100
    assert json.loads((tmp_path / "soak" / "report.json").read_text())["scans"] == told["scans"]
    logged = [json.loads(line) for line in (tmp_path / "soak" / "faults.jsonl").read_text().splitlines()]
    assert sum(line["done"] for line in logged) == told["faults_done"]

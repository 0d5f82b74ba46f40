"""A series of runs: what refine says of each, and that all of it is there again after a restart."""

import json
from pathlib import Path

import numpy as np
import pytest

from live_bcdi.cli import config_path
from live_bcdi.config import load_config
from live_bcdi.metadata import plain, scan_metadata
from live_bcdi.sim import simulate_scan
from live_bcdi.stream import journal
from live_bcdi.stream.fakes import start_document
from live_bcdi.transport.hdf5 import FrameWriter
from live_bcdi_consumers.refining import refine_run
from live_bcdi_consumers.series import Series
from live_bcdi_consumers.tickets import Tickets

VOLTS = {"run-1": 3.0, "run-2": 3.5, "run-3": 4.0}


@pytest.fixture(scope="module")
def frames(tmp_path_factory):
    """Files of frames of crystals with more and more strain, and their scans."""
    settings, folder = load_config(config_path("34idc")), tmp_path_factory.mktemp("frames")
    made = []
    for strain in ("none", "weak", "strong"):
        scan, _ = simulate_scan(shape=(16, 32, 32), photons=1e6, strain=strain, seed=1, config=settings)
        path = folder / f"{strain}.h5"
        with FrameWriter(
            path, scan.intensity.shape[1:], scan.intensity.dtype, metadata=scan_metadata(scan)
        ) as file:
            for index, image in enumerate(scan.intensity):
                file.append(image, angle_deg=float(scan.angles_deg[index]), monitor=1.0, timestamp_s=1e9 + index)
        made.append((path, scan))
    return made


@pytest.fixture
def summaries(frames, service):
    """Each refined at a voltage that its baseline says, noted as the backlog does."""
    service.config = service.config.changed(operando={"state": "voltage", "unit": "V"})
    done, results = Tickets(service.folder("queue/done")), service.folder("results")
    made = []
    for number, ((run, volts), (path, scan)) in enumerate(zip(VOLTS.items(), frames)):
        start = {**start_document(scan, run), "time": 1e9 + number}
        for name, doc in [("start", start), *baseline(run, volts)]:
            journal.append(service.folder("documents/sent") / f"{run}.jsonl", name, doc)
        made.append(refine_run({"file": str(path), "start": start}, results, service.config))
        del made[-1]["advice"]  # is told apart
        done.put(f"{number}_{run}", made[-1])
    return made


def baseline(run, volts):
    """A reading before the scan and one after it."""
    yield "descriptor", {"uid": f"d-{run}", "run_start": run, "name": "baseline", "data_keys": {"voltage": {}}}
    for number, value in enumerate((volts - 0.1, volts + 0.1)):
        data = {"data": {"voltage": value}, "timestamps": {"voltage": 1e9 + number}}
        yield "event", {"uid": f"e-{run}-{number}", "descriptor": f"d-{run}", "seq_num": number + 1, **data}


def shown(series, service):
    """What the page is shown once there is nothing left to read."""
    service.updates.sent.clear()
    for _ in range(20):
        series.work()
    updates = [update for update in service.updates.sent if update.topic == "operando"]
    assert len(updates) <= 1, "sent when it changes, not at every turn"
    return plain(updates[0].fields) if updates else None


def test_a_result_says_its_state_and_its_numbers(summaries):
    table = json.loads(json.dumps(summaries[1]))["operando"]
    assert table["state"]["value"] == pytest.approx(3.5)
    assert table["state"]["std"] == pytest.approx(0.1)
    assert table["state"]["from"] == "baseline"
    assert (table["series"], table["time_s"]) == ("simulated gold crystal, hkl 1 1 1", 1e9 + 1)
    assert table["d_angstrom"] == pytest.approx(2.3545, rel=2e-3)  # gold's (111), within the array's reach of q
    assert table["intensity"] == pytest.approx(1e6, rel=0.01)
    assert table["strain_std"] > 0
    assert 2 * np.pi / np.linalg.norm(table["peak"]["h_invA"]) == pytest.approx(2.3545, rel=2e-3)


def test_the_series_is_the_same_after_a_restart(summaries, service):
    one = Series(service)
    before = shown(one, service)
    assert [row["run"] for row in before["runs"]] == list(VOLTS)
    assert [row["state"] for row in before["runs"]] == pytest.approx(list(VOLTS.values()))
    scores = [row["components"][0] for row in before["runs"]]
    assert scores[0] == 0 < scores[1] < scores[2]
    # a simulated crystal stays where it is, but the middle of its peak moves with its strain, by a voxel at most
    assert before["runs"][0]["rotation_mdeg"] == [0, 0]
    assert 0 < np.abs(before["runs"][2]["rotation_mdeg"]).max() < 10
    assert shown(one, service) is None
    assert shown(Series(service), service) == before


def test_results_as_they_come_give_the_same_as_all_at_once(summaries, service):
    for old in Tickets(service.folder("queue/done")).names():
        Tickets(service.folder("queue/done")).drop(old)
    series = Series(service)
    assert shown(series, service) is None
    told = []
    for summary in (summaries[2], summaries[0], summaries[1]):  # the newest run goes first
        series.add(summary)
        told.append(shown(series, service))
    assert [len(fields["runs"]) for fields in told] == [1, 2, 3]
    Tickets(service.folder("queue/done")).put("9_again", summaries[1])
    for number in (0, 2):
        Tickets(service.folder("queue/done")).put(f"{number}_again", summaries[number])
    assert shown(Series(service), service) == told[-1]


def test_a_run_that_is_refined_again_counts_once(summaries, service):
    series = Series(service)
    series.add({**summaries[2], "chi": 0.5})
    fields = shown(series, service)
    assert [row["chi"] for row in fields["runs"]][2:] == [0.5]


def test_a_result_file_that_is_gone_is_said(summaries, service):
    Path(summaries[0]["file"]).unlink()
    fields = shown(Series(service), service)
    assert "there is no such file" in fields["runs"][0]["components_why"]
    assert fields["runs"][0]["components"] == []
    assert fields["runs"][1]["components"] == [0.0]


def test_without_a_journal_or_a_setting_the_state_is_not_known(frames, service):
    path, scan = frames[0]
    ticket, results = {"file": str(path), "start": start_document(scan, "alone")}, service.folder("results")
    assert refine_run(ticket, results, service.config)["operando"]["state"] is None
    config = service.config.changed(operando={"state": "voltage"})
    state = refine_run(ticket, results, config)["operando"]["state"]
    assert (state["value"], state["why"]) == (None, "neither the start document nor an event has 'voltage'")


GOOD = {"series": "s", "time_s": 1.0, "state": None}
GOOD |= dict.fromkeys(("d_angstrom", "strain_std", "strain_std_error", "intensity"))


@pytest.mark.parametrize(
    "summary",
    [
        {},
        {"operando": None},
        {"run": "r", "file": "f"},
        {"run": "r", "file": "f", "operando": {**GOOD, "time_s": None}},
        {"run": "r", "file": "f", "operando": {**GOOD, "series": [1]}},
        {"run": "r", "file": "f", "operando": {**GOOD, "state": "hot"}},
        {"run": "r", "file": "f", "operando": {**GOOD, "d_angstrom": "2"}},
        {"run": "r", "file": None, "operando": GOOD},
        {"run": 5, "file": "f", "operando": GOOD},
        {"run": "r", "file": "f", "operando": {key: GOOD[key] for key in ("series", "time_s")}},
    ],
)
def test_older_and_damaged_tickets_are_left_out(service, summary):
    Tickets(service.folder("queue/done")).put("1_r", summary)
    assert shown(Series(service), service) is None


def test_the_least_that_is_a_result(service):
    Tickets(service.folder("queue/done")).put("1_r", {"run": "r", "file": "f", "operando": GOOD})
    (row,) = shown(Series(service), service)["runs"]
    assert (row["run"], row["d_change"], row["components"]) == ("r", None, [])

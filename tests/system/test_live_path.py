"""Real processes: detector, RunEngine, broker, consumers, Tiled and page, on a small simulated crystal."""

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import numpy as np
import pytest

from live_bcdi.config import load_config
from live_bcdi.session import play
from live_bcdi.sim import compare_with_truth, simulate_scan
from live_bcdi.supervisor import services_of
from live_bcdi.transport.hdf5 import read_result, read_scan, write_scan
from live_bcdi.transport.tiled import api_key, connect, server_uri

ROOT = Path(__file__).resolve().parents[2]
SHAPE = (40, 48, 48)


def command(*arguments, **kwargs):
    return subprocess.run(
        [sys.executable, "-m", "live_bcdi.cli", *map(str, arguments)], capture_output=True, text=True, **kwargs
    )


@pytest.fixture(scope="module")
def scan_file(system, tmp_path_factory):
    scan, truth = simulate_scan(shape=SHAPE, photons=2e6, strain="medium", seed=4, config=load_config(system[1]))
    path = tmp_path_factory.mktemp("scan") / "small.h5"
    write_scan(path, scan)
    return path, truth


@pytest.fixture(scope="module")
def played(system, scan_file):
    supervisor, config = system
    return play(supervisor, scan_file[0], config, rate_hz=0, fly=False)


def test_every_frame_arrives(played):
    assert played["live"]["count"] == played["result"]["frames"] == SHAPE[0]
    assert played["live"]["missing"] == 0
    assert played["result"]["missing"] == []


def test_the_truth_is_recovered(played, scan_file):
    """At 2e6 photons what found the crystal is within 0.25 rad of its phase, whose own spread is 0.4 rad; an
    object of the right support with random phases is off by 1.8 rad and does not correlate."""
    compared = compare_with_truth(read_result(played["result"]["file"]), scan_file[1])
    assert compared["amplitude_correlation"] > 0.9
    assert compared["phase_correlation"] > 0.85
    assert compared["phase_rms_rad"] < 0.25


def test_offline_gives_the_same_bits(played, scan_file, system, tmp_path):
    offline = tmp_path / "offline.cxi"
    done = command("phase", scan_file[0], "-o", offline, "--config", system[1], "--json")
    assert done.returncode == 0, done.stderr
    live, again = read_result(played["result"]["file"]), read_result(offline)
    for name in ("density", "support"):
        np.testing.assert_array_equal(getattr(live, name), getattr(again, name))
    for name in ("density", "strain", "displacement_angstrom"):
        np.testing.assert_array_equal(getattr(live.lab, name), getattr(again.lab, name))
    assert live.chi_starts == again.chi_starts
    assert live.provenance == again.provenance


def test_a_run_in_tiled_can_be_phased_again(played, system, scan_file, tmp_path):
    """The frames come back over HTTP; the same settings give the same bits."""
    root = connect(load_config(system[1]))
    eventually(lambda: finished_raw(root, played["run"]))
    again = tmp_path / "again.cxi"
    done = command("phase", played["run"][:8], "-o", again, "--config", system[1])
    assert done.returncode == 0, done.stderr
    np.testing.assert_array_equal(read_result(again).density, read_result(played["result"]["file"]).density)


def test_the_detectors_file_holds_the_recorded_frames(played, system, scan_file):
    storage = load_config(system[1]).storage.directory
    (path,) = (storage / "frames").glob(f"*_{played['run'][:8]}.h5")
    written, recorded = read_scan(path), read_scan(scan_file[0])
    np.testing.assert_array_equal(written.intensity, recorded.intensity)
    np.testing.assert_array_equal(written.angles_deg, recorded.angles_deg)
    assert written.geometry == recorded.geometry


def test_a_second_process_reads_the_result_from_tiled(played, system):
    done = command("results", played["run"][:8], "--config", system[1], "--json")
    assert done.returncode == 0, done.stderr
    (found,) = json.loads(done.stdout)
    assert found["path"] == played["result"]["tiled"]
    assert found["chi"] == played["result"]["chi"]
    assert found["raw"] == f"raw/{played['run']}"


def test_results_from_another_folder_says_where_the_key_was_looked_for(played, system, tmp_path):
    """The running server, but a storage folder that is not its own: nothing is made there."""
    text = system[1].read_text().replace(str(load_config(system[1]).storage.directory), "runs")
    (tmp_path / "elsewhere.toml").write_text(text)
    done = command("results", "--config", "elsewhere.toml", cwd=tmp_path)
    assert done.returncode == 2
    assert f"{tmp_path}/runs/tiled/api_key cannot be read" in done.stderr
    assert not (tmp_path / "runs").exists()


def test_a_wrong_key_is_said_to_be_wrong(played, system, monkeypatch):
    monkeypatch.setenv("LIVE_BCDI_TILED_API_KEY", "0" * 64)
    done = command("results", "--config", system[1])
    assert done.returncode == 2
    assert "refused the key (401)" in done.stderr


def test_tiled_holds_the_arrays_and_the_raw_run(played, system, scan_file):
    root = connect(load_config(system[1]))
    node, result = root[played["result"]["tiled"]], read_result(played["result"]["file"])
    np.testing.assert_array_equal(node["density"].read(), result.density)
    np.testing.assert_array_equal(node["strain"].read(), result.lab.strain)
    page = (ROOT / "docs" / "tiled.md").read_text(encoding="utf-8")
    listed = page.split("Of a result, metadata:\n\n```text")[1].split("```")[0]
    assert not {key for key in node.metadata if key not in listed}
    table = node.metadata["operando"]
    assert (table["series"], table["state"]["value"]) == ("simulated gold crystal, hkl 1 1 1", 2e6)
    assert table["strain_std"] == pytest.approx(np.nanstd(result.lab.strain), rel=1e-4)
    assert node["displacement"].metadata["units"].startswith("angstrom")
    raw = eventually(lambda: finished_raw(root, played["run"]))
    frames = raw["primary"][load_config(system[1]).detector.name]
    assert frames.shape == (SHAPE[0], 1, *SHAPE[1:])  # one frame an event, as ophyd-async describes it
    np.testing.assert_array_equal(frames.read()[:, 0], read_scan(scan_file[0]).intensity)
    assert raw.metadata["start"]["live_bcdi"]["planned"]["num"] == SHAPE[0]


def finished_raw(root, run):
    raw = root["raw"]
    return raw[run] if run in raw and raw[run].metadata.get("stop") else None


def eventually(look, seconds=20):
    """What `look` finds, once it finds something."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if found := look():
            return found
        time.sleep(0.2)
    pytest.fail(f"{look} found nothing in {seconds} s")


def test_the_notebook_runs_against_this_tiled(played, system, scan_file, monkeypatch):
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("Agg")
    config = load_config(system[1])
    monkeypatch.setenv("LIVE_BCDI_TILED_URI", server_uri(config))
    monkeypatch.setenv("LIVE_BCDI_TILED_API_KEY", api_key(config))
    root = connect(config)
    eventually(lambda: finished_raw(root, played["run"]))
    notebook = json.loads((ROOT / "docs" / "read_results.ipynb").read_text())
    names: dict = {}
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            exec("".join(cell["source"]), names)
    assert names["result"].metadata["complete"]
    assert names["run"].uid == played["run"]
    np.testing.assert_array_equal(names["whole"]["strain"], read_result(played["result"]["file"]).lab.strain)
    np.testing.assert_array_equal(names["frames"], read_scan(scan_file[0]).intensity)


def test_a_report_and_an_export_of_the_run_from_tiled(played, system, scan_file, tmp_path):
    """Result and frames over HTTP, and the frames are those that were refined: by their checksum."""
    root = connect(load_config(system[1]))
    eventually(lambda: finished_raw(root, played["run"]))
    html, pdf, both = (tmp_path / name for name in ("r.html", "r.pdf", "both.cxi"))
    run = played["run"][:8]
    done = command("report", run, "-o", html, "--pdf", pdf, "--config", system[1], "--json")
    assert done.returncode == 0, done.stderr
    told, result = json.loads(done.stdout), read_result(played["result"]["file"])
    assert (told["run"], told["result"]) == (played["run"], played["result"]["tiled"])
    assert (told["chi"], told["remark"]) == (result.chi, None)
    assert told["strain_std"] == float(result.lab.strain[result.lab.support].std())
    assert f"{SHAPE[0]} frames, " in told["methods"]
    assert result.recipe in html.read_text(encoding="utf-8").replace("&#43;", "+")
    assert pdf.read_bytes().startswith(b"%PDF")
    done = command("export", run, "--to", "nxcxi", "-o", both, "--config", system[1])
    assert done.returncode == 0, done.stderr
    np.testing.assert_array_equal(read_result(both).lab.strain, result.lab.strain)
    np.testing.assert_array_equal(read_scan(both).intensity, read_scan(scan_file[0]).intensity)


def test_a_report_of_no_run(played, system, tmp_path):
    done = command("report", "0000dead", "--config", system[1], cwd=tmp_path)
    assert done.returncode == 2
    (line,) = done.stderr.strip().splitlines()
    assert "0 runs in Tiled begin with '0000dead'" in line


def test_the_page_serves_and_knows_its_services(played, system):
    page = load_config(system[1]).page
    with urllib.request.urlopen(f"http://{page.host}:{page.port}/health", timeout=10) as answer:
        health = json.load(answer)
    running = services_of(load_config(system[1]))
    assert {name: health["services"][name]["state"] for name in system[0].pids()} == dict.fromkeys(
        running, "ready"
    )


def test_a_sweep_gives_the_same_frames(system, scan_file):
    told = play(system[0], scan_file[0], system[1], rate_hz=0, fly=True)
    assert told["result"]["frames"] == SHAPE[0]
    assert told["result"]["missing"] == []
    frames = load_config(system[1]).storage.directory / "frames"
    (path,) = frames.glob(f"*_{told['run'][:8]}.h5")
    np.testing.assert_array_equal(read_scan(path).intensity, read_scan(scan_file[0]).intensity)


def test_a_killed_service_is_started_again(system):
    supervisor, _ = system
    before = supervisor.pids()["live"]
    os.kill(before, signal.SIGKILL)
    notices = []

    def back() -> bool:
        beats = []  # all of a turn is read: what is left of an update generator is lost
        for update in supervisor.watch(0.2):
            if update.topic == "notice" and "live ended" in update.fields["message"]:
                notices.append(update)
            if update.topic == "health" and update.fields["service"] == "live":
                beats.append(update.fields["pid"])
        return bool(notices) and not {*beats} <= {None, before}

    assert eventually(back, 60)

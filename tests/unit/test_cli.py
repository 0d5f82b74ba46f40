"""What a person sees who mistypes, or whose file is not what it seems: one line, status 2, no traceback."""

import json
import sys

import numpy as np
import pytest

from live_bcdi import cli
from live_bcdi.config import load_config
from live_bcdi.sim import simulate_scan
from live_bcdi.transport.hdf5 import read_result, write_scan


@pytest.fixture
def run(monkeypatch, capfd, tmp_path):
    """`live-bcdi` with arguments, in an empty folder: (status, output, errors)."""
    monkeypatch.chdir(tmp_path)

    def command(*arguments):
        monkeypatch.setattr(sys, "argv", ["live-bcdi", *map(str, arguments)])
        try:
            cli.main()
            status = 0
        except SystemExit as ended:
            status = ended.code or 0
        out, err = capfd.readouterr()
        return status, out, err

    return command


def one_line(result):
    status, _, err = result
    assert status == 2
    lines = err.strip().splitlines()
    assert len(lines) == 1, err
    assert lines[0].startswith("live-bcdi: ")
    return lines[0]


def test_no_such_configuration(run):
    assert "no configuration file nowhere.toml" in one_line(run("results", "--config", "nowhere.toml"))


def test_no_such_beamline(run):
    assert "no beamline 'id99' ships" in one_line(run("results", "--config", "id99"))


def test_an_unknown_key(run, tmp_path):
    (tmp_path / "c.toml").write_text((cli.config_path("34idc")).read_text() + "\n[tiled]\nprot = 5\n")
    assert "unknown key 'tiled.prot'" in one_line(run("results", "--config", "c.toml"))


def test_tiled_that_is_not_there(run, tmp_path, free_port):
    text = cli.config_path("34idc").read_text()
    (tmp_path / "c.toml").write_text(f"{text}\n[tiled]\nport = {free_port()}\n")
    assert "live-bcdi up" in one_line(run("results", "--config", "c.toml"))


def test_a_scan_that_is_not_there(run):
    assert "nowhere.h5" in one_line(run("phase", "nowhere.h5"))
    assert "nowhere.h5" in one_line(run("replay", "nowhere.h5"))


def test_a_file_that_is_no_scan(run, tmp_path):
    (tmp_path / "scan.h5").write_text("this is text")
    assert "scan.h5" in one_line(run("phase", "scan.h5"))


def test_an_unknown_service(run):
    assert "broker" in one_line(run("service", "coffee"))


def test_a_recipe_with_an_unknown_operator(run, small):
    message = one_line(run("phase", small, "--recipe", "20*ERR"))
    assert "ERR" in message
    assert "HIO" in message


@pytest.fixture
def small(tmp_path):
    scan, _ = simulate_scan(
        shape=(32, 32, 32), photons=1e6, strain="weak", seed=1, config=load_config(cli.config_path("34idc"))
    )
    path = tmp_path / "small.h5"
    write_scan(path, scan)
    return path


def test_phase_of_a_numpy_pattern(run, tmp_path):
    pattern = np.random.default_rng(0).poisson(3.0, (16, 16, 16))
    np.savez(tmp_path / "pattern.npz", intensity=pattern, mask=pattern > 100)
    status, out, err = run("phase", "pattern.npz", "--starts", 1, "--recipe", "5*ER", "--json")
    assert status == 0, err
    assert read_result(json.loads(out)["file"]).density.shape == (16, 16, 16)


@pytest.mark.parametrize("bad", [np.zeros((4, 4)), np.array([{}]), np.zeros((4, 4, 4), complex)])
def test_a_numpy_file_that_is_no_pattern(run, tmp_path, bad):
    np.save(tmp_path / "bad.npy", bad, allow_pickle=True)
    assert "bad.npy" in one_line(run("phase", "bad.npy"))


@pytest.mark.parametrize(("text", "wanted"), [("5", 5.0), ("5s", 5.0), ("1.5 min", 90.0), ("2h", 7200.0)])
def test_times(text, wanted):
    assert cli.seconds(text) == wanted


@pytest.mark.parametrize("text", ["", "soon", "5 parsec", "s"])
def test_what_is_no_time(run, small, text):
    assert "is not a time" in one_line(run("phase", small, "--budget", text))


def test_phase_prints_what_it_wrote(run, small):
    status, out, err = run("phase", small, "--starts", 2, "--json")
    assert status == 0, err
    said = json.loads(out)
    result = read_result(said["file"])
    assert said["chi"] == result.chi
    assert said["recipe"] == result.recipe
    assert len(said["chi_starts"]) == 2


def test_import_of_the_measured_scan(run, s0054):
    """Counts as measured independently (../shared/data/README.md)."""
    status, out, err = run("import", s0054, "--scan", 54, "-o", "scan.h5", "--json")
    assert status == 0, err
    said = json.loads(out)
    assert (said["frames"], said["total_counts"], said["max_counts"]) == (201, 46_155_653, 165_297)


def test_import_of_a_scan_that_is_not_in_the_file(run, s0054):
    assert "54" in one_line(run("import", s0054, "--scan", 55, "-o", "scan.h5"))

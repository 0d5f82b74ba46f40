"""`live-bcdi adapt`: what is written, what is not, and what is refused in one line."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from live_bcdi import cli
from live_bcdi.config import load_config
from live_bcdi.offline import centred_pattern
from live_bcdi.phasing import parse
from live_bcdi.sim import simulate_scan
from live_bcdi.transport.hdf5 import write_scan
from live_bcdi_models import adapting, polishing, preview
from live_bcdi_models.strangers import STRANGERS
from live_bcdi_models.weights import load_weights

BEAMLINE = Path(__file__).resolve().parents[2] / "config" / "34idc.toml"


@pytest.fixture
def run(monkeypatch, capfd):
    """`live-bcdi adapt` with arguments: (status, output, errors)."""

    def command(*arguments):
        monkeypatch.setattr(sys, "argv", ["live-bcdi", "adapt", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        out, err = capfd.readouterr()
        return ended.value.code or 0, out, err

    return command


@pytest.fixture(scope="module")
def scan_file(tmp_path_factory):
    scan, _ = simulate_scan(shape=(40, 48, 48), photons=2e6, strain="weak", seed=4, config=load_config(BEAMLINE))
    path = tmp_path_factory.mktemp("scan") / "small.h5"
    write_scan(path, scan)
    return path


def judge(monkeypatch, *, kept):
    """With a short retrieval, and a verdict that does not wait for luck."""
    monkeypatch.setattr(polishing, "search", lambda room: parse("10*ER"))
    monkeypatch.setattr(polishing, "RANDOM", 0)
    monkeypatch.setattr(adapting, "_LONG", parse("10*ER"))
    monkeypatch.setattr(adapting, "verdict", lambda before, after: (kept, "as the judge says"))


def test_what_is_kept_is_written_previewed_with_and_replaced_only_when_asked(
    run, scan_file, tmp_path, monkeypatch
):
    judge(monkeypatch, kept=True)
    path = tmp_path / "mine.safetensors"
    status, out, err = run(scan_file, "-o", path, "--seconds", 1, "--json")
    told = json.loads(out)
    assert (status, told["weights"], told["kept"], told["why"]) == (0, str(path), True, "as the judge says"), err
    assert told["steps"] >= 1 and all(0 < value < 2 for value in told["chi, of what it sees"])
    before = path.read_bytes()

    status, _, err = run(scan_file, "-o", path)
    assert status == 2 and "--overwrite" in err and path.read_bytes() == before
    status, out, err = run(scan_file, "-o", path, "--seconds", 1, "--seed", 1, "--overwrite")
    assert status == 0 and "as the judge says" in out, err
    assert path.read_bytes() != before
    counts, mask = centred_pattern(str(scan_file), load_config(BEAMLINE))
    assert preview(counts, mask=mask, weights=path).provenance["network"].endswith(", adapted 1 time")
    assert load_weights(path)[1].notes["adapted"]["times"] == 1


def test_what_is_rolled_back_is_not_written(run, scan_file, tmp_path, monkeypatch):
    judge(monkeypatch, kept=False)
    status, out, _ = run(scan_file, "-o", tmp_path / "mine.safetensors", "--seconds", 1, "--json")
    told = json.loads(out)
    assert (status, told["weights"], told["kept"], told["why"]) == (1, None, False, "as the judge says")
    assert not list(tmp_path.iterdir())


def test_what_cannot_be_adapted_to_is_refused_in_one_line(run, scan_file, tmp_path):
    strange = tmp_path / "strange.npy"
    np.save(strange, next(iter(STRANGERS.values()))(2))
    path, mine = tmp_path / "mine.safetensors", tmp_path / "scan.json"
    mine.write_text("{}")
    for arguments, why in (
        ((tmp_path / "none.h5", "-o", path), "no such file"),
        ((strange, "-o", path), "peak"),
        ((scan_file, "-o", tmp_path / "nowhere" / path.name), "nothing can be written"),
        ((scan_file, "-o", tmp_path / "mine.h5"), "must end in .safetensors"),
        ((scan_file, "-o", mine.with_suffix(".safetensors")), "would be overwritten"),
        ((scan_file, "-o", path, "--seconds", "0"), "greater than or equal to 1"),
    ):
        status, out, err = run(*arguments)
        assert status == 2 and not out and why in err, err
        assert len(err.strip().splitlines()) == 1 and err.startswith("live-bcdi: ")
    assert sorted(tmp_path.iterdir()) == [mine, strange] and mine.read_text() == "{}"

"""`live-bcdi export` as a person and a script use it."""

import json
import sys

import pytest

from live_bcdi import cli
from live_bcdi.transport.hdf5 import read_result, write_result


@pytest.fixture
def command(monkeypatch, capfd, tmp_path, result):
    """`live-bcdi export` with arguments, in a folder with r.cxi: (status, output, errors)."""
    monkeypatch.chdir(tmp_path)
    write_result(tmp_path / "r.cxi", result, scan_name="s", run="ab12cd34-5", links={})

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["live-bcdi", "export", *map(str, arguments)])
        try:
            cli.main()
            status = 0
        except SystemExit as ended:
            status = ended.code or 0
        return (status, *capfd.readouterr())

    return run


def test_json_is_one_value(command, tmp_path):
    status, out, err = command("r.cxi", "--to", "vti", "-o", "o.vti", "--json")
    assert status == 0, err
    told = json.loads(out)
    assert (told["file"], told["form"], told["run"]) == ("o.vti", "vti", "ab12cd34-5")
    assert "strain" in told["arrays"]
    assert told["bytes"] == (tmp_path / "o.vti").stat().st_size


def test_words_and_overwrite(command, tmp_path):
    status, out, _ = command("r.cxi", "--to", "cxi", "-o", "o.cxi")
    assert status == 0
    assert "o.cxi" in out
    status, _, err = command("r.cxi", "--to", "cxi", "-o", "o.cxi")
    assert (status, len(err.strip().splitlines())) == (2, 1)
    assert "--overwrite" in err
    assert command("r.cxi", "--to", "cxi", "-o", "o.cxi", "--overwrite")[0] == 0
    assert read_result(tmp_path / "o.cxi").lab is not None


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("r.cxi", "--to", "vtk"), "--to 'vtk' is no form; it is one of vti, nxcxi, cxi"),
        (("nowhere.cxi", "--to", "vti"), "there is no such file"),
        (("r.cxi", "--to", "nxcxi"), "the frames of r.cxi are not here"),
        (("r.cxi", "--to", "vti", "--result", "7"), "has no refined result 7; it has 1"),
        (("r.cxi", "--to", "vti", "-o", "nowhere/o.vti"), "nothing can be written to nowhere"),
    ],
)
def test_what_goes_wrong_is_one_line(command, arguments, says):
    status, _, err = command(*arguments)
    assert status == 2
    (line,) = err.strip().splitlines()
    assert says in line

"""`live-bcdi doctor` whole, and what every verb does with wrong options and for a shell that completes."""

import json
import os
import subprocess
import sys

import pytest

from live_bcdi import cli


@pytest.fixture
def run(monkeypatch, capfd, tmp_path):
    """`live-bcdi` with arguments, in an empty folder: (status, output, errors)."""
    monkeypatch.chdir(tmp_path)

    def command(*arguments, **environment):
        monkeypatch.setattr(sys, "argv", ["live-bcdi", *map(str, arguments)])
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        with pytest.raises(SystemExit) as ended:
            cli.main()
        return (ended.value.code or 0, *capfd.readouterr())

    return command


def written(tmp_path, free_port, **tables):
    """A configuration on free ports, with `tables` beside."""
    streams = ("documents_in", "documents_out", "updates_in", "updates_out", "frames")
    lines = ["[stream]", *(f'{name} = "tcp://127.0.0.1:{free_port()}"' for name in streams)]
    lines += ["[tiled]", f"port = {free_port()}", "[page]", f"port = {free_port()}"]
    for name, table in tables.items():
        lines += [f"[{name}]", *(f'{key} = "{value}"' for key, value in table.items())]
    path = tmp_path / "beamline.toml"
    path.write_text(cli.config_path("34idc").read_text() + "\n".join(["", *lines, ""]))
    return path


def test_a_machine_where_nothing_is_wrong(run, tmp_path, free_port):
    before = written(tmp_path, free_port)
    status, out, err = run("doctor", "--config", before, "--json")
    told = json.loads(out)
    assert (status, told["problem"]) == (0, 0), told
    assert err == ""
    checks = {finding["check"] for finding in told["findings"]}
    assert checks >= {"Python", "libraries", "HDF5", "GPU", "keys", "ports", "Tiled", "disk", "backlog"}
    assert list(tmp_path.iterdir()) == [before], "nothing stays"


def test_what_is_wrong_and_what_to_do(run, tmp_path, free_port):
    path = written(tmp_path, free_port, storage={"directory": "/proc/runs"})
    status, out, _ = run("doctor", "--config", path)
    said = " ".join(out.split())  # lines are folded
    assert status == 1
    assert "problem disk Nothing can be written to /proc" in said
    assert "or choose another [storage] directory." in said
    assert "problem: 1" in said


def test_a_configuration_that_is_wrong_is_a_finding(run, tmp_path):
    (tmp_path / "c.toml").write_text("beamline = 5\n[storage]\ndirectry = 'x'\n")
    status, out, _ = run("doctor", "--config", "c.toml", "--json")
    told = json.loads(out)
    assert status == 1
    assert "unknown key 'storage.directry'" in told["findings"][-1]["what"]
    assert {finding["status"] for finding in told["findings"][:-1]} <= {"ok", "warning"}


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (("phase", "--json"), "Missing argument"),
        (("phase", "a.h5", "--starts", "x", "--json"), "--starts"),
        (("phase", "a.h5", "--strats", "3"), "--strats"),
        (("phse",), "'phase'"),
        (("results", "--config", "id99", "--json"), "34idc, id01, p10"),
    ],
)
def test_wrong_options_are_one_line(run, arguments, word):
    status, out, err = run(*arguments)
    assert (status, out) == (2, "")
    (line,) = err.splitlines()
    assert line.startswith("live-bcdi: ")
    assert word in line


def test_help_is_no_error(run):
    assert run("--help")[0] == 0
    assert "doctor" in run()[1]


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        ("live-bcdi doc", ["doctor"]),
        ("live-bcdi results --config ", ["34idc", "id01", "mine.toml", "p10"]),
        ("live-bcdi up -c id", ["id01"]),
        ("live-bcdi phase sc", ["scan.h5", "scan_result.cxi"]),
        ("live-bcdi phase ./sc", ["./scan.h5", "./scan_result.cxi"]),
        ("live-bcdi replay r", []),
        ("live-bcdi figure no", []),
    ],
)
def test_a_shell_completes(run, tmp_path, words, wanted):
    """Names of beamlines and files; where a folder begins so, nothing, which leaves it to the shell."""
    for name in ("scan.h5", "scan_result.cxi", "notes.txt", "mine.toml", "run.h5"):
        (tmp_path / name).touch()
    (tmp_path / "runs").mkdir()
    position = str(len(words.split(" ")) - 1)
    status, out, _ = run(_LIVE_BCDI_COMPLETE="complete_bash", COMP_WORDS=words, COMP_CWORD=position)
    assert (status, sorted(out.split())) == (0, wanted)


@pytest.mark.parametrize(
    ("shell", "script", "answer"),
    [
        ("bash", "complete -o default -F _live_bcdi_completion live-bcdi", "id01"),
        ("zsh", "#compdef live-bcdi", '"id01"'),
        ("fish", "complete --command live-bcdi", "id01"),
    ],
)
def test_each_shell_has_its_script_and_its_answers(run, shell, script, answer):
    """What `--install-completion` writes, and what that asks."""
    status, out, _ = run(_LIVE_BCDI_COMPLETE=f"source_{shell}")
    assert (status, script in out) == (0, True), out
    words = {"COMP_WORDS": "live-bcdi up -c id", "COMP_CWORD": "3", "_TYPER_COMPLETE_ARGS": "live-bcdi up -c id"}
    _, out, _ = run(_LIVE_BCDI_COMPLETE=f"complete_{shell}", _TYPER_COMPLETE_FISH_ACTION="get-args", **words)
    assert answer in out
    assert "p10" not in out


def test_in_a_real_bash(run, tmp_path):
    _, script, _ = run(_LIVE_BCDI_COMPLETE="source_bash")
    (tmp_path / "script").write_text(script)
    command = tmp_path / "live-bcdi"
    command.write_text(
        f"#!{sys.executable}\nimport sys\nsys.argv[0] = 'live-bcdi'\nfrom live_bcdi.cli import main\nmain()\n"
    )
    command.chmod(0o755)
    asked = (
        "source ./script; COMP_WORDS=(live-bcdi up --config p); COMP_CWORD=3;"
        " _live_bcdi_completion ./live-bcdi; echo ${COMPREPLY[@]}"
    )
    environment = {name: value for name, value in os.environ.items() if "COMPLETE" not in name}
    bash = subprocess.run(
        ["bash", "-c", asked], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60
    )
    assert bash.stdout.split() == ["p10"], bash.stderr

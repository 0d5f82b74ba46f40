"""What `replay` and `demo` show of a run."""

import io
import json

import pytest
from rich.console import Console
from rich.progress import Progress

from live_bcdi.cli.live import _show_experiment, _Shown
from live_bcdi.stream.updates import Update


def test_a_bar_shows_frames_and_passes_everything_on():
    told = [
        Update(topic="health", fields={"service": "live"}),
        Update(topic="live", run="r", fields={"count": 3, "num": 10}),
        Update(topic="live", run="r", fields={"count": 10, "num": 10}),
        Update(topic="live", run="r", fields={}),
    ]

    class System:
        def watch(self, timeout_s):
            yield from told

    with Progress(console=Console(file=io.StringIO())) as bar:
        shown = _Shown(System(), bar)
        (task,) = bar.tasks
        seen = []
        for number, update in enumerate(shown.watch(0.1)):
            seen.append(update)
            if number == 1:
                assert (task.completed, task.total, task.description) == (3, 10, "frames")
    assert seen == told
    assert (task.completed, task.total, task.description) == (10, 10, "refining")


def test_an_experiment_is_told_state_by_state(monkeypatch, capsys):
    results = [{"operando": {"d_angstrom": d}, "chi": 0.01, "resolution_nm": 12.0} for d in (2.0, 1.998)]
    steps = [
        {"run": f"run{number}-and-more", "volts": 3.0 + number, "strain": -1e-3 * number, "result": result}
        for number, result in enumerate(results)
    ]
    asked = {}

    def play(system, config, **how):
        asked.update(how)
        return steps

    monkeypatch.setattr("live_bcdi.session.play_experiment", play)
    how = {"states": 2, "rate_hz": 0.0, "seed": 0}
    _show_experiment(None, "34idc", how, as_json=True)
    told = json.loads(capsys.readouterr().out)
    assert [each["found"] for each in told] == pytest.approx([0, -1e-3])
    assert asked == how
    _show_experiment(None, "34idc", how, as_json=False)
    shown = capsys.readouterr().out
    assert "run1-and" in shown and "-0.001" in shown

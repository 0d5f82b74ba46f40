"""What `replay` and `demo` show of a run."""

import io

from rich.console import Console
from rich.progress import Progress

from live_bcdi.cli.live import _Shown
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

"""The verb for an archive: batch."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from ..config import load_config
from .app import DEFAULT_CONFIG, ConfigOption, JsonOption, app, config_path, errors, print_json, print_table
from .live import stop_on_sigterm


@app.command()
def batch(
    query: Annotated[
        str,
        typer.Argument(
            help="A folder, a pattern like 'runs/frames/*.h5', or a search in Tiled like "
            "'tiled:sample=gold hkl=1,1,1 name=S00* since=2026-11-01 until=2026-11-30'."
        ),
    ],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Folder of the results; by default \\[storage]'s batch.")
    ] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Scans at a time; by default \\[jobs] workers.")
    ] = None,
    nice: Annotated[int, typer.Option(min=0, max=19, help="Right of way for others: 0 is none, 19 is all.")] = 10,
    config: ConfigOption = DEFAULT_CONFIG,
    as_json: JsonOption = False,
) -> None:
    """Analyse recorded scans again, with the configuration as it is now; what is done is skipped.

    Ended by whatever, the same command goes on where it was. The exit status is 1 where a scan failed.
    """
    from ..batch import run_batch
    from ..jobs import open_jobs
    from ..transport.archive import find_scans

    settings = load_config(config_path(config))
    began_s = time.monotonic()
    sources = find_scans(query, settings)
    folder = output or settings.storage.directory / "batch"
    with stop_on_sigterm():
        jobs = open_jobs(settings, workers=workers, nice=nice)
        try:
            with _progress(len(sources), quiet=as_json) as tell:
                outcome = run_batch(sources, folder, settings, jobs, tell)
        finally:
            jobs.shutdown()
    for problem in () if as_json else outcome.failed:
        source, error = problem["source"], problem["error"]
        line = error if source in error else f"{source}: {error}"
        errors.print(line, style="red", markup=False, highlight=False, soft_wrap=True)
    counts = {name: len(getattr(outcome, name)) for name in ("done", "skipped", "failed")}
    table = {**counts, "seconds": time.monotonic() - began_s, "output": str(folder)}
    if as_json:
        print_json({**table, "results": outcome.done, "problems": outcome.failed})
    else:
        print_table(table, False, f"Batch of {len(sources)} scans")
    if outcome.failed:
        raise typer.Exit(1)


@contextmanager
def _progress(total: int, *, quiet: bool) -> Iterator[Callable[[int, str], None]]:
    """A bar on stderr; what to tell it."""
    columns = (
        *Progress.get_default_columns()[:2],
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[last]}"),
    )
    with Progress(*columns, console=errors, disable=quiet, transient=True) as bar:
        task = bar.add_task("batch", total=total, last="")
        yield lambda count, last: bar.update(task, completed=count, last=last)

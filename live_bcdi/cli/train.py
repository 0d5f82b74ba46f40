"""The verbs that make a network's weights: train, adapt."""

import os
import shlex
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from ..types import ScanError
from .app import (
    DEFAULT_CONFIG,
    SCANS,
    ConfigOption,
    JsonOption,
    OverwriteOption,
    app,
    config_path,
    errors,
    files_of,
    print_json,
    print_table,
)


@app.command()
def train(
    preset: Annotated[
        str,
        typer.Option(
            help="h200-25min needs a GPU; cpu-1h is an hour of one core; tiny shows in minutes that it learns."
        ),
    ] = "cpu-1h",
    output: Annotated[Path, typer.Option("--output", "-o", help="A folder: checkpoint, weights and card.")] = Path(
        "runs/network"
    ),
    minutes: Annotated[
        float | None, typer.Option(min=0.01, help="Another length than the preset's; of the processor on a CPU.")
    ] = None,
    network: Annotated[str | None, typer.Option(help="Another network than the preset's.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the crystals and the first weights.")] = 0,
    threads: Annotated[int, typer.Option(min=1, help="On a CPU.")] = 1,
    as_json: JsonOption = False,
) -> None:
    """Train a network on simulated crystals; write its weights, checksum and card.

    Stopped by Ctrl-C or SIGTERM, it keeps a checkpoint, and the same command goes on from there. A checkpoint is
    also kept every half a minute.
    """
    os.environ.update(OMP_NUM_THREADS=str(threads))  # read when torch is loaded
    try:
        from live_bcdi_models import training
    except ImportError as error:
        raise ScanError(f"training needs torch ({error}): pip install 'live_bcdi[network]'") from None

    chosen = training.chosen(preset, minutes=minutes, network=network)
    begun = training.begun(chosen, seed=seed, folder=output)
    with _told_to_stop() as stopped:
        over = begun.run(say=None if as_json else _say, stopped=stopped.is_set)
    if not over:
        errors.print(f"stopped; the same command goes on from {output / training.CHECKPOINT}", soft_wrap=True)
        raise typer.Exit(130)
    command = shlex.join(["live-bcdi", *sys.argv[1:]])
    path = output / "preview.safetensors"
    card = begun.finish(path, name=preset, command=command)
    table = {
        "weights": str(path),
        "network": card.network,
        "crystals": card.samples,
        "minutes": card.seconds / 60,
        **{f"correlation, {strain}": score for strain, score in card.scores.items()},
        "untrained": card.scores_untrained["all"],
        "sha256": card.sha256,
    }
    if as_json:
        print_json(table)
    else:
        print_table(table, False, "correlation with the truth of held-out crystals")


@app.command()
def adapt(
    scans: Annotated[
        list[str],
        typer.Argument(
            help="Scans of one crystal or a series, oldest first: NeXus/CXI, centred patterns (.npy, .npz), uids.",
            autocompletion=files_of(*SCANS),
        ),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="The adapted weights, a .safetensors.")],
    weights: Annotated[Path | None, typer.Option(help="Others than those that ship.")] = None,
    seconds: Annotated[float, typer.Option(min=1.0, max=300.0, help="How long.")] = 60.0,
    seed: Annotated[int, typer.Option(min=0, help="Of every random choice.")] = 0,
    threads: Annotated[int, typer.Option(min=1, help="On a CPU.")] = 1,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    overwrite: OverwriteOption = False,
    config: ConfigOption = DEFAULT_CONFIG,
    as_json: JsonOption = False,
) -> None:
    """Adapt the network to measured scans; write it where it foretells voxels that it did not see better.

    Where it does not, nothing is written, and the exit status is 1.
    """
    os.environ.update(OMP_NUM_THREADS=str(threads))  # read when torch is loaded
    try:
        from live_bcdi_models import keeping
    except ImportError as error:
        raise ScanError(f"adapting needs torch ({error}): pip install 'live_bcdi[network]'") from None
    from ..config import load_config
    from ..offline import centred_pattern
    from ..transport.files import check_output

    if output.suffix != ".safetensors":
        raise ScanError(f"{output} must end in .safetensors")
    for card in (output.with_suffix(".json"), output.with_suffix(".md")):
        if card.exists() and not output.exists():
            raise ScanError(f"{card} is of something else and would be overwritten; give another --output")
    check_output(
        output,
        overwrite=overwrite,
        source=weights or Path(scans[0]),
        replaced=lambda it: it.with_suffix(".json").exists(),
    )
    settings = load_config(config_path(config))
    counts, masks = zip(*(centred_pattern(each, settings) for each in scans), strict=True)
    effort: dict[str, Any] = {"seconds": seconds, "seed": seed, "threads": threads, "device": device}
    done = keeping.adapt(counts, masks=masks, weights=weights, output=output, **effort)
    table = {
        "weights": str(output) if done.kept else None,
        "kept": done.kept,
        "why": done.why,
        "chi, of what it sees": [done.before.chi, done.after.chi],
        "chi, polished": [done.before.chi_polished, done.after.chi_polished],
        "steps": done.steps,
        "seconds": done.seconds,
    }
    print_table(table, as_json, "before and after (chi as Serban et al. 2024, Eq. 1)")
    if not done.kept:
        raise typer.Exit(1)


@contextmanager
def _told_to_stop() -> Iterator[threading.Event]:
    """Set by SIGTERM and Ctrl-C: the step under way ends before the checkpoint is written."""
    told = threading.Event()
    signals = (signal.SIGTERM, signal.SIGINT)
    before = [signal.signal(each, lambda signum, frame: told.set()) for each in signals]
    try:
        yield told
    finally:
        for each, handler in zip(signals, before, strict=True):
            signal.signal(each, handler)


def _say(seconds: float, samples: int, loss: float) -> None:
    errors.print(f"{seconds / 60:6.1f} min {samples:8d} crystals   loss {loss:.4f}", highlight=False)

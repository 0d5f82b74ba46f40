"""Adapted networks on disk: one file for a user, and the states of a network that adapts scan by scan.

A state is a folder: weights, card, and the patterns that are learnt again with the next one. It is written beside
and renamed, so that it is there as a whole or not at all, and never changed.
"""

import os
import re
import shutil
import time
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from live_bcdi.phasing import Pattern
from live_bcdi.phasing.kernels_numpy import Object
from live_bcdi.types import BoolArray, FloatArray, ScanError, StorageError

from .adapting import REMEMBERED, Adapted, Effort, adapt_to
from .foretelling import SURE, Measured, foretold, is_better
from .grid import known_part
from .networks import Network
from .sight import device_of
from .weights import Card, load_weights, save_weights

WEIGHTS, MEMORY = "preview.safetensors", "memory.npz"
STATES = 2  # that are kept: a preview under way may still ask for the one before the newest
_NUMBER = re.compile(r"\d{6}")


def adapt(
    scans: Sequence[FloatArray],
    *,
    masks: Sequence[BoolArray | None] | None = None,
    weights: Path | None = None,
    output: Path | None = None,
    seconds: float = 20.0,
    threads: int = 1,
    seed: int = 0,
    device: str = "auto",
) -> Adapted:
    """The network, by default the one that ships, adapted to centred (rocking, row, column) patterns of counts of
    one crystal or a series, oldest first, in so many seconds (at most 300).

    `masks` are True where a voxel was not measured. `output`, a .safetensors, is written with its card where the
    adapted network is kept: where it foretells voxels that it did not see better than before. `preview` takes it
    as `weights`. Raises ScanError for patterns that are not a single crystal's, or cannot be phased, StorageError
    where the output cannot be written.
    """
    if masks is not None and len(masks) != len(scans):
        raise ScanError(f"{len(scans)} patterns, but {len(masks)} masks")
    patterns = [_pattern(each, mask) for each, mask in zip(scans, masks or [None] * len(scans))]
    if not patterns:
        raise ScanError("there is no pattern to adapt to")
    network, card = load_weights(weights, device=device_of(device))
    effort = Effort(seconds=seconds, seed=seed, threads=threads)
    done = adapt_to([Measured.of(each) for each in patterns], network, effort)
    if output is not None and done.kept:
        with _storing(output):
            save_weights(done.network, adapted_card(card, done, base=_origin(card)), output)
    return done


@dataclass(frozen=True, kw_only=True, slots=True)
class State:
    """A network as it was left by the scans so far."""

    network: Network
    card: Card
    remembered: tuple[Measured, ...] = ()
    number: int = 0


def newest_weights(folder: Path, base: Path | None = None) -> Path | None:
    """The weights of the newest whole state in `folder` that began at the weights `base`; None where there is none
    that was adapted."""
    if not folder.exists():
        return None
    _, card = load_weights(base)
    for state in _states(folder):
        try:
            _, found = load_weights(state / WEIGHTS)
        except ScanError:
            continue
        if _origin(found) == card.sha256[:12]:
            return state / WEIGHTS if _times(found) else None
    return None


def adapt_next(
    folder: Path, pattern: Pattern, name: str, effort: Effort, base: Path | None = None
) -> dict[str, Any]:
    """Adapts the newest state in `folder` to one more scan, writes the next state, and says what happened.

    Where the network that it began with foretells the scan better than the newest state does, it is adapted
    instead. Raises ScanError as `adapt` does.
    """
    measured = Measured.of(pattern)
    state, first = _newest(folder, base)
    over = ""
    if _times(state.card) and is_better(
        foretold(first.network, [measured]).bare, foretold(state.network, [measured]).bare, chance=SURE
    ):
        state, over = (
            replace(first, number=state.number),
            "the first network foretells this scan better; from it: ",
        )
    done = adapt_to([measured], state.network, replace(effort, seed=effort.seed + state.number), state.remembered)
    card = adapted_card(state.card, done, base=_origin(first.card), name=name)
    with _storing(folder):
        _put(folder, replace(state, network=done.network, card=card, remembered=done.patterns[-REMEMBERED:]))
    return {
        **{"kept": done.kept, "why": over + done.why, "times": _times(card), "seconds": done.seconds},
        **{"steps": done.steps, "chi_before": done.before.chi, "chi_after": done.after.chi},
    }


def adapted_card(card: Card, done: Adapted, *, base: str, name: str = "") -> Card:
    """The card with what the network was adapted to; the scores stay those of the training."""
    told = dict(card.notes.get("adapted", {}))
    scans = [*told.get("scans", []), name] if name else told.get("scans", [])
    note = {
        "times": told.get("times", 0) + done.kept,
        "rolled_back": told.get("rolled_back", 0) + (not done.kept),
        "base": base,
        "scans": scans[-REMEMBERED:],
        "patterns": len(done.patterns),
        "seconds": round(done.seconds, 1),
        "verdict": done.why,
        "chi": [round(done.before.chi, 4), round(done.after.chi, 4)],
        "scores": "those above are of the training, before it was adapted",
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
    }
    return replace(card, notes={**card.notes, "adapted": note})


def _times(card: Card) -> int:
    return int(card.notes.get("adapted", {}).get("times", 0))


def _origin(card: Card) -> str:
    """Of the weights that were never adapted."""
    return str(card.notes.get("adapted", {}).get("base", card.sha256[:12]))


def _states(folder: Path) -> list[Path]:
    """The newest first."""
    return sorted((each for each in folder.iterdir() if _NUMBER.fullmatch(each.name)), reverse=True)


def _newest(folder: Path, base: Path | None) -> tuple[State, State]:
    """The newest whole state, and the one that a series begins with; states of another beginning do not count,
    but for their number."""
    network, card = load_weights(base, device=device_of("auto"))
    first = State(network=network, card=card)
    states = _states(folder) if folder.exists() else []
    first = replace(first, number=int(states[0].name) if states else 0)
    for each in states:
        try:
            network, found = load_weights(each / WEIGHTS, device=device_of("auto"))
            remembered = _remembered(each / MEMORY)
        except (ScanError, OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
            continue
        if _origin(found) == _origin(card):
            return replace(first, network=network, card=found, remembered=remembered), first
    return first, first


def _put(folder: Path, state: State) -> None:
    """The next state, whole; older ones than the last and what a killed process left are removed."""
    folder.mkdir(parents=True, exist_ok=True)
    partial = folder / f"{os.getpid()}.partial"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    save_weights(state.network, state.card, partial / WEIGHTS)
    np.savez(
        partial / MEMORY,
        intensity=np.stack([each.seen.intensity for each in state.remembered]),
        mask=np.stack([each.seen.mask for each in state.remembered]),
        oversampling=np.array([each.oversampling for each in state.remembered]),
        target=np.stack([_target(each) for each in state.remembered]),
    )
    partial.rename(folder / f"{state.number + 1:06d}")
    for old in (*_states(folder)[STATES:], *folder.glob("*.partial")):
        shutil.rmtree(old, ignore_errors=True)


def _target(pattern: Measured) -> Object:
    assert pattern.target is not None
    return pattern.target


def _remembered(path: Path) -> tuple[Measured, ...]:
    with np.load(path, allow_pickle=False) as kept:
        names = ("intensity", "mask", "oversampling", "target")
        intensities, masks, oversampling, targets = (kept[name] for name in names)
    return tuple(
        Measured.on_grid(Pattern(intensity=intensity, mask=mask), (told[0], told[1], told[2]), target)
        for intensity, mask, told, target in zip(intensities, masks, oversampling.tolist(), targets)
    )


def _pattern(counts: FloatArray, mask: BoolArray | None) -> Pattern:
    found = np.asarray(counts)
    if found.ndim != 3 or found.dtype.kind not in "buif":
        raise ScanError(f"a pattern must be real numbers (rocking, row, column), not {found.dtype} {found.shape}")
    return Pattern(intensity=found.astype(np.float32), mask=known_part(mask, None, found.shape))


@contextmanager
def _storing(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StorageError(f"{path} could not be written: {error.strerror}") from error

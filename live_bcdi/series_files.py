"""Results of a series in, its table, figure and maps out."""

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .catalogue import Result, Run, open_run
from .config import Config
from .operando import peak_of
from .series import State, Study, table
from .series.study import check_stimulus
from .series_figure import FORMATS, save_series_figure
from .storage import put_whole
from .stream.state import find_value
from .transport.files import check_output
from .transport.vti import write_vti
from .types import ScanError

TABLE, MAPS = ".csv", ".vti"


def read_states(sources: Sequence[str], stimulus: str, values: str | None, config: Config) -> list[State]:
    """The newest result of each run (`open_run`), with the value of `stimulus` from `values`, "2.5,3", or else its
    metadata: the state of [operando], the start document, the scan's metadata.

    Raises ScanError where a result has no lab image, no state says its stimulus, or there are not as many values.
    """
    told = None if values is None else _numbers(values, len(sources))
    states = []
    for number, source in enumerate(sources):
        run = open_run(source, config=config)
        result = run.result()
        lab = result.reconstruction().lab
        if lab is None:
            raise ScanError(f"{source} has no image in the lab frame: its geometry, or any object, is missing")
        operando = _table(result.metadata.get("operando"))
        known = told[number] if told is not None else _stimulus(run, result, stimulus)
        # of a sum, which is named by all its scans, the file's
        name = Path(source).stem if " + " in run.name else run.name or source
        states.append(State(name=name, lab=lab, stimulus=known, peak=peak_of(operando.get("peak"))))
    check_stimulus([state.stimulus for state in states], stimulus)
    return _named_apart(states)


def _named_apart(states: list[State]) -> list[State]:
    """States of one name get their number."""
    names = [state.name for state in states]
    if len(set(names)) == len(names):
        return states
    return [
        State(name=f"{number} {state.name}", lab=state.lab, stimulus=state.stimulus, peak=state.peak)
        for number, state in enumerate(states, 1)
    ]


def _numbers(text: str, count: int) -> list[float]:
    try:
        found = [float(part) for part in text.split(",")]
    except ValueError:
        raise ScanError(f"--values {text!r} are no numbers; write them like 2.5,3,3.5") from None
    if len(found) != count or not np.isfinite(found).all():
        raise ScanError(f"--values has {len(found)} numbers for {count} results; give a finite one each")
    return found


def _stimulus(run: Run, result: Result, name: str) -> float | None:
    if not name:
        return None
    state = _table(_table(result.metadata.get("operando")).get("state"))
    if state.get("name") == name and isinstance(state.get("value"), int | float):
        return float(state["value"])
    said = find_value(_table(run.metadata.get("start")), name)
    if said is None:
        try:
            said = run.scan().metadata.get(name)
        except ScanError:
            said = None
    number = isinstance(said, int | float) and not isinstance(said, bool) and bool(np.isfinite(said))
    return float(said) if number else None


def _table(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def check_outputs(paths: Sequence[Path], *, overwrite: bool) -> None:
    """Say before the work that an output cannot be written. Raises ScanError as `check_output` does."""
    for path in paths:
        if path.suffix.lower() not in (*FORMATS, TABLE, MAPS):
            known = ", ".join((TABLE, *FORMATS, MAPS))
            raise ScanError(f"--output {path} is none of {known}")
        check_output(path, overwrite=overwrite, replaced=lambda it: it.suffix.lower() in (*FORMATS, TABLE, MAPS))


def write_outputs(found: Study, paths: Sequence[Path], *, stimulus: str, overwrite: bool) -> None:
    """The table, the figure or the maps, by each path's suffix."""
    for path in paths:
        kind = path.suffix.lower()
        if kind == TABLE:
            put_whole(path, [_csv(found)])
        elif kind == MAPS:
            _write_maps(found, path)
        else:
            save_series_figure(found, path, stimulus=stimulus, overwrite=overwrite)


def _csv(found: Study) -> bytes:
    rows = table(found)["states"]
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()


def _write_maps(found: Study, path: Path) -> None:
    """Support, how many states lacked a voxel, the components, and of each state the phase and strain differences
    and the part of the phase that the first component is."""
    maps: dict[str, Any] = {
        "support": found.series.support,
        "filled_states": found.is_filled.sum(axis=0).astype(np.int64),
    }
    maps |= {f"component_{k + 1}": each for k, each in enumerate(found.order.maps)}
    for number in range(len(found.names)):
        maps[f"phase_rad_{number + 1}"] = found.phase_rad[number]
        maps[f"component_phase_rad_{number + 1}"] = found.order.part_of(number).astype(np.float32)
        maps[f"strain_{number + 1}"] = found.strain[number]
    origin = [-(count // 2) * found.series.voxel_nm for count in found.series.support.shape]
    about = {f"state {number + 1}": name for number, name in enumerate(found.names)}
    write_vti(
        path,
        maps,
        spacing_nm=found.series.voxel_nm,
        origin_nm=(origin[0], origin[1], origin[2]),
        about={**about, "lengths": "nm, lab frame (x, y, z) of the first state"},
    )

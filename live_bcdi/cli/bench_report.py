"""What `live-bcdi bench` asks for, and how it tells it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from .. import bench
from ..peer import find_cohere
from ..transport.hdf5 import read_scan
from ..types import ScanError


def measure(
    asked: Sequence[str], scan: Path | None, chi: float | None, cohere_python: Path | None, *, threads: int
) -> dict[str, Any]:
    """Everything that the options ask for, by name; `asked` are shapes like 128x128x128. Raises ScanError for one
    that is none, and for a chi without a scan."""
    if chi is not None and scan is None:
        raise ScanError("--chi says which chi of a scan to wait for; give the scan too, with --scan FILE")
    shapes = [_shape(text) for text in asked]
    given = None if scan is None else read_scan(scan)
    python = find_cohere(cohere_python)
    told: dict[str, Any] = {"rows": bench.phasing(shapes, threads=threads)}
    if python is not None:
        last = {row.shape: row for row in told["rows"]}
        told["cohere_rows"] = [bench.cohere_row(each, python, last[each]) for each in shapes]
    told["abreast"] = [bench.abreast(each, name, threads=threads) for each in shapes for name in bench.batching()]
    told["memory"] = [bench.memory(each) for each in shapes]
    told["whole"] = None if given is None else bench.time_to_chi(given, threads=threads)
    if given is not None and chi is not None:
        curve = bench.chi_curve(given, threads=threads)
        told |= {"curve": curve, "reached": next((point for point in curve if point.chi <= chi), None)}
    if given is not None and python is not None:
        told["cohere"] = bench.cohere_scan(given, python, threads=threads)
    return told


def show(told: dict[str, Any], screen: Console, threads: int, chi: float | None) -> None:
    """In words, what `measure` found."""
    rows = [*told["rows"], *told.get("cohere_rows", [])]
    title = f"milliseconds (times the two transforms), {threads} thread(s)"
    shown = Table("shape", "backend", "pair ms", *rows[0].steps_ms, title=title, box=None)
    for row in rows:
        steps = (f"{row.steps_ms[name]:.1f} ({ratio:.2f})" for name, ratio in row.ratios().items())
        shown.add_row("x".join(map(str, row.shape)), row.backend, f"{row.pair_ms:.2f} {row.fft}", *steps)
    screen.print(shown)
    for row in told["rows"]:
        pairs = ", ".join(f"{name} {pair_ms:.1f}" for name, pair_ms in row.pairs_ms.items())
        screen.print(f"the two transforms at {row.shape} beside {row.backend}, ms: {pairs}")
    for each in told["abreast"]:
        screen.print(
            f"{each.starts} starts at {each.shape}, {each.backend}, an HIO iteration: "
            f"{each.together_ms:.0f} ms abreast, {each.one_by_one_ms:.0f} ms one by one"
        )
    for each in told["memory"]:
        resident = "" if each.resident is None else f", {each.resident:.1f} by the resident set"
        screen.print(f"peak memory at {each.shape}: {each.volumes:.1f} complex64 volumes a start{resident}")
    _show_scan(told, screen, chi)


def _show_scan(told: dict[str, Any], screen: Console, chi: float | None) -> None:
    if (whole := told["whole"]) is not None:
        took = f"{whole.wall_s:.1f} s, {whole.cpu_s:.1f} CPU-s, {whole.starts} starts to the end"
        screen.print(f"{whole.name}: chi {whole.chi:.4f} after {took}")
    for point in told.get("curve", []):
        screen.print(f"one start: chi {point.chi:.5f} after {point.wall_s:.2f} s, {point.cpu_s:.2f} CPU-s")
    if chi is not None and told["reached"] is None:
        screen.print(f"one start does not get to chi {chi}")
    if (peer := told.get("cohere")) is not None:
        took = f"{peer.wall_s:.1f} s, {peer.cpu_s:.1f} CPU-s, {peer.iterations} iterations"
        screen.print(f"cohere {peer.version}: chi {peer.chi:.4f} (its own: {peer.chi_own:.4f}) after {took}")


def show_faults(told: dict[str, Any], screen: Console) -> None:
    """What `faults.soak` found."""
    counts = {key: value for key, value in told.items() if isinstance(value, int | float | str)}
    counts["faults"] = ", ".join(f"{count} {fault}" for fault, count in told["faults"].items())
    shown = Table("", "", title="Faults on purpose, and what was lost", show_header=False, box=None)
    for key, value in counts.items():
        shown.add_row(key, str(value))
    screen.print(shown)
    for name, values in told["recovery_s"].items():
        said = ", ".join(f"{key} {value}" for key, value in values.items())
        screen.print(f"seconds from the end of the plan to the result in Tiled, {name.replace('_', ' ')}: {said}")
    columns = ("processes", "max_mb", "scans", "first_mb", "last_mb", "mb_per_100_scans")
    memory = Table("process", *columns, title="Memory; of the process that saw most scans, after ten", box=None)
    for name, values in told["memory_mb"].items():
        memory.add_row(name, *(str(values[column]) for column in columns))
    screen.print(memory)
    for line in told["wrong"]:
        screen.print(line, style="red", markup=False, soft_wrap=True)


def _shape(text: str) -> tuple[int, int, int]:
    edges = [int(edge) for edge in text.split("x") if edge.isdigit()]
    if len(edges) != 3 or min(edges) < 8:
        raise ScanError(f"{text!r} is not a shape; write three edges of at least 8 voxels, like 128x128x128")
    return edges[0], edges[1], edges[2]

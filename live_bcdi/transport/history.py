"""Runs in Tiled as a list that is read a page at a time, and one image of one result. Nothing here writes."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from tiled.client.container import Container
from tiled.queries import KeyPresent, KeysFilter, Like

from ..types import LabImage, ScanError
from .stored import LAB_ARRAYS, lab_from
from .tiled import REFINED, find_run, whole

SCAN = "start.live_bcdi.scan"
MOST_ROWS = 100
_KINDS = (REFINED, "dynamical")
_FACTS = (
    "chi",
    "resolution_nm",
    "frames",
    "num",
    "voxel_nm",
    "finished",
    "seconds",
    "recipe",
    "outcome",
    "operando",
)


def list_runs(
    root: Container, *, skip: int = 0, count: int = 20, text: str = ""
) -> tuple[list[dict[str, Any]], int]:
    """`count` rocking scans, the newest first, after `skip` newer ones, and how many there are; with a `text`,
    those that have it in the name or the sample, or whose uid begins with it (the number is then at least that).

    A row is {run, name, sample, hkl, time_s, num, exit_status, results: [{version, chi, resolution_nm, ...}]},
    None where something is not known, results by their version: "2" of phase retrieval, "dynamical/1" of
    those that were made of them by the theory that the crystal needed.
    """
    if "raw" not in root:
        return [], 0
    count, raw = min(count, MOST_ROWS), root["raw"].search(KeyPresent("start.live_bcdi")).sort(("start.time", -1))
    if text:
        searches = [raw.search(query) for query in _queries(text)]
        nodes = {uid: node for search in searches for uid, node in search.items()[: skip + count]}
        newest = sorted(nodes.items(), key=lambda item: -(_start(item[1]).get("time") or 0))
        shown, total = newest[skip : skip + count], max(len(newest), *(len(search) for search in searches))
    else:
        shown, total = raw.items()[skip : skip + count], len(raw)
    found = _results_of(root, [uid for uid, _ in shown])
    return [_row(uid, node, found.get(uid, [])) for uid, node in shown], total


def _queries(text: str) -> Iterable[Like]:
    return Like(f"{SCAN}.name", f"%{text}%"), Like(f"{SCAN}.sample", f"%{text}%"), Like("start.uid", f"{text}%")


def _start(node: Container) -> Mapping[str, Any]:
    return _table(node.metadata.get("start"))


def _table(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _row(uid: str, node: Container, results: list[dict[str, Any]]) -> dict[str, Any]:
    start, stop = _start(node), _table(node.metadata.get("stop"))
    ours = _table(start.get("live_bcdi"))
    scan, planned = _table(ours.get("scan")), _table(ours.get("planned"))
    return {
        "run": uid,
        "name": scan.get("name"),
        "sample": scan.get("sample"),
        "hkl": scan.get("hkl"),
        "time_s": start.get("time"),
        "num": planned.get("num"),
        "exit_status": stop.get("exit_status"),
        "results": results,
    }


def _results_of(root: Container, uids: Sequence[str]) -> dict[str, list[dict[str, Any]]]:
    """Those of phase retrieval before those that were made of them."""
    found: dict[str, list[dict[str, Any]]] = {}
    for kind in _KINDS if uids else ():
        runs = root[kind].search(KeysFilter(keys=list(uids))).items() if kind in root else ()
        for uid, versions in runs:
            found.setdefault(uid, []).extend(_facts(kind, versions))
    return found


def _facts(kind: str, versions: Container) -> list[dict[str, Any]]:
    """{version, chi, resolution_nm, ...} of each whole result of a run, in order."""
    return [
        {"version": _version(kind, number), **{name: node.metadata.get(name) for name in _FACTS}}
        for number, node in whole(versions).items()
    ]


def _version(kind: str, number: str) -> str:
    """As people see it and ask for it: "2", or "dynamical/2"."""
    return number if kind == REFINED else f"{kind}/{number}"


def _place(version: str) -> tuple[str, str]:
    """Kind and number of a version."""
    kind, _, number = version.rpartition("/")
    return kind or REFINED, number


def find_result(root: Container, run: str, version: str = "") -> tuple[str, str]:
    """Uid and version of a result of the run that begins with `run`: the newest whole one of phase retrieval, or
    `version`.

    Raises ScanError where there is no such run or result, or it was cut off while it was stored."""
    uid = find_run(root, run)
    there = {kind: root[kind, uid] for kind in _KINDS if kind in root and uid in root[kind]}
    found = [_version(kind, number) for kind, versions in there.items() for number in whole(versions)]
    retrieved = [each for each in found if _place(each)[0] == REFINED]
    if not retrieved and not version:
        raise ScanError(f"run {uid[:8]} has no result yet; `live-bcdi phase {uid[:8]}` makes one")
    wanted = version or retrieved[-1]
    if wanted in found:
        return uid, wanted
    kind, number = _place(wanted)
    if kind in there and number in there[kind]:
        raise ScanError(f"result {wanted} of run {uid[:8]} was cut off while it was stored; choose another one")
    raise ScanError(f"run {uid[:8]} has no result {wanted}; it has {', '.join(found) or 'none'}")


def read_lab_image(root: Container, uid: str, version: str) -> tuple[LabImage, dict[str, Any]]:
    """The image in the lab frame of a result that `find_result` found, and the result's metadata.

    Raises ScanError where it has none, or an array is missing.
    """
    kind, number = _place(version)
    node = root[kind, uid, number]
    metadata = dict(node.metadata)
    if metadata.get("voxel_nm") is None:
        raise ScanError(
            f"result {version} of run {uid[:8]} has no image in the lab frame: its scan's geometry is not known"
        )
    there = set(node)
    if missing := [name for name in LAB_ARRAYS if name not in there and not name.endswith("_std")]:
        raise ScanError(
            f"result {version} of run {uid[:8]} is not whole: it lacks {', '.join(missing)}; refine the run again"
        )
    arrays = {name: np.asarray(node[name].read()) for name in LAB_ARRAYS if name in there}
    return lab_from(arrays, metadata), metadata

"""What must hold of every run in the end, looked up where a user would: the detector's file, the result, Tiled."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

import numpy as np
from tiled.client.container import Container

from ..pipeline import provenance
from ..transport.hdf5 import FrameFile, read_result
from ..transport.tiled import read_raw_scan
from ..types import ScanError
from .material import NOTHING, Material, Truth

READ_EVERY = 10  # complete runs are read whole from Tiled, one of so many; of the others all


class Fate(StrEnum):
    """How a run ended."""

    UNDER_WAY = "under way"
    COMPLETE = "complete"
    ABORTED = "aborted"
    KILLED = "killed"


class Fault(StrEnum):
    """What may be wrong with a run."""

    LOST = "frames lost"
    MISSING = "result missing"
    WRONG = "result wrong"
    TWICE = "result twice"
    RAW = "raw incomplete"


@dataclass(slots=True)
class Run:
    """A scan as it was ordered, and what became of it. Times are seconds of the monotonic clock."""

    number: int
    file: Path
    num: int
    fly: bool
    uid: str = ""
    told: int = 0  # frames in its documents
    fate: Fate = Fate.UNDER_WAY
    ended_s: float = 0.0
    settled_s: float | None = None  # when its result was in Tiled, or said to be impossible
    faults: list[str] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """Something wrong: `frames` of it where frames are lost."""

    run: str
    fault: Fault
    what: str
    frames: int = 0


class Oracle:
    """Looks at `storage` and Tiled, and compares with what `material` must give."""

    def __init__(self, storage: Path, material: Material) -> None:
        self._storage = storage
        self._material = material

    def settled(self, runs: Iterable[Run]) -> list[Run]:
        """Those with a result that waits for nothing, or the word that there can be none."""
        over = _uids(self._storage / "queue/done") | _uids(self._storage / "queue/failed")
        over -= _uids(self._storage / "outbox")
        return [run for run in runs if run.uid in over]

    def _tickets(self, folder: str, run: Run) -> list[Path]:
        return list((self._storage / folder).glob(f"*{run.uid}*.json"))

    def measured(self, run: Run) -> int:
        """Frames in the detector's file; 0 where it made none. Raises ScanError where they are not the scan's."""
        found = list((self._storage / "frames").glob(f"*_{run.uid[:8]}.h5"))
        if not found:
            return 0
        truth = self._material.scan(run.file)
        with FrameFile(found[0]) as store:
            count = store.count()
            for index in range(count):
                image, angle_deg, _, _ = store.frame(index)
                if not np.array_equal(image, truth.intensity[index]) or angle_deg != truth.angles_deg[index]:
                    raise ScanError(f"frame {index} of the detector's file is not what it saw")
        return count

    def result(self, run: Run, root: Container) -> list[Finding]:
        """What is wrong with the result of a settled run. Raises what Tiled's client raises where it is away."""
        return list(self._result(run, root))

    def _result(self, run: Run, root: Container) -> Iterator[Finding]:
        count = self.measured(run)
        if count < run.told:
            yield _finding(run, Fault.LOST, f"{run.told} documented, {count} in the file", run.told - count)
        truth = self._material.truth(run.file, count) if count else NOTHING
        done, failed = self._tickets("queue/done", run), self._tickets("queue/failed", run)
        if truth.error:
            if done or not failed:
                yield _finding(run, Fault.WRONG, f"a result of {count} frames, which give none: {truth.error}")
            return
        if not done:
            reason = json.loads(failed[0].read_text()).get("error") if failed else "no ticket"
            yield _finding(run, Fault.MISSING, str(reason))
            return
        summary = json.loads(done[0].read_text())
        yield from self._summary(run, summary, count)
        yield from self._density(run, summary, truth)
        yield from self._in_tiled(run, root, truth)

    @staticmethod
    def _summary(run: Run, summary: dict[str, Any], count: int) -> Iterator[Finding]:
        lost = count - int(summary["frames"])
        if lost:
            yield _finding(run, Fault.LOST, f"{count} in the file, {summary['frames']} in the result", abs(lost))
        if summary["missing"] != list(range(count, run.num)):
            yield _finding(run, Fault.WRONG, f"missing {summary['missing']}, but {count} of {run.num} are there")

    @staticmethod
    def _density(run: Run, summary: dict[str, Any], truth: Truth) -> Iterator[Finding]:
        result = read_result(Path(summary["file"]))
        if result.provenance["input_sha256"] != truth.input_sha256:
            yield _finding(run, Fault.WRONG, "its input is not the scan")
        if not np.array_equal(result.density, truth.density):
            yield _finding(run, Fault.WRONG, "its density is not that of the scan")

    @staticmethod
    def _in_tiled(run: Run, root: Container, truth: Truth) -> Iterator[Finding]:
        refined = root.get("refined", {})
        versions = dict(refined[run.uid].items()) if run.uid in refined else {}
        complete = [node for node in versions.values() if node.metadata.get("complete")]
        if not complete:
            yield _finding(run, Fault.MISSING, f"not in Tiled; {len(versions)} incomplete versions")
        for node in complete:
            if not np.array_equal(node["density"].read(), truth.density):
                yield _finding(run, Fault.WRONG, "its density in Tiled is not that of the scan")

    @staticmethod
    def versions(run: Run, root: Container) -> list[Finding]:
        """Whether Tiled has the result more than once."""
        if "refined" not in root or run.uid not in root["refined"]:
            return []
        versions = [bool(node.metadata.get("complete")) for node in root["refined"][run.uid].values()]
        if sum(versions) < 2:
            return []
        return [_finding(run, Fault.TWICE, f"{len(versions)} versions in Tiled, {sum(versions)} complete")]

    def raw(self, run: Run, root: Container) -> list[Finding]:
        """What is wrong with the raw run in Tiled."""
        if "raw" not in root or run.uid not in root["raw"]:
            return [_finding(run, Fault.RAW, f"no raw run in Tiled ({run.fate})")]
        node = root["raw"][run.uid]
        if not node.metadata.get("stop"):
            return [_finding(run, Fault.RAW, f"no stop document ({run.fate})")]
        if not run.told or (run.fate is Fate.COMPLETE and run.number % READ_EVERY):
            return []
        frames = read_raw_scan(root, run.uid)
        count = self.measured(run)
        if run.fate is Fate.KILLED and len(frames.intensity) == count + 1:
            count += 1  # written whole, and killed before it was counted
        if provenance(frames)["input_sha256"] != self._material.truth(run.file, count).input_sha256:
            return [_finding(run, Fault.RAW, f"{len(frames.intensity)} frames, and not what the detector saw")]
        return []


def _finding(run: Run, fault: Fault, what: str, frames: int = 0) -> Finding:
    return Finding(run=run.uid, fault=fault, what=f"scan {run.number}: {what}", frames=frames)


def _uids(folder: Path) -> set[str]:
    """The runs of the tickets in a folder; their names are a time and the uid."""
    return {path.stem.partition("_")[2] for path in folder.glob("*.json")}


def owed(storage: Path) -> list[Path]:
    """What the services have still to do."""
    queues = ("queue", "queue/open", "queue/later", "queue/motion", "queue/dynamical")
    folders = ("documents", *queues, "outbox", "outbox/tracking", "outbox/dynamical")
    return [path for folder in folders for path in (storage / folder).glob("*") if path.is_file()]


def leftovers(storage: Path) -> list[str]:
    """Files that must not be there when all work is done: what is owed, and what is half written or claimed."""
    half = [path for end in ("*partial*", "*.lock") for path in storage.rglob(end) if path.is_file()]
    return [str(path.relative_to(storage)) for path in {*owed(storage), *half}]

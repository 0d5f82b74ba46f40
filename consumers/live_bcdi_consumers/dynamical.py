"""The errand of results whose crystal needs more of the physics than a Fourier transform: refined by the theory
that it needs (docs/dynamical.md), beside the kinematical result.

It is for when nothing else is to be done: a scan that has ended goes first, and what was begun goes on from its
checkpoint.
"""

import re
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from contextlib import suppress
from glob import escape
from pathlib import Path
from typing import Any

from live_bcdi.climbed import Kinematical, climb_to_file, numbers
from live_bcdi.climbing import Need, Progress, needed
from live_bcdi.config import Config
from live_bcdi.dynamical.checkpoint import CheckpointRefused
from live_bcdi.dynamical.ladder import Rung
from live_bcdi.jobs import JobPool, open_pool
from live_bcdi.log import about_run
from live_bcdi.transport.files import has_room
from live_bcdi.transport.hdf5 import read_result
from live_bcdi.transport.results import read_origin
from live_bcdi.types import Reconstruction, ScanError

from .errands import Look
from .progress import FileProgress, JobProgress
from .refining import scan_of
from .service import Service

NICE = 15
PACED_S = 2.0  # by then an epoch's time is known
KEPT = 2  # checkpoints: of a crystal of 300^3 voxels one may be 2 GB, and a long series leaves many of them
_OWN_TIME = re.compile(r", \d+ s left$")  # the page has its own, which goes on when nothing is told
Owe = Callable[[str, dict[str, Any]], None]


class OverBudget(Exception):
    """The machine is too slow for this crystal, in a sentence that says what to do."""


class Dynamical:
    """An `Errand`. Its tickets are {start, file, result, run, name, frames, num, rung}."""

    folder = "queue/dynamical"
    newest_first = True
    waits_for_room = False
    given_up = "the kinematical result stands, it is not refined further"

    def __init__(self, service: Service, owe: Owe) -> None:
        """`owe` is given the name and the summary of each result that is on disk."""
        self._service, self._owe = service, owe
        self._folder = service.folder(self.folder)
        self._progress: JobProgress | None = None
        self._forget_all_but({path.stem for path in self._folder.glob("*.json")})

    def ticket(self, run: dict[str, Any], summary: dict[str, Any] | None) -> dict[str, Any] | None:
        """Refraction alone was divided out of the kinematical result at once."""
        further = (Rung.REFRACTED.value, Rung.DYNAMICAL.value)
        if summary is None or summary.get("rung") not in further or not self._service.config.dynamical.automatic:
            return None
        about = {key: summary[key] for key in ("run", "name", "frames", "num", "rung")}
        return {**about, "start": run["start"], "file": str(run["file"]), "result": summary["file"]}

    def look(self, ticket: dict[str, Any]) -> Look:
        wanted = self._service.config.dynamical.automatic
        return Look.DO if wanted and has_room(self._folder) else Look.LATER

    def pool(self) -> JobPool:
        return open_pool(self._service.config, workers=1, nice=NICE)

    def begin(self, pool: JobPool, name: str, ticket: dict[str, Any]) -> Future[dict[str, Any]]:
        run = str(ticket["run"])
        path = self._service.folder("progress") / f"{run}_dynamical_{time.time_ns()}.json"
        about_run("refine", run).info("refinement by the theory that it needs begins: %s", ticket["rung"])
        self._progress = JobProgress(
            f"{ticket['name']} ({ticket['rung']})", run, ticket["frames"], path=path, began_s=time.monotonic()
        )
        checkpoint = self._folder / f"{name}.npz"
        self._forget_checkpoints_but(checkpoint)
        return pool.submit(climb_run, ticket, checkpoint, self._service.config, FileProgress(path))

    def jobs(self, now_s: float) -> list[dict[str, Any]]:
        """What is known of that at work, as the update `queue` has it."""
        if self._progress is None:
            return []
        self._progress.look(now_s)
        return [self._progress.fields(now_s, None)]

    def done(self, name: str, found: dict[str, Any]) -> None:
        self._owe(name, found)
        fields = {key: found[key] for key in ("rung", "chi", "free_misfit", "file", "seconds")}
        words = "refined by the theory that it needs: %(rung)s, chi %(chi).4g, in %(file)s after %(seconds).1f s"
        about_run("refine", found["run"]).info(words, fields, extra={"fields": fields})

    def left(self, name: str, *, over: bool) -> None:
        if self._progress is not None:
            self._progress.close()
            self._progress = None
        if over:
            (self._folder / f"{name}.npz").unlink(missing_ok=True)
        for half in self._folder.glob(f".{escape(name)}.*"):
            half.unlink(missing_ok=True)

    def _forget_checkpoints_but(self, begun: Path) -> None:
        """Those that go on longest hence begin anew; room for all of them is not counted on."""
        others = sorted(path for path in self._folder.glob("*.npz") if path != begun and path.name[0] != ".")
        for path in others[: max(0, len(others) - (KEPT - 1))]:
            path.unlink(missing_ok=True)

    def _forget_all_but(self, names: set[str]) -> None:
        """What was half written, and checkpoints of what nobody owes, are of who was killed."""
        for path in self._folder.glob("*.npz"):
            if path.name.startswith(".") or path.stem not in names:
                path.unlink(missing_ok=True)


def climb_run(
    ticket: Mapping[str, Any], checkpoint: Path, config: Config, progress: Progress | None = None
) -> dict[str, Any]:
    """The job: a kinematical result and its frames -> a result beside it, `<result>_dynamical.cxi`, or, where
    another is there, `<result>_dynamical_2.cxi` and so on.

    Returns the summary that is owed to Tiled. Raises OverBudget, and ScanError where the crystal needs nothing
    more by now, and as `climb_to_file` does.
    """
    began_s = time.perf_counter()
    source = _source_of(ticket)
    need = needed(source.scan, source.result, config)
    path, done = _place(Path(ticket["result"]), need)
    found = numbers(done) if done is not None else _climbed(source, path, checkpoint, (config, progress))
    if found.get("file", path) is None:
        raise ScanError(f"it needs no more by now: {need.why}")
    about = {key: ticket[key] for key in ("run", "name", "frames", "num")}
    told = {"started_from": source.path, "file": str(path), "seconds": time.perf_counter() - began_s}
    return {**found, **told, **about, "resolution_nm": None}


def _source_of(ticket: Mapping[str, Any]) -> Kinematical:
    kept = Path(ticket["result"])
    return Kinematical(
        name=ticket["name"],
        run=ticket["run"],
        path=str(kept),
        scan=scan_of(ticket).scan(),
        result=read_result(kept),
        links={"frames": str(ticket["file"])},
    )


def _climbed(
    source: Kinematical, path: Path, checkpoint: Path, how: tuple[Config, Progress | None]
) -> dict[str, Any]:
    """A checkpoint of other settings, which were changed while it waited, is begun anew."""
    config, progress = how
    while True:
        paced = Paced(progress or (lambda share, text: None), config.dynamical.budget_s, source.run)
        try:
            return climb_to_file(source, path, config, checkpoint=checkpoint, progress=paced)
        except CheckpointRefused:
            checkpoint.unlink()


def _place(kept: Path, need: Need) -> tuple[Path, Reconstruction | None]:
    """The first name that nothing else has; with the result that is there where it is this very one, of who was
    killed before it could be told."""
    number = 1
    while True:
        path = kept.with_name(f"{kept.stem}_dynamical{'' if number == 1 else f'_{number}'}.cxi")
        if not path.exists():
            return path, None
        with suppress(ScanError):
            done = read_result(path)
            if _is_of(path, done, kept, need):
                return path, done
        number += 1


def _is_of(path: Path, done: Reconstruction, kept: Path, need: Need) -> bool:
    """Whether it is of this result, on this rung, with these constants: by hand others may be made."""
    link = read_origin(path).links.get("kinematical")
    told = done.provenance
    same = told.get("model") == need.rung.value and told.get("refined", "").startswith(f"{need.reflection};")
    return same and link is not None and (path.parent / link).resolve() == kept.resolve()


class Paced:
    """Progress of work that is given up where its pace says that the whole would take longer than `budget_s`.

    The pace is by the time that went by or that the processor worked on it, whichever is less: that others kept
    the processor for a while says nothing of the machine.
    """

    def __init__(self, tell: Progress, budget_s: float, run: str) -> None:
        self._tell, self._budget_s, self._run = tell, budget_s, run
        self._first: tuple[float, float, float] | None = None
        self._judged = False

    def __call__(self, share: float, text: str) -> None:
        self._tell(share, _OWN_TIME.sub("", text))
        now_s, worked_s = time.monotonic(), time.process_time()
        if self._first is None:  # what came before was imports, compilation and reading
            self._first = now_s, worked_s, share
        elapsed_s, gained = now_s - self._first[0], share - self._first[2]
        if self._judged or gained <= 0 or elapsed_s < PACED_S:
            return
        self._judged = True
        whole_s = min(elapsed_s, worked_s - self._first[1]) / gained
        if whole_s > self._budget_s:
            raise OverBudget(
                f"it would take {whole_s / 60:.0f} min here, more than [dynamical] budget_s ({self._budget_s:g})"
                f" allows; `live-bcdi refine-dynamical {self._run[:8]}` takes that time"
            )

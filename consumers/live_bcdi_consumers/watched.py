"""One run that is being measured, as the live consumer knows it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from live_bcdi.advice import Advice
from live_bcdi.estimate import LiveEstimate
from live_bcdi.log import about_run
from live_bcdi.stream.live import LiveRun
from live_bcdi.transport.hdf5 import FrameFile
from live_bcdi.types import ScanError


@dataclass(slots=True, eq=False)
class Watched:
    """A run, its file where documents name one, and what the page was told of it."""

    live: LiveRun
    path: str | None = None
    stop: dict[str, Any] | None = None
    stop_s: float = 0.0
    done: bool = False
    told_count: int = -1
    estimated_count: int = 0
    estimated_whole: bool = False
    workers_lost: int = 0
    previous: LiveEstimate | None = None
    preview_lag_s: float | None = None
    refused: bool = False
    kept: bool = False
    advice: tuple[Advice, ...] | None = None
    advise_s: float = 0.0
    most_waiting: int = 0
    active_s: float = 0.0
    open_again_s: float = 0.0
    followed: bool = False
    tracked_count: int = 0
    store: FrameFile | None = None

    def refill(self, for_s: float) -> bool:
        """Read for so long what is missing so far, or at the run's end all. True where there is no more to read.

        Raises ScanError where the file cannot be read."""
        ended = self.stop is not None
        if not (self.live.assembler.missing if ended else self.live.is_behind):
            return True
        if self.path is None:
            raise ScanError("its documents name no frame file")
        if self.store is None:
            self.store = FrameFile(self.path, wait_s=2.0 if ended else 0.0)
        return self.live.refill(self.store, to_end=ended, for_s=for_s)

    def log_stop(self, fields: Mapping[str, Any]) -> None:
        """One line with all numbers of a run that ended, in words and as fields; `fields` are those of `live`."""
        names = ("received", "lost", "refilled", "duplicates", "skipped", "missing", "newest_age_s", "rate_hz")
        numbers = {name: fields[name] for name in names}
        delay_s = self.preview_lag_s
        about_run("live", self.live.plan.run).info(
            "stop: %d of %d frames, %d lost on the way, %d refilled, %d duplicates, missing %s,"
            " at most %d waiting; the last came %s ago, preview lag %s",
            *(fields["count"], fields["num"], numbers["lost"], numbers["refilled"]),
            *(numbers["duplicates"], self.live.assembler.missing, self.most_waiting),
            *(_seconds(numbers["newest_age_s"]), _seconds(delay_s)),
            extra={"fields": {**numbers, "most_waiting": self.most_waiting, "preview_lag_s": delay_s}},
        )

    def close(self) -> None:
        """Close the file; `refill` opens it again."""
        if self.store is not None:
            self.store.close()
            self.store = None


def _seconds(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.1f} s"

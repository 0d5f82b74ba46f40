"""What the services tell each other and the page while they work: small, replaceable, lost without harm.

| topic | fields | arrays |
|---|---|---|
| health | service, pid, state, detail, time_s | |
| run | state (started, stopped), name, sample, hkl, num, start_deg, stop_deg, exit_status | |
| live | count, num, index, angle_deg, rate_hz, total, peak, bragg_deg, d_angstrom, q_invA, | image, |
| | peak_counts, saturated, saturation_counts, image_bin, dead, refilled, missing, | angles_deg, |
| | duplicates | totals, have |
| estimate | kind (live, refined), frames, num, chi, seconds, voxel_nm, axes, | amplitude_0..2, |
| | resolution_nm | phase_0..2 |
| result | name, chi, resolution_nm, seconds, file, tiled, frames, num, error | |
| notice | service, level (info, warning, error), message | |

`peak` is (rocking, row, column) in the detector's own pixels; `image_bin` is how many of them, an edge, one
pixel of `image` stands for (1 where it is absent). `health` is a heartbeat: a service that is not heard for 5 s
is shown as silent. The `stopped` update of a run need not repeat what `started` said.
`amplitude_0` is the central slice normal to axis 0, (axis 1, axis 2), and so on, relative to the maximum of the
volume; phase is NaN outside the support. Times are seconds since the epoch. `voxel_nm` has one edge an axis, and
is None without a geometry; `axes` names them.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from numpy.typing import NDArray

TOPICS = ("health", "run", "live", "estimate", "result", "notice")


@dataclass(frozen=True, kw_only=True, slots=True)
class Update:
    """One message: `fields` are plain JSON values, `arrays` numpy arrays; `run` may be empty."""

    topic: str
    run: str = ""
    fields: Mapping[str, Any] = field(default_factory=dict)
    arrays: Mapping[str, NDArray[Any]] = field(default_factory=dict)


class UpdateSink(Protocol):
    """Where a service says what it is doing."""

    def send(self, update: Update) -> None: ...


class RecordingSink:
    """A sink for tests: keeps what it was sent, and hands each to `then`."""

    def __init__(self, then: Callable[[Update], None] = lambda update: None) -> None:
        self.sent: list[Update] = []
        self._then = then

    def send(self, update: Update) -> None:
        self.sent.append(update)
        self._then(update)

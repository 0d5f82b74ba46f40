"""What the services tell each other and the page while they work: small, replaceable, lost without harm.

| topic | fields | arrays |
|---|---|---|
| health | service, pid, state, detail, time_s | |
| run | state (started, stopped), name, sample, hkl, num, start_deg, stop_deg, exit_status | |
| live | count, num, index, angle_deg, rate_hz, total, peak, bragg_deg, d_angstrom, q_invA, | image, |
| | peak_counts, saturated, saturation_counts, image_bin, dead, received, lost, | angles_deg, |
| | duplicates, refilled, missing, waiting, skipped, newest_age_s, window, | totals, have, |
| | interval_s, frame_time_s | centroid_row, |
| | | centroid_column, |
| | | centroid_row_std, |
| | | centroid_column_std, |
| | | monitor, times_s |
| estimate | kind (live, preview, refined, dynamical), frames, num, chi, seconds, | amplitude_0..2, |
| | voxel_nm, axes, resolution_nm, lag_s, surface, ranges, uncertainty, chi_starts, free_llk, | phase_0..2, |
| | free_llk_starts, fsc_nm, limit_nm, rung, misfits, phase_std_rad, defects, unlike | |
| | | displacement_0..2, |
| | | strain_0..2, |
| | | surface_vertices, |
| | | surface_faces, |
| | | surface_phase, |
| | | surface_displacement, |
| | | surface_strain |
| advice | of (scan, result), advice | |
| queue | running, waiting, later, outbox, jobs | |
| result | name, chi, resolution_nm, seconds, file, tiled, frames, num, error, | |
| | stop_to_result_s, last_frame_to_result_s | |
| operando | series, state {name, unit}, explained, runs: [{run, name, time_s, state, state_std, | |
| | state_why, strain_std, strain_std_error, d_change, components, components_why, chi, | |
| | resolution_nm, intensity, rotation_mdeg, rotation_std_mdeg, peak_change, peak_change_std}] | |
| tracking | of (scan), frames, num, whole, seconds, why, step_deg, jitter_steps, | found_steps, |
| | log_evidence, corrected, reason, and what else `TrackingResult` has | std_steps, gain, ... |
| tracking | of (series), series, prediction, scans: [{run, name, time_s, rotation_mdeg, | |
| | rotation_std_mdeg, strain, strain_std, counts_ratio, angle_deg, angle_std_deg, row, | |
| | row_std, column, column_std, reasons}] | |
| steering | what, values, uncertainty, why, made_at_s, frames | |
| notice | service, level (info, warning, error), message | |

`peak` is (rocking, row, column) in the detector's own pixels; `image_bin` is how many of them, an edge, one
pixel of `image` stands for (1 where it is absent). `health` is a heartbeat: a service that is not heard for 5 s
is shown as silent. The `stopped` update of a run need not repeat what `started` said.
`amplitude_0` is the central slice normal to axis 0, (axis 1, axis 2), and so on, relative to the maximum of the
volume; phase is NaN outside the support. Times are seconds since the epoch. `voxel_nm` has one edge an axis, and
is None without a geometry; `axes` names them. Displacement (angstrom, along +h) and strain are there where they
are known, NaN outside the support; `ranges` has the end of a range about zero that holds 99 % of each in the whole
crystal, `uncertainty` the median of its standard deviation over the starts, where there were several.

The surface is where the amplitude is half of its mean, weighted by itself, in the support: `surface_vertices`
(n, 3) float32 from the crystal's centre, `surface_faces` (m, 3) uint16, counter-clockwise as seen from outside,
and what is known at each vertex, (n,) float32, NaN where it is not. A live estimate has at most 12,000 faces
(0.2 MB), a refined one 20,000 (0.4 MB). `surface` is None where there is none, else {level, step, axes, q_invA}:
`level` relative to the maximum of the amplitude, `step` voxels a cell of the grid that it was drawn on (1 unless
the crystal is large), `axes` x, y, z of the lab in nm, or those of the detector in voxels where no geometry is
known, and the scattering vector `q_invA`, or None.

Of a refined estimate `chi_starts` and `free_llk_starts` have one value a start; `resolution_nm` is by the PRTF at
1/e, `fsc_nm` by the correlation of two halves of the starts at "0.5", "1/7" and "half-bit", `limit_nm` the full
period at the end of what was measured: a figure that equals it is that of the range. `rung` is the cheapest theory
that its crystal needs ("kinematical", "refraction", "dynamical"), `misfits` what a Fourier transform, without and
with refraction, is off by (docs/dynamical.md). What is not known is None.

`advice` is a list of {rule, level (info, warning, error), what, why} (`live_bcdi.advice`), all there is to say of
a run's scan or result, the worst first; it is sent when it changes, and empty where nothing is to be said.

The arrays of `live` have one value a planned frame, NaN where it is not known; those from `centroid_row` on are
left out where none is. A centroid is that of the counts in a box of 32 pixels around the run's peak, in pixels,
`_std` what counting noise makes of it; `times_s` is from the first frame, by the detector's clock. `interval_s` is
the mean time between the last frames.

`jobs` has a table for each refinement at work: {run, name, share, text, seconds, quiet_s, left_s}. `share` of the
work is None and `text` empty where it has not told; `quiet_s` is how long ago it told something new; `left_s` is
by its pace, or by what runs of like size took, None where neither is known.

Numbers of frames in `live` are of this run, from its start; each index counts once:

| field | frames |
|---|---|
| received | that the stream brought; it only grows, and begins anew where the consumer was started again |
| lost | that the stream did not bring, up to the highest index known: the highest that came, and at `stop` |
| | the highest in the file. One that comes late is no longer lost |
| refilled | taken from the file. `count` is `received` + `refilled` |
| missing | planned and not in the volume; only after `stop` is that a fault |
| duplicates | copies that came again and were dropped |
| waiting | that reached the consumer's process and are not in the volume yet, now |
| skipped | in the volume and never sent to the page as a picture: its pace, not a loss |

`window` is [row, end, column, end] of the detector's pixels that the volume keeps of each frame, absent where
it keeps all; after it moved, frames count as missing until they are read from the file again. `newest_age_s` is
how long ago, when the update was sent, the newest frame of the stream had come (None before the first); whoever
shows it adds the time since. `frame_time_s` is the detector's own time stamp of the frame in `image`, None where
it has none, and for the peak's frame, which is shown in the end. `lag_s` of a live estimate is from the arrival of
the newest frame that it holds to its being sent. A preview is a live estimate by the network, `phase_std_rad` how
far its phase is expected to be off, the median inside the crystal, `defects` how likely it has each kind, 0 to 1;
`unlike` says why the network was not asked.
`queue` is what refine has before it, sent when it changes and at least every 5 s: refinements that are `running`,
runs that are `waiting` for a worker, those put off until `later`, and results in the `outbox`, which Tiled has not
taken. `stop_to_result_s` is from refine's hearing of the run's end to its result on disk, `last_frame_to_result_s`
to there from the last frame's own time stamp. A duration that is not known, or comes out negative because clocks
differ, is None.

`operando` is the series of the newest result, its newest 500 runs in the order of time, sent when that changes and
every 30 s. `state` is None where `[operando] state` is not set, and that of a run where it is not known, with
`state_why`; `d_change` is d / d_first - 1; `components` are the run's scores in at most three principal
components, as shares of the mean pattern's size from the first run, empty where `components_why` says why;
`explained` is the share of the variance that each has; the rotation (two angles) and `peak_change`, which is
d / d_first - 1 of the peak's place, have standard deviations and are from the first run whose peak is known
(`live_bcdi.tracking.Motion`), None where they are not known.

`tracking` of a scan is that of its frames so far, or of all, `whole`: `found_steps` is how far the crystal was
from the motor's angle in each, with `std_steps`, NaN where a frame says nothing of it; `why` says why there is
none. Of all frames it is sent twice: at once, and when it is decided whether that is motion. Of a series it is
its first dozen scans and its newest 100 in the order of time, sent within a second of a scan's last frame and
every 30 s: the motion from the first scan that saw the crystal, None where a scan did not, where its peak was,
and `reasons` why it is no good. `prediction` has {value, std, std2} of the next scan for `rotation_1_mdeg`,
`rotation_2_mdeg`, `strain` and `counts_ratio`, and for `angle_deg`, `row` and `column` of its peak where it is
set up as the last that saw the crystal: 68 % lies within `std` of `value`, 95 % within `std2`, None where
nobody knows. `scans` of it is how many went in, `unseen` how many came since the crystal was last seen, `lost`
why the newest did not see it, and `time_s` when the next is expected.

`steering` is what the service `advise` says to a plan that asked (docs/steering.md), sent when it changes and
every second after: what to do with which `values`, numbers or lists of them, made at `made_at_s` (seconds since
1970) of the first `frames` frames of its run.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from numpy.typing import NDArray

TOPICS = (
    "health",
    "run",
    "live",
    "estimate",
    "advice",
    "queue",
    "result",
    "operando",
    "tracking",
    "steering",
    "notice",
)


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

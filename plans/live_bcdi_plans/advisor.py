"""Advice as a device: what a plan was told is in its run as Events, and whoever is dead is not waited for long.

advisor = Advisor(config, name="advisor")
...
advice = yield from recommendation(advisor, uid, frames=11, whats=("scan", "again"), ranges={...})
if advice is None:  # the plan goes on as it was written
"""

import asyncio
import json
import math
import time
from collections.abc import Mapping, Sequence

import bluesky.plan_stubs as bps
from bluesky.utils import MsgGenerator
from ophyd_async.core import AsyncStatus, StandardReadable, soft_signal_r_and_setter

from live_bcdi.config import Config
from live_bcdi.steering.advice import Advice, Limits, acceptable, is_number
from live_bcdi.stream.run import MOST_FRAMES
from live_bcdi.stream.updates import Update
from live_bcdi.transport.keys import access_of
from live_bcdi.transport.zmq import UpdateSubscriber
from live_bcdi.types import ScanError

SERVICE = "advise"
LOOK_S = 0.01
SILENT_S = 5.0  # of a service that beats every second: it is dead, and nobody waits again until it is heard
MOST_RUNS = 16
MOST_WORDS = 1000  # characters
_ANY = (-1e12, 1e12)
# What advice says besides positions: to be known, and not gone to.
INFORMATION: Mapping[str, tuple[float, float]] = dict.fromkeys(
    ("resolution_nm", "dose_ratio", "seconds_left", "fringe_deg", "row", "column"), _ANY
)


def motor_limits(config: Config) -> dict[str, tuple[float, float]]:
    """How far advice may send each motor, by its name in the configuration; one without limits there is not sent
    anywhere."""
    return {axis.motor: axis.limits for axis in config.diffractometer.axes if axis.limits is not None}


class Advisor(StandardReadable):
    """A detector of advice. `ask` says on what; a trigger then waits for it, for `timeout_s` at most, and `read`
    gives `status` ("advised", "timeout", or "refused" where what came must not be followed), and what was said:
    `what`, `values` and `uncertainty` (JSON tables), `why`, `frames` and how long it `waited_s`. A trigger never
    fails."""

    def __init__(self, config: Config, *, timeout_s: float | None = None, name: str = "advisor") -> None:
        """It listens from now on. `timeout_s` is that of `[steering]` by default."""
        stream, settings = config.stream, config.steering
        self.timeout_s = settings.timeout_s if timeout_s is None else timeout_s
        self._oldest_s = settings.oldest_s
        if not (self.timeout_s > 0 and math.isfinite(self.timeout_s)):
            raise ScanError(f"advice is waited for a positive time, not {self.timeout_s} s")
        self._socket = UpdateSubscriber(stream.updates_out, ("steering", "health"), access_of(stream))
        self._newest: dict[str, Advice] = {}
        self._taken_s: dict[str, float] = {}
        self._asked, self._frames = Limits(ranges={}, run="", whats=()), 0
        self._heard_s = self._began_s = time.monotonic()
        self.advice: Advice | None = None
        with self.add_children_as_readables():
            self.status, self._set_status = soft_signal_r_and_setter(str, "")
            self.what, self._set_what = soft_signal_r_and_setter(str, "")
            self.values, self._set_values = soft_signal_r_and_setter(str, "{}")
            self.uncertainty, self._set_uncertainty = soft_signal_r_and_setter(str, "{}")
            self.why, self._set_why = soft_signal_r_and_setter(str, "")
            self.frames, self._set_frames = soft_signal_r_and_setter(int, 0)
            self.waited_s, self._set_waited = soft_signal_r_and_setter(float, 0.0, units="s")
        super().__init__(name=name)

    def ask(
        self, run: str, *, frames: int, whats: Sequence[str], ranges: Mapping[str, tuple[float, float]]
    ) -> None:
        """What the next trigger waits for: advice on `run` made of at least `frames` of its frames, one of
        `whats`, of values within `ranges`. Raises ScanError for a range that is none."""
        self._asked = Limits(
            ranges=dict(ranges),
            run=run,
            whats=tuple(whats),
            after_s=self._taken_s.get(run, -math.inf),
            oldest_s=self._oldest_s,
        )
        self._frames = frames

    @AsyncStatus.wrap
    async def trigger(self) -> None:
        """Wait for what was asked."""
        begun_s, refused = time.monotonic(), ""
        self.advice = None
        while True:
            self._listen()
            advice = self._newest.get(self._asked.run)
            if advice is not None and self._is_of_enough(advice):
                refused = acceptable(advice, self._asked, time.time())
                if not refused:
                    self._take(advice, time.monotonic() - begun_s)
                    return
            waited_s = time.monotonic() - begun_s
            if waited_s > self.timeout_s or self._is_silent():
                break
            await asyncio.sleep(LOOK_S)
        why = refused or f"no advice came in {waited_s:.3g} s"
        self._show("refused" if refused else "timeout", Advice(what="", why=why, made_at_s=0, run=""), waited_s)

    def _is_of_enough(self, advice: Advice) -> bool:
        return is_number(advice.frames) and self._frames <= advice.frames < MOST_FRAMES

    def _is_silent(self) -> bool:
        """Whether the service was not heard for long: asking again would only cost time."""
        return time.monotonic() - self._heard_s > SILENT_S

    def _listen(self) -> None:
        for update in self._socket.receive(0):
            if update.topic == "steering":
                self._heard_s = time.monotonic()
                self._newest[update.run] = _advice_of(update)
            elif update.fields.get("service") == SERVICE and update.fields.get("state") != "failed":
                self._heard_s = time.monotonic()
        while len(self._newest) > MOST_RUNS:
            del self._newest[next(iter(self._newest))]

    def _take(self, advice: Advice, waited_s: float) -> None:
        self._taken_s = {advice.run: advice.made_at_s} | {
            run: at_s for run, at_s in list(self._taken_s.items())[-MOST_RUNS:] if run != advice.run
        }
        self.advice = advice
        self._show("advised", advice, waited_s)

    def _show(self, status: str, advice: Advice, waited_s: float) -> None:
        self._set_status(status)
        self._set_what(advice.what)
        self._set_values(json.dumps(dict(advice.values)))
        self._set_uncertainty(json.dumps(dict(advice.uncertainty)))
        self._set_why(str(advice.why)[:MOST_WORDS])
        self._set_frames(int(advice.frames))
        self._set_waited(waited_s)

    def close(self) -> None:
        """Stop listening."""
        self._socket.close()


def _advice_of(update: Update) -> Advice:
    """As it came: what is wrong with it, `acceptable` says."""
    fields = update.fields
    return Advice(
        what=fields.get("what", ""),
        values=fields.get("values", {}),
        uncertainty=fields.get("uncertainty", {}),
        why=fields.get("why", ""),
        made_at_s=fields.get("made_at_s", math.nan),
        run=update.run,
        frames=fields.get("frames", 0),
    )


def recommendation(
    advisor: Advisor, run: str, *, frames: int, whats: Sequence[str], ranges: Mapping[str, tuple[float, float]]
) -> MsgGenerator[Advice | None]:
    """Ask, wait, and record what came as an Event of the stream `recommendation`; the advice, which is within
    `ranges`, or None. To be used within a run."""
    advisor.ask(run, frames=frames, whats=whats, ranges=ranges)
    yield from bps.trigger_and_read([advisor], name="recommendation")
    return advisor.advice

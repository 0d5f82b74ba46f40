"""How fast frames go into a volume: a detector, the broker and the live service as processes of their own.

The detector writes its compressed file and sends every frame, paced by a clock. The live service is the real one,
with its page updates and its estimate; when a run ends it compares its volume with the file, bit for bit.
"""

import math
import multiprocessing
import os
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import zmq

from live_bcdi_consumers import broker, live
from live_bcdi_consumers.service import Service
from live_bcdi_consumers.watch import Watch
from live_bcdi_consumers.watched import Watched

from .config import Config
from .faults.memory import children, resident_mb
from .metadata import scan_metadata
from .stream.run import KEY, planned_metadata
from .transport.hdf5 import DATA_PATH, FrameFile, FrameWriter
from .transport.zmq import MAX_ARRAY_BYTES, FramePublisher, UpdateSubscriber, encode_document
from .types import FloatArray, Frame, FrameArray, RockingScan, ScanError

RUN = "be9c4000-0000-4000-8000-000000000001"
READY_S = 120.0  # compiling kernels and loading libraries, the first time
ADDRESSES = ("documents_in", "documents_out", "updates_in", "updates_out", "frames")
SAMPLE_S = 0.2
AFTER_S = 120.0  # the volume is compared with the file
PEAK_FRAMES = 10.0  # what is estimated, 64 frames, holds it whole; from then on a network is asked
TICKS_HZ = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, kw_only=True, slots=True)
class Case:
    """`rate_hz` frames a second of `shape` (row, column) and `dtype`, for `seconds`; the live volume may take
    `memory_mb`. Every other `rest_s` seconds nothing is estimated: the same run tells what estimates cost."""

    shape: tuple[int, int]
    dtype: str
    rate_hz: float
    seconds: float = 10.0
    memory_mb: float = 8000.0
    rest_s: float = math.inf

    @property
    def num(self) -> int:
        return max(round(self.rate_hz * self.seconds), 3)


CASES = (
    Case(shape=(256, 256), dtype="int32", rate_hz=1000.0),
    Case(shape=(1024, 1024), dtype="uint16", rate_hz=200.0),
    Case(shape=(2167, 2070), dtype="uint32", rate_hz=25.0, memory_mb=1024.0),
)


def cases(shape: str | None, dtype: str, rate_hz: float, seconds: float, memory_mb: float | None) -> list[Case]:
    """Those of the options of `live-bcdi bench stream`. Raises ScanError for a shape or dtype that is none."""
    if shape is None:
        chosen = [replace(case, seconds=seconds) for case in CASES]
    else:
        try:
            rows, columns = (int(edge) for edge in shape.split("x"))
            kind = np.dtype(dtype)
        except (ValueError, TypeError):
            raise ScanError(f"{shape} {dtype} are no frames; write --shape 1024x1024 --dtype uint16") from None
        if min(rows, columns) < 32 or kind.kind not in "iuf":
            raise ScanError(f"{shape} {dtype} are no frames: at least 32 x 32 pixels of integers or floats")
        if rows * columns * kind.itemsize > MAX_ARRAY_BYTES:
            raise ScanError(f"{shape} {dtype} are no frames: one has at most {MAX_ARRAY_BYTES >> 20} MiB")
        chosen = [Case(shape=(rows, columns), dtype=kind.name, rate_hz=rate_hz, seconds=seconds)]
    return chosen if memory_mb is None else [replace(case, memory_mb=memory_mb) for case in chosen]


def measure(case: Case, config: Config) -> dict[str, Any]:
    """Play one run; what was asked, what came, how late, and what it cost.

    `config` gives the geometry; ports and folders are its own. Raises ScanError where a process died or stalled.
    """
    with tempfile.TemporaryDirectory(prefix="live-bcdi-bench-") as folder:
        own = _on_free_ports(config, Path(folder), case)
        context = multiprocessing.get_context("spawn")
        parts = {name: _Part(context, work, own, case) for name, work in WORK.items()}
        try:
            return _watched(case, own, parts)
        finally:
            for part in parts.values():
                part.end()


def _watched(case: Case, config: Config, parts: Mapping[str, "_Part"]) -> dict[str, Any]:
    updates = UpdateSubscriber(config.stream.updates_out)
    memory: list[float] = []
    try:
        for part in parts.values():
            part.wait("ready", READY_S, lambda: None)
        parts["detector"].say("go")

        def look() -> None:
            for _ in updates.receive(0.0):
                pass
            memory.append(resident_mb(parts["live"].pid) or 0.0)

        sent = parts["detector"].wait("sent", 60.0 + 20 * case.seconds, look)
        seen = parts["live"].wait("seen", AFTER_S, look)
    finally:
        updates.close()
    return _told(case, sent, seen, memory)


def _told(case: Case, sent: Mapping[str, Any], seen: Mapping[str, Any], memory: Sequence[float]) -> dict[str, Any]:
    fields, late = seen["fields"], 1e3 * np.asarray(seen["latency_s"])
    rests = np.asarray(seen["rests"], bool)
    counted = ("received", "lost", "refilled", "missing", "duplicates", "skipped")
    return {
        "detector": f"{case.shape[0]} x {case.shape[1]} {case.dtype}",
        "asked_hz": case.rate_hz,
        "achieved_hz": sent["rate_hz"],
        "sent": case.num,
        **{key: fields[key] for key in counted},
        "equal": seen["equal"],
        "window": fields.get("window"),
        **_latency(late[~rests]),
        **{f"{key}_resting": value for key, value in _latency(late[rests]).items() if rests.any()},
        "estimates": seen["estimates"],
        "previews": seen["previews"],
        "file_mb": sent["file_mb"],
        "compression": sent["raw_mb"] / sent["file_mb"],
        "seconds": sent["seconds"],
        "cpu_s": {"detector": sent["cpu_s"], "live": seen["cpu_s"], "estimate": seen["estimate_cpu_s"]},
        "live_memory_mb": {"first": memory[0], "max": max(memory), "last": memory[-1]},
    }


def _latency(late_ms: FloatArray) -> dict[str, float | None]:
    there = len(late_ms) > 0
    return {
        "latency_ms_p50": float(np.percentile(late_ms, 50)) if there else None,
        "latency_ms_p99": float(np.percentile(late_ms, 99)) if there else None,
        "latency_ms_max": float(late_ms.max()) if there else None,
    }


class _Part:
    """A process that says words to us, and ends when told."""

    def __init__(self, context: Any, work: Callable[..., None], config: Config, case: Case) -> None:
        self._ours, theirs = context.Pipe()
        self._process = context.Process(target=work, args=(theirs, config, case))
        self._process.start()
        theirs.close()

    @property
    def pid(self) -> int:
        return int(self._process.pid or 0)

    def say(self, word: str) -> None:
        self._ours.send((word, {}))

    def wait(self, word: str, seconds: float, meanwhile: Callable[[], None]) -> dict[str, Any]:
        """What it says with `word`. Raises ScanError where it does not say it, or says that it failed."""
        until_s = time.monotonic() + seconds
        while time.monotonic() < until_s:
            meanwhile()
            try:
                if not self._ours.poll(SAMPLE_S):
                    continue
                said, about = self._ours.recv()
            except (EOFError, ConnectionError):
                raise ScanError(f"a process of the measurement ended; its error is above ({word})") from None
            if said == word:
                return dict(about)
        raise ScanError(f"a process of the measurement was not {word} within {seconds:.0f} s")

    def end(self) -> None:
        with suppress(OSError):
            self.say("end")
        self._process.join(10.0)
        if self._process.is_alive():
            self._process.kill()


def _on_free_ports(config: Config, folder: Path, case: Case) -> Config:
    probes = [socket.socket() for _ in ADDRESSES]
    for probe in probes:
        probe.bind(("127.0.0.1", 0))
    ports = [probe.getsockname()[1] for probe in probes]
    for probe in probes:
        probe.close()
    stream = {name: f"tcp://127.0.0.1:{port}" for name, port in zip(ADDRESSES, ports)}
    return config.changed(
        stream={**stream, "source": "live_bcdi", "keys": None},
        storage={"directory": folder},
        live={"memory_mb": case.memory_mb},
        detector={"saturation_counts": None},
    )


def _until_told(service: Service, pipe: Connection) -> None:
    """Stop the service when the one who measures says so, or is gone."""
    with suppress(EOFError, OSError):
        while pipe.recv()[0] != "end":
            pass
    service.stopping.set()


def _broker(pipe: Connection, config: Config, case: Case) -> None:
    service = Service("broker", config)
    threading.Thread(target=_until_told, args=(service, pipe), daemon=True).start()
    pipe.send(("ready", {}))
    broker.run(service)


def _live(pipe: Connection, config: Config, case: Case) -> None:
    service = Service("live", config)
    threading.Thread(target=_until_told, args=(service, pipe), daemon=True).start()
    watch = _MeasuredWatch(service, pipe, case.rest_s)
    watch.estimator.submit(os.getpid).result()  # its libraries are loaded before the first frame, as in a hall
    pipe.send(("ready", {}))
    try:
        live.watch_until_stopped(service, watch)
    finally:
        watch.estimator.shutdown()


class _MeasuredWatch(Watch):
    """Notes when each frame was in the volume, and compares the volume with the file in the end."""

    def __init__(self, service: Service, pipe: Connection, rest_s: float) -> None:
        super().__init__(service)
        self._pipe, self._rest_s = pipe, rest_s
        self._latency_s: list[float] = []
        self._rests: list[bool] = []
        self._estimates = self._previews = 0
        self._cpu_s = (0.0, 0.0)

    def _start(self, run: str, doc: dict[str, Any]) -> None:
        super()._start(run, doc)
        self._cpu_s = self._cpu_now()

    def frame(self, frame: Frame) -> None:
        super().frame(frame)
        self._latency_s.append(time.time() - frame.timestamp_s)
        self._rests.append(self._is_resting)

    @property
    def _is_resting(self) -> bool:
        return math.isfinite(self._rest_s) and int(time.monotonic() / self._rest_s) % 2 == 1

    def _refresh(self, watched: Watched, now_s: float) -> None:
        if not self._is_resting or watched.done:
            super()._refresh(watched, now_s)

    def _collect(self) -> None:
        had = self._future
        super()._collect()
        if had is not None and self._future is None:
            self._estimates += 1
            self._previews += had[0].previous is not None and had[0].previous.phase_std_rad is not None

    def _counted(self) -> dict[str, int]:
        return {"estimates": self._estimates, "previews": self._previews}

    @staticmethod
    def _cpu_now() -> tuple[float, float]:
        return time.process_time(), sum(cpu_seconds(pid) for pid in children(os.getpid()))

    def _finish(self, watched: Watched) -> None:
        cpu_s = [now - then for now, then in zip(self._cpu_now(), self._cpu_s)]
        super()._finish(watched)
        fields = dict(watched.live.update(at_peak=True).fields)
        told: dict[str, Any] = {"fields": fields, "latency_s": self._latency_s, "rests": self._rests}
        told["equal"] = is_the_file(watched)
        self._pipe.send(("seen", {**told, **self._counted(), "cpu_s": cpu_s[0], "estimate_cpu_s": cpu_s[1]}))


def is_the_file(watched: Watched) -> bool:
    """Whether the volume, or its window, is what the file has, bit for bit."""
    assembler = watched.live.assembler
    volume = assembler.volume
    with FrameFile(str(watched.path)) as store:
        same = (
            np.array_equal(store.frame(index)[0][volume.window], kept) for index, kept in enumerate(volume.frames)
        )
        return bool(assembler.have.all()) and store.count() == len(volume.frames) and all(same)


def cpu_seconds(pid: int) -> float:
    """User and system time of a process so far."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / TICKS_HZ


def _detector(pipe: Connection, config: Config, case: Case) -> None:
    pictures = [[_picture(case, level, seed) for seed in range(3)] for level in range(4)]
    angles_deg = np.linspace(-0.3, 0.3, case.num)
    scan = _description(config, case, angles_deg)
    path = config.storage.directory / "frames.h5"
    publisher = FramePublisher(config.stream.frames)
    documents: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.PUB)
    documents.connect(config.stream.documents_in)
    with FrameWriter(path, case.shape, case.dtype, metadata=scan_metadata(scan)) as writer:
        publisher.wait_for_subscriber(READY_S)
        pipe.send(("ready", {}))
        pipe.recv()

        def say(name: str, doc: Mapping[str, Any]) -> None:
            documents.send(b" ".join([b"", name.encode(), encode_document(doc)]))

        planned = planned_metadata(scan_metadata(scan), num=case.num, start_deg=-0.3, stop_deg=0.3)
        say("start", {"uid": RUN, "time": time.time(), KEY: planned})
        resource = {"uri": path.as_uri(), "parameters": {"dataset": DATA_PATH}, "mimetype": "application/x-hdf5"}
        say("stream_resource", {"uid": "r", "run_start": RUN, "data_key": "detector", **resource})
        time.sleep(0.2)  # documents and frames go different ways
        told = _expose(case, writer, publisher, pictures, angles_deg)
    say("stop", {"uid": "s", "run_start": RUN, "time": time.time(), "exit_status": "success"})
    file_mb = path.stat().st_size / 1e6
    raw_mb = case.num * np.dtype(case.dtype).itemsize * case.shape[0] * case.shape[1] / 1e6
    pipe.send(("sent", {**told, "file_mb": file_mb, "raw_mb": raw_mb}))
    pipe.recv()
    publisher.close()
    documents.close(linger=0)


def _expose(
    case: Case,
    writer: FrameWriter,
    publisher: FramePublisher,
    pictures: Sequence[Sequence[FrameArray]],
    angles_deg: np.ndarray[Any, np.dtype[np.float64]],
) -> dict[str, float]:
    """Frame after frame, each when it is due; a rate that cannot be kept shows in the one achieved."""
    rng = np.random.default_rng(0)
    far = np.arange(case.num) - case.num / 4
    levels = np.rint(3 * np.exp(-((far / PEAK_FRAMES) ** 2))).astype(int)
    kinds = rng.integers(0, 3, case.num)
    cpu_s, began_s = time.process_time(), time.monotonic()
    for index in range(case.num):
        time.sleep(max(began_s + index / case.rate_hz - time.monotonic(), 0.0))
        image, angle_deg = pictures[levels[index]][kinds[index]], float(angles_deg[index])
        writer.append(image, angle_deg=angle_deg, timestamp_s=time.time())
        numbers = {"angle_deg": angle_deg, "monitor": float("nan"), "timestamp_s": time.time()}
        publisher.send(Frame(run=RUN, index=index, image=image, **numbers))
    seconds = time.monotonic() - began_s
    return {"rate_hz": case.num / seconds, "seconds": seconds, "cpu_s": time.process_time() - cpu_s}


def _picture(case: Case, level: int, seed: int) -> FrameArray:
    """Sparse counts, with a peak that is higher the higher the level."""
    row, column = np.ogrid[: case.shape[0], : case.shape[1]]
    far2 = (row - case.shape[0] // 2) ** 2 + (column - case.shape[1] // 2) ** 2
    mean = 0.02 + 10.0 ** (level + 0.5) / (1 + far2 / 25) ** 2
    counts: FrameArray = np.random.default_rng((level, seed)).poisson(mean).astype(case.dtype)
    return counts


def _description(config: Config, case: Case, angles_deg: np.ndarray[Any, np.dtype[np.float64]]) -> RockingScan:
    circles = config.diffractometer
    positions = {circle.motor: 10.0 for circle in (*circles.sample, *circles.arm)}
    return RockingScan(
        name="bench",
        intensity=np.empty((0, *case.shape), np.dtype(case.dtype)),
        angles_deg=np.empty(0),
        geometry=config.geometry(positions, energy_kev=9.0, distance_m=1.0),
        hkl=(1.0, 1.0, 1.0),
    )


WORK = {"broker": _broker, "live": _live, "detector": _detector}

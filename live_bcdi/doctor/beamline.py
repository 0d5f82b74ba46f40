"""Checks of a beamline's configuration, beyond what makes it one: geometry, packages, files, addresses, keys."""

import math
import os
from collections import Counter
from pathlib import Path

import numpy as np

from ..config import Config, direction
from ..private import require_private
from ..types import ScanError
from .finding import Findings, ok, problem, told, warning

_PIXELS_UM = (1.0, 500.0)
_DISTANCES_M = (0.05, 30.0)


def geometry(config: Config) -> Findings:
    """What cannot be, and what is hardly meant."""
    circles, detector = config.diffractometer, config.detector
    beam, rows, columns = map(direction, (circles.beam, detector.rows, detector.columns))
    rocking = next(circle for circle in circles.sample if circle.motor == circles.rocking)
    found = []
    if np.dot(rows, columns):
        what = f"[detector] rows {detector.rows} and columns {detector.columns} lie along one axis."
        found.append(problem("geometry", what, "Give two directions at right angles."))
    elif np.dot(beam, rows) or np.dot(beam, columns):
        what = f"The beam {circles.beam} lies in the detector's plane with the arm at zero."
        found.append(problem("geometry", what, "Correct [diffractometer] beam, or [detector] rows and columns."))
    if np.dot(beam, direction(rocking.axis)):
        what = f"The rocking circle {rocking.motor} turns about the beam."
        found.append(warning("geometry", what, "Correct its axis, or [diffractometer] rocking."))
    return [*found, *_detector(config)] or [ok("geometry", _circles(config))]


def _circles(config: Config) -> str:
    sample = ", ".join(f"{circle.motor} {circle.axis}" for circle in config.diffractometer.sample)
    arm = ", ".join(f"{circle.motor} {circle.axis}" for circle in config.diffractometer.arm) or "none"
    return f"Circles of the sample: {sample}; of the arm: {arm}; {config.diffractometer.rocking} rocks."


def _detector(config: Config) -> Findings:
    detector, found = config.detector, []
    least, most = _PIXELS_UM
    if not all(least <= size <= most for size in detector.pixel_um):
        good = all(size > 0 and math.isfinite(size) for size in detector.pixel_um)
        what = f"[detector] pixel_um is {list(detector.pixel_um)}."
        do = "Give the pixel's height and width in micrometres."
        found.append((warning if good else problem)("geometry", what, do))
    if not all(map(math.isfinite, detector.arm_pixel)):
        do = "Give the pixel (row, column) that the arm points at."
        found.append(problem("geometry", f"[detector] arm_pixel is {list(detector.arm_pixel)}.", do))
    if detector.distance_m is not None and not _DISTANCES_M[0] <= detector.distance_m <= _DISTANCES_M[1]:
        what = f"[detector] distance_m is {detector.distance_m:g}."
        found.append((warning if detector.distance_m > 0 else problem)("geometry", what, "Give it in metres."))
    if detector.saturation_counts is None:
        what = "[detector] saturation_counts is not set, so that saturated pixels are neither shown nor masked."
        found.append(warning("geometry", what, "Set it to the most counts that a pixel can hold."))
    elif not detector.saturation_counts > 0:
        what = f"[detector] saturation_counts is {detector.saturation_counts:g}."
        found.append(problem("geometry", what, "Set it to the most counts that a pixel can hold."))
    if config.sample.hkl is not None and not any(config.sample.hkl):
        found.append(problem("geometry", "[sample] hkl is 0 0 0.", "Give the reflection that is measured."))
    return found


def packages(config: Config) -> Findings:
    """Whether what the source of frames, and the jobs, need is installed."""
    from ..jobs import require_dask
    from ..transport.sources import require_source

    found = []
    try:
        require_source(config.stream)
    except ScanError as error:
        found.append(told("packages", error, "Do so, or set another [stream] source."))
    if config.jobs.scheduler is not None:
        try:
            require_dask()
        except ScanError as error:
            found.append(told("packages", error, "Do so, or leave [jobs] scheduler out."))
    jobs = "dask" if config.jobs.scheduler is not None else "processes of this machine"
    return found or [ok("packages", f"Frames from {config.stream.source!r} and jobs on {jobs}: all is installed.")]


def named_files(config: Config) -> Findings:
    """Files and folders that the configuration names."""
    found = []
    dark = config.preprocess.dark
    if dark is not None and not dark.is_file():
        do = "Correct it; it is relative to the folder where live-bcdi is started."
        found.append(problem("configuration", f"[preprocess] dark {dark} is no file.", do))
    for there, here in config.stream.path_map.items():
        if not Path(here).is_dir():
            do = "Mount it, or correct [stream] path_map."
            found.append(
                warning("configuration", f"{there} is to be seen here as {here}, which is no folder.", do)
            )
    return [*found, *_twice(config)] or [
        ok("configuration", f"It is that of {config.beamline}, and what it names is there.")
    ]


def _twice(config: Config) -> Findings:
    """Places that more than one service would open."""
    stream = config.stream
    addresses = [stream.documents_in, stream.documents_out, stream.updates_in, stream.updates_out]
    addresses += [stream.frames] if not stream.recorded else [stream.relay]
    places = [_place(*address.removeprefix("tcp://").rsplit(":", 1)) for address in addresses]
    places.append(_place(config.page.host, str(config.page.port)))
    places += [] if config.tiled.uri else [_place("127.0.0.1", str(config.tiled.port))]
    twice = [":".join(place) for place, number in Counter(places).items() if number > 1]
    if not twice:
        return []
    what = f"{', '.join(twice)} is given more than once in [stream], [tiled] and [page]."
    return [problem("configuration", what, "Give each its own port.")]


def _place(host: str, port: str = "") -> tuple[str, str]:
    here = ("127.0.0.1", "localhost", "0.0.0.0", "*", "[::]", "[::1]", "::", "::1")
    return ("this computer" if host in here else host, port)


def keys(config: Config) -> Findings:
    """Secrets that others could read, or that cannot be used. Makes none."""
    from ..dashboard.access import KEY_FILE as PAGE_KEY
    from ..dashboard.access import SHORTEST
    from ..transport.keys import CLIENT, SERVER, load_secret
    from ..transport.tiled import KEY_FILE as TILED_KEY

    found, folder = [], config.storage.directory.absolute()
    for path in (folder / TILED_KEY, folder / PAGE_KEY):
        try:
            require_private(path)
        except ScanError as error:
            found.append(told("keys", error, f"chmod 600 {path}, and have a new one made if others had it."))
        except FileNotFoundError:
            pass  # made when it is needed
    if (streams := config.stream.keys) is not None:
        wanted = [streams / f"{CLIENT}.key_secret"]
        wanted += [path for path in [streams / f"{SERVER}.key_secret"] if path.exists()]
        for path in wanted:
            try:
                load_secret(path)
            except ScanError as error:
                found.append(told("keys", error, "Correct it, or correct [stream] keys."))
    variable = config.page.key_env
    if variable is not None and len(os.environ.get(variable, "").strip()) < SHORTEST:
        what = f"${variable}, which [page] key_env names, holds no key of {SHORTEST} characters or more."
        found.append(problem("keys", what, "Set it where live-bcdi is started; `openssl rand -hex 32` makes one."))
    return found or [ok("keys", "No secret can be read by others.")]

"""All checks in turn, each within its time; what one needs of another is handed on."""

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from ..config import Config, load_config
from ..types import ScanError
from . import machine  # and the others later: they need libraries that may be what is missing
from .finding import Finding, Findings, bounded, problem, told

LIMIT_S = 30.0  # more than any check takes that gets answers, imports on a cold disk included
LONG_S = 150.0  # of those that start processes or ask several computers, each of which has a limit of its own


class _Look(Protocol):
    def __call__(self, check: str, work: Callable[[], Findings], limit_s: float = ...) -> Findings: ...


def examine(config_path: Path, say: Callable[[str], None] = lambda check: None) -> list[Finding]:
    """What is found on this machine with the configuration at `config_path`, which may be wrong or absent.

    `say` is told what is looked at. Nothing is changed that stays.
    """
    found: Findings = []

    def look(check: str, work: Callable[[], Findings], limit_s: float = LIMIT_S) -> Findings:
        say(check)
        found.extend(these := bounded(check, work, limit_s))
        return these

    look("Python", machine.own_python)
    look("libraries", machine.own_libraries)
    look("FFT", machine.transforms)
    look("HDF5", machine.hdf5)
    try:
        config = load_config(config_path)
    except ScanError as error:
        return [*found, told("configuration", error, "Correct that; what depends on it was not looked at.")]
    look("threads", lambda: machine.own_threads(config.phasing, config.jobs.workers))
    look("GPU", lambda: machine.own_gpu(config.phasing), LONG_S)
    try:
        _configuration(config, look)
        _system(config, look)
    except ImportError as error:
        found.append(problem("libraries", f"The rest was not looked at ({error}).", machine.INSTALL))
    return found


def _configuration(config: Config, look: _Look) -> None:
    from . import beamline, network

    look("configuration", lambda: beamline.named_files(config))
    look("geometry", lambda: beamline.geometry(config))
    look("packages", lambda: beamline.packages(config))
    look("keys", lambda: beamline.keys(config))
    look("access", lambda: network.listening(config))


def _system(config: Config, look: _Look) -> None:
    from ..supervisor import services_of
    from . import disk, network, owed

    wanted = services_of(config)
    heard: dict[str, network.Fields] = {}

    def listen() -> Findings:
        heard.update(network.hear(config, wanted))
        return network.services(config, heard, wanted)

    look("services", listen)
    look("ports", lambda: network.ports(config, heard), LONG_S)
    look("others", lambda: network.others(config))
    look("Tiled", lambda: network.tiled(config, heard))
    directory = config.storage.directory
    room = look("disk", lambda: disk.room(directory))
    if all(finding.status != "problem" for finding in room):
        look("disk", lambda: disk.speed(directory, disk.last_pace(directory)))
        look("disk", lambda: disk.growing_files(directory), LONG_S)
    look("backlog", lambda: owed.backlog(directory, heard))
    look("restarts", lambda: owed.restarts(directory, heard))

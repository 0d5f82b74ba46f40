"""What a check finds, and a check that ends in time whatever it meets."""

import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Literal, TypeAlias

from ..types import ScanError

Status: TypeAlias = Literal["ok", "warning", "problem"]
THREAD = "doctor"
_KILLED_S = 2.0
AGAIN = "Correct that, and ask again."


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """One sentence that says what is, and one that says what to do about it, where there is something."""

    check: str
    status: Status
    what: str
    do: str = ""


Findings: TypeAlias = list[Finding]


def ok(check: str, what: str, do: str = "") -> Finding:
    return Finding(check=check, status="ok", what=what, do=do)


def warning(check: str, what: str, do: str) -> Finding:
    return Finding(check=check, status="warning", what=what, do=do)


def problem(check: str, what: str, do: str) -> Finding:
    return Finding(check=check, status="problem", what=what, do=do)


def told(check: str, error: ScanError, do: str = AGAIN) -> Finding:
    """One of our own errors, which mostly say what to do, as a problem."""
    return problem(check, f"{error}.", do)


def bounded(check: str, work: Callable[[], Findings], limit_s: float) -> Findings:
    """What `work` finds within `limit_s`; that it did not end, or what it met instead, is a finding as well.

    It runs in a thread of its own, which is left behind where a file system or a server does not answer.
    """
    found: Findings = []

    def run() -> None:
        try:
            found.extend(work())
        except ScanError as error:
            found.append(told(check, error))
        except Exception as error:  # noqa: BLE001  whatever a broken machine does is what we are here to say
            why = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
            found.append(problem(check, f"This could not be looked at ({why}).", AGAIN))

    thread = threading.Thread(target=run, name=THREAD, daemon=True)
    thread.start()
    thread.join(limit_s)
    if not thread.is_alive():
        return found or [problem(check, "This ended without a word.", AGAIN)]
    do = "Something does not answer: a file system, a server, or a driver. Look at it first."
    return [problem(check, f"This did not end in {limit_s:.0f} s.", do)]


def probe(arguments: list[str], limit_s: float) -> tuple[int, str]:
    """(exit status, output) of `live_bcdi.doctor.probe` in a process of its own, ended with its children where it
    takes longer than `limit_s`; the status is -1 then."""
    process = subprocess.Popen(
        [sys.executable, "-m", "live_bcdi.doctor.probe", *arguments],
        stdin=subprocess.PIPE,  # its end is how the probe's own child learns that we are gone
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        said, _ = process.communicate(timeout=limit_s)
    except subprocess.TimeoutExpired:
        process.kill()
        with suppress(subprocess.TimeoutExpired):  # where even that takes long, it is the file system's
            process.communicate(timeout=_KILLED_S)
        return -1, ""
    return process.returncode, said.strip()

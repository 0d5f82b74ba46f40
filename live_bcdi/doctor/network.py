"""Checks of what listens, what runs, and of Tiled."""

import errno
import re
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from email.utils import parsedate_to_datetime
from typing import Any, TypeAlias
from urllib.parse import urlsplit

import zmq

from ..config import Config
from ..dashboard.access import is_loopback as is_loopback_host
from ..transport.keys import access_of, is_loopback
from ..types import ScanError
from .finding import AGAIN, Finding, Findings, ok, problem, told, warning

Fields: TypeAlias = Mapping[str, Any]
Heard: TypeAlias = Mapping[str, Fields]
"""What each service said of itself just now: fields of the update `health`, by its name."""

LISTEN_S = 2.5  # two heartbeats
LATE_S = 6.0  # the page calls one silent after 5 s
CONNECT_S = 2.0
ANSWER_S = 5.0
SKEW_S = 2.0
DETECTOR = "a detector"
_STREAMS = {
    "documents_in": "broker",
    "documents_out": "broker",
    "updates_in": "broker",
    "updates_out": "broker",
    "relay": "recorder",
}


def hear(config: Config, wanted: Sequence[str]) -> Heard:
    """Heartbeats of a system that runs; for those of `wanted` that are late it listens longer, where others beat.

    Raises ScanError where our keys are refused, or cannot be used.
    """
    from ..transport.zmq import UpdateSubscriber

    stream, heard = config.stream, dict[str, Fields]()
    access = access_of(stream)
    access.check_answer(stream.updates_out)
    updates = UpdateSubscriber(stream.updates_out, ("health",), access)
    try:
        began_s = time.monotonic()
        while (listened_s := time.monotonic() - began_s) < LATE_S:
            late = set(wanted) - set(heard)
            if not late or (not heard and listened_s > LISTEN_S):
                break
            heard |= {str(update.fields.get("service")): update.fields for update in updates.receive(0.2)}
    finally:
        updates.close()
    return {name: fields for name, fields in heard.items() if fields.get("state") != "failed"}


def opened_here(config: Config) -> dict[str, tuple[str, str]]:
    """Key of the configuration -> (address, the service that opens it)."""
    stream = config.stream
    places = {
        f"[stream] {key}": (getattr(stream, key), service)
        for key, service in _STREAMS.items()
        if key != "relay" or stream.recorded
    }
    if config.tiled.uri is None:
        places["[tiled] port"] = (f"tcp://127.0.0.1:{config.tiled.port}", "tiled_server")
    places["[page] port"] = (f"tcp://{_number(config.page.host)}:{config.page.port}", "page")
    if not stream.recorded:
        places["[stream] frames"] = (stream.frames, DETECTOR)
    return places


def _number(host: str) -> str:
    """A host as 0MQ wants it, which opens no names as the page's server does; as it is where nobody knows it."""
    with suppress(OSError):
        host = str(socket.getaddrinfo(host or "0.0.0.0", None, type=socket.SOCK_STREAM)[0][4][0])
    return f"[{host}]" if ":" in host else host


def ports(config: Config, heard: Heard) -> Findings:
    """Each address free, or held by whom it is for."""
    found = []
    for key, (address, service) in opened_here(config).items():
        if (finding := _port(key, address, service, heard)) is not None:
            found.append(finding)
    return found or [ok("ports", _held(config, heard))]


def _held(config: Config, heard: Heard) -> str:
    count = len(opened_here(config))
    return f"All {count} addresses are {'those of the live-bcdi that runs' if heard else 'free'}."


def _port(key: str, address: str, service: str, heard: Heard) -> Finding | None:
    """What is wrong with an address; None where nothing is."""
    if not address.startswith("tcp://"):
        return None  # to try an ipc address would take it from who has it
    number = try_to_open(address)
    port = address.rpartition(":")[2]
    if number == 0 or (number == errno.EADDRINUSE and (service in heard or (heard and service == DETECTOR))):
        return None
    if number == errno.EADDRINUSE:
        what = f"{key} {address} is held by another program" + (
            f", while {service} of the live-bcdi that runs is silent."
            if heard
            else "; no live-bcdi answers there."
        )
        do = f"`ss -ltnp 'sport = :{port}'` says which: stop it, or set another {key}."
        return problem("ports", what, do)
    if number in (errno.EADDRNOTAVAIL, errno.ENODEV):  # a detector opens its own for a scan
        return None if service == DETECTOR else _elsewhere(key, address)
    reason = zmq.ZMQError(number).strerror
    do = (
        "Ports below 1024 are root's; choose another."
        if number == errno.EACCES
        else "Write it as tcp://host:port."
    )
    return problem("ports", f"{key} {address} cannot be opened ({reason}).", do)


def try_to_open(address: str) -> int:
    """0 where a tcp `address` can be opened, or the operating system's number for why not."""
    with zmq.Context() as context, context.socket(zmq.PUB) as probe:
        probe.ipv6 = "[" in address
        try:
            probe.bind(address)
        except zmq.ZMQError as error:
            return int(error.errno or errno.EINVAL)
    return 0


def _elsewhere(key: str, address: str) -> Finding | None:
    """An address of another computer: whether something answers there."""
    if not (why := _refuses(address)):
        return None
    what = f"{key} {address} is not of this computer, and nothing answers there ({why})."
    return warning("ports", what, "Start live-bcdi there, open the port in its firewall, or correct the address.")


def _refuses(address: str) -> str:
    """Why nobody can be reached at scheme://host:port; empty where somebody can."""
    host, _, port = address.partition("://")[2].rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=CONNECT_S).close()
    except (OSError, ValueError) as error:
        return error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return ""


def others(config: Config) -> Findings:
    """Computers that frames come from, and that jobs go to."""
    found, stream = [], config.stream
    if stream.source == "stream2":  # by its name alone: who connects may take frames of a run away
        host = urlsplit(stream.frames).hostname or ""
        try:
            socket.getaddrinfo(host, None)
        except OSError:
            what = f"No computer of the name {host!r} is known, from which [stream] frames {stream.frames} come."
            found.append(problem("others", what, "Correct it, or have the name known (DNS, /etc/hosts)."))
    if config.jobs.scheduler is not None and (why := _refuses(config.jobs.scheduler)):
        what = f"The dask scheduler at {config.jobs.scheduler} does not answer ({why})."
        found.append(problem("others", what, "Start it, or correct [jobs] scheduler; runs wait until it answers."))
    return found or [ok("others", "No other computer is needed, or those that are can be reached.")]


def listening(config: Config) -> Findings:
    """What others can reach, and with which key."""
    stream, access = config.stream, access_of(config.stream)
    found: Findings = []
    for key, (address, _) in opened_here(config).items():
        if not key.startswith("[stream]") or (
            address.startswith("tcp://") and try_to_open(address) in (errno.EADDRNOTAVAIL, errno.ENODEV)
        ):
            continue  # of another computer
        try:
            access.check(address)
        except ScanError as error:
            if told("access", error) not in found:  # of keys it is the same for each address
                found.append(told("access", error))
            continue
        if stream.open and stream.keys is None and not is_loopback(address):
            what = f"{key} {address} lets in everybody who reaches it: [stream] open is true."
            found.append(warning("access", what, "Make keys with `live-bcdi keys`, and set [stream] keys."))
    if not is_loopback_host(config.page.host):
        what = f"The page at {config.page.host} has a key, and speaks HTTP, which others on the network can read."
        found.append(
            warning("access", what, "Put a proxy with TLS before it where strangers listen (docs/page.md).")
        )
    return found or [ok("access", f"{'Keys guard the streams' if stream.keys else 'All is on loopback'}.")]


def tiled(
    config: Config, heard: Heard, get: Callable[..., Any] | None = None, now: Callable[[], float] = time.time
) -> Findings:
    """Reachable, of a version that does, with a clock like ours, and the key accepted."""
    import httpx

    from ..transport.tiled import api_key, server_uri

    get = get or httpx.get
    uri = server_uri(config)
    shown = _without_secrets(uri)
    began_s = now()
    try:
        answer = get(_below(uri, "/"), timeout=ANSWER_S, follow_redirects=True)
    except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
        return [_no_tiled(config, heard, shown, type(error).__name__)]
    found = [*_clock(answer.headers.get("date"), began_s, now()), *_version(answer, shown)]
    try:
        key = api_key(config)
    except ScanError as error:
        return [*found, problem("Tiled", f"{str(error).replace(uri, shown)}.", AGAIN)]
    accepted = get(_below(uri, "/metadata/"), headers={"Authorization": f"Apikey {key}"}, timeout=ANSWER_S)
    if accepted.status_code in (401, 403):
        what = f"Tiled at {shown} refuses our key ({accepted.status_code})."
        do = f"Set the right one in ${config.tiled.api_key_env}, for the services as well."
        found.append(problem("Tiled", what, do))
    elif accepted.status_code != 200:
        what = f"Tiled at {shown} answers {accepted.status_code} where its catalogue should be."
        found.append(problem("Tiled", what, "Correct [tiled] uri: it ends in /api/v1; or see Tiled's own log."))
    return found or [ok("Tiled", f"Tiled at {shown} takes our key, and its clock is ours.")]


def _without_secrets(uri: str) -> str:
    """Scheme, host and path: an address may have a password or a key in it."""
    parts = urlsplit(uri)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def _below(uri: str, path: str) -> str:
    """`path` under the server's address, which may end in a query."""
    parts = urlsplit(uri)
    return parts._replace(path=parts.path.rstrip("/") + path).geturl()


def _no_tiled(config: Config, heard: Heard, shown: str, why: str) -> Finding:
    if config.tiled.uri is not None:
        do = "Start it, or correct [tiled] uri; results wait on disk until it answers."
        return problem("Tiled", f"Tiled at {shown} cannot be reached ({why}).", do)
    if heard:
        do = "`log/tiled_server.jsonl` in the storage folder has the reason; results wait on disk."
        return problem("Tiled", f"The embedded Tiled does not answer ({why}).", do)
    return ok("Tiled", "The embedded Tiled is down, as all services are; `live-bcdi up` starts it.")


def _clock(date: str | None, began_s: float, ended_s: float) -> Findings:
    """The server's clock at a moment between request and answer, which it cut to whole seconds: the least by which
    it must be off."""
    try:
        theirs_s = parsedate_to_datetime(date or "").timestamp()
    except (ValueError, TypeError):
        return []
    ahead_s, behind_s = theirs_s - ended_s, began_s - (theirs_s + 1.0)
    if max(ahead_s, behind_s) < SKEW_S:
        return []
    where = f"{ahead_s:.0f} s ahead of" if ahead_s > behind_s else f"{behind_s:.0f} s behind"
    do = "Let both take their time from one server (chrony, NTP): delays and time stamps rest on it."
    return [warning("Tiled", f"Its clock is {where} this computer's.", do)]


def _version(answer: Any, shown: str) -> Findings:
    """Tiled says its version in its greeting; ours is the series that the client is of."""
    from importlib import metadata

    try:
        theirs = str(answer.json()["library_version"])
    except (ValueError, KeyError, TypeError):
        do = "Correct [tiled] uri: it ends in /api/v1."
        return [problem("Tiled", f"What answers at {shown} ({answer.status_code}) is no Tiled.", do)]
    ours = metadata.version("tiled")
    if _series(theirs) == _series(ours):
        return []
    do = "Bring both to one series, or be ready for errors that say little."
    return [warning("Tiled", f"The server is Tiled {theirs}, our client {ours}.", do)]


def _series(version: str) -> list[str]:
    return re.findall(r"\d+", version)[:2]


def services(config: Config, heard: Heard, wanted: list[str]) -> Findings:
    """Who beats, of those that should; `wanted` is `supervisor.services_of`."""
    if not heard:
        return [ok("services", f"None answers at {config.stream.updates_out}; `live-bcdi up` starts them.")]
    silent = [name for name in wanted if name not in heard]
    busy = {name: fields for name, fields in heard.items() if fields.get("state") != "ready"}
    if silent:
        do = "`log/SERVICE.jsonl` in the storage folder has the reason; after 90 s it is started again."
        return [problem("services", f"Of those that run, these are silent: {', '.join(silent)}.", do)]
    states = "; ".join(f"{name} is {fields.get('state')}" for name, fields in busy.items())
    return [ok("services", f"All {len(wanted)} run{': ' + states if states else ''}.")]

"""Who may talk on our 0MQ sockets: on loopback every local user, beyond it whoever holds a key (CURVE).

`live-bcdi keys` makes a folder of keys: `server.*` for who binds, `client.*` for who connects, and in `clients/`
the public keys of those who are let in. `Access` applies them to a socket, and nothing else does.
"""

import errno
import hashlib
import ipaddress
import logging
import os
import re
import stat
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import zmq
from zmq.auth.certs import load_certificate, load_certificates
from zmq.auth.thread import ThreadAuthenticator
from zmq.utils import z85
from zmq.utils.monitor import recv_monitor_message

from ..config import StreamConfig
from ..private import require_private
from ..types import ScanError

Socket: TypeAlias = zmq.Socket[bytes]

SERVER, CLIENT, CLIENTS = "server", "client", "clients"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
_FAILED = (
    zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL | zmq.EVENT_HANDSHAKE_FAILED_AUTH
)
_KEY_BYTES = 32
_STRANGERS = 100  # unknown keys that are told of, each once

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class Access:
    """`keys` is a folder of `live-bcdi keys`; without one, sockets are on loopback only, unless `open`."""

    keys: Path | None = None
    open: bool = False

    def connect(self, socket: Socket, address: str) -> None:
        """Connect as a client. Raises ScanError for keys that cannot be used, or an address that is none."""
        if self.keys is not None:
            socket.curve_serverkey, _ = _load(self.keys / f"{SERVER}.key")
            socket.curve_publickey, socket.curve_secretkey = load_secret(self.keys / f"{CLIENT}.key_secret")
        try:
            socket.connect(address.replace("//*:", "//127.0.0.1:"))  # a place to bind, and not to connect to
        except zmq.ZMQError as error:
            raise ScanError(
                f"{address!r} is no address of a stream ({error.strerror}); write tcp://host:port"
            ) from None

    def bind(self, socket: Socket, address: str) -> None:
        """Bind as the server. Raises ScanError as `check` does; `zmq.ZMQError` is the caller's to explain."""
        self.check(address)
        if self.keys is not None:
            _admit(socket.context, self.keys)
            socket.curve_publickey, socket.curve_secretkey = load_secret(self.keys / f"{SERVER}.key_secret")
            socket.curve_server = True
            socket.zap_domain = _domain(self.keys)
            socket.zap_enforce_domain = 1  # nobody comes in where nobody is there to check keys
        socket.bind(address)

    def check(self, address: str) -> None:
        """Raises ScanError where `address` may not be opened: beyond loopback without keys, or with such that
        cannot be used."""
        if self.keys is not None:
            load_secret(self.keys / f"{SERVER}.key_secret")
            _known_clients(self.keys)
        elif not self.open and not is_loopback(address):
            raise ScanError(
                f"{address} can be reached from other machines by everybody: make keys with `live-bcdi keys` and"
                " set [stream] keys to their folder, or let everybody in with [stream] open = true"
            )

    def check_answer(self, address: str, timeout_s: float = 1.0) -> bool:
        """Whether someone at `address` answers in time. Raises ScanError where our keys are refused."""
        with zmq.Context() as context, context.socket(zmq.SUB) as socket:
            socket.linger = 0
            monitor = socket.get_monitor_socket(_FAILED | zmq.EVENT_HANDSHAKE_SUCCEEDED | zmq.EVENT_CLOSED)
            try:
                self.connect(socket, address)
                event = recv_monitor_message(monitor)["event"] if monitor.poll(int(1000 * timeout_s)) else 0
                if event & _FAILED:
                    raise ScanError(self._refused(address))
                return bool(event & zmq.EVENT_HANDSHAKE_SUCCEEDED)
            finally:
                socket.disable_monitor()

    def _refused(self, address: str) -> str:
        ours = "we have none: set [stream] keys" if self.keys is None else f"ours are in {self.keys}"
        return (
            f"{address} answers, but not to our keys ({ours}); both sides need the same server.key, and the folder"
            f" {CLIENTS}/ of the other side our client.key"
        )


LOCAL = Access()


def access_of(stream: StreamConfig) -> Access:
    """What `[stream] keys` and `[stream] open` say."""
    return Access(keys=stream.keys, open=stream.open)


def is_loopback(address: str) -> bool:
    """Whether only this machine can reach a 0MQ `address` that is bound."""
    scheme, _, rest = address.partition("://")
    if scheme in ("ipc", "inproc"):
        return True
    host = rest.rpartition(":")[0].strip("[]")
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host in ("localhost", "lo")


def make_keys(folder: Path) -> dict[str, str]:
    """Make a folder (mode 700) of new keys for a system whose parts share it; the public keys, by name.

    Nothing is overwritten: raises ScanError where `folder` holds keys, or cannot be written.
    """
    with _clear_errors(folder):
        for name in (f"{SERVER}.key", f"{SERVER}.key_secret", f"{CLIENT}.key", f"{CLIENT}.key_secret", CLIENTS):
            if (folder / name).exists():
                raise FileExistsError(errno.EEXIST, "", str(folder / name))
        _make_folder(folder)
        _make_folder(folder / CLIENTS)
        made = {name: _make_pair(folder, name) for name in (SERVER, CLIENT)}
        _write(folder / CLIENTS / f"{CLIENT}.key", _certificate(made[CLIENT]), 0o644)
    return made


def make_client(folder: Path, name: str) -> tuple[Path, str]:
    """Let one more machine in: a new folder `folder`/`name` for it to have, and its public key in `clients/`.

    Raises ScanError where there are no keys in `folder`, or a client of that name.
    """
    if not _NAME.fullmatch(name) or name in (CLIENT, CLIENTS):
        raise ScanError(f"{name!r} is no name for a client: letters, digits, _ and -, other than {CLIENT!r}")
    server, _ = _load(folder / f"{SERVER}.key")
    with _clear_errors(folder):
        theirs = folder / name
        _make_folder(theirs)
        public = _make_pair(theirs, CLIENT)
        _write(theirs / f"{SERVER}.key", _certificate(server.decode()), 0o644)
        _write(folder / CLIENTS / f"{name}.key", _certificate(public), 0o644)
    return theirs, public


def _make_folder(path: Path) -> None:
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    path.chmod(0o700)  # whatever the umask says, and whoever made it


def _make_pair(folder: Path, name: str) -> str:
    public, secret = (key.decode() for key in zmq.curve_keypair())
    _write(folder / f"{name}.key_secret", _certificate(public, secret), 0o600)
    _write(folder / f"{name}.key", _certificate(public), 0o644)
    return public


def _certificate(public: str, secret: str | None = None) -> str:
    """In the form of `zmq.auth` (ZPL), so that its tools and bluesky's can read it."""
    line = "" if secret is None else f'    secret-key = "{secret}"\n'
    return f'metadata\ncurve\n    public-key = "{public}"\n{line}'


def _write(path: Path, text: str, mode: int) -> None:
    """A file that was not there, never readable by more than `mode` says. Raises FileExistsError."""
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "w") as file:
        os.fchmod(file.fileno(), mode)
        file.write(text)


@contextmanager
def _clear_errors(folder: Path) -> Iterator[None]:
    """What goes wrong while keys are written, in one sentence."""
    try:
        yield
    except FileExistsError as error:
        raise ScanError(f"{error.filename} is there already, and keys are never overwritten") from None
    except OSError as error:
        raise ScanError(f"keys cannot be written to {folder}: {error.strerror}") from None


def _load(path: Path) -> tuple[bytes, bytes | None]:
    """(public, secret) of a file of keys. Raises ScanError."""
    try:
        public, secret = load_certificate(path)
        if any(len(z85.decode(key)) != _KEY_BYTES for key in (public, secret or public)):
            raise ValueError("of another length")
    except (OSError, ValueError, KeyError, struct.error) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else "it holds no key"
        missing = "there is no such file" if not path.exists() else reason
        raise ScanError(f"no key in {path} ({missing}); `live-bcdi keys` makes a folder of them") from None
    return public, secret


def load_secret(path: Path) -> tuple[bytes, bytes]:
    """(public, secret) of a file that nobody else may read. Raises ScanError, with what to do."""
    public, secret = _load(path)
    if secret is None:
        raise ScanError(f"{path} holds no secret key; `live-bcdi keys` makes a folder of them")
    require_private(path)
    return public, secret


def _known_clients(folder: Path) -> set[bytes]:
    """The public keys that are let in. Raises ScanError where others may add theirs."""
    clients = folder / CLIENTS
    try:
        if stat.S_IMODE(clients.stat().st_mode) & 0o022:
            raise ScanError(f"others may write to {clients}, and so let themselves in: `chmod 700` it")
        return set(load_certificates(clients))
    except (OSError, ValueError) as error:
        raise ScanError(f"the keys in {clients} cannot be read ({error}); `live-bcdi keys` makes them") from None


class _Doorkeeper:
    """Says whose keys are let in, from the folder as it is now; tells of each stranger once."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._strangers: set[bytes] = set()

    def callback(self, _domain: str, key: bytes) -> bool:
        """The name that `zmq.auth` calls. An error that left it would end the thread that asks."""
        try:
            if key in _known_clients(self._folder):
                return True
        except ScanError as error:
            logger.error("nobody is let in: %s", error)
            return False
        if key not in self._strangers and len(self._strangers) < _STRANGERS:
            self._strangers.add(key)
            logger.warning("refused a client: no key %s in %s", key.decode(), self._folder / CLIENTS)
        return False


_doors: dict[int, ThreadAuthenticator] = {}
_doors_lock = threading.Lock()


def _admit(context: zmq.Context[Socket], folder: Path) -> None:
    """One thread a context asks for all its sockets: a second one would find its place taken."""
    with _doors_lock:
        door = _doors.get(id(context))
        if door is None:
            door = _doors[id(context)] = ThreadAuthenticator(context)
            door.start()
        domain = _domain(folder).decode()
        if domain not in door.credentials_providers:
            door.configure_curve_callback(domain, _Doorkeeper(folder))


def _domain(folder: Path) -> bytes:
    """A name for a folder of keys that ZAP can carry."""
    return hashlib.sha256(os.fsencode(folder.absolute())).hexdigest().encode()

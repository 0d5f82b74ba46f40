"""Secrets on disk: readable by their owner alone, at every moment."""

import os
import secrets
import stat
from pathlib import Path

from .types import ScanError


def write_private(path: Path, text: str) -> None:
    """Whole or not at all, mode 600; the first of two writers wins."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.{os.getpid()}")
    with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
    try:
        os.link(partial, path)
    except FileExistsError:
        pass
    finally:
        partial.unlink()


def require_private(path: Path) -> None:
    """Raises ScanError where others can read the secret in `path`; OSError where it is not there."""
    mode = stat.S_IMODE(path.stat().st_mode)
    if os.name == "posix" and mode & 0o077:
        raise ScanError(
            f"others can read the key in {path} (mode {mode:o}): have a new one made, or `chmod 600` it"
        )


def private_key(path: Path) -> str:
    """The key in `path`, made where there is none. Raises ScanError where others can read it, and where it
    can neither be read nor made."""
    try:
        if not path.exists():
            write_private(path, secrets.token_hex(32))
        require_private(path)
        key = path.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ScanError(f"the key in {path} cannot be read or made ({type(error).__name__})") from None
    if not key:
        raise ScanError(f"there is no key in {path}; remove the file to have one made")
    return key

"""Files that are either whole or not there, and what the system complains of in words."""

import errno
import os
import secrets
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from .types import StorageError


def put_whole(path: Path, parts: Iterable[bytes]) -> None:
    """A file at `path` with these bytes, whole and on the disk, as `replacing` does."""
    with replacing(path) as partial, partial.open("xb") as written:
        written.writelines(parts)
        written.flush()
        os.fsync(written.fileno())


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A name beside `path`, with its suffix, to write to: what is there when the block ends is put at `path`; a
    failure leaves nothing behind. Raises StorageError where it cannot be written."""
    partial = path.with_name(f".{path.stem}.{os.getpid()}-{secrets.token_hex(4)}.partial{path.suffix}")
    try:
        yield partial
        partial.replace(path)
    except OSError as error:
        raise StorageError(f"{path} could not be written: {reason(error)}") from error
    finally:
        partial.unlink(missing_ok=True)


def reason(error: BaseException) -> str:
    """What HDF5 or the operating system complains of, in words a user knows."""
    text = str(error)
    if isinstance(error, FileNotFoundError):
        return "there is no such file or folder"
    if isinstance(error, FileExistsError | NotADirectoryError):
        return "a file is there in the place of a folder"
    if isinstance(error, IsADirectoryError):
        return "it is a folder; give a file of it, or gather TIFF frames with `live-bcdi import`"
    if isinstance(error, PermissionError):
        return "the file system does not allow it"
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return "the disk is full; make room and do it again"
    if "truncated file" in text:
        return "it is truncated; copy it again"
    if "signature not found" in text:
        return "it is not an HDF5 file"
    return text

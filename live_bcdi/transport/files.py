"""HDF5 files that are either whole or not there, and errors that say what to do."""

import os
import shutil
import stat
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import hdf5plugin
import numpy as np

from ..storage import put_whole, reason
from ..types import ScanError, StorageError

FRAME_FILTER = hdf5plugin.Bitshuffle(cname="lz4")

# A growing file is closed while there is still room for all that HDF5 holds back.
RESERVE_BYTES = 16 * 2**20

_RETRY_S = 0.02


@contextmanager
def new_file(path: Path) -> Iterator[h5py.File]:
    """A file that is put at `path` when the block ends, whole; a failure leaves nothing behind.

    HDF5 builds it in memory: the library crashes the process at exit when the disk fills up under it.
    Raises StorageError where the disk is full or the folder cannot be written.
    """
    with h5py.File(path.name, "w", driver="core", backing_store=False) as file:
        yield file
        file.flush()
        image = file.id.get_file_image()
    put_whole(path, [image])


def check_output(
    path: Path,
    *,
    overwrite: bool = False,
    source: Path | None = None,
    replaced: Callable[[Path], object] = h5py.is_hdf5,
) -> None:
    """Say before the work, and not after it, that its result cannot be put at `path`.

    Raises ScanError where `path` is `source` by whatever name, is a folder, exists without `overwrite` or is not
    `replaced` by its kind (TIFF and SPEC files are inputs too), and StorageError where its folder takes no file.
    """
    if path.is_dir():
        raise ScanError(f"{path} is a folder; give the name of a file with --output")
    if path.exists():
        if source is not None and source.exists() and path.samefile(source):
            raise ScanError(f"{path} is the input itself; give another --output")
        if not overwrite:
            raise ScanError(f"{path} exists; give another --output, or --overwrite to replace it")
        if not replaced(path):
            kind = "an HDF5 file" if replaced is h5py.is_hdf5 else "a file of this kind"
            raise ScanError(f"{path} is not {kind} and is not replaced; give another --output")
    try:
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise StorageError(
            f"nothing can be written to {path.parent}: {reason(error)}; give another --output"
        ) from None


def require_space(path: Path, needed_bytes: int) -> None:
    """Raise ScanError where writing `needed_bytes` to a growing file would fill its disk (see `new_file`)."""
    free_bytes = shutil.disk_usage(path.parent).free
    if free_bytes < needed_bytes + RESERVE_BYTES:
        raise ScanError(
            f"{path}: the disk is full ({free_bytes / 1e6:.0f} MB left, {RESERVE_BYTES / 1e6:.0f} MB are kept"
            " to close the file); make room and do it again"
        )


def has_room(folder: Path) -> bool:
    """Whether a file of `RESERVE_BYTES` could be written to `folder` now."""
    try:
        with tempfile.TemporaryFile(dir=folder) as probe:
            os.posix_fallocate(probe.fileno(), 0, RESERVE_BYTES)
    except OSError:
        return False
    return True


def open_file(path: Path, *, wait_s: float = 0.0) -> h5py.File:
    """Open a file for reading, also while another process writes it in SWMR mode.

    Tries for `wait_s` where it is not there yet or still being set up. Raises ScanError after that.
    """
    until_s = time.monotonic() + wait_s
    while True:
        try:
            return opened(path)
        except OSError as error:
            if time.monotonic() >= until_s:
                raise ScanError(f"{path} cannot be read: {reason(error)}") from error
        time.sleep(_RETRY_S)


def opened(path: Path) -> h5py.File:
    """Plain first, which notices a truncated file; SWMR where a writer has it open, or died with it open.

    Raises what h5py raises.
    """
    kind = path.stat().st_mode
    if not stat.S_ISREG(kind) and not stat.S_ISDIR(kind):
        raise OSError("it is no file, but a device or a pipe")
    try:
        return h5py.File(path, "r")
    except OSError as error:
        if "already open for" not in str(error):
            raise
        _require_whole(path)
        return h5py.File(path, "r", swmr=True)


def _require_whole(path: Path) -> None:
    """HDF5 reads on for ever in a truncated file that it opens in SWMR mode. The superblock (version 3, as SWMR
    wants it) has the end of the file in bytes 28 to 36; a growing one is never shorter."""
    with path.open("rb") as file:
        head = file.read(36)
    if path.stat().st_size < int.from_bytes(head[28:36], "little"):
        raise OSError("truncated file")


@contextmanager
def clear_errors(path: Path, what: str) -> Iterator[None]:
    """HDF5's errors on a damaged or incomplete file as one ScanError; `what` says what was being read."""
    try:
        yield
    except (OSError, RuntimeError, KeyError, ValueError, TypeError, AttributeError) as error:
        if isinstance(error, ScanError):
            raise
        raise ScanError(
            f"{path} holds no readable {what}: {reason(error)}; it is damaged, or of another program"
        ) from error


def put(group: h5py.Group, name: str, value: Any, **attributes: Any) -> h5py.Dataset:
    """A small dataset with attributes, `units` among them."""
    dataset = group.create_dataset(name, data=value)
    for key, attribute in attributes.items():
        dataset.attrs[key] = attribute
    return dataset


def nexus_group(parent: h5py.Group, name: str, nx_class: str, **attributes: Any) -> h5py.Group:
    """A group with its NeXus class."""
    group = parent.create_group(name)
    group.attrs["NX_class"] = nx_class
    for key, attribute in attributes.items():
        group.attrs[key] = attribute
    return group


def text(value: Any) -> str:
    """A scalar string dataset or attribute."""
    if isinstance(value, h5py.Dataset):
        value = value[()]
    if isinstance(value, np.ndarray) and value.size == 1:
        value = value.ravel()[0]
    return value.decode("utf-8") if isinstance(value, bytes) else str(value)

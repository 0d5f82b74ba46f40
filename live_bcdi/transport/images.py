"""Images in TIFF or numpy files: the frames of a scan, and single ones such as a dark field."""

import re
import struct
import zlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray

from ..cleaning import without_dark
from ..config import Preprocessing
from ..preprocess import as_set
from ..types import BoolArray, FloatArray, FrameArray, RockingScan, ScanError

# What tifffile and its codecs raise on a file that was cut or overwritten.
_BAD_TIFF = (ValueError, struct.error, zlib.error, OSError, RuntimeError)

# A pixel that counts less than this part of the median pixel in the white field does not count. In the 34-ID-C
# field every pixel below it off the chip's edge is silent in the scan, and those above it are not.
_DEAD_BELOW = 0.25


def read_image(path: Path) -> NDArray[np.float64]:
    """(row, column). Raises ScanError where the file is absent, damaged, or no single image."""
    try:
        image = np.asarray(np.load(path) if path.suffix.lower() == ".npy" else tifffile.imread(path))
    except FileNotFoundError:
        raise ScanError(f"no file {path}") from None
    except (OSError, ValueError, EOFError, IndexError, tifffile.TiffFileError) as error:
        raise ScanError(f"{path} is not an image that can be read (TIFF or .npy): {error}") from None
    if image.ndim != 2 or image.dtype.kind not in "uif":
        raise ScanError(f"{path} holds {image.dtype} {image.shape}; a dark field is one image (row, column)")
    return image.astype(np.float64)


def as_counted(scan: RockingScan, settings: Preprocessing, corner: tuple[int, int] = (0, 0)) -> RockingScan:
    """The scan, a part of the detector that begins at `corner`, less the dark frame of `settings`, and without a
    flat field or monitor that these do not use. Raises ScanError where the dark frame cannot be read, or fits
    not."""
    used = as_set(scan, settings)
    if settings.dark is None:
        return used
    rows, columns = (slice(first, first + n) for first, n in zip(corner, scan.intensity.shape[1:]))
    return without_dark(used, read_image(settings.dark)[rows, columns])


def by_number(paths: Iterable[Path]) -> dict[int, Path]:
    """Frames by the number that ends their names, in its order; files without one are none.

    Raises ScanError where two have the same.
    """
    numbered: dict[int, Path] = {}
    for path in sorted(paths):
        ending = re.search(r"\d+$", path.stem)
        if ending is None:
            continue
        number = int(ending[0])
        if number in numbered:
            raise ScanError(f"frame {number} is there twice: {numbered[number]} and {path}")
        numbered[number] = path
    return {number: numbered[number] for number in sorted(numbered)}


def read_frames(paths: Sequence[Path]) -> FrameArray:
    """(frame, row, column), as they are on disk. Raises ScanError where one is damaged or unlike the first."""
    first = _read_tiff(paths[0])
    frames: NDArray[Any] = np.empty((len(paths), *first.shape), first.dtype)
    for index, path in enumerate(paths):
        image = _read_tiff(path)
        if image.shape != first.shape or image.dtype != first.dtype:
            raise ScanError(
                f"{path} is {image.shape} {image.dtype}, but {paths[0].name} is {first.shape} {first.dtype}"
            )
        frames[index] = image
    return frames


def read_stack(path: Path) -> FrameArray:
    """(frame, row, column) of a TIFF file of many pages. Raises ScanError where it is damaged or has one page."""
    images = _pages(path)
    if images.ndim != 3:
        raise ScanError(f"{path} is {images.shape}; a stack must be (frame, row, column), one page a frame")
    return images


def _read_tiff(path: Path) -> NDArray[Any]:
    image = _pages(path)
    if image.ndim != 2:
        raise ScanError(f"{path} is {image.shape}; a frame must be (row, column)")
    return image


def _pages(path: Path) -> NDArray[Any]:
    try:
        images = np.asarray(tifffile.imread(path))
    except _BAD_TIFF as error:
        raise ScanError(f"{path} is truncated or not a TIFF file: {error}; copy it again") from None
    if not images.size:
        raise ScanError(f"{path} is truncated: it has no image; copy it again")
    return images


def bad_pixels(folder: Path, shape: tuple[int, ...]) -> BoolArray | None:
    """What the detector's own files say; None where there are none."""
    masks = []
    if (path := folder / "dark.tif").exists():
        masks.append(_corner(path, shape) != 0)
    if (path := folder / "whitefield.tif").exists():
        white = _corner(path, shape)
        masks.append(~(white >= _DEAD_BELOW * np.median(white)))
    return np.logical_or.reduce(masks) if masks else None


def flatfield(folder: Path, shape: tuple[int, ...]) -> FloatArray | None:
    """Response relative to the median pixel, in steps of 1e-4 (as it travels; the field's own noise is 1e-2)."""
    if not (path := folder / "whitefield.tif").exists():
        return None
    white = np.asarray(_corner(path, shape), np.float64)
    return np.asarray(np.round(np.clip(white / np.median(white), 0, 6.5), 4), np.float32)


def _corner(path: Path, shape: tuple[int, ...]) -> NDArray[Any]:
    """The first rows and columns of a whole-detector image, which the frames were read from."""
    whole = _read_tiff(path)
    if whole.shape[0] < shape[0] or whole.shape[1] < shape[1]:
        raise ScanError(f"{path} is {whole.shape}, smaller than the frames, which are {shape}")
    return whole[: shape[0], : shape[1]]


def ranges(numbers: Sequence[int]) -> str:
    """[1, 2, 3, 7] as '1-3, 7'."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return ", ".join(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs)

"""One image of the whole frame, such as a dark field, from a TIFF or numpy file."""

from pathlib import Path

import numpy as np
import tifffile
from numpy.typing import NDArray

from ..types import ScanError


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

"""cohere_core on our volume, in its own process: what `live-bcdi bench phasing` is compared with."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from .phasing import Pattern, metrics
from .phasing.kernels_numpy import Object
from .types import ScanError

# As published for this very scan: cohere-ui, example_workspace/scan_54/conf/config_rec.
SCAN_54: Mapping[str, Any] = {
    "algorithm_sequence": "3*(20*ER+180*HIO)+20*ER",
    "hio_beta": 0.9,
    "initial_support_area": [0.5, 0.5, 0.5],
    "shrink_wrap_trigger": [1, 1],
    "shrink_wrap_type": "GAUSS",
    "shrink_wrap_threshold": 0.1,
    "shrink_wrap_gauss_sigma": 1.0,
    "twin_trigger": [2],
    "twin_halves": [0, 0],
    "progress_trigger": [0, 20],
}
_PLAIN = {"hio_beta": 0.9, "raar_beta": 0.9, "initial_support_area": [0.5, 0.5, 0.5]}
_WRAP = {"shrink_wrap_type": "GAUSS", "shrink_wrap_threshold": 0.1, "shrink_wrap_gauss_sigma": 1.0}
STEPS: Mapping[str, Mapping[str, Any]] = {
    "ER": {**_PLAIN, "algorithm_sequence": "4*ER"},
    "HIO": {**_PLAIN, "algorithm_sequence": "4*HIO"},
    "RAAR": {**_PLAIN, "algorithm_sequence": "4*RAAR"},
    "HIO+SW every": {**_PLAIN, **_WRAP, "algorithm_sequence": "4*HIO", "shrink_wrap_trigger": [0, 1]},
    "HIO+SW tenth": {**_PLAIN, **_WRAP, "algorithm_sequence": "10*HIO", "shrink_wrap_trigger": [0, 10]},
}


@dataclass(frozen=True, kw_only=True, slots=True)
class PeerRun:
    """A run of cohere: `chi` by our metric on the measured voxels, `chi_own` as it reports it (masked ones are
    zeros to it). Seconds are those of its iterations."""

    version: str
    iterations: int
    wall_s: float
    cpu_s: float
    chi: float
    chi_own: float


def find_cohere(python: Path | None) -> Path | None:
    """The interpreter to run cohere with: the one given, else this one where it has cohere_core, else None.

    Raises ScanError where the one given has none.
    """
    if python is None:
        return Path(sys.executable) if find_spec("cohere_core") else None
    try:
        found = subprocess.run([str(python), "-c", "import cohere_core"], capture_output=True, check=False)
    except OSError as error:
        raise ScanError(f"{python} does not run ({error.strerror}); give a Python interpreter") from None
    if found.returncode:
        raise ScanError(f"{python} cannot import cohere_core; install it there with pip, or leave the option out")
    return python


def run_cohere(
    python: Path, pattern: Pattern, parameters: Mapping[str, Any] = SCAN_54, *, threads: int = 1
) -> PeerRun:
    """Reconstruct `pattern` from a random start. Raises ScanError where cohere fails."""
    script = Path(__file__).with_name("cohere_run.py")
    limits = {f"{library}_NUM_THREADS": str(threads) for library in ("OMP", "MKL", "OPENBLAS")}
    with TemporaryDirectory() as folder:
        given, made = Path(folder) / "data.npy", Path(folder) / "image.npy"
        np.save(given, np.maximum(pattern.amplitude(), 0))
        ran = subprocess.run(
            # -I: else the script's folder, with our types.py, would come before the standard library
            [str(python), "-I", str(script), str(given), str(made), json.dumps(dict(parameters))],
            capture_output=True,
            text=True,
            env={**os.environ, **limits},
            check=False,
        )
        if ran.returncode:
            last = (ran.stderr.strip().splitlines() or ["no message"])[-1]
            raise ScanError(f"cohere ended with status {ran.returncode}: {last}")
        told = json.loads(ran.stdout)
        return PeerRun(**told, chi=chi_of(np.load(made), pattern))


def chi_of(density: Object, pattern: Pattern) -> float:
    """Our chi of an object of cohere's, at the scale that makes it least: cohere normalises its result.

    cohere transforms with exp(+i q.r), so its object is the complex conjugate of ours.
    """
    modulus = np.abs(metrics.centred_transform(np.conj(density).astype(np.complex64))).astype(np.float64)
    amplitude = np.sqrt(np.where(pattern.mask, 0, pattern.intensity), dtype=np.float64)
    use = ~pattern.mask
    modulus *= np.sum(modulus[use] * amplitude[use]) / np.sum(modulus[use] ** 2)
    return metrics.chi(modulus, pattern.intensity, pattern.mask)

"""Checks of the machine, which need no configuration: Python, libraries, GPU, threads, HDF5."""

import os
import sys
from collections.abc import Callable, Mapping
from ctypes import CDLL
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

from ..config import PhasingConfig
from .finding import Findings, ok, probe, problem, warning

TESTED_PYTHON = "3.11"  # of constraints.txt
INSTALL = "Install what was tested together: `pip install -c constraints.txt .` in the checkout."
GPU_S = 120.0  # the first kernels of a device are compiled
_CONSTRAINTS = ("live_bcdi/constraints.txt", "constraints.txt")  # in a wheel, in a checkout
_NAMED = 6  # libraries in one sentence


def python(version: str, wanted: str) -> Findings:
    """`wanted` is the package's own Requires-Python."""
    if version not in SpecifierSet(wanted):
        do = f"Make an environment with Python {TESTED_PYTHON}."
        return [problem("Python", f"This is Python {version}, and live_bcdi needs {wanted}.", do)]
    return [ok("Python", f"Python {version}; what was tested together was on {TESTED_PYTHON}.")]


def own_python() -> Findings:
    wanted = metadata.metadata("live_bcdi")["Requires-Python"]
    return python(".".join(map(str, sys.version_info[:3])), wanted)


def libraries(wanted: list[str], installed: Callable[[str], str | None], tested: Mapping[str, str]) -> Findings:
    """`wanted` are requirements (PEP 508), `installed` gives the version of a package, or None; `tested` has those
    that were tested together."""
    missing, wrong, other = [], [], []
    here = [each for each in map(Requirement, wanted) if each.marker is None or each.marker.evaluate()]
    for requirement in here:
        name, version = requirement.name, installed(requirement.name)
        if version is None:
            missing.append(name)
        elif not requirement.specifier.contains(version, prereleases=True):
            wrong.append(f"{name} {version} (wanted {requirement.specifier})")
        elif _differs(version, tested.get(canonicalize_name(name))):
            other.append(f"{name} {version} ({tested[canonicalize_name(name)]})")
    return _told_of_libraries(len(here), missing, wrong, other)


def _told_of_libraries(count: int, missing: list[str], wrong: list[str], other: list[str]) -> Findings:
    found = []
    if missing:
        found.append(problem("libraries", f"These are not installed: {_some(missing)}.", INSTALL))
    if wrong:
        found.append(problem("libraries", f"These are of a version that does not do: {_some(wrong)}.", INSTALL))
    if other:
        found.append(
            warning("libraries", f"These are not what was tested (in brackets): {_some(other)}.", INSTALL)
        )
    return found or [ok("libraries", f"All {count} libraries are there, in versions that were tested together.")]


def _some(names: list[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more


def _differs(version: str, tested: str | None) -> bool:
    """Whether it is of another series: the third number of a version is for repairs."""
    return tested is not None and Version(version).release[:2] != Version(tested).release[:2]


def installed_version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def own_libraries() -> Findings:
    wanted = [text for text in metadata.requires("live_bcdi") or [] if "extra ==" not in text]
    return libraries(wanted, installed_version, tested_versions())


def tested_versions() -> dict[str, str]:
    """What constraints.txt pins; empty where it does not come with this installation."""
    root = Path(__file__).parents[2]
    for path in (root / name for name in _CONSTRAINTS):
        if path.exists():
            lines = (line.split("#")[0].strip() for line in path.read_text(encoding="utf-8").splitlines())
            pins = (line.split("==") for line in lines if "==" in line)
            return {canonicalize_name(name): version for name, version in pins}
    return {}


def gpu(phasing: PhasingConfig, has_driver: bool, has_cupy: bool) -> Findings:
    """A device is tried with a small retrieval, in a process of its own."""
    wanted = phasing.device == "cuda"
    if phasing.device == "cpu":
        return [ok("GPU", "Not asked for: [phasing] device is cpu.")]
    if not has_driver:
        if not wanted:
            return [ok("GPU", "There is none; the CPU retrieves, which is fine.")]
        do = "Install NVIDIA's driver, or set [phasing] device to auto."
        return [problem("GPU", "[phasing] device is cuda, and there is no NVIDIA driver.", do)]
    say = problem if wanted else warning
    if not has_cupy:
        return [say("GPU", "There is a driver, and no cupy to use it.", "pip install 'live_bcdi[cuda]'.")]
    status, said = probe(["gpu"], GPU_S)
    if status == 0:
        return [ok("GPU", "A small retrieval on it gives what the CPU gives.")]
    why = next(reversed(said.splitlines()), "it crashed") if status > 0 else f"no end in {GPU_S:.0f} s, or a crash"
    do = "Let driver and cupy's CUDA agree (nvidia-smi), or set [phasing] device to cpu."
    return [say("GPU", f"It cannot be used: {why}.", do)]


def own_gpu(phasing: PhasingConfig) -> Findings:
    return gpu(phasing, has_driver(), find_spec("cupy") is not None)


def has_driver() -> bool:
    """Whether NVIDIA's driver library can be loaded."""
    try:
        CDLL("libcuda.so.1")
    except OSError:
        return False
    return True


def threads(phasing: PhasingConfig, workers: int | None, cores: int, environment: Mapping[str, str]) -> Findings:
    """Cores against what a refinement takes, and what the environment lets each library take beside."""
    found = []
    taken = phasing.threads * (workers or 1)
    if taken > cores:
        times = f" x [jobs] workers {workers}" if workers else ""
        what = f"[phasing] threads {phasing.threads}{times} are more than the {cores} cores that we may use."
        found.append(warning("threads", what, f"Set them so that their product is {cores} at most."))
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"):
        value = environment.get(name, "").split(",")[0]
        if value and (not value.isdigit() or not 1 <= int(value) <= cores):
            what = f"{name} is {value}, and we may use {cores} cores."
            found.append(warning("threads", what, f"Unset it, or set it to {cores} at most."))
    return found or [ok("threads", f"We may use {cores} cores, of which a refinement takes {phasing.threads}.")]


def own_threads(phasing: PhasingConfig, workers: int | None) -> Findings:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return threads(phasing, workers, cores, os.environ)


def transforms() -> Findings:
    """The library that does the transforms on the CPU, against a sum that is done by hand."""
    import numpy as np
    import pyfftw

    signal = np.exp(2j * np.pi * 3 * np.arange(16) / 16).astype(np.complex64)
    spectrum = np.abs(pyfftw.interfaces.numpy_fft.fft(signal))
    if np.abs(spectrum - 16 * (np.arange(16) == 3)).max() > 1e-4:
        return [problem("FFT", f"pyFFTW {pyfftw.__version__} transforms wrongly.", "Install pyfftw again.")]
    return [ok("FFT", f"pyFFTW {pyfftw.__version__} transforms rightly.")]


def hdf5() -> Findings:
    """A compressed chunk as detectors write it, written and read in memory."""
    import h5py
    import hdf5plugin
    import numpy as np

    frame = np.random.default_rng(0).poisson(2.0, (1, 64, 64)).astype(np.int32)
    name = f"live-bcdi-doctor-{os.getpid()}.h5"  # on no disk
    with h5py.File(name, "w", driver="core", backing_store=False) as file:
        filters = hdf5plugin.Bitshuffle(cname="lz4")
        dataset = file.create_dataset("frames", data=frame, chunks=frame.shape, compression=filters)
        file.flush()
        same = np.array_equal(dataset[()], frame) and dataset.id.get_storage_size() < frame.nbytes
    if not same:
        return [problem("HDF5", "bitshuffle/LZ4 gives back something else.", "Install hdf5plugin again.")]
    version = h5py.version.hdf5_version
    return [ok("HDF5", f"HDF5 {version} writes and reads bitshuffle/LZ4 (h5py {h5py.__version__}).")]

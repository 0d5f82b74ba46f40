"""march.cu, compiled for the host by g++ (cuda_on_host.hpp), against the compiled loops; on a device where
there is one."""

import ctypes
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from live_bcdi.dynamical import Characteristics, along_diffracted, cuda
from live_bcdi.dynamical.cuda import SOURCE, CudaRowKernels

SHIM = Path(__file__).with_name("cuda_on_host.hpp")
TWO_THETA, WAVELENGTH = 0.78, 1.55e-10
SHAPE, EDGES = (5, 2, 4), np.array([2e-8, 2e-8, 2e-8 / np.tan(TWO_THETA)])
CHI = {"chi_0": 20 * (-9.4e-5 + 0.9e-5j), "chi_h": 20 * (5.2e-5 - 0.6e-5j), "chi_hbar": 20 * (5.1e-5 + 0.5e-5j)}


@pytest.fixture(scope="module")
def libraries(tmp_path_factory):
    """march.cu for the host, by its option REAL."""
    compiler = shutil.which("g++")
    if compiler is None:
        pytest.skip("no g++ to compile march.cu for the host")
    folder, found = tmp_path_factory.mktemp("march"), {}
    for option in ("-DREAL=float", "-DREAL=double"):
        path = folder / f"{option[7:]}.so"
        # a table of few voxels, so that a row has several
        options = ["-std=c++20", "-O1", "-shared", "-fPIC", "-pthread", option, "-DCHUNK=2", "-include", str(SHIM)]
        done = subprocess.run([compiler, *options, "-x", "c++", str(SOURCE), "-o", str(path)], capture_output=True)
        if b"barrier: No such file" in done.stderr:
            pytest.skip("g++ is too old for std::barrier")
        assert done.returncode == 0, done.stderr.decode()
        found[option] = ctypes.CDLL(str(path))
    return found


def run(library, name, rows, threads, arrays):
    """A kernel, by one host thread an angle."""
    assert all(array.flags.c_contiguous for array in arrays)
    pointers = [ctypes.c_void_p(array.ctypes.data) for array in arrays]
    library.begin(threads, rows, 1)

    def thread(index):
        for row in range(rows):
            library.become(index, row, 0)
            getattr(library, name)(*pointers)
            library.meet()

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(thread, range(threads)))


@pytest.fixture
def host(libraries, monkeypatch):
    """The host in place of cupy: what is on the "device" is a copy."""

    def module(code, options):
        assert code == SOURCE.read_text()
        library = libraries[options[0]]
        return SimpleNamespace(
            get_function=lambda name: lambda grid, block, args: run(library, name, *grid, *block, args)
        )

    monkeypatch.setitem(sys.modules, "cupy", SimpleNamespace(RawModule=module, asarray=np.array, asnumpy=np.array))
    cuda._function.cache_clear()
    yield
    cuda._function.cache_clear()


@pytest.fixture
def device():
    cupy = pytest.importorskip("cupy", reason="no cupy", exc_type=ImportError)
    try:
        cupy.cuda.runtime.getDeviceCount()
    except RuntimeError as error:
        pytest.skip(f"no CUDA device: {error}")


@pytest.fixture(params=["host", pytest.param("device", marks=pytest.mark.gpu)])
def machine(request):
    request.getfixturevalue(request.param)


@pytest.mark.parametrize(
    ("blocks", "kind", "strength", "tolerance"),
    [(1, np.complex64, 1, 2e-5), (2, np.complex64, 1, 2e-5), (1, np.complex128, 40, 1e-12)],
)
def test_the_kernel_equals_the_loops(machine, monkeypatch, blocks, kind, strength, tolerance):
    """Fields and gradients, with angles of two launches, or of two warps; strong enough that the series must be
    doubled."""
    monkeypatch.setattr(cuda, "_BLOCKS", blocks)
    rng = np.random.default_rng(0)
    density = (rng.normal(size=SHAPE) + 1j * rng.normal(size=SHAPE)).astype(kind)
    density[:1] = density[:, :, 0] = 0
    s0 = np.where(density != 0, rng.random(SHAPE), 0)
    chi = {name: strength * value for name, value in CHI.items()}
    beams = along_diffracted(WAVELENGTH, TWO_THETA, **chi)
    turns = beams.turned(np.linspace(-1e-3, 1e-3, 37))
    by = rng.normal(size=(2, 37, *SHAPE[:2])) + 1j * rng.normal(size=(2, 37, *SHAPE[:2]))
    expected, found = (
        Characteristics(beams, EDGES, kernels).march(density, s0, turns) for kernels in (None, CudaRowKernels())
    )
    pairs = [(expected.e0, found.e0), (expected.eh, found.eh)]
    one, other = (passage.pull_back(*by) for passage in (expected, found))
    pairs += [(getattr(one, name), getattr(other, name)) for name in ("density", "s0", "delta_q")]
    for wanted, got in pairs:
        assert got.dtype == wanted.dtype and np.abs(wanted).max() > 0
        np.testing.assert_allclose(got, wanted, atol=tolerance * np.abs(wanted).max())


@pytest.mark.parametrize("chip", ["75", "80", "90"])
def test_nvidias_compiler_takes_the_source(chip):
    """It needs no device."""
    cupy = pytest.importorskip("cupy", reason="no cupy", exc_type=ImportError)
    nvrtc = cupy.cuda.nvrtc
    program = nvrtc.createProgram(SOURCE.read_text(), SOURCE.name, (), ())
    try:
        nvrtc.compileProgram(program, ("-std=c++17", f"-arch=sm_{chip}"))
    except nvrtc.NVRTCError:
        pytest.fail(nvrtc.getProgramLog(program))

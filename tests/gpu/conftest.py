"""The CUDA kernels on the device, and on the host where there is none.

On the host kernels.cu is compiled by g++ (cuda_on_host.hpp) and kernels_cuda.py runs on a stand-in for cupy, as
strict as cupy: arrays do not turn into numpy's or into a bool by themselves, and a kernel's arguments must have
the types of its parameters. What stays unproven there is the launch itself, cuFFT, and cupy's own functions.
"""

import ctypes
import importlib.util
import re
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
from numpy.lib.mixins import NDArrayOperatorsMixin
from scipy import fft

from live_bcdi.phasing import kernels_numpy

SHIM = Path(__file__).with_name("cuda_on_host.hpp")
CODE = Path(kernels_numpy.__file__).with_name("kernels.cu")
# few, so that blocks and turns are many for a small array
THREADS, BLOCKS = 8, 3
TYPES = {
    "float2": (np.complex64, None),
    "bool": (np.bool_, None),
    "float": (np.float32, ctypes.c_float),
    "double": (np.float64, ctypes.c_double),
    "int": (np.int32, ctypes.c_int),
    "unsigned int": (np.uint32, ctypes.c_uint),
}


def _bare(value):
    """The numpy array in a device array, also within sequences; numpy arrays are refused as cupy refuses them."""
    if isinstance(value, DeviceArray):
        return value.host
    if isinstance(value, np.ndarray) and value.ndim:
        raise TypeError("Unsupported type <class 'numpy.ndarray'>")
    if isinstance(value, list | tuple):
        return type(value)(map(_bare, value))
    return value


def _wrapped(value):
    if isinstance(value, list | tuple):
        return type(value)(map(_wrapped, value))
    return DeviceArray(value) if isinstance(value, np.ndarray | np.generic) else value


class DeviceArray(NDArrayOperatorsMixin):
    """An array that only `asnumpy` brings to the host."""

    def __init__(self, host):
        self.host = np.asarray(host)

    def __array_ufunc__(self, ufunc, method, *inputs, out=(), **options):
        made = getattr(ufunc, method)(*map(_bare, inputs), **options, **({"out": _bare(out)} if out else {}))
        return out[0] if out else _wrapped(made)

    def __array_function__(self, function, types, args, options):
        return _wrapped(function(*map(_bare, args), **{name: _bare(each) for name, each in options.items()}))

    def __array__(self, *_, **__):
        raise TypeError("Implicit conversion to a NumPy array is not allowed")

    def __bool__(self):
        raise AssertionError("this waits for the device")

    __float__ = __int__ = __index__ = __complex__ = __bool__

    def __iter__(self):
        return (self[k] for k in range(len(self)))

    def __len__(self):
        return len(self.host)

    def _place(self, key):
        keys = key if isinstance(key, tuple) else (key,)
        if any(isinstance(each, DeviceArray) and each.dtype == bool for each in keys):
            raise AssertionError("a boolean index waits for the device")
        return _bare(key)

    def __getitem__(self, key):
        return DeviceArray(self.host[self._place(key)])

    def __setitem__(self, key, value):
        self.host[self._place(key)] = _bare(value)

    def __setattr__(self, name, value):
        if name == "host":
            super().__setattr__(name, value)
        else:
            setattr(self.host, name, _bare(value))  # the real and the imaginary part

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        found = getattr(self.host, name)
        if callable(found):
            return lambda *args, **options: _wrapped(found(*map(_bare, args), **options))
        return _wrapped(found) if isinstance(found, np.ndarray) else found


class Function:
    """A kernel: launched by a pool of threads, all of a block at once."""

    def __init__(self, library, name, pool):
        self._library, self._pool = library, pool
        self._run = getattr(library, name)
        found = re.search(rf'extern "C" __global__ void {name}\(([^)]*)\)', CODE.read_text())
        self._parameters = [" ".join(each.split()[:-1]) for each in found[1].split(",")]

    def __call__(self, grid, block, arguments):
        plain = [_argument(wanted, given) for wanted, given in zip(self._parameters, arguments, strict=True)]
        self._library.begin(block[0], *grid)

        def thread(index):
            for y, x in product(range(grid[1]), range(grid[0])):
                self._library.become(index, x, y)
                self._run(*plain)
                self._library.meet()

        list(self._pool.map(thread, range(block[0])))


def _argument(wanted, given):
    pointed, scalar = TYPES[wanted.removeprefix("const ").removesuffix("*")]
    if not wanted.endswith("*"):
        assert type(given) is pointed, f"{wanted} was given a {type(given).__name__}"
        return scalar(given)
    assert given.dtype == pointed and given.flags.c_contiguous, f"{wanted} was given {given.dtype}"
    return ctypes.c_void_p(given.host.ctypes.data)


class Plan:
    """cuFFT's: batched over the first axis, nothing normalised."""

    def __init__(self, array, axes):
        assert array.flags.c_contiguous
        self._shape, self._axes = array.shape, axes

    def fft(self, array, out, direction):
        assert array.shape == out.shape == self._shape
        assert array.dtype == out.dtype == np.complex64
        transform, norm = (fft.fftn, "backward") if direction == -1 else (fft.ifftn, "forward")
        out.host[...] = transform(array.host, axes=self._axes, norm=norm)


class Cupy(ModuleType):
    """What kernels_cuda.py uses of cupy. `waits` counts what would make the host wait."""

    def __init__(self, library, pool):
        super().__init__("cupy")
        self.waits = 0
        self.RawModule = lambda code: SimpleNamespace(get_function=lambda name: Function(library, name, pool))
        stream = SimpleNamespace(synchronize=self._wait)
        self.cuda = SimpleNamespace(get_current_stream=lambda: stream)

    def _wait(self):
        self.waits += 1

    def asnumpy(self, array):
        self._wait()
        return array.host.copy()

    @staticmethod
    def asarray(array, dtype=None):
        return DeviceArray(np.array(array, dtype))

    def __getattr__(self, name):
        function = getattr(np, name)
        return lambda *args, **options: _wrapped(function(*map(_bare, args), **options))


@dataclass(frozen=True)
class Machine:
    """`Kernels` to test, and whether some work made the host wait."""

    Kernels: type
    waited: object


@pytest.fixture(scope="session")
def host_library(tmp_path_factory):
    compiler = shutil.which("g++")
    if compiler is None:
        pytest.skip("no g++ to compile kernels.cu for the host")
    path = tmp_path_factory.mktemp("cuda") / "kernels.so"
    options = ["-std=c++20", "-O1", "-shared", "-fPIC", "-pthread"]
    command = [compiler, *options, "-include", str(SHIM), "-x", "c++", str(CODE), "-o", str(path)]
    done = subprocess.run(command, capture_output=True, text=True)
    if "barrier: No such file" in done.stderr or "unrecognized command" in done.stderr:
        pytest.skip("g++ is too old for std::barrier")
    assert done.returncode == 0, done.stderr
    return ctypes.CDLL(str(path))


@pytest.fixture(scope="session")
def on_host(host_library):
    """kernels_cuda.py with the stand-in for cupy."""
    pool = ThreadPoolExecutor(THREADS)
    cupy = Cupy(host_library, pool)
    cufft = ModuleType("cupy.cuda.cufft")
    cufft.CUFFT_FORWARD, cufft.CUFFT_INVERSE = -1, 1
    cuda = ModuleType("cupy.cuda")
    cuda.cufft = cufft
    planner = ModuleType("cupyx.scipy.fft")
    planner.get_fft_plan = Plan
    stand_ins = {"cupy": cupy, "cupy.cuda": cuda, "cupyx.scipy.fft": planner}
    stand_ins |= {name: ModuleType(name) for name in ("cupyx", "cupyx.scipy")}
    spec = importlib.util.spec_from_file_location(
        "live_bcdi.phasing.kernels_cuda", CODE.with_name("kernels_cuda.py")
    )
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        for name, each in stand_ins.items():
            patch.setitem(sys.modules, name, each)
        spec.loader.exec_module(module)
    module._THREADS, module._BLOCKS = THREADS, BLOCKS

    def waited(work):
        before = cupy.waits
        work()
        return cupy.waits > before

    yield Machine(module.Kernels, waited)
    pool.shutdown()


@pytest.fixture(scope="session")
def on_device():
    cupy = pytest.importorskip("cupy", reason="no cupy", exc_type=ImportError)
    try:
        cupy.cuda.runtime.getDeviceCount()
    except RuntimeError as error:
        pytest.skip(f"no CUDA device: {error}")
    from live_bcdi.phasing import kernels_cuda

    code = "void spin(long long n) { long long end = clock64() + n; while (clock64() < end) {} }"
    spin = cupy.RawKernel('extern "C" __global__ ' + code, "spin")

    def waited(work):
        """Whether `work` returned only after a second of work that the device had been given before."""
        work()  # compiles, plans and fills the pools, which may wait
        cupy.cuda.runtime.deviceSynchronize()
        over = cupy.cuda.Event()
        spin((1,), (1,), (np.int64(2e9),))
        over.record()
        work()
        early = not over.done
        cupy.cuda.runtime.deviceSynchronize()
        return not early

    return Machine(kernels_cuda.Kernels, waited)


@pytest.fixture(params=["on_host", pytest.param("on_device", marks=pytest.mark.gpu)])
def machine(request):
    return request.getfixturevalue(request.param)

"""What is tried in a process of its own, so that a hang or a crash is its alone.

`python -m live_bcdi.doctor.probe swmr FOLDER` writes a growing file in FOLDER, which a second process reads
meanwhile; `lock FOLDER` locks a file there, which a second process tries as well; `gpu` retrieves a small pattern
on the CUDA device and on the CPU. The last line of output says why it failed; else the exit status is 0.
"""

import fcntl
import subprocess
import sys
from pathlib import Path

FRAMES = 3
_CHILD_S = 20.0


def main(arguments: list[str]) -> str:
    """Why the probe failed; empty where it did not."""
    what, *folder = arguments
    if what == "gpu":
        return gpu()
    return {"swmr": swmr, "lock": lock, "follow": _follow, "try_lock": _try_lock}[what](*folder)


def swmr(folder: str) -> str:
    """Write frames as the detector does, and have each read by another process before the next is written."""
    import numpy as np

    from ..transport.frames import FrameWriter

    path = Path(folder) / "swmr.h5"
    image = np.random.default_rng(0).poisson(3.0, (64, 64)).astype(np.int32)
    with FrameWriter(path, image.shape, image.dtype) as writer, _child("follow", path) as reader:
        assert reader.stdin is not None and reader.stdout is not None, "opened as pipes"
        for frame in range(FRAMES):
            writer.append(image + frame, angle_deg=0.0, timestamp_s=0.0)
            reader.stdin.write(f"{frame} {int((image + frame).sum())}\n")
            reader.stdin.flush()
            if (said := reader.stdout.readline().strip()) != "seen":
                return said or "the reader ended"
    return ""


def _follow(path: str) -> str:
    """Read what the writer says it wrote; for each frame a line, `seen` or what is wrong."""
    import time

    import numpy as np

    from ..transport.files import open_file
    from ..transport.nexus import DATA_PATH

    with open_file(Path(path), wait_s=2.0) as file:
        for line in sys.stdin:
            frame, total = map(int, line.split())
            until_s = time.monotonic() + 3.0
            found = None
            while found != total and time.monotonic() < until_s:
                file[DATA_PATH].refresh()
                if len(file[DATA_PATH]) > frame:
                    found = int(np.asarray(file[DATA_PATH][frame]).sum())
                else:
                    time.sleep(0.02)
            _say("seen" if found == total else f"frame {frame} did not appear to a reader in 3 s")
    return ""


def lock(folder: str) -> str:
    """Hold a lock as a run's journal does: another process must not get it, and get it afterwards."""
    path = Path(folder) / "lock"
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        with _child("try_lock", path) as other:
            while_held = other.communicate(timeout=_CHILD_S)[0].strip()
    if while_held != "held":
        return "two processes hold one lock at a time" if while_held == "free" else while_held
    with _child("try_lock", path) as other:
        after = other.communicate(timeout=_CHILD_S)[0].strip()
    return "" if after == "free" else "a lock stays when its holder has closed the file"


def _try_lock(path: str) -> str:
    with Path(path).open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _say("free")
        except BlockingIOError:
            _say("held")
    return ""


def gpu() -> str:
    """The same few iterations on both devices must give the same object."""
    import numpy as np

    from ..phasing import phase
    from ..phasing.devices import device_of

    device_of("cuda")
    edge = np.hanning(16)
    pattern = np.abs(np.fft.fftshift(np.fft.fftn(np.multiply.outer(np.multiply.outer(edge, edge), edge)))) ** 2
    cpu, cuda = (phase(pattern, recipe="5*ER", starts=1, seed=0, device=device) for device in ("cpu", "cuda"))
    same = np.allclose(cpu.density, cuda.density, rtol=1e-3, atol=1e-3 * np.abs(cpu.density).max())
    return "" if same else "it does not give what the CPU gives"


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def _child(*arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "live_bcdi.doctor.probe", *map(str, arguments)]
    return subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


if __name__ == "__main__":
    try:
        failure = main(sys.argv[1:])
    except Exception as error:  # noqa: BLE001  cupy's errors have no common base, and HDF5's are of every kind
        failure = next(iter(str(error).strip().splitlines()), "") or type(error).__name__
    if failure:
        _say(failure)
        sys.exit(1)

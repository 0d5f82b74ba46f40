"""A refinement killed at any round goes on to the same bits; what is no checkpoint, or another's, is refused."""

import os
import signal
import subprocess
import sys
import textwrap
from dataclasses import replace

import numpy as np
import pytest

from live_bcdi.dynamical import Characteristics, Settings, along_diffracted, refine
from live_bcdi.dynamical.checkpoint import Checkpoint
from live_bcdi.dynamical.detector import FarField
from live_bcdi.types import ScanError, StorageError

PROBLEM = textwrap.dedent("""
    import numpy as np
    from live_bcdi.dynamical import Characteristics, Frames, along_diffracted
    from live_bcdi.dynamical.detector import FarField

    def problem():
        chi = {"chi_0": -9.4e-5 + 0.85e-5j, "chi_h": 5.3e-5 - 0.6e-5j, "chi_hbar": 5.3e-5 - 0.6e-5j}
        beams = along_diffracted(1.55e-10, 0.78, **chi)
        edges = np.array([4e-8, 4e-8, 4e-8 / np.tan(0.78)])
        s0 = np.zeros((12, 8, 12))
        s0[3:9, 2:6, 3:9] = 1
        x, y, z = np.indices(s0.shape)
        density = s0 * np.exp(1j * np.sin(x / 2) * np.cos(z / 3))
        q = 2 * np.pi / (20 * 4e-8) * (np.arange(16) - 8)
        far = FarField(np.stack(np.meshgrid(q, q, indexing="ij"), axis=-1)[:, :, None], edges)
        angles = 3e-4 * np.arange(-5, 6)
        transport = Characteristics(beams, edges)
        found = far.intensities(transport.march(density, s0, beams.turned(angles)).eh)
        counts = np.random.default_rng(0).poisson(found * 1e6 / found.sum()).astype(float)
        frames = Frames(counts=counts, delta_q=beams.turned(angles), turning=beams.turning(angles),
                        used=np.ones(counts.shape, bool))
        return frames, far, transport, ((s0 + 0j).astype(np.complex64), s0)
    """)
_made: dict = {}
exec(PROBLEM, _made)  # the child that is killed has the same text
problem = _made["problem"]


def ways():
    shared = {
        "epochs": 12,
        "angle_prior_rad": 1e-4,
        "shrink_every": 4,
        "background": "constant",
        "free_share": 0.2,
    }
    return [Settings(method="lbfgs", history=3, **shared), Settings(method="adam", patience=1, **shared)]


class Killed(Exception):
    pass


@pytest.mark.parametrize("settings", ways(), ids=["lbfgs", "adam"])
def test_what_was_stopped_goes_on_to_the_same_result(tmp_path, settings):
    whole = refine(*problem(), settings)
    path, stops = tmp_path / "kept.npz", 0
    for share in (0.3, 0.55, 0.9, 2.0):

        def told(now, text, at=share):
            if now > at:
                raise Killed

        try:
            found = refine(*problem(), settings, progress=told, checkpoint=path)
        except Killed:
            stops += 1
    assert stops == 3
    assert found.density.tobytes() == whole.density.tobytes()
    assert found.offsets_rad.tobytes() == whole.offsets_rad.tobytes()
    assert (found.scale, found.background) == (whole.scale, whole.background)
    assert (found.misfits, found.free_misfits) == (whole.misfits, whole.free_misfits)
    again = refine(*problem(), settings, checkpoint=path, progress=lambda share, text: pytest.fail("done before"))
    assert again.density.tobytes() == whole.density.tobytes()


def test_kill_9(tmp_path):
    settings = ways()[0]
    path = tmp_path / "kept.npz"
    code = PROBLEM + textwrap.dedent(f"""
        import sys
        from pathlib import Path
        from live_bcdi.dynamical import Settings, refine
        settings = Settings(**{ {name: getattr(settings, name) for name in settings.__slots__}!r})
        def told(share, text):
            print(text, flush=True)
            if share > 0.5:
                sys.stdin.read()
        refine(*problem(), settings, progress=told, checkpoint=Path({str(path)!r}))
        """)
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stdin=subprocess.PIPE) as child:
        for line in child.stdout:
            if line.startswith(b"epoch 7 "):
                break
        os.kill(child.pid, signal.SIGKILL)
    shares = []
    found = refine(*problem(), settings, checkpoint=path, progress=lambda share, text: shares.append(share))
    assert shares[0] > 0.3  # it did not begin anew
    # another process has its arrays elsewhere, and the last bits of sums depend on that
    np.testing.assert_allclose(found.density, refine(*problem(), settings).density, atol=1e-3)


def test_what_is_refused(tmp_path):
    frames, far, transport, start = problem()
    path, settings = tmp_path / "kept.npz", Settings(epochs=2, free_share=0.2)
    refine(frames, far, transport, start, settings, checkpoint=path)
    other = replace(frames, counts=frames.counts[::-1].copy())
    with pytest.raises(ScanError, match="other data or settings"):
        refine(other, far, transport, start, settings, checkpoint=path)
    with pytest.raises(ScanError, match="other data or settings"):
        refine(frames, far, transport, start, replace(settings, smoothing=1.0), checkpoint=path)
    beams = along_diffracted(1.55e-10, 0.78, chi_0=-9e-5 + 1e-5j, chi_h=5.3e-5 + 0j, chi_hbar=5.3e-5 + 0j)
    for wrong in (
        (frames, far, Characteristics(beams, transport._edges), start),
        (frames, far, Characteristics(transport._beams, 1.1 * transport._edges), start),
        (frames, FarField(momenta := np.ones((16, 16, 1, 2)), transport._edges), transport, start),
        (replace(frames, turning=2 * frames.turning), far, transport, start),
    ):
        with pytest.raises(ScanError, match="other data or settings"):
            refine(*wrong, settings, checkpoint=path)
    with pytest.raises(ScanError, match="other data or settings"):
        refine(frames, far, transport, start, settings, offsets_rad=np.full(11, 1e-5), checkpoint=path)
    with pytest.raises(ScanError, match=r"far field of pixels \(3, 16\)"):
        refine(frames, FarField(momenta[:3], transport._edges), transport, start, settings)
    assert refine(frames, far, transport, start, settings, checkpoint=str(path)).misfits
    np.save(tmp_path / "array.npy", np.arange(3))
    for rubbish in ((tmp_path / "array.npy").read_bytes(), b"", b"PK\x03\x04 nothing", path.read_bytes()[:500]):
        path.write_bytes(rubbish)
        with pytest.raises(ScanError, match="no checkpoint"):
            refine(frames, far, transport, start, settings, checkpoint=path)
    with pytest.raises(StorageError, match="could not be written"):
        refine(frames, far, transport, start, settings, checkpoint=tmp_path / "nowhere" / "kept.npz")


def test_parts_do_not_mix(tmp_path):
    kept = Checkpoint(tmp_path / "kept.npz", "a")
    kept.part("one").save({"x": np.arange(3)}, now=True)
    kept.part("two").save({"x": np.arange(5)}, now=True)
    again = Checkpoint(tmp_path / "kept.npz", "a")
    assert [len(again.part(name).load()["x"]) for name in ("one", "two")] == [3, 5]
    assert again.part("three").load() == {}
    assert [each.name for each in tmp_path.iterdir()] == ["kept.npz"]

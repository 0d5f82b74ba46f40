"""What a rocking angle of the dynamical forward model costs: whole pixels, their gradient, and the march by FFT.

python benchmarks/dynamical.py
python benchmarks/dynamical.py --edge 256 --angles 64 --repeats 3 --fft-angles 1
python benchmarks/dynamical.py --cube

Seconds of one thread an angle, medians of interleaved repeats in one run; the crystal is a strained ball whose
diameter is 0.7 of the volume's edge, in single precision. Kept: what a passage keeps for its way back, an angle.
`--cube`: the 1 um gold cube of the paper (002, 8 keV, pi), its rocking curve against the kinematical one.
"""

import argparse
import time
from collections.abc import Callable
from statistics import median

import numpy as np
from numpy.typing import NDArray

from live_bcdi.dynamical import Characteristics, FourierShift, along_diffracted, fields

WAVELENGTH_M = 12.398419843320026e-10 / 8
TWO_THETA = float(np.deg2rad(44.76))
GOLD = {"chi_0": -9.4070e-5 + 0.84962e-5j, "chi_h": 5.2548e-5 - 0.59889e-5j, "chi_hbar": 5.2548e-5 - 0.59889e-5j}


def voxel_m(dx: float) -> NDArray[np.float64]:
    return np.array([dx, dx, dx / np.tan(TWO_THETA)])


def ball(edge: int) -> tuple[NDArray[np.complex64], NDArray[np.float32]]:
    """S and s0: four radians of strain."""
    x, y, z = np.meshgrid(*[(np.arange(edge) - edge // 2) / (0.35 * edge)] * 3, indexing="ij")
    inside = x**2 + y**2 + z**2 < 1
    phase = 2 * (x * z + y**2)
    return (inside * np.exp(1j * phase)).astype(np.complex64), inside.astype(np.float32)


def seconds(steps: dict[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Median of each; every repeat does each once, and the first does not count."""
    times: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(repeats + 1):
        for name, step in steps.items():
            began = time.perf_counter()
            step()
            times[name].append(time.perf_counter() - began)
    return {name: median(each[1:]) for name, each in times.items()}


def row(edge: int, angles: int, fft_angles: int, repeats: int) -> str:
    density, s0 = ball(edge)
    beams = along_diffracted(WAVELENGTH_M, TWO_THETA, **GOLD)
    edges = voxel_m(1e-6 / (0.7 * edge))
    turns = beams.turned(np.deg2rad(np.linspace(-0.1, 0.1, angles)))
    march, shift = Characteristics(beams, edges), FourierShift(beams, edges)
    passage = march.march(density, s0, turns)
    by = passage.eh
    took = seconds(
        {
            "forward": lambda: march.march(density, s0, turns),
            "back": lambda: passage.pull_back(None, by),
            "fft": lambda: shift.march(density, s0, turns[:fft_angles]),
        },
        repeats,
    )
    kept = sum(array.nbytes for array in (passage._e0, passage._fh, passage.eh)) / angles
    forward, back, fft = took["forward"] / angles, took["back"] / angles, took["fft"] / fft_angles
    return (
        f"| {edge}³ | {angles} | {1e3 * forward:.2f} | {1e3 * back:.2f} | {kept / 1e6:.2f} | {1e3 * fft:.1f} |"
        f" {fft / forward:.0f} |"
    )


def cube() -> None:
    """Centroid and integral of the rocking curve, beside those of the same cube with a ten-thousandth of chi."""
    print("| slices | shift of the centroid, mdeg | integrated, of kinematical |")
    print("|---|---|---|")
    for slices in (64, 128, 256):
        edges = voxel_m(1.4e-6 / slices)
        part = cube_part(slices + 2, edges)
        angles_deg = np.linspace(-0.2, 0.2, 257)
        curves = []
        for share in (1.0, 1e-4):
            chi = {name: share * value for name, value in GOLD.items()}
            setting = (tuple(edges), WAVELENGTH_M, TWO_THETA)
            _, eh = fields(part.astype(complex), part, *setting, **chi, dthetas=np.deg2rad(angles_deg))
            curves.append(np.sum(np.abs(eh) ** 2, axis=(1, 2)) / share**2)
        middles = [1e3 * np.sum(angles_deg * curve) / curve.sum() for curve in curves]
        integrated = curves[0].sum() / curves[1].sum()
        print(f"| {slices} | {middles[0] - middles[1]:+.2f} | {integrated:.3f} |", flush=True)


def cube_part(n: int, edges: NDArray[np.float64]) -> NDArray[np.float64]:
    """How much of each voxel of a plane, (n, 1, n), is in a cube of 1 um, an edge of it along h."""
    fine, turn = 4, TWO_THETA / 2
    x, z = ((np.arange(n * fine) - n // 2 * fine - fine / 2 + 0.5) * step / fine for step in (edges[0], edges[2]))
    along = np.cos(turn) * x[:, None] + np.sin(turn) * z
    across = -np.sin(turn) * x[:, None] + np.cos(turn) * z
    inside = (np.abs(along) < 0.5e-6) & (np.abs(across) < 0.5e-6)
    return np.asarray(inside.reshape(n, fine, n, fine).mean(axis=(1, 3))[:, None])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--edge", type=int, action="append")
    parser.add_argument("--angles", type=int, default=64)
    parser.add_argument("--fft-angles", type=int, default=4)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--cube", action="store_true")
    asked = parser.parse_args()
    if asked.cube:
        cube()
        return
    print("| volume | angles | forward, ms | gradient, ms | kept, MB | by FFT, ms | FFT / forward |")
    print("|---|---|---|---|---|---|---|")
    for edge in asked.edge or (64, 128):
        print(row(edge, asked.angles, asked.fft_angles, asked.repeats), flush=True)


if __name__ == "__main__":
    main()

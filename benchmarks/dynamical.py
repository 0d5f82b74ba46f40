"""What a rocking angle of the dynamical model costs, in time and memory, beside marches by FFT and by torch.

python benchmarks/dynamical.py
python benchmarks/dynamical.py --edge 256 --angles 64 --repeats 3 --peer-angles 2
python benchmarks/dynamical.py --device cuda --edge 64 --edge 128 --edge 256 --angles 256
python benchmarks/dynamical.py --cube
python benchmarks/dynamical.py --sphere
taskset -c 0 python benchmarks/dynamical.py --ladder

Medians of interleaved repeats in one run, an angle; one thread on the CPU. The crystal is a strained ball whose
diameter is 0.7 of the volume's edge, in single precision; the far field has as many pixels as the exit plane. The
torch march is the same split step, its tables made once a volume, with torch's own gradient. Memory is the most
that numpy held at once beyond what was there before, and the arrays that the way back needs.
`--device cuda` needs cupy and a device, and says how much of the times is the kernels' own, between CUDA events.
`--cube`: the 1 um gold cube of the paper (002, 8 keV, pi), its rocking curve against the kinematical one.
`--ladder`: what the rungs below the full theory are off by for cubes with a face to the beam, and how long that
takes to find.
`--sphere`: what the tangent plane of the Ewald sphere, instead of the sphere, costs a pattern.
"""

import argparse
import os
import time
import tracemalloc
from collections.abc import Callable
from functools import partial
from statistics import median

import numpy as np
from numpy.typing import NDArray

from live_bcdi.dynamical import Characteristics, FourierShift, along_diffracted, fields
from live_bcdi.dynamical.characteristics import RowKernels
from live_bcdi.dynamical.constants import Constants, Polarisation, element, susceptibilities
from live_bcdi.dynamical.detector import FarField
from live_bcdi.dynamical.ladder import misfits_of
from live_bcdi.geometry import wavelength_angstrom
from live_bcdi.types import ComplexArray, Geometry, LabImage, Rotation

WAVELENGTH_M = 12.398419843320026e-10 / 8
TWO_THETA = float(np.deg2rad(44.76))
GOLD = {"chi_0": -9.4070e-5 + 0.84962e-5j, "chi_h": 5.2548e-5 - 0.59889e-5j, "chi_hbar": 5.2548e-5 - 0.59889e-5j}
SR2IRO4 = Constants(  # (116) at 10 keV, of its CIF: tests/unit/dynamical/test_constants.py
    wavelength_m=1.2398419843320026e-10,
    two_theta=float(np.deg2rad(24.84)),
    chi_0=-2.5092e-5 + 1.0092e-6j,
    chi_h=1.4734e-5 - 0.9647e-6j,
    chi_hbar=1.4734e-5 - 0.9647e-6j,
)
Steps = dict[str, Callable[[], object]]


def voxel_m(dx: float) -> NDArray[np.float64]:
    return np.array([dx, dx, dx / np.tan(TWO_THETA)])


def ball(edge: int) -> tuple[NDArray[np.complex64], NDArray[np.float32]]:
    """S and s0: four radians of strain."""
    x, y, z = np.meshgrid(*[(np.arange(edge) - edge // 2) / (0.35 * edge)] * 3, indexing="ij")
    inside = x**2 + y**2 + z**2 < 1
    phase = 2 * (x * z + y**2)
    return (inside * np.exp(1j * phase)).astype(np.complex64), inside.astype(np.float32)


def seconds(steps: Steps, repeats: int) -> dict[str, float]:
    """Median of each; every repeat does each once, and the first does not count."""
    times: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(repeats + 1):
        for name, step in steps.items():
            began = time.perf_counter()
            step()
            times[name].append(time.perf_counter() - began)
    return {name: median(each[1:]) for name, each in times.items()}


def most_bytes(step: Callable[[], object]) -> int:
    tracemalloc.start()
    step()
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return most


def far_field(edge: int, edges: NDArray[np.float64]) -> FarField:
    """Twice oversampled."""
    q = np.pi / (edge * edges[0]) * (np.arange(edge) - edge // 2)
    return FarField(np.stack(np.meshgrid(q, q, indexing="ij"), axis=-1)[:, :, None], edges)


def by_torch(density: ComplexArray, s0: NDArray[np.float32], turns: NDArray[np.float64], dz: float) -> Steps:
    """The march and its gradient as one writes them in torch."""
    import torch

    torch.set_num_threads(1)
    a0, ah, b, c = (complex(each) for each in along_diffracted(WAVELENGTH_M, TWO_THETA, **GOLD).generator(dz))
    volume, electrons = torch.tensor(density, requires_grad=True), torch.tensor(s0)
    turn = torch.tensor(np.exp(-1j * turns[:, 2] * dz).astype(np.complex64))[:, None, None]

    def forward() -> torch.Tensor:
        grows, d = torch.exp(electrons * (a0 + ah) / 2), electrons * ((a0 - ah) / 2)
        root = torch.sqrt(d * d + b * c * (volume.real**2 + volume.imag**2) + 1e-12)
        even, odd = grows * torch.cosh(root), grows * torch.sinh(root) / root
        m11, m12, m21, m22 = even + d * odd, b * odd * volume.conj(), c * odd * volume, even - d * odd
        e0 = torch.ones(len(turns), *density.shape[:2], dtype=torch.complex64)
        fh = torch.zeros_like(e0)
        for j in range(density.shape[2]):
            if j:
                e0, fh = torch.cat([e0[:, 1:], torch.ones_like(e0[:, :1])], 1), fh * turn
            e0, fh = m11[:, :, j] * e0 + m12[:, :, j] * fh, m21[:, :, j] * e0 + m22[:, :, j] * fh
        return fh

    def both() -> None:
        volume.grad = None
        torch.sum(torch.abs(forward()) ** 2).backward()

    with torch.no_grad():
        forward()
    return {"torch": forward, "torch both": both}


def kernels_of(device: str, spent: dict[str, float]) -> RowKernels:
    """One thread of the CPU; or a CUDA device, whose kernels' own seconds are added to `spent`."""
    if device == "cpu":
        return RowKernels()
    import cupy as cp

    from live_bcdi.dynamical import cuda

    why = cuda.mistrust()
    if why:
        raise SystemExit(f"the march on this device {why}")

    def timed(name: str, kernel: Callable[..., None]) -> Callable[..., None]:
        def launch(*given: object) -> None:
            start, end = cp.cuda.Event(), cp.cuda.Event()
            start.record()
            kernel(*given)
            end.record()
            end.synchronize()
            spent[name] = spent.get(name, 0.0) + 1e-3 * cp.cuda.get_elapsed_time(start, end)

        return launch

    plain = cuda._function
    cuda._function = lambda name, kind: timed(name, plain(name, kind))  # type: ignore[assignment]
    return cuda.CudaRowKernels()


def rows(edge: int, asked: argparse.Namespace) -> None:
    density, s0 = ball(edge)
    beams, edges = along_diffracted(WAVELENGTH_M, TWO_THETA, **GOLD), voxel_m(1e-6 / (0.7 * edge))
    turns = beams.turned(np.deg2rad(np.linspace(-0.1, 0.1, asked.angles)))
    few = beams.turned(np.deg2rad(np.linspace(-0.1, 0.1, asked.peer_angles)))
    spent: dict[str, float] = {}
    march, shift = Characteristics(beams, edges, kernels_of(asked.device, spent)), FourierShift(beams, edges)
    far = far_field(edge, edges)
    passage = march.march(density, s0, turns)
    amplitudes, by = far.amplitudes(passage.eh), passage.eh
    pattern = far.intensities_of(amplitudes)
    spent.clear()
    steps: Steps = {
        "forward": lambda: march.march(density, s0, turns),
        "back": lambda: passage.pull_back(None, by),
        "far": lambda: far.intensities(passage.eh),
        "far back": lambda: far.pull_back(passage.eh, pattern, amplitudes),
    }
    if asked.peer_angles:
        steps["FFT"] = lambda: shift.march(density, s0, few)
    if asked.peer_angles and edge <= 128:  # its tape of 256 cubed is many gigabytes
        steps |= by_torch(density, s0, few, float(edges[2]))
    took = {
        name: 1e3 * each / (asked.peer_angles if name in ("FFT", "torch", "torch both") else asked.angles)
        for name, each in seconds(steps, asked.repeats).items()
    }
    kept = sum(array.nbytes for array in (passage._e0, passage._fh, passage.eh))
    memory = [kept, most_bytes(steps["forward"]), most_bytes(steps["back"])]
    print(
        f"| {edge}³ | {asked.angles} | {took['forward']:.2f} | {took['back']:.2f} | {took['far']:.2f} |"
        f" {took['far back']:.2f} |" + "".join(f" {each / asked.angles / 1e6:.2f} |" for each in memory),
        flush=True,
    )
    if spent:
        own = {name: 1e3 * each / asked.angles / (asked.repeats + 2) for name, each in spent.items()}
        print(f"  of which the kernels: {own['forward']:.4f} and {own['backward']:.4f} ms", flush=True)
    told = {"FFT": ("FFT", took["forward"]), "torch": ("torch", took["forward"])}
    told["torch both"] = ("torch with its gradient", took["forward"] + took["back"])
    for name, (who, ours) in told.items():
        if name in took:
            print(f"  {asked.peer_angles} angles by {who}: {took[name]:.1f} ms, {took[name] / ours:.0f} times")


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


def sphere() -> None:
    """Amplitudes of the tangent plane against the sphere's, by Fourier shifts, in five frames across 0.3 degrees.
    The statistic is what the difference adds to chi square a pixel, with 3e7 counts in 51 such frames."""
    print("| crystal, um | pixels to, 1/nm | q² L / 2k at the edge, rad | amplitudes, R factor | chi² a pixel |")
    print("|---|---|---|---|---|")
    beams = along_diffracted(WAVELENGTH_M, TWO_THETA, **GOLD)
    turns = beams.turned(np.deg2rad(np.linspace(-0.15, 0.15, 5)))
    for size, dx in ((1e-6, 12e-9), (1e-6, 20e-9), (2e-6, 20e-9)):
        edges = voxel_m(dx)
        density, s0 = facetted(size, edges)
        waves = [FourierShift(beams, edges, curvature=on).march(density, s0, turns).eh for on in (False, True)]
        q = (
            np.pi / (1.25 * size) * np.arange(-int(0.625 * size / dx), int(0.625 * size / dx) + 1)
        )  # to pi / (2 dx)
        far = FarField(np.stack(np.meshgrid(q, q, indexing="ij"), axis=-1)[:, :, None], edges)
        flat, curved = (np.sqrt(far.intensities(each)) for each in waves)
        counts = 3e7 * 5 / 51 / np.sum(curved**2)
        differs = np.abs(flat - curved)
        print(
            f"| {1e6 * size:.0f} | {1e-9 * q[-1]:.3f} | {q[-1] ** 2 * size / (2 * beams.wave_number):.2f} |"
            f" {differs.sum() / curved.sum():.4f} | {4 * counts * np.mean(differs**2):.4f} |",
            flush=True,
        )


def facetted(size: float, edges: NDArray[np.float64]) -> tuple[NDArray[np.complex64], NDArray[np.float32]]:
    """S and s0 of a crystal with four radians of phase, partly filled at the facets."""
    shape = np.ceil(np.array([1.5, 1.1, 1.1]) * size / edges).astype(int)
    x, y, z = np.meshgrid(*[(np.arange(n) - n // 2) * d / size for n, d in zip(shape, edges)], indexing="ij")
    filled = np.ones(x.shape)
    for distance, half in ((x + 0.3 * z, 0.5), (y, 0.5), (z, 0.5), (x + y - z, 0.9)):
        filled *= np.clip((half - np.abs(distance)) / (edges[0] / size) + 0.5, 0, 1)
    phase = 1.2 * np.sin(4 * x) * np.cos(3.3 * z) + 6.7 * y * z + np.sin(3.3 * y)
    return (filled * np.exp(1j * phase)).astype(np.complex64), filled.astype(np.float32)


def ladder() -> None:
    """As `phase` and the services ask for it, of a retrieved cube of 60 voxels an edge in a box of 96."""
    gold, steep = (susceptibilities(element("Au"), *at) for at in (((0, 0, 2), 8.0), ((2, 2, 2), 8.6)))
    asked: list[tuple[str, Constants, Polarisation, float]] = [
        *((f"Au (002), 8 keV, π, {side} nm", gold, "pi", side) for side in (300, 1000, 2000)),
        ("Sr2IrO4 (116), 10 keV, π, 1500 nm", SR2IRO4, "pi", 1500),
        *((f"Au (222), 8.6 keV, σ, {side} nm", steep, "sigma", side) for side in (300, 1000)),
    ]
    print("| cube | 2θ | kinematical | with refraction and absorption | needs | seconds |")
    print("|---|---|---|---|---|---|")
    for name, chi, polarisation, side_nm in asked:
        lab, geometry = cube_in_the_lab(chi, side_nm)
        took = seconds({"once": partial(misfits_of, lab, geometry, chi, polarisation)}, 3)["once"]
        found = misfits_of(lab, geometry, chi, polarisation)
        print(
            f"| {name} | {np.rad2deg(chi.two_theta):.1f}° | {found.kinematical:.2g} | {found.refraction:.2g} |"
            f" {found.rung().value} | {took:.2f} |",
            flush=True,
        )


def cube_in_the_lab(chi: Constants, side_nm: float) -> tuple[LabImage, Geometry]:
    """And the beam along z that its planes reflect towards +x; the detector's place does not matter."""
    inside = np.pad(np.ones((60, 60, 60), bool), 18)
    wave_number = 2e-10 * np.pi / chi.wavelength_m
    lab = LabImage(
        density=inside.astype(np.complex64),
        support=inside,
        displacement_angstrom=np.zeros(inside.shape, np.float32),
        strain=np.zeros(inside.shape, np.float32),
        voxel_nm=side_nm / 60,
        q_centre_invA=wave_number * np.array([np.sin(chi.two_theta), 0.0, np.cos(chi.two_theta) - 1]),
    )
    theta = Rotation(motor="theta", axis=(0.0, 1.0, 0.0), angle_deg=0.0)
    geometry = Geometry(
        energy_kev=wavelength_angstrom(1.0) / (1e10 * chi.wavelength_m),
        distance_m=1.0,
        pixel_um=(55.0, 55.0),
        arm_pixel=(0.0, 0.0),
        beam_direction=(0.0, 0.0, 1.0),
        row_direction=(0.0, -1.0, 0.0),
        column_direction=(1.0, 0.0, 0.0),
        sample=(theta,),
        arm=(),
        rocking="theta",
    )
    return lab, geometry


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--edge", type=int, action="append")
    parser.add_argument("--angles", type=int, default=64)
    parser.add_argument(
        "--peer-angles", type=int, default=0, help="angles of the marches by FFT and torch; 0: neither"
    )
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--cube", action="store_true")
    parser.add_argument("--sphere", action="store_true")
    parser.add_argument("--ladder", action="store_true")
    asked = parser.parse_args()
    for chosen, table in ((asked.cube, cube), (asked.sphere, sphere), (asked.ladder, ladder)):
        if chosen:
            table()
            return
    print(f"{asked.device}, {len(os.sched_getaffinity(0))} cores to be had; ms and MB an angle")
    print("| volume | angles | forward | back | far field | back | kept | most, forward | most, back |")
    print("|---|---|---|---|---|---|---|---|---|")
    for edge in asked.edge or (64, 128):
        rows(edge, asked)


if __name__ == "__main__":
    main()

"""Transport along characteristics by whole pixels: z along the diffracted beam, dz = shift dx / tan(two_theta).

The transmitted beam then moves by exactly `shift` pixels a slice and the diffracted one not at all: every row
across y is a problem of its own, without Fourier transforms and without room around the crystal. `loops.py` and
`march.cu` do the work.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from ..geometry import Floats
from ..types import ComplexArray, FloatArray, ScanError
from . import loops
from .beams import Beams
from .coupling import doublings
from .transport import Gradient, checked, places

_TOLERANCE = 1e-3  # pixels by which the transmitted beam may be misplaced at the exit


def shift_of(beams: Beams, edges: Floats, slices: int) -> int | None:
    """Pixels by which the transmitted beam moves a slice; None where not whole, or in another frame."""
    if abs(beams.kh[2] - 1) > 1e-9 or abs(beams.k0[1]) > 1e-9 or beams.k0[0] >= 0:
        return None
    pixels = -beams.k0[0] / beams.k0[2] * edges[2] / edges[0]
    whole = round(pixels)
    return whole if whole > 0 and abs(pixels - whole) * slices < _TOLERANCE else None


@dataclass(frozen=True, kw_only=True, slots=True)
class Rows:
    """A march, row by row: what `loops.py` needs. `density`, `s0` are (y, z, x), `boxes` (y, 4)."""

    density: NDArray[np.complexfloating]
    s0: NDArray[np.floating]
    boxes: NDArray[np.int64]
    setting: tuple[Any, int, int]
    turn: NDArray[Any]


class RowKernels:
    """The loops on the CPU, rows shared out among threads."""

    def __init__(self, threads: int = 1) -> None:
        self._threads = threads

    def forward(self, rows: Rows, fields: list[NDArray[Any]]) -> None:
        def row(y: int) -> None:
            e0, fh = (field[y] for field in fields)
            loops.forward(rows.density[y], rows.s0[y], rows.boxes[y], rows.setting, rows.turn, (e0, fh))

        self._each(row, len(rows.boxes))

    def backward(self, rows: Rows, fields: list[NDArray[Any]]) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
        """`fields` are e0, fh and the gradients by them; what is returned are those by density, s0 and turn."""
        out = np.zeros_like(rows.density), np.zeros_like(rows.s0), np.zeros((len(rows.boxes), *rows.turn.shape))

        def row(y: int) -> None:
            e0, fh, by_e0, by_fh = (field[y].copy() for field in fields)  # the loops use them up
            three = (out[0][y], out[1][y], out[2][y])
            loops.backward(
                rows.density[y], rows.s0[y], rows.boxes[y], rows.setting, rows.turn, (e0, fh, by_e0, by_fh), three
            )

        self._each(row, len(rows.boxes))
        return out[0], out[1], out[2].sum(axis=0)

    def _each(self, work: Callable[[int], None], count: int) -> None:
        if self._threads == 1:
            for y in range(count):
                work(y)
            return
        with ThreadPoolExecutor(self._threads) as pool:
            list(pool.map(work, range(count)))


class Characteristics:
    """`Transport` by whole pixels. Raises ScanError where the voxels do not have this shape."""

    def __init__(self, beams: Beams, edges: Floats, kernels: RowKernels | None = None) -> None:
        self._beams, self._edges, self._kernels = beams, edges, kernels or RowKernels()

    @property
    def identity(self) -> str:
        return f"characteristics {self._beams} {[float(edge) for edge in self._edges]}"

    def march(self, density: ComplexArray, s0: FloatArray, delta_q: Floats) -> "CharacteristicPassage":
        volume, electrons, departures = checked(density, s0, delta_q)
        shift = shift_of(self._beams, self._edges, volume.shape[2])
        if shift is None:
            raise ScanError(
                "characteristics need z along the diffracted beam and slices dz = dx / tan(two_theta), or a whole"
                f" multiple; the voxels are {self._edges} m: take FourierShift"
            )
        generator = self._beams.generator(float(self._edges[2]))
        setting = (generator, doublings(generator, volume, electrons), shift)
        turn = np.exp(-1j * departures[:, 2] * self._edges[2])
        rows = Rows(
            density=_by_rows(volume),
            s0=_by_rows(electrons),
            boxes=_boxes((volume != 0) | (electrons != 0)),
            setting=setting,
            turn=_lanes(turn, electrons.dtype),
        )
        return CharacteristicPassage(rows, self._edges, departures, self._kernels)


class CharacteristicPassage:
    """`Passage` of whole pixels: keeps, for each row, the beams where they left."""

    def __init__(self, rows: Rows, edges: Floats, departures: Floats, kernels: RowKernels) -> None:
        self._rows, self._edges, self._departures, self._kernels = rows, edges, departures, kernels
        ny, nz, nx = rows.density.shape
        self._past = (nz - 1) * rows.setting[2]  # places that have gone past pixel 0 in the last slice
        one = _lanes(np.ones(len(departures)), rows.s0.dtype)
        self._e0 = np.broadcast_to(one, (ny, nx + self._past, *one.shape)).copy()
        self._fh = np.zeros((ny, nx, *one.shape), rows.s0.dtype)
        kernels.forward(rows, [self._e0, self._fh])
        # where nothing of the crystal's has left the volume, half pixels are moved within it: no energy is lost
        self._seen = self._past if _lowest(rows) >= self._past else 0
        self.eh: ComplexArray = np.empty((len(departures), nx, ny), rows.density.dtype)
        loops.ramped(self._fh, *self._ramps(), self.eh)

    @cached_property
    def e0(self) -> ComplexArray:
        seen = _volume(self._e0[:, self._seen :], len(self._departures))
        return _half_pixels(seen, self._rows.setting[2])[:, self._past - self._seen :]

    def pull_back(self, by_e0: ComplexArray | None, by_eh: ComplexArray | None) -> Gradient:
        like, count = self.eh, len(self._departures)
        nothing = np.zeros((), self._fh.dtype)
        ge, gf = (np.broadcast_to(nothing, field.shape) for field in (self._e0, self._fh))
        by_q = np.zeros((count, 3))
        if by_e0 is not None:
            face = np.pad(np.asarray(by_e0, like.dtype), [(0, 0), (self._past - self._seen, 0), (0, 0)])
            ge = np.zeros_like(self._e0)
            ge[:, self._seen :] = _rows_of(_half_pixels(face, -self._rows.setting[2]), self._fh.dtype)
        if by_eh is not None:
            by_eh = np.asarray(by_eh, like.dtype)
            gf = np.zeros_like(self._fh)
            loops.laned(by_eh, *self._ramps(), gf)
            by_q = self._by_ramp(by_eh.imag * like.real - by_eh.real * like.imag)
        fields = [self._e0, self._fh, ge, gf]
        by_density, by_s0, by_turn = self._kernels.backward(self._rows, fields)
        by_q[:, 2] -= _phases(by_turn, count) * self._edges[2]
        return Gradient(density=by_density.transpose(2, 0, 1), s0=by_s0.transpose(2, 0, 1), delta_q=by_q)

    def _lengths(self) -> tuple[Floats, Floats, Floats]:
        """x, y of the pixels, and z of the last slice that Fh of row y was turned in."""
        ny, nz, nx = self._rows.density.shape
        dx, dy, dz = self._edges
        return places(nx, dx), places(ny, dy), (self._rows.boxes[:, 1] - 1 - nz // 2) * dz

    def _ramps(self) -> tuple[ComplexArray, ComplexArray]:
        """exp(i delta_q.r) where Fh of a pixel was turned last, as factors (n, nx) and (n, ny): beyond, Eh is
        constant."""
        x, y, z = self._lengths()
        qx, qy, qz = self._departures.T[:, :, None]
        kind = self._rows.density.dtype
        return np.exp(1j * qx * x).astype(kind), np.exp(1j * (qy * y + qz * z)).astype(kind)

    def _by_ramp(self, by_phase: FloatArray) -> Floats:
        x, y, z = self._lengths()
        by_row = by_phase.sum(axis=1, dtype=np.float64)
        by_x = by_phase.sum(axis=2, dtype=np.float64) @ x
        return np.stack([by_x, by_row @ y, by_row @ z], axis=1)


def _by_rows(volume: NDArray[Any]) -> NDArray[Any]:
    """(x, y, z) as (y, z, x)."""
    nx, ny, nz = volume.shape
    out = np.empty((ny, nz, nx), volume.dtype)
    loops.by_rows(volume, out)
    return out


def _boxes(inside: NDArray[Any]) -> NDArray[np.int64]:
    """First slice, end, first x and end of the crystal in each row (y, 4); zeros where there is none."""
    boxes = np.zeros((inside.shape[1], 4), np.int64)
    slices, across = np.any(inside, axis=0), np.transpose(np.any(inside, axis=2))
    for column, found in ((0, slices), (2, across)):
        somewhere, n = np.any(found, axis=1), found.shape[1]
        boxes[:, column] = np.where(somewhere, np.argmax(found, axis=1), 0)
        boxes[:, column + 1] = np.where(somewhere, n - np.argmax(found[:, ::-1], axis=1), 0)
    return boxes


def _lowest(rows: Rows) -> int:
    """The first place of E0 that the crystal reaches."""
    crystal = rows.boxes[rows.boxes[:, 1] > 0]
    nowhere = np.iinfo(np.int64).max
    return int(np.min(crystal[:, 2] + crystal[:, 0] * rows.setting[2], initial=nowhere))


def _lanes(values: NDArray[Any], kind: Any) -> NDArray[Any]:
    """Complex (..., n) as (..., blocks, 2 WIDTH) real numbers, what is left of the last block zero."""
    blocks = -(-values.shape[-1] // loops.WIDTH)
    padded = np.zeros((*values.shape[:-1], blocks * loops.WIDTH), complex)
    padded[..., : values.shape[-1]] = values
    apart = padded.reshape(*values.shape[:-1], blocks, loops.WIDTH)
    return np.concatenate([apart.real, apart.imag], axis=-1).astype(kind)


def _angles(lanes: NDArray[Any], count: int) -> NDArray[Any]:
    """`_lanes` undone."""
    whole = lanes[..., : loops.WIDTH] + 1j * lanes[..., loops.WIDTH :]
    return np.asarray(whole.reshape(*lanes.shape[:-2], -1)[..., :count])


def _phases(lanes: NDArray[Any], count: int) -> Floats:
    return np.asarray(lanes[:, : loops.WIDTH].reshape(-1)[:count], np.float64)


def _volume(rows: NDArray[Any], count: int) -> ComplexArray:
    """(y, x, lanes) as (angle, x, y)."""
    return np.ascontiguousarray(_angles(rows, count).transpose(2, 1, 0))


def _rows_of(fields: ComplexArray, kind: Any) -> NDArray[Any]:
    """`_volume` undone."""
    return _lanes(fields.transpose(2, 1, 0), kind)


def _half_pixels(field: ComplexArray, halves: int) -> ComplexArray:
    """(n, nx, ny) moved by half as many pixels towards -x: from the middle of the last slice to its face."""
    turns = np.exp(1j * np.pi * halves * fft.fftfreq(field.shape[1]))[:, None]
    return np.asarray(fft.ifft(fft.fft(field, axis=1) * turns.astype(field.dtype), axis=1))

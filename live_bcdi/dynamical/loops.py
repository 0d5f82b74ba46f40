"""The march along the characteristics, compiled. The loops release the interpreter, so that threads run abreast.

E0 is kept where it will leave: the sample that is at pixel i of slice j has the place i + j shift for good, so
nothing is moved, and what has left the crystal is still there when the march is reversed. Angles come in blocks
of WIDTH, real and imaginary parts apart by a number that the compiler knows: the loops over a block are SIMD
instructions, and the 2 x 2 matrix of a voxel, made where it is needed, serves them all.

For one row of the crystal: `density`, `s0` (slice, x); `e0` (place, block, 2 WIDTH), `fh` (x, block, 2 WIDTH);
`turn` (block, 2 WIDTH), by which a slice turns Fh without matter; `box` (first slice, end, first x, end), outside
which there is no crystal.
"""

from typing import Any

from numba import njit
from numpy.typing import NDArray

from .coupling import growth, inverse, matrix, parts, pull_back

WIDTH = 32
_FAST = {"reassoc", "contract", "nsz", "arcp"}  # not nnan: a NaN must show itself
Array = NDArray[Any]
_TILE = 8  # voxels that lie abreast where one side of a copy lies across the other: a line of the cache
Place = tuple[int, int, int]  # where e is, where f is, the block


@njit(nogil=True, cache=True, fastmath=_FAST)
def _cross(e: Array, f: Array, turn: Array, place: Place, m: Any) -> None:
    """(e, f) := m (e, turn f), for a block."""
    (i, x, n), (m0, m1, m2, m3, m4, m5, m6, m7) = place, m
    for re in range(WIDTH):
        im = re + WIDTH
        er, ei = e[i, n, re], e[i, n, im]
        fr = f[x, n, re] * turn[n, re] - f[x, n, im] * turn[n, im]
        fi = f[x, n, re] * turn[n, im] + f[x, n, im] * turn[n, re]
        e[i, n, re] = m0 * er - m1 * ei + m2 * fr - m3 * fi
        e[i, n, im] = m0 * ei + m1 * er + m2 * fi + m3 * fr
        f[x, n, re] = m4 * er - m5 * ei + m6 * fr - m7 * fi
        f[x, n, im] = m4 * ei + m5 * er + m6 * fi + m7 * fr


@njit(nogil=True, cache=True)
def _numbers(four: Any, like: Any) -> Any:
    """Real and imaginary parts of four numbers, of the type of `like`."""
    kind = like.dtype.type
    return (
        kind(four[0].real),
        kind(four[0].imag),
        kind(four[1].real),
        kind(four[1].imag),
        kind(four[2].real),
        kind(four[2].imag),
        kind(four[3].real),
        kind(four[3].imag),
    )


@njit(nogil=True, cache=True)
def forward(
    density: Array, s0: Array, box: Array, setting: tuple[Any, int, int], turn: Array, fields: tuple[Array, Array]
) -> None:
    """The fields of a row behind its crystal, in place. `setting` is (generator, doublings, shift)."""
    generator, times, shift = setting
    e0, fh = fields
    electrons, grows = s0[0, 0], growth(s0[0, 0], generator)
    for j in range(box[0], box[1]):
        for x in range(box[2], box[3]):
            if s0[j, x] != electrons:  # most voxels have as many as the one before
                electrons, grows = s0[j, x], growth(s0[j, x], generator)
            made = parts(density[j, x], electrons, generator, times)
            m = _numbers(matrix(density[j, x], generator, grows, made), turn)
            for n in range(len(turn)):
                _cross(e0, fh, turn, (x + j * shift, x, n), m)


@njit(nogil=True, cache=True, fastmath=_FAST)
def _uncross(e: Array, f: Array, place: Place, r: Any) -> None:
    """`_cross` taken back up to its turn, by r, the inverse of m."""
    (i, x, n), (r0, r1, r2, r3, r4, r5, r6, r7) = place, r
    for re in range(WIDTH):
        im = re + WIDTH
        er, ei, fr, fi = e[i, n, re], e[i, n, im], f[x, n, re], f[x, n, im]
        e[i, n, re] = r0 * er - r1 * ei + r2 * fr - r3 * fi
        e[i, n, im] = r0 * ei + r1 * er + r2 * fi + r3 * fr
        f[x, n, re] = r4 * er - r5 * ei + r6 * fr - r7 * fi
        f[x, n, im] = r4 * ei + r5 * er + r6 * fi + r7 * fr


@njit(nogil=True, cache=True, fastmath=_FAST)
def _sums(e: Array, f: Array, ge: Array, gf: Array, place: Place) -> Any:
    """The gradient by m, summed over a block: (ge, gf) times the conjugate of (e, f), by parts."""
    i, x, n = place
    s0 = s1 = s2 = s3 = s4 = s5 = s6 = s7 = 0 * e[i, n, 0]
    for re in range(WIDTH):
        im = re + WIDTH
        s0 += ge[i, n, re] * e[i, n, re] + ge[i, n, im] * e[i, n, im]
        s1 += ge[i, n, im] * e[i, n, re] - ge[i, n, re] * e[i, n, im]
        s2 += ge[i, n, re] * f[x, n, re] + ge[i, n, im] * f[x, n, im]
        s3 += ge[i, n, im] * f[x, n, re] - ge[i, n, re] * f[x, n, im]
        s4 += gf[x, n, re] * e[i, n, re] + gf[x, n, im] * e[i, n, im]
        s5 += gf[x, n, im] * e[i, n, re] - gf[x, n, re] * e[i, n, im]
        s6 += gf[x, n, re] * f[x, n, re] + gf[x, n, im] * f[x, n, im]
        s7 += gf[x, n, im] * f[x, n, re] - gf[x, n, re] * f[x, n, im]
    return s0, s1, s2, s3, s4, s5, s6, s7


@njit(nogil=True, cache=True, fastmath=_FAST)
def _return(ge: Array, gf: Array, place: Place, m: Any) -> None:
    """The gradient through the adjoint of m."""
    (i, x, n), (m0, m1, m2, m3, m4, m5, m6, m7) = place, m
    for re in range(WIDTH):
        im = re + WIDTH
        pr, pi, qr, qi = ge[i, n, re], ge[i, n, im], gf[x, n, re], gf[x, n, im]
        ge[i, n, re] = m0 * pr + m1 * pi + m4 * qr + m5 * qi
        ge[i, n, im] = m0 * pi - m1 * pr + m4 * qi - m5 * qr
        gf[x, n, re] = m2 * pr + m3 * pi + m6 * qr + m7 * qi
        gf[x, n, im] = m2 * pi - m3 * pr + m6 * qi - m7 * qr


@njit(nogil=True, cache=True, fastmath=_FAST)
def _unturn(f: Array, gf: Array, turn: Array, by_turn: Array, place: Place) -> None:
    """The turn of Fh taken back, for a block; the gradient by its phase is added to `by_turn`."""
    _, x, n = place
    for re in range(WIDTH):
        im = re + WIDTH
        fr, fi, ur, ui = f[x, n, re], f[x, n, im], gf[x, n, re], gf[x, n, im]
        by_turn[n, re] += ui * fr - ur * fi
        f[x, n, re] = fr * turn[n, re] + fi * turn[n, im]
        f[x, n, im] = fi * turn[n, re] - fr * turn[n, im]
        gf[x, n, re] = ur * turn[n, re] + ui * turn[n, im]
        gf[x, n, im] = ui * turn[n, re] - ur * turn[n, im]


@njit(nogil=True, cache=True)
def backward(
    density: Array,
    s0: Array,
    box: Array,
    setting: tuple[Any, int, int],
    turn: Array,
    fields: tuple[Array, Array, Array, Array],
    out: tuple[Array, Array, Array],
) -> None:
    """`forward` reversed, from the fields behind the crystal and the gradients by them (e0, fh, by_e0, by_fh), all
    in place. Into `out` go the gradients by `density` and by `s0`, set in the box, and by the phase of each turn,
    added to the real places of an array like `turn`."""
    generator, times, shift = setting
    e0, fh, by_e0, by_fh = fields
    by_density, by_s0, by_turn = out
    electrons, grows = s0[0, 0], growth(s0[0, 0], generator)
    for j in range(box[1] - 1, box[0] - 1, -1):
        for x in range(box[2], box[3]):
            if s0[j, x] != electrons:
                electrons, grows = s0[j, x], growth(s0[j, x], generator)
            made = parts(density[j, x], electrons, generator, times)
            there = _numbers(matrix(density[j, x], generator, grows, made), turn)
            back = _numbers(inverse(density[j, x], generator, grows, made), turn)
            g11, g12, g21, g22 = 0j, 0j, 0j, 0j
            for n in range(len(turn)):
                place = (x + j * shift, x, n)
                _uncross(e0, fh, place, back)
                sums = _sums(e0, fh, by_e0, by_fh, place)
                g11, g12 = g11 + complex(sums[0], sums[1]), g12 + complex(sums[2], sums[3])
                g21, g22 = g21 + complex(sums[4], sums[5]), g22 + complex(sums[6], sums[7])
                _return(by_e0, by_fh, place, there)
                _unturn(fh, by_fh, turn, by_turn, place)
            four = (g11, g12, g21, g22)
            by_density[j, x], by_s0[j, x] = pull_back(density[j, x], generator, grows, made, four)


@njit(nogil=True, cache=True)
def by_rows(volume: Array, out: Array) -> None:
    """`volume` (x, y, z) as `out` (y, z, x)."""
    for first in range(0, volume.shape[0], _TILE):
        for y in range(volume.shape[1]):
            for z in range(volume.shape[2]):
                for x in range(first, min(first + _TILE, volume.shape[0])):
                    out[y, z, x] = volume[x, y, z]


@njit(nogil=True, cache=True)
def ramped(lanes: Array, along_x: Array, along_y: Array, out: Array) -> None:
    """`lanes` (y, x, block, 2 WIDTH) as waves, `out` (n, x, y), times `along_x` (n, x) and `along_y` (n, y)."""
    count, nx, ny = out.shape
    for x in range(nx):
        for first in range(0, ny, _TILE):
            for n in range(count):
                block, re = n // WIDTH, n % WIDTH
                for y in range(first, min(first + _TILE, ny)):
                    value = complex(lanes[y, x, block, re], lanes[y, x, block, re + WIDTH])
                    out[n, x, y] = value * (along_x[n, x] * along_y[n, y])


@njit(nogil=True, cache=True)
def laned(waves: Array, along_x: Array, along_y: Array, out: Array) -> None:
    """The adjoint of `ramped`: `waves` (n, x, y) by its conjugate, into `out` (y, x, block, 2 WIDTH)."""
    count, nx, ny = waves.shape
    for x in range(nx):
        for first in range(0, ny, _TILE):
            for n in range(count):
                block, re = n // WIDTH, n % WIDTH
                for y in range(first, min(first + _TILE, ny)):
                    value = waves[n, x, y] * (along_x[n, x] * along_y[n, y]).conjugate()
                    out[y, x, block, re], out[y, x, block, re + WIDTH] = value.real, value.imag

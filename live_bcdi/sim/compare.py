"""How near a reconstruction is to the crystal it should show."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import map_coordinates
from scipy.optimize import minimize
from skimage.registration import phase_cross_correlation

from ..geometry import direct_basis_nm
from ..types import LabImage, Reconstruction, ScanError
from .crystals import Floats, Truth
from .parts import Dislocation

_MARGIN_VOXELS = 4
_SUBPOINTS = 3  # an edge of a voxel: the truth is its mean density there, as in an image of that voxel size
_UPSAMPLING = 20  # of the cross-correlation; the shift is then known to 1/20 voxel
_RAMP_PADDING = 2
_ROUND = 24  # places on a circle about a dislocation


@dataclass(frozen=True, kw_only=True, slots=True)
class _Match:
    """The truth where it fits best: `truth` on the image's voxels, `rest` = image with ramp and phase removed.

    Voxel (i, j, k) shows the truth's point `sign` * ((i, j, k) * `voxel_nm` + `corner_nm`), which is
    `from_defect_nm` away from a wall or dislocation line.
    """

    truth: NDArray[np.complex128]
    phase: Floats
    rest: NDArray[np.complex128]
    score: float
    from_defect_nm: Floats
    corner_nm: Floats
    voxel_nm: float
    sign: int


def compare_with_truth(reconstruction: Reconstruction, truth: Truth) -> dict[str, Any]:
    """Compare `reconstruction.lab` with the truth, each as it is and as its twin; the better is reported.

    What no diffraction pattern fixes is aligned first: position (to 1/20 voxel), phase offset, phase ramp, and
    twin (conjugate and inverted). Then, with the truth averaged over each voxel:

    - `amplitude_correlation`: sum |a||b| / sqrt(sum |a|^2 sum |b|^2) over the union of both supports (1 is equal);
    - `phase_correlation`: Pearson correlation of the phases where the truth fills more than half a voxel, and is
      further than a voxel of the scan from walls and dislocation lines, where no image has a phase; the image's
      phase is taken as the truth's plus the wrapped difference (NaN for an unstrained truth);
    - `phase_rms_rad`: root mean square of that difference;
    - `twin`: whether the twin was the better: a right object, but u_h at r is -u_h at -r;
    - `line_found`, for dislocations: on how much of their length the image's phase winds as the truth's does, on a
      circle two voxels of the scan about the line.

    Raises ScanError where the reconstruction has no lab image.
    """
    best, box = _best_match(reconstruction, truth)
    assert reconstruction.lab is not None
    edge_nm = _voxel_edge_nm(reconstruction)
    lines = [_line_found(best, line, 2 * edge_nm) for line in truth.dislocations]
    return {
        **_figures(best, reconstruction.lab.support[box], edge_nm),
        "twin": best.sign == -1,
        **({"line_found": float(np.mean(lines))} if lines else {}),
    }


def phase_error_rad(reconstruction: Reconstruction, truth: Truth) -> Floats:
    """Phase of `reconstruction.lab` less the truth's, wrapped, on its voxels (x, y, z), aligned as by
    `compare_with_truth`; NaN outside the support and where that compares no phase. Raises ScanError as it does.
    """
    best, box = _best_match(reconstruction, truth)
    assert reconstruction.lab is not None
    support = reconstruction.lab.support
    error = np.full(support.shape, np.nan)
    error[box] = np.where(_core(best, _voxel_edge_nm(reconstruction)), _difference(best), np.nan)
    return np.where(support, error, np.nan)


def _best_match(reconstruction: Reconstruction, truth: Truth) -> tuple[_Match, tuple[slice, ...]]:
    """The truth or its twin, whichever fits better, and the part of the lab image that was compared."""
    if reconstruction.lab is None:
        raise ScanError("the reconstruction has no lab image to compare: its geometry is not known")
    image, box, points_nm = _cropped(reconstruction.lab, truth)
    matches = [_match(image, points_nm, reconstruction.lab.voxel_nm, truth, sign) for sign in (1, -1)]
    return max(matches, key=lambda match: match.score), box


def _voxel_edge_nm(reconstruction: Reconstruction) -> float:
    """The longest edge of the scan's own voxel, or where the scan is not known that of the lab image."""
    volume = reconstruction.volume
    if volume is None:
        assert reconstruction.lab is not None
        return reconstruction.lab.voxel_nm
    rocking, rows, columns = volume.intensity.shape
    basis_nm = direct_basis_nm(volume.q_steps_invA, (rocking, rows, columns))
    return float(np.linalg.norm(basis_nm, axis=0).max())


def _cropped(lab: LabImage, truth: Truth) -> tuple[NDArray[np.complex128], tuple[slice, ...], Floats]:
    """The image about its support, with room for the truth where it overlaps; which part of the whole that is,
    and positions (..., 3) in nm."""
    where = np.argwhere(lab.support)
    if not len(where):
        raise ScanError("the reconstruction has an empty support")
    margin = int(np.ceil(np.ptp(truth.vertices_nm(), axis=0).max() / 2 / lab.voxel_nm)) + _MARGIN_VOXELS
    low = np.maximum(where.min(axis=0) - margin, 0)
    high = np.minimum(where.max(axis=0) + 1 + margin, lab.support.shape)
    box = tuple(slice(int(start), int(stop)) for start, stop in zip(low, high))
    axes = [
        (np.arange(start, stop) - count // 2) * lab.voxel_nm
        for start, stop, count in zip(low, high, lab.support.shape)
    ]
    points_nm = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1)
    return lab.density[box].astype(np.complex128), box, points_nm


def _match(image: NDArray[np.complex128], points_nm: Floats, voxel_nm: float, truth: Truth, sign: int) -> _Match:
    """Shift the truth (or for sign -1 its twin) onto the image, then take ramp and phase from the image."""
    shift_nm = np.zeros(3)
    for _ in range(2):  # the second pass mends what a shift by half a crystal cut off
        here = _sampled(truth, sign * (points_nm - shift_nm), voxel_nm)
        moved, _, _ = phase_cross_correlation(  # type: ignore[no-untyped-call]
            np.abs(image), np.abs(here), upsample_factor=_UPSAMPLING, normalization=None
        )
        shift_nm = shift_nm + np.asarray(moved) * voxel_nm
    where_nm = sign * (points_nm - shift_nm)
    expected = _sampled(truth, where_nm, voxel_nm)
    phase = sign * truth.phase_at(where_nm)
    expected = expected if sign == 1 else expected.conj()
    ramp = _ramp(image * expected.conj(), points_nm, voxel_nm)
    rest = image * np.exp(-1j * points_nm @ ramp)
    overlap = np.vdot(expected, rest)
    score = float(abs(overlap) / (np.linalg.norm(expected) * np.linalg.norm(rest)))
    return _Match(
        truth=expected,
        phase=phase,
        rest=rest * np.exp(-1j * np.angle(overlap)),
        score=score,
        from_defect_nm=truth.defect_distance_nm(where_nm),
        corner_nm=points_nm[0, 0, 0] - shift_nm,
        voxel_nm=voxel_nm,
        sign=sign,
    )


def _sampled(truth: Truth, points_nm: Floats, voxel_nm: float) -> NDArray[np.complex128]:
    """Mean density of the truth in cubes of edge `voxel_nm` about the points; surfaces and defects need it."""
    density = truth.density_at(points_nm)
    nearest = np.minimum(np.abs(truth.depth_nm(points_nm)), truth.defect_distance_nm(points_nm))
    surface = nearest < voxel_nm * np.sqrt(3) / 2
    offsets = ((np.arange(_SUBPOINTS) + 0.5) / _SUBPOINTS - 0.5) * voxel_nm
    shifts = np.stack(np.meshgrid(offsets, offsets, offsets), axis=-1).reshape(-1, 3)
    density[surface] = sum(truth.density_at(points_nm[surface] + shift) for shift in shifts) / len(shifts)
    return density


def _ramp(product: NDArray[np.complex128], points_nm: Floats, voxel_nm: float) -> Floats:
    """The wave vector k (3,) in 1/nm that maximises |sum product exp(-i k.r)|: FFT peak, then refined."""
    shape = tuple(_RAMP_PADDING * count for count in product.shape)
    spectrum = np.abs(np.fft.fftn(product, shape, axes=(0, 1, 2)))
    peak = np.unravel_index(int(np.argmax(spectrum)), shape)
    start = np.array([2 * np.pi * np.fft.fftfreq(n)[i] / voxel_nm for n, i in zip(shape, peak)])
    filled = product != 0
    weights, places = product[filled], points_nm[filled]
    size_nm = float(np.ptp(places, axis=0).max())

    def loss(scaled: Floats) -> float:
        return -float(abs(np.sum(weights * np.exp(-1j * places @ (scaled / size_nm)))))

    found = minimize(loss, start * size_nm, method="Nelder-Mead", options={"xatol": 1e-5, "fatol": 0.0})
    return np.asarray(found.x / size_nm)


def _line_found(match: _Match, line: Dislocation, radius_nm: float) -> float:
    """Share of the circles about the line, one a voxel along it and all within the crystal, on which the phase
    turns as often as the truth's; NaN where no circle is within the crystal."""
    along = np.asarray(line.line)
    first = np.cross(along, np.eye(3)[np.argmin(np.abs(along))])
    first /= np.linalg.norm(first)
    angle = 2 * np.pi * np.arange(_ROUND) / _ROUND
    circle_nm = radius_nm * (np.outer(np.cos(angle), first) + np.outer(np.sin(angle), np.cross(along, first)))
    reach = max(match.truth.shape)
    places_nm = np.asarray(line.point_nm) + np.arange(-reach, reach + 1)[:, None] * match.voxel_nm * along
    voxels = (match.sign * (places_nm[:, None] + circle_nm) - match.corner_nm) / match.voxel_nm
    there, found = (_interpolated(each, voxels) for each in (match.truth, match.rest))
    inside = np.abs(there).min(axis=1) > 0.5
    return float(np.mean(_turns(found[inside]) == _turns(there[inside]))) if inside.any() else float("nan")


def _interpolated(image: NDArray[np.complex128], voxels: Floats) -> NDArray[np.complex128]:
    where = np.moveaxis(voxels, -1, 0)
    real, imaginary = (map_coordinates(part, where, order=1) for part in (image.real, image.imag))
    return np.asarray(real + 1j * imaginary)


def _turns(values: NDArray[np.complex128]) -> NDArray[np.int64]:
    """How often the phase goes round along each row of a closed path, (n, places) to (n,)."""
    steps = np.angle(np.roll(values, -1, axis=1) * values.conj())
    return np.asarray(np.rint(steps.sum(axis=1) / (2 * np.pi)), np.int64)


def _figures(match: _Match, support: NDArray[np.bool_], edge_nm: float) -> dict[str, float]:
    there = np.abs(match.truth)
    union = support | (there > 0.5)
    found = np.where(union, np.abs(match.rest), 0.0)
    there = np.where(union, there, 0.0)
    core = _core(match, edge_nm)
    difference, expected = _difference(match)[core], match.phase[core]
    strained = np.ptp(expected) > 1e-9
    correlation = np.corrcoef(expected, expected + difference)[0, 1] if strained else np.nan
    return {
        "amplitude_correlation": float((found * there).sum() / np.sqrt((found**2).sum() * (there**2).sum())),
        "phase_correlation": float(correlation),
        "phase_rms_rad": float(np.sqrt(np.mean(difference**2))),
    }


def _core(match: _Match, edge_nm: float) -> NDArray[np.bool_]:
    return np.asarray((np.abs(match.truth) > 0.5) & (match.from_defect_nm > edge_nm))


def _difference(match: _Match) -> Floats:
    return np.asarray(np.angle(match.rest * np.exp(-1j * match.phase)))

"""A crystal that is charged and discharged: how far each state went, and which defects it has, is known."""

from dataclasses import dataclass, replace

import numpy as np
from scipy import fft

from ..phasing.align import without_ramp
from ..strain import lab_image
from ..types import DiffractionVolume, Geometry, LabImage, ScanError
from .crystals import Floats, Truth, random_truth
from .parts import Dislocation, Wave, vector
from .scattering import OVERSAMPLING, diffraction_amplitude, scan_steps

GENTLE, CHARGED = "weak", "strong"
_VOLTS = (2.5, 4.2)
_LAG = 0.15  # of the order, that discharging stays behind
_EXPANDED = -8e-4  # strain of the mean lattice when charged
_LIVES = 0.45, 0.75  # the order at which the dislocation comes, and at which a second one does
_GLIDE = 0.5  # of the inner radius, that a dislocation goes while the order goes from 0 to 1


@dataclass(frozen=True, kw_only=True, slots=True)
class ChargeState:
    """One state: `order` is 0 for the first, 1 where it is fully charged; of `truth`, the mean lattice is strained
    by `lattice_strain`, and `lines` are the numbers of its dislocations, the same from state to state."""

    volts: float
    order: float
    truth: Truth
    lattice_strain: float
    lines: tuple[int, ...]


def charge_and_discharge(
    geometry: Geometry, h_invA: Floats, *, states: int = 10, seed: int = 0, dislocations: bool = True
) -> list[ChargeState]:
    """A faceted gold crystal of weak strain, in which a second, strong displacement grows with the order and goes
    again. Discharging lags behind: at the same voltage its order is higher by up to 0.15.

    A dislocation comes at the order of 0.45 and glides; from 0.75 there is a second, of the other sign. Both heal
    on the way back. Raises ScanError for fewer than three states.
    """
    if states < 3:
        raise ScanError(f"charging and discharging takes three states at least, not {states}")
    steps = scan_steps(geometry)
    first = random_truth(h_invA, steps, strain=GENTLE, oversampling=OVERSAMPLING, seed=seed)
    grown = random_truth(h_invA, steps, strain=CHARGED, oversampling=OVERSAMPLING, seed=seed)
    random = np.random.default_rng([seed, 11])
    lines = _lines(first, random)
    charging = np.linspace(0, 1, states // 2 + 1)
    there = np.concatenate([charging, charging[-2::-1][: states - len(charging)]])
    back = np.arange(states) >= len(charging)
    orders = np.where(back, there + _LAG * np.sin(np.pi * there), there)
    made = []
    for share, order in zip(there, orders):
        alive = tuple(k for k, least in enumerate(_LIVES) if dislocations and order >= least)
        strain = _EXPANDED * float(order)
        waves = tuple(_scaled(wave, float(order)) for wave in grown.waves)
        # the slope along h of a lattice that is larger by `strain`
        slope = strain * 10 * np.asarray(h_invA) / np.linalg.norm(h_invA)
        truth = replace(
            first,
            waves=first.waves + waves,
            offset_angstrom=first.offset_angstrom + float(order) * grown.offset_angstrom,
            gradient_angstrom_per_nm=vector(
                np.array(first.gradient_angstrom_per_nm)
                + float(order) * np.array(grown.gradient_angstrom_per_nm)
                + slope
            ),
            dislocations=tuple(_glided(*lines[k], float(order)) for k in alive),
        )
        volts = _VOLTS[0] + float(share) * (_VOLTS[1] - _VOLTS[0])
        made.append(ChargeState(volts=volts, order=float(order), truth=truth, lattice_strain=strain, lines=alive))
    return made


def _scaled(wave: Wave, by: float) -> Wave:
    return replace(wave, amplitude_angstrom=by * wave.amplitude_angstrom)


def _lines(truth: Truth, random: np.random.Generator) -> list[tuple[Dislocation, Floats]]:
    """Two dislocations with h.b of +2 pi and -2 pi, and the way each glides while the order grows from 0 to 1."""
    radius_nm = min(facet.offset_nm for facet in truth.facets)
    h = np.asarray(truth.h_invA)
    d = 2 * np.pi / np.linalg.norm(h)
    across = np.cross(h, random.normal(size=3))
    across /= np.linalg.norm(across)
    other = np.cross(h / np.linalg.norm(h), across)
    made = []
    for sign, side in ((1.0, -0.45), (-1.0, 0.55)):
        burgers = sign * d * (h / np.linalg.norm(h) + 0.7 * across)
        line = other + 0.3 * across * sign
        line /= np.linalg.norm(line)
        point = side * radius_nm * across
        glide = -np.sign(side) * _GLIDE * radius_nm * h / np.linalg.norm(h)
        made.append(
            (Dislocation(point_nm=vector(point), line=vector(line), burgers_angstrom=vector(burgers)), glide)
        )
    return made


def _glided(line: Dislocation, glide_nm: Floats, order: float) -> Dislocation:
    return replace(line, point_nm=vector(np.asarray(line.point_nm) + (order - 0.5) * glide_nm))


def true_phase_image(
    truth: Truth, geometry: Geometry, *, shape: tuple[int, int, int], photons: float, seed: int = 0
) -> LabImage:
    """What a retrieval that finds every phase would give: the moduli of Poisson counts, `photons` in all, with the
    phases of the truth, taken to the lab frame as results are. `shape` is (frames, rows, columns)."""
    steps = scan_steps(geometry)
    amplitude = diffraction_amplitude(truth, steps, shape)
    pattern = np.abs(amplitude) ** 2
    counts = np.random.default_rng([seed, 3]).poisson(pattern * (photons / pattern.sum()))
    seen = np.sqrt(counts) * np.exp(1j * np.angle(amplitude))
    found = fft.fftshift(fft.ifftn(fft.ifftshift(seen)))
    flat, slopes = without_ramp(np.asarray(found, np.complex64))
    volume = DiffractionVolume(
        intensity=counts.astype(np.float32),
        mask=np.zeros(shape, bool),
        centre=(shape[0] / 2, *geometry.arm_pixel),
        q_centre_invA=np.array(truth.h_invA),
        q_steps_invA=steps,
    )
    return lab_image(flat, slopes, volume)

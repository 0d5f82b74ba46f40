"""A strain of 1e-4 goes in as counts, is phased, and comes out as 1e-4 in the lab frame: for every beamline."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from live_bcdi.config import load_config
from live_bcdi.geometry import q_lab_invA
from live_bcdi.phasing import Plan
from live_bcdi.pipeline import reconstruct
from live_bcdi.sim.crystals import Wave, random_truth
from live_bcdi.sim.scattering import OVERSAMPLING, bragg_geometry, measure, scan_steps

CONFIGS = sorted((Path(__file__).resolve().parents[2] / "config").glob("*.toml"))
SHAPE = (40, 56, 56)
STRAIN = 1e-4


class Stretched:
    """A faceted crystal whose strain along h goes as a sine along h, and is 1e-4 rms inside."""

    def __init__(self, path):
        self.geometry = bragg_geometry(load_config(path), SHAPE[1:])
        h = q_lab_invA(self.geometry, *self.geometry.arm_pixel)
        bare = random_truth(h, scan_steps(self.geometry), strain="none", oversampling=OVERSAMPLING, seed=3)
        self.along = h / np.linalg.norm(h)
        corners = bare.vertices_nm()
        self.k = 2.5 / np.abs(corners @ self.along).max()
        self.amplitude = 1.0
        self.amplitude = STRAIN / np.sqrt(np.mean(self.strain(self.points(bare)) ** 2))
        wave = Wave(amplitude_angstrom=self.amplitude, k_inv_nm=tuple(self.k * self.along), phase_rad=0.7)
        self.truth = replace(bare, waves=(wave,))

    def points(self, truth):
        edge = np.abs(truth.vertices_nm()).max()
        axis = np.linspace(-edge, edge, 24)
        points = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), -1).reshape(-1, 3)
        return points[truth.inside(points)]

    def strain(self, points):
        """d u_h / d x_h of amplitude * cos(k x_h + 0.7), in ångström over nm, less its mean over the crystal."""
        value = -self.amplitude * self.k * np.sin(self.k * (points @ self.along) + 0.7) / 10
        return value - value.mean()


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_a_strain_of_1e_4_is_phased_and_measured_as_1e_4(path):
    crystal = Stretched(path)
    scan = measure(crystal.truth, crystal.geometry, shape=SHAPE, photons=2e7, seed=5)
    lab = reconstruct(scan, Plan(starts=3, seed=1)).lab
    index = np.stack(np.meshgrid(*[np.arange(n) - n // 2 for n in lab.support.shape], indexing="ij"), axis=-1)
    inside = ndimage.binary_erosion(lab.support, iterations=2)
    points = index[inside] * lab.voxel_nm
    found = lab.strain[inside].astype(float)
    fits = []
    for sign in (1, -1):  # the twin's strain is that of the opposite place, with the same sign
        known = crystal.strain(sign * points)
        slope, rest = np.polyfit(known, found, 1)
        fits.append((np.std(found - slope * known - rest), slope, known.std()))
    error, slope, size = min(fits)
    assert size == pytest.approx(STRAIN, rel=0.2), "what is left without the surface is strained as much"
    # measured: 0.97 to 1.02, and 0.16e-4 off, on a crystal 19 voxels long; an Å for a nm is a factor of 10, a
    # frame for another a slope of 0.8 and less
    assert slope == pytest.approx(1, abs=0.08)
    assert error < 0.3 * size

"""Sign, handedness and scale of what comes out, for every configured beamline and every circle that can rock.

The pattern is not made by our own geometry: scatterers stand on a turned stage, a far pixel sees their waves. The
phases of that pattern are known, so what comes out has no twin, and the sign of the displacement is there to test.
"""

import itertools
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage, signal
from scipy.spatial.transform import Rotation as Turn

from live_bcdi.config import Preprocessing, direction, load_config
from live_bcdi.phasing.align import without_ramp
from live_bcdi.preprocess import crop_centred, diffraction_volume
from live_bcdi.strain import lab_image
from live_bcdi.types import RockingScan

CONFIGS = sorted((Path(__file__).resolve().parents[2] / "config").glob("*.toml"))
SHAPE = (26, 32, 32)
K = 2 * np.pi * 9.0 / 12.398419843320026  # 9 keV, 1/ångström
ARM_DEG = (31.0, 12.0)
SAMPLE_DEG = (4.0, -7.0, 11.0)  # no circle at zero: the order of the chain matters
DISTANCE_M = 0.5
STRAIN = 1e-4


def cases():
    """A circle about the beam moves q within the detector plane: no rocking scan."""
    for path in CONFIGS:
        for circle in load_config(path).diffractometer.sample:
            if circle.axis[0] != "z":
                yield pytest.param((path, circle.motor), id=f"{path.stem}-{circle.motor}")


def turned(circles, degrees):
    """Outermost first, right-handed about the axes: scipy's turns, not ours."""
    product = Turn.identity()
    for circle, angle in zip(circles, degrees):
        product = product * Turn.from_rotvec(np.deg2rad(angle) * np.array(direction(circle.axis)))
    return product


class Experiment:
    """A crystal like a three-legged stool: legs of unequal length along lab x, y and z, equal to no mirror image
    of itself. Both its ends along h are pulled along +h by the same smooth field: the strain rises evenly along
    h, through 0 at the origin."""

    def __init__(self, path, rocking):
        self.config, self.rocking = load_config(path), rocking
        self.circles = self.config.diffractometer
        self.motors = [circle.motor for circle in self.circles.sample]
        self.h = self.q(SHAPE[1] // 2, SHAPE[2] // 2)
        self.along = self.h / np.linalg.norm(self.h)
        pixel_um = self.config.detector.pixel_um[0]
        self.voxel_nm = 2 * np.pi / (K * pixel_um * 1e-6 / DISTANCE_M) / SHAPE[1] / 10
        self.edge_nm = 14 * self.voxel_nm
        self.step_deg = np.rad2deg(pixel_um * 1e-6 / DISTANCE_M * K / self.lever())

    def lever(self):
        """How far q moves a radian of the rocking circle."""
        index = self.motors.index(self.rocking)
        axis = turned(self.circles.sample[:index], SAMPLE_DEG).apply(direction(self.circles.sample[index].axis))
        return np.linalg.norm(np.cross(axis, self.h))

    def q(self, row, column):
        detector = self.config.detector
        row_m, column_m = np.array(detector.pixel_um) * 1e-6
        pixel = DISTANCE_M * np.array(direction(self.circles.beam))
        pixel = pixel + np.multiply.outer((row - SHAPE[1] // 2) * row_m, direction(detector.rows))
        pixel = pixel + np.multiply.outer((column - SHAPE[2] // 2) * column_m, direction(detector.columns))
        outgoing = turned(self.circles.arm, ARM_DEG).apply(pixel.reshape(-1, 3))
        outgoing /= np.linalg.norm(outgoing, axis=-1, keepdims=True)
        q = K * (outgoing - direction(self.circles.beam))
        return q.reshape(*np.shape(row), 3)

    def inside(self, points):
        x, y, z = np.moveaxis(points, -1, 0) / self.edge_nm + 0.3
        thick = 0.45
        legs = [(x, y, z, 1.0), (y, z, x, 0.9), (z, x, y, 0.8)]
        return np.any(
            [(a > 0) & (a < long) & (b > 0) & (b < thick) & (c > 0) & (c < thick) for a, b, c, long in legs],
            axis=0,
        )

    def displacement(self, points):
        """u_h in ångström."""
        return STRAIN * (points @ self.along) ** 2 / self.edge_nm * 10

    def strain(self, points):
        """d u_h / d x_h: STRAIN at half an edge along h."""
        return STRAIN * (points @ self.along) / (self.edge_nm / 2)

    def amplitude(self):
        axis = np.arange(-14, 15) * self.voxel_nm * 0.85
        points = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), -1).reshape(-1, 3)
        points = points[self.inside(points)]
        moved = 10 * points + np.multiply.outer(self.displacement(points), self.along)
        rows, columns = np.meshgrid(*[np.arange(n) for n in SHAPE[1:]], indexing="ij")
        q = self.q(rows, columns).reshape(-1, 3)
        here = turned(self.circles.sample, SAMPLE_DEG)
        frames = []
        for angle in (np.arange(SHAPE[0]) - SHAPE[0] // 2) * self.step_deg:
            degrees = np.array(SAMPLE_DEG[: len(self.motors)])
            degrees[self.motors.index(self.rocking)] += angle
            stage = turned(self.circles.sample, degrees) * here.inv()
            # lattice planes stand at h.r = 2 pi n: only what they are displaced by is seen
            waves = np.exp(-1j * (q @ stage.apply(moved).T - 10 * points @ self.h))
            frames.append(waves.sum(axis=1).reshape(SHAPE[1:]))
        return np.stack(frames)

    def scan(self, amplitude):
        arm = dict(zip([circle.motor for circle in self.circles.arm], ARM_DEG))
        table = self.config.model_dump()
        table["diffractometer"]["rocking"] = self.rocking
        table["detector"]["arm_pixel"] = (SHAPE[1] // 2, SHAPE[2] // 2)
        config = type(self.config).model_validate(table)
        positions = dict(zip(self.motors, SAMPLE_DEG))
        centre = positions[self.rocking]
        return RockingScan(
            name="scatterers",
            intensity=np.abs(amplitude) ** 2,
            angles_deg=centre + (np.arange(SHAPE[0]) - SHAPE[0] // 2) * self.step_deg,
            geometry=config.geometry(positions | arm, energy_kev=9.0, distance_m=DISTANCE_M),
        )


@pytest.fixture(scope="module", params=cases())
def measured(request):
    """The experiment, and the crystal in the lab frame as the whole chain finds it with the right phases."""
    experiment = Experiment(*request.param)
    amplitude = experiment.amplitude()
    volume = diffraction_volume(experiment.scan(amplitude), Preprocessing(shape=SHAPE))
    middle = tuple(round(c) for c in volume.centre)
    nothing = np.zeros(SHAPE, bool)
    # padded as the intensities are where the peak is off the middle
    centred = crop_centred(amplitude.real, nothing, middle, SHAPE)[0] * (1 + 0j)
    centred += 1j * crop_centred(amplitude.imag, nothing, middle, SHAPE)[0]
    density = np.fft.fftshift(np.fft.ifftn(np.fft.ifftshift(centred)))
    image = lab_image(*without_ramp(density.astype(np.complex64)), volume)
    return experiment, image


def positions_nm(image):
    index = np.stack(np.meshgrid(*[np.arange(n) - n // 2 for n in image.support.shape], indexing="ij"), -1)
    return index * image.voxel_nm


def centred_positions_nm(experiment, image):
    """Positions of the image's voxels with the crystal's centre of mass where the experiment has it."""
    points = positions_nm(image)
    truth = experiment.inside(points)
    power = np.abs(image.density) ** 2 * ndimage.binary_dilation(image.support, iterations=2)
    shift = np.average(points[truth], axis=0) - np.average(points, axis=(0, 1, 2), weights=power)
    return points + shift


def overlap(first, second):
    best = signal.fftconvolve(first, second[::-1, ::-1, ::-1], mode="same").max()
    return best / np.sqrt((first**2).sum() * (second**2).sum())


def test_the_crystal_is_no_mirror_image(measured):
    experiment, image = measured
    amplitude = np.abs(image.density).astype(float)
    points = positions_nm(image)
    found = {
        signs: overlap(amplitude, experiment.inside(points * signs).astype(float))
        for signs in itertools.product((1, -1), repeat=3)
    }
    right = found.pop((1, 1, 1))
    # half of the voxels of legs six thick are at a surface, where the image is spread over two voxels: it overlaps
    # to 0.9 with its own sharp shape; with the best of the seven mirror images, a leg fewer in common, to 0.75
    assert right > 0.85
    assert max(found.values()) < right - 0.08


def test_what_is_pulled_along_plus_h_has_positive_displacement(measured):
    """Against the known field; offset and lattice tilt are free, as they are in any Bragg measurement."""
    experiment, image = measured
    points = centred_positions_nm(experiment, image)
    inside = ndimage.binary_erosion(image.support) & experiment.inside(points)
    known = experiment.displacement(points[inside])
    terms = np.column_stack([known, points[inside], np.ones(inside.sum())])
    slope = np.linalg.lstsq(terms, image.displacement_angstrom[inside].astype(float), rcond=None)[0][0]
    # linear interpolation of 14 voxels an edge: 5 %; a wrong sign is 200 %
    assert slope == pytest.approx(1, abs=0.05)


def test_a_strain_of_1e_4_is_measured_as_1e_4(measured):
    experiment, image = measured
    points = centred_positions_nm(experiment, image)
    inside = ndimage.binary_erosion(image.support) & experiment.inside(points)
    known = experiment.strain(points[inside])
    slope = np.polyfit(known, image.strain[inside].astype(float), 1)[0]
    # legs six voxels thick: what rings at their surfaces and linear interpolation take 3 to 7 % of the slope
    # (test_strain has 2 % on a larger crystal); |Q| in place of |Q| / 2 pi is a factor 6, nm for ångström 10
    assert slope == pytest.approx(1, abs=0.1)
    assert np.linalg.norm(image.q_centre_invA) == pytest.approx(np.linalg.norm(experiment.h), rel=2e-4)

"""A small scan and a result in which every field is set to something that would show if it were lost."""

import numpy as np
import pytest

from live_bcdi.types import (
    Agreement,
    DiffractionVolume,
    Geometry,
    LabImage,
    Outcome,
    Reconstruction,
    Resolution,
    RockingScan,
    Rotation,
    ShellCorrelation,
)


@pytest.fixture
def scan() -> RockingScan:
    random = np.random.default_rng(3)
    bad = random.random((6, 8)) < 0.1
    return RockingScan(
        name="crystal 3",
        intensity=random.poisson(5.0, (5, 6, 8)).astype(np.int32),
        angles_deg=0.1 + 0.01 * np.arange(5),
        geometry=Geometry(
            energy_kev=9.1,
            distance_m=1 / 3,
            pixel_um=(55.0, 75.0),
            arm_pixel=(2.5, 3.5),
            beam_direction=(0.0, 0.0, 1.0),
            row_direction=(0.0, -1.0, 0.0),
            column_direction=(1.0, 0.0, 0.0),
            sample=(
                Rotation(motor="mu", axis=(1.0, 0.0, 0.0), angle_deg=0.3),
                Rotation(motor="theta", axis=(0.0, 1.0, 0.0), angle_deg=0.12),
                Rotation(motor="chi", axis=(0.0, 0.0, -1.0), angle_deg=90.0),
            ),
            arm=(
                Rotation(motor="delta", axis=(0.0, 1.0, 0.0), angle_deg=32.1),
                Rotation(motor="gamma", axis=(-1.0, 0.0, 0.0), angle_deg=12.6),
            ),
            rocking="theta",
        ),
        monitor=random.uniform(1e3, 2e3, 5),
        timestamps_s=1.6e9 + random.random(5),
        have=np.array([True, True, False, True, True]),
        bad_pixels=bad,
        flatfield=np.round(random.uniform(0.5, 1.5, (6, 8)), 4).astype(np.float32),
        saturation_counts=1e5,
        exposure_s=0.7,
        angular_blur_deg=0.002,
        hkl=(1.0, -1.0, 2.0),
        sample="gold, annealed at 300 °C",
        metadata={"frame_totals": [1.0, 2.0], "spec": {"scan": 54, "date": None, "ok": True}},
    )


@pytest.fixture
def result() -> Reconstruction:
    random = np.random.default_rng(0)

    def density(shape):
        return (random.normal(size=shape) + 1j * random.normal(size=shape)).astype(np.complex64)

    support = random.random((7, 7, 7)) < 0.5
    return Reconstruction(
        density=density((4, 5, 6)),
        support=random.random((4, 5, 6)) < 0.5,
        chi=0.1 + 0.2,
        chi_starts=(0.30000000000000004, 1 / 3),
        metrics={"free log-likelihood": -1.5, "sharpness/4": 2.0, "not there": float("nan")},
        recipe="3*(20*ER + 180*HIO(beta=0.9)) + 20*ER",
        seed=2**40,
        outcome=Outcome.BUDGET,
        volume=DiffractionVolume(
            intensity=random.random((4, 5, 6)).astype(np.float32),
            mask=random.random((4, 5, 6)) < 0.1,
            centre=(1 / 3, 2.5, 3.0),
            q_centre_invA=random.normal(size=3),
            q_steps_invA=random.normal(size=(3, 3)) * 1e-3,
        ),
        lab=LabImage(
            density=density((7, 7, 7)),
            support=support,
            displacement_angstrom=np.where(support, 0.5, np.nan).astype(np.float32),
            strain=np.where(support, 1e-4, np.nan).astype(np.float32),
            voxel_nm=5.1,
            q_centre_invA=random.normal(size=3),
            origin_nm=(0.1, -2 / 3, 1e3),
            displacement_std_angstrom=np.where(support, 0.1, np.nan).astype(np.float32),
            strain_std=np.where(support, 1e-5, np.nan).astype(np.float32),
        ),
        resolution=Resolution(
            q_invA=np.arange(4.0), prtf=random.random(4), resolution_nm=float("nan"), half_nm=7.1
        ),
        agreement=Agreement(
            mode=density((4, 5, 6)),
            weights=np.array([0.9, 0.1]),
            amplitude_std=random.random((4, 5, 6)).astype(np.float32),
            phase_std_rad=np.where(random.random((4, 5, 6)) < 0.5, np.nan, 0.1).astype(np.float32),
            correlation=ShellCorrelation(
                q_invA=np.arange(3.0),
                correlation=random.random(3),
                voxels=np.array([1, 8, 27]),
                resolution_nm={"0.5": 12.5, "1/7": 1 / 3, "half-bit": float("inf")},
            ),
        ),
        provenance={"command": "live-bcdi phase s.h5", "numpy": "2.4", "input sha256": "ab12", "note": "°C"},
    )

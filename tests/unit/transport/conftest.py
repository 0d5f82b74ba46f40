"""A small scan in which every field is set to something that would show if it were lost."""

import numpy as np
import pytest

from live_bcdi.types import Geometry, RockingScan, Rotation


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

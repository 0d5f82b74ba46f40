"""A known change, and the peak's move by turns that are not ours; each sign that is turned round is named."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.optimize import brentq
from scipy.spatial.transform import Rotation as Turn
from typer.testing import CliRunner

from live_bcdi.cli.app import app
from live_bcdi.config import Config, direction, load_config
from live_bcdi.signs import check_signs, expected_peak, peak_of
from live_bcdi.transport.hdf5 import write_scan
from live_bcdi.types import RockingScan, ScanError

CONFIGS = sorted((Path(__file__).resolve().parents[2] / "config").glob("*.toml"))
DISTANCE_M = 0.5
SHAPE = (41, 160, 160)
STEP_DEG = 0.01


def turned(circles, positions):
    """Outermost first, right-handed about the axes."""
    product = Turn.identity()
    for circle in circles:
        product = product * Turn.from_rotvec(
            np.deg2rad(positions[circle.motor]) * np.array(direction(circle.axis))
        )
    return product


class Beamline:
    """As the file says: a crystal whose peak is on the arm's pixel with every motor somewhere."""

    def __init__(self, path):
        self.config = load_config(path)
        self.circles = self.config.diffractometer
        table = self.config.model_dump()
        table["detector"]["arm_pixel"] = (80.0, 80.0)
        self.config = Config.model_validate(table)
        sample = {circle.motor: angle for circle, angle in zip(self.circles.sample, (4.0, -7.0, 11.0, 3.0))}
        arm = {circle.motor: angle for circle, angle in zip(self.circles.arm, (31.0, 12.0))}
        self.positions = sample | arm
        beam = np.array(direction(self.circles.beam))
        q = self.wave(9.0) * (turned(self.circles.arm, self.positions).apply(beam) - beam)
        self.fixed = turned(self.circles.sample, self.positions).inv().apply(q)

    def wave(self, energy_kev):
        return 2 * np.pi * energy_kev / 12.398419843320026

    def peak(self, positions, energy_kev):
        """Rocking angle and pixel: where the turned vector meets the Ewald sphere, |k + G| = |k|."""
        beam = np.array(direction(self.circles.beam)) * self.wave(energy_kev)

        def outgoing(angle):
            return beam + turned(self.circles.sample, positions | {self.circles.rocking: angle}).apply(self.fixed)

        start = positions[self.circles.rocking]
        angle = brentq(lambda x: np.linalg.norm(outgoing(x)) - np.linalg.norm(beam), start - 3, start + 3)
        seen = turned(self.circles.arm, positions).inv().apply(outgoing(angle))
        seen *= DISTANCE_M / (seen @ direction(self.circles.beam))
        detector = self.config.detector
        row_m, column_m = np.array(detector.pixel_um) * 1e-6
        return (
            angle,
            80 + seen @ direction(detector.rows) / row_m,
            80 + seen @ direction(detector.columns) / column_m,
        )

    def scan(self, moved=None, energy_kev=9.0, config=None):
        positions = self.positions | {name: self.positions[name] + by for name, by in (moved or {}).items()}
        angle, row, column = self.peak(positions, energy_kev)
        angles = round(angle, 2) + (np.arange(SHAPE[0]) - SHAPE[0] // 2) * STEP_DEG
        far = (
            ((angles - angle) / (3 * STEP_DEG))[:, None, None] ** 2
            + ((np.arange(SHAPE[1]) - row) / 3)[:, None] ** 2
            + ((np.arange(SHAPE[2]) - column) / 3) ** 2
        )
        return RockingScan(
            name="peak",
            intensity=np.round(1e4 * np.exp(-far / 2)).astype(np.int32),
            angles_deg=angles,
            geometry=(config or self.config).geometry(positions, energy_kev=energy_kev, distance_m=DISTANCE_M),
        )

    def mistaken(self, *names):
        """A configuration with the signs of `names` the wrong way round."""
        table = self.config.model_dump()

        def other(text):
            return text[0] + ("-" if text[1] == "+" else "+")

        for side in ("rows", "columns"):
            if side in names:
                table["detector"][side] = other(table["detector"][side])
        for group in ("sample", "arm"):
            for circle in table["diffractometer"][group]:
                if circle["motor"] in names:
                    circle["axis"] = other(circle["axis"])
        return Config.model_validate(table)


@pytest.fixture(params=CONFIGS, ids=lambda path: path.stem)
def beamline(request):
    return Beamline(request.param)


def changes(beamline):
    """Half a degree of every circle but the rocking one, and 50 eV."""
    circles = beamline.circles
    motors = [c.motor for c in (*circles.sample, *circles.arm) if c.motor != circles.rocking]
    return [{"moved": {motor: 0.4}} for motor in motors] + [{"energy_kev": 9.05}]


def test_a_right_configuration_foretells_where_the_peak_goes(beamline):
    for change in changes(beamline):
        found = check_signs(beamline.scan(), beamline.scan(**change))
        assert found.agrees
        # a peak three voxels wide, its centre of mass from whole counts
        assert found.expected.row == pytest.approx(found.after.row, abs=0.2)
        assert found.expected.column == pytest.approx(found.after.column, abs=0.2)
        assert found.expected.angle_deg == pytest.approx(found.after.angle_deg, abs=0.1 * STEP_DEG)


def test_a_sign_that_is_shown_is_found_when_it_is_wrong(beamline):
    for change in changes(beamline):
        shown = check_signs(beamline.scan(), beamline.scan(**change)).shown
        for name in shown:
            config = beamline.mistaken(name)
            found = check_signs(beamline.scan(config=config), beamline.scan(**change, config=config))
            assert not found.agrees
            assert name in found.would_agree


def test_all_changes_together_show_every_sign(beamline):
    """Every one, the rocking circle's too, so that what docs/how-to/beamline.md asks for is enough."""
    names = {"rows", "columns", *beamline.positions}
    shown = set()
    for change in changes(beamline):
        shown |= set(check_signs(beamline.scan(), beamline.scan(**change)).shown)
    assert shown == names


def test_what_cannot_be_told_is_said():
    beamline = Beamline(CONFIGS[0])
    with pytest.raises(ScanError, match="differ in no motor"):
        check_signs(beamline.scan(), beamline.scan())
    arm = beamline.circles.arm[0].motor
    with pytest.raises(ScanError, match="change more"):
        check_signs(beamline.scan(), beamline.scan({arm: 0.02}))
    far = beamline.scan({arm: 0.4})
    soft = replace(far.geometry, energy_kev=1.0)  # |G| is more than 2 |k| then
    assert expected_peak(far.geometry, peak_of(far), soft) is None
    other = replace(far.geometry, arm=tuple(replace(c, motor=f"{c.motor}x") for c in far.geometry.arm))
    with pytest.raises(ScanError, match="two diffractometers"):
        check_signs(beamline.scan(), replace(far, geometry=other))


def test_the_verb_says_so_and_has_a_status(tmp_path):
    beamline = Beamline(CONFIGS[0])
    arm = beamline.circles.arm[0].motor
    told = []
    for config in (beamline.config, beamline.mistaken("rows", "columns")):
        for name, moved in (("before.h5", {}), ("moved.h5", {arm: 0.4})):
            write_scan(tmp_path / name, beamline.scan(moved, config=config))
        files = [str(tmp_path / name) for name in ("before.h5", "moved.h5")]
        words = CliRunner().invoke(app, ["signs", *files])
        table = CliRunner().invoke(app, ["signs", *files, "--json"])
        assert words.exit_code == table.exit_code
        assert f"{arm} from" in words.stdout
        told.append((table.exit_code, json.loads(table.stdout)))
    (right, table), (wrong, other) = told
    assert (right, wrong) == (0, 1)
    assert table["agrees"]
    assert table["would_agree"] == []
    assert not other["agrees"]
    assert other["shown"] == []

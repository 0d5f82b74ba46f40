"""A charged and discharged crystal whose order, spacing and dislocations are known, all the way to the files."""

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from live_bcdi.cli.app import app
from live_bcdi.config import load_config
from live_bcdi.geometry import q_lab_invA
from live_bcdi.series import State, study
from live_bcdi.series.study import trends
from live_bcdi.sim.scattering import bragg_geometry
from live_bcdi.sim.series import charge_and_discharge, true_phase_image
from live_bcdi.transport.hdf5 import write_result
from live_bcdi.types import Outcome, Reconstruction, ScanError

SHAPE = (48, 56, 56)


@pytest.fixture(scope="module")
def charged():
    """The true states, and the images of 1e6 photons each with their true phases."""
    geometry = bragg_geometry(load_config(Path("config/34idc.toml")), SHAPE[1:])
    h_invA = q_lab_invA(geometry, *geometry.arm_pixel)
    truth = charge_and_discharge(geometry, h_invA, states=8)
    images = [
        true_phase_image(state.truth, geometry, shape=SHAPE, photons=1e6, seed=number)
        for number, state in enumerate(truth)
    ]
    return truth, images


@pytest.fixture(scope="module")
def found(charged):
    truth, images = charged
    states = [
        State(name=f"{number}", lab=image, stimulus=state.volts)
        for number, (state, image) in enumerate(zip(truth, images))
    ]
    return study(states)


def test_the_order_parameter_is_the_true_one(charged, found):
    orders = [state.order for state in charged[0]]
    assert np.corrcoef(orders, found.order.scores[:, 0])[0, 1] > 0.98
    assert found.order.explained[0] > 0.9
    assert found.rows[0]["order_rad"] == pytest.approx(0, abs=1e-6)


def test_the_axes_are_from_states_without_dislocations(charged, found):
    assert found.order.from_states == tuple(k for k, state in enumerate(charged[0]) if not state.lines)


def test_dislocations_are_there_when_they_are(charged, found):
    assert [row["dislocations"] for row in found.rows] == [len(state.lines) for state in charged[0]]
    lives = {number: [k for k, state in enumerate(charged[0]) if number in state.lines] for number in (0, 1)}
    assert sorted(list(track.seen) for track in found.line_tracks) == sorted(lives.values())
    for track in found.line_tracks:
        assert (track.born, track.healed) == (min(track.seen), max(track.seen) + 1)
    signs = [track.seen[track.born].sign for track in found.line_tracks]
    assert sorted(signs) == [-1, 1]


def test_a_dislocation_that_one_state_does_not_show_neither_healed_nor_came_again(charged):
    """The fifth state's image is the fourth's without what turns about the line: a retrieval that lost it."""
    truth, images = charged
    flat = replace(images[4], density=np.abs(images[4].density).astype(np.complex64))
    states = [State(name="", lab=image) for image in [*images[:4], flat, *images[5:]]]
    found = study(states)
    lived = [k for k, state in enumerate(truth) if 0 in state.lines]
    track = max(found.line_tracks, key=lambda each: len(each.seen))
    assert list(track.seen) == [k for k in lived if k != 4]
    assert (track.born, track.healed) == (lived[0], lived[-1] + 1)
    assert 4 not in found.order.from_states


def test_the_lattice_change_is_the_true_one_but_for_what_dislocations_add(charged, found):
    for row, state in zip(found.rows, charged[0]):
        if not state.lines:
            # the internal strain has a mean of its own in the voxels of the support
            assert row["lattice_change"] == pytest.approx(state.lattice_strain, abs=4e-5)


def test_a_mean_displacement_is_relative_to_the_core(charged):
    """A shell that is displaced by 0.1 angstrom along +h, the core not at all."""
    image = charged[1][0]
    depth_order = np.argsort(np.argsort(-_depth(image.support)[image.support]))
    shell = np.zeros(image.support.shape)
    shell[image.support] = depth_order > 0.4 * image.support.sum()
    h = float(np.linalg.norm(image.q_centre_invA))
    moved = replace(image, density=(image.density * np.exp(-1j * h * 0.1 * shell)).astype(np.complex64))
    row = study([State(name="a", lab=image), State(name="b", lab=moved)]).rows[1]
    # splines smear the jump by a voxel, and the mean slope of an uneven shell is taken out
    assert row["mean_displacement_angstrom"] == pytest.approx(0.06, abs=0.012)
    assert row["mean_phase_deg"] == pytest.approx(-np.degrees(h * row["mean_displacement_angstrom"]), rel=1e-3)
    assert row["mean_displacement_error_angstrom"] is None


def _depth(support):
    from scipy import ndimage

    return ndimage.distance_transform_edt(support)


def test_errors_are_those_of_the_voxels_together(charged):
    first, second = (_with_errors(image, 0.03) for image in charged[1][:2])
    rows = study([State(name="a", lab=first), State(name="b", lab=second)]).rows
    assert rows[0]["mean_displacement_error_angstrom"] == 0
    assert rows[1]["mean_displacement_error_angstrom"] == pytest.approx(0.03 * np.sqrt(2), rel=1e-5)
    assert rows[1]["lattice_change_error"] == pytest.approx(3e-5 * np.sqrt(2), rel=1e-5)
    one_start = study([State(name="a", lab=first), State(name="b", lab=charged[1][1])]).rows
    assert one_start[1]["lattice_change_error"] is None


def _with_errors(image, angstrom):
    spread = np.where(image.support, np.float32(angstrom), np.nan).astype(np.float32)
    return replace(image, displacement_std_angstrom=spread, strain_std=spread / 1000)


def test_trends_are_those_of_least_squares():
    rows = [{"stimulus": x, "order_rad": 2 * x + 1, "strain_std": None} for x in (1.0, 2.0, 4.0)]
    rows = [{**row, "lattice_change": 0.0, "mean_displacement_angstrom": -(row["stimulus"] ** 3)} for row in rows]
    told = trends(rows)
    assert set(told) == {"order_rad", "mean_displacement_angstrom"}
    assert told["order_rad"]["slope"] == pytest.approx(2)
    assert told["order_rad"]["r"] == pytest.approx(1)
    assert told["mean_displacement_angstrom"]["rho"] == pytest.approx(-1)


@pytest.fixture
def files(charged, tmp_path):
    paths = []
    for number, image in enumerate(charged[1][:4]):
        result = Reconstruction(
            density=np.ones((4, 4, 4), np.complex64),
            support=np.ones((4, 4, 4), bool),
            chi=0.1,
            chi_starts=(0.1,),
            metrics={},
            recipe="20*ER()",
            seed=0,
            outcome=Outcome.DONE,
            lab=image,
        )
        paths.append(tmp_path / f"state_{number}.cxi")
        write_result(paths[-1], result, scan_name="charge" if number < 3 else "a + b", run="", links={})
    return paths


def run(*words):
    return CliRunner().invoke(app, ["series", *map(str, words)])


def test_the_verb_writes_table_figure_and_maps(files, tmp_path):
    outputs = [tmp_path / name for name in ("table.csv", "figure.png", "maps.vti")]
    asked = [word for path in outputs for word in ("-o", path)]
    done = run(*files, *asked, "--stimulus", "voltage", "--values", "2.5,3,3.5,4", "--json")
    assert done.exit_code == 0, done.output
    told = json.loads(done.output)
    assert [row["stimulus"] for row in told["states"]] == [2.5, 3, 3.5, 4]
    assert [row["name"] for row in told["states"]] == ["1 charge", "2 charge", "3 charge", "4 state_3"]
    assert told["trends"]["order_rad"]["slope"] > 0
    with outputs[0].open() as file:
        rows = list(csv.DictReader(file))
    assert float(rows[3]["order_rad"]) == pytest.approx(told["states"][3]["order_rad"])
    assert outputs[1].read_bytes().startswith(b"\x89PNG")
    assert b'Name="component_1"' in outputs[2].read_bytes()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--values", "1,2"], "2 numbers for 4 results"),
        (["--values", "1,2,3,x"], "no numbers"),
        (["--stimulus", "voltage"], "no result says its 'voltage'"),
        (["-o", "series.docx"], "is none of .csv"),
    ],
)
def test_what_cannot_be_is_said(files, words, said):
    done = run(*files, *words)
    assert isinstance(done.exception, ScanError)
    assert said in str(done.exception)

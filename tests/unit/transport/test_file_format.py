"""docs/file-format.md lists what is in the files: no more, no less."""

import re
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest

from live_bcdi.metadata import scan_metadata
from live_bcdi.transport.hdf5 import FrameWriter, RunLabel, write_nxcxi, write_result, write_scan
from live_bcdi.types import (
    Agreement,
    DiffractionVolume,
    LabImage,
    Outcome,
    Reconstruction,
    Resolution,
    ShellCorrelation,
)

PAGE = Path(__file__).resolve().parents[3] / "docs" / "file-format.md"


def documented(kind) -> set[str]:
    block = re.search(rf"```{kind}\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    return {line.split()[0] for line in block[1].splitlines()}


def leaves(path) -> set[str]:
    """Datasets and empty groups, by every link but those that only give a group its CXI name."""
    found = set()

    def walk(group, place):
        for name in group:
            link = group.get(name, getlink=True)
            here = f"{place}/{name}"
            if (
                isinstance(link, h5py.ExternalLink)
                or isinstance(group[name], h5py.Dataset)
                or not len(group[name])
            ):
                found.add(here)
            elif isinstance(link, h5py.HardLink):
                walk(group[name], here)

    with h5py.File(path) as file:
        walk(file, "")
    return found


def test_a_scan(tmp_path, scan):
    write_scan(tmp_path / "whole.h5", scan)
    growing = replace(scan, have=None)
    with FrameWriter(
        tmp_path / "grown.h5",
        scan.intensity.shape[1:],
        scan.intensity.dtype,
        metadata=scan_metadata(growing),
        label=RunLabel(run="r"),
    ) as writer:
        writer.append(scan.intensity[0], angle_deg=0.0, timestamp_s=0.0)
    whole, grown = leaves(tmp_path / "whole.h5"), leaves(tmp_path / "grown.h5")
    assert whole | grown == documented("scan")
    assert whole - grown == {"/entry/live_bcdi/have"}
    assert grown - whole == {f"/entry/live_bcdi/{name}" for name in ("complete", "index", "finished", "run")}


def test_the_table(scan):
    page = PAGE.read_text(encoding="utf-8")
    table = scan_metadata(scan)
    for key in (*table, *table["geometry"], *table["bad_pixels"], *table["flatfield"]):
        assert f"`{key}`" in page


@pytest.fixture
def result() -> Reconstruction:
    density = np.ones((4, 4, 4), np.complex64)
    support = density != 0
    real = np.ones((4, 4, 4), np.float32)
    q = np.ones(3)
    return Reconstruction(
        density=density,
        support=support,
        chi=0.0,
        chi_starts=(0.0,),
        metrics={"m": 1.0},
        recipe="ER",
        seed=0,
        outcome=Outcome.DONE,
        volume=DiffractionVolume(
            intensity=real, mask=support, centre=(2.0, 2.0, 2.0), q_centre_invA=q, q_steps_invA=np.eye(3)
        ),
        lab=LabImage(
            density=density,
            support=support,
            displacement_angstrom=real,
            strain=real,
            voxel_nm=1.0,
            q_centre_invA=q,
            displacement_std_angstrom=real,
            strain_std=real,
        ),
        resolution=Resolution(q_invA=q, prtf=q, resolution_nm=1.0),
        agreement=Agreement(
            mode=density,
            weights=q,
            amplitude_std=real,
            phase_std_rad=real,
            correlation=ShellCorrelation(q_invA=q, correlation=q, voxels=q, resolution_nm={"0.5": 1.0}),
        ),
        provenance={"command": "live-bcdi phase"},
    )


def test_a_result(tmp_path, scan, result):
    write_scan(tmp_path / "s.h5", scan)
    write_result(tmp_path / "r.cxi", result, scan_name="s", run="", links={"frames": str(tmp_path / "s.h5")})
    links = {f"/entry_1/image_{number}/process_1" for number in (1, 2)}
    assert leaves(tmp_path / "r.cxi") - links == documented("result")


def test_both_in_one(tmp_path, scan, result):
    """The names of both listings, those of what was phased with a 2, and the three that docs/tiled.md adds."""
    write_nxcxi(tmp_path / "o.cxi", scan, result, run="uid")
    growing = {f"/entry/live_bcdi/{name}" for name in ("complete", "index", "finished", "run")}
    moved = {path.replace("/entry_1/", "/entry/") for path in documented("result") - {"/entry_1/raw/data"}}
    second = {
        path.replace("instrument_1/detector_1", "instrument/detector_2").replace("data_1/", "data_2/")
        for path in moved
    }
    added = {f"/entry/{name}" for name in ("instrument/beam/energy", "start_time", "end_time")}
    links = {f"/entry/image_{number}/process_1" for number in (1, 2)}
    assert leaves(tmp_path / "o.cxi") - links == (documented("scan") - growing) | second | added

"""What a person sees who mistypes, or whose file is not what it seems: one line, status 2, no traceback."""

import json
import sys
from dataclasses import replace

import numpy as np
import pytest
import tifffile

from live_bcdi import cli
from live_bcdi.cli.app import print_table
from live_bcdi.config import load_config
from live_bcdi.sim import simulate_scan
from live_bcdi.transport.hdf5 import read_result, read_scan, write_scan


@pytest.fixture
def run(monkeypatch, capfd, tmp_path):
    """`live-bcdi` with arguments, in an empty folder: (status, output, errors)."""
    monkeypatch.chdir(tmp_path)

    def command(*arguments):
        monkeypatch.setattr(sys, "argv", ["live-bcdi", *map(str, arguments)])
        try:
            cli.main()
            status = 0
        except SystemExit as ended:
            status = ended.code or 0
        out, err = capfd.readouterr()
        return status, out, err

    return command


def told(output):
    """The JSON of `--json`: nothing before or after it, and no number that JSON does not have."""

    def refuse(constant):
        raise AssertionError(f"{constant} is not JSON")

    return json.loads(output, parse_constant=refuse)


def one_line(result):
    status, _, err = result
    assert status == 2
    lines = err.strip().splitlines()
    assert len(lines) == 1, err
    assert lines[0].startswith("live-bcdi: ")
    return lines[0]


def test_no_such_configuration(run):
    assert "no configuration file nowhere.toml" in one_line(run("results", "--config", "nowhere.toml"))


def test_no_such_beamline(run):
    assert "no beamline 'id99' ships" in one_line(run("results", "--config", "id99"))


def test_an_unknown_key(run, tmp_path):
    (tmp_path / "c.toml").write_text((cli.config_path("34idc")).read_text() + "\n[tiled]\nprot = 5\n")
    assert "unknown key 'tiled.prot'" in one_line(run("results", "--config", "c.toml"))


def test_tiled_that_is_not_there(run, tmp_path, free_port):
    text = cli.config_path("34idc").read_text()
    (tmp_path / "c.toml").write_text(f"{text}\n[tiled]\nport = {free_port()}\n")
    assert "live-bcdi up" in one_line(run("results", "--config", "c.toml"))


def test_a_scan_that_is_not_there(run):
    assert "nowhere.h5" in one_line(run("phase", "nowhere.h5"))
    assert "nowhere.h5" in one_line(run("replay", "nowhere.h5"))


def test_a_file_that_is_no_scan(run, tmp_path):
    (tmp_path / "scan.h5").write_text("this is text")
    assert "scan.h5" in one_line(run("phase", "scan.h5"))


def test_a_folder_that_is_no_scan(run, tmp_path):
    for folder in (".", tmp_path):
        message = one_line(run("phase", folder))
        assert "it is a folder" in message
        assert "rrno" not in message


def test_an_unknown_service(run):
    assert "broker" in one_line(run("service", "coffee"))


def test_a_recipe_with_an_unknown_operator(run, small):
    message = one_line(run("phase", small, "--recipe", "20*ERR"))
    assert "ERR" in message
    assert "HIO" in message


@pytest.fixture
def small(tmp_path):
    scan, _ = simulate_scan(
        shape=(32, 32, 32), photons=1e6, strain="weak", seed=1, config=load_config(cli.config_path("34idc"))
    )
    path = tmp_path / "small.h5"
    write_scan(path, scan)
    return path


def test_phase_of_a_numpy_pattern(run, tmp_path):
    pattern = np.random.default_rng(0).poisson(3.0, (16, 16, 16))
    np.savez(tmp_path / "pattern.npz", intensity=pattern, mask=pattern > 100)
    status, out, err = run("phase", "pattern.npz", "--starts", 1, "--recipe", "5*ER", "--json")
    assert status == 0, err
    assert read_result(told(out)["file"]).density.shape == (16, 16, 16)
    assert "is phased as it is" in one_line(run("phase", "pattern.npz", "--bin", "2,2,2", "-o", "no.cxi"))


QUICK = ("--starts", 1, "--recipe", "2*ER")


def test_phase_writes_beside_its_source_and_leaves_it(run, small):
    """Also where the source has the suffix of a result."""
    source = small.rename(small.with_suffix(".cxi"))
    before = source.read_bytes()
    status, out, err = run("phase", source, *QUICK, "--json")
    assert status == 0, err
    assert told(out)["file"] == str(source.with_name("small_result.cxi"))
    assert source.read_bytes() == before
    assert len(read_result(source.with_name("small_result.cxi")).chi_starts) == 1


def test_preprocessing_from_the_command_line_is_what_the_configuration_says(run, small, tmp_path):
    """The same bits by option and by file, and another volume without; the result says what was done."""
    options = ("--aliens", "--background", "0.01", "--shape", "16,24,28", "--bin", "2,1,1", "--correct")
    status, out, err = run("phase", small, *QUICK, "--json", "-o", "by_option.cxi", *options)
    assert status == 0, err
    assert "16 x 24 x 28 of 32 x 32 x 32" in told(out)["volume"]
    assert "0 bad, 0 dead, 0 hot pixels" in told(out)["masked"]
    table = "aliens = true\nbackground = 0.01\nshape = [16, 24, 28]\nbinning = [2, 1, 1]\ncorrect_motion = true\n"
    (tmp_path / "c.toml").write_text(f"{cli.config_path('34idc').read_text()}\n[preprocess]\n{table}")
    assert run("phase", small, *QUICK, "-o", "by_file.cxi", "--config", "c.toml")[0] == 0
    first, second = (read_result(tmp_path / name) for name in ("by_option.cxi", "by_file.cxi"))
    np.testing.assert_array_equal(first.density, second.density)
    assert first.density.shape == (16, 24, 28)
    assert first.provenance == second.provenance
    assert json.loads(first.provenance["preprocessing"])["binning"] == [2, 1, 1]
    assert told(out)["motion"] == first.provenance["motion"] != ""


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("--background", "corner", "give counts a voxel, or 'corners'"),
        ("--background", "-1", "give counts a voxel, or 'corners'"),
        ("--shape", "64,64", "preprocess.shape"),
        ("--shape", "64,64,4", "preprocess.shape.2"),
        ("--bin", "2,x,1", "preprocess.binning.1"),
    ],
)
def test_preprocessing_that_cannot_be(run, small, option, value, message):
    assert message in one_line(run("phase", small, option, value))


def test_several_scans_are_summed(run, small, tmp_path):
    """A second exposure goes in; another crystal is left out, and both are said."""
    first = read_scan(small)
    other = simulate_scan(
        shape=(32, 32, 32), photons=1e6, strain="strong", seed=9, config=load_config(cli.config_path("34idc"))
    )[0]
    again = np.random.default_rng(0).poisson(first.intensity).astype(np.int32)
    write_scan(tmp_path / "again.h5", replace(first, name="again", intensity=again))
    write_scan(tmp_path / "other.h5", replace(other, name="other"))
    status, out, err = run("phase", small, "again.h5", "other.h5", *QUICK, "--json")
    assert status == 0, err
    table = told(out)
    assert table["file"] == str(small.with_name("small_sum_result.cxi"))
    assert "again: summed; correlation 1.000, moved by" in table["summed"]
    assert "other: left out, as it shows another state; correlation 0." in table["summed"]
    volume = read_result(small.with_name("small_sum_result.cxi")).volume
    assert volume.intensity.sum() == pytest.approx(first.intensity.sum() + again.sum(), rel=0.02)
    message = one_line(run("phase", small, "other.h5", *QUICK, "-o", "no.cxi"))
    assert "1 of 2 scans agree with the first" in message
    assert "is the input itself" in one_line(run("phase", small, "again.h5", "-o", "again.h5", "--overwrite"))
    assert "cannot be summed" in one_line(run("phase", small, "pattern.npy", "-o", "no.cxi"))


def test_a_neighbour_is_started_from_and_kept_where_it_foretells_more(run, small, tmp_path):
    longer = ("--recipe", "30*ER + 60*HIO + 20*ER", "--starts", 2)
    assert run("phase", small, *longer, "-o", "near.cxi")[0] == 0
    asked = ("phase", small, "--recipe", "3*ER", "--starts", 1, "-o", "here.cxi", "--neighbour", "near.cxi")
    status, out, err = run(*asked, "--json")
    assert status == 0, err
    kept = read_result(tmp_path / "here.cxi")
    assert told(out)["start"] == kept.provenance["start"]
    assert kept.provenance["start"].startswith("warm, from its neighbours; free_llk ")
    cold, warm = (float(part.split()[0]) for part in kept.provenance["start"].split("free_llk ")[1].split(", "))
    assert warm == pytest.approx(kept.metrics["free_llk"], rel=1e-5) and warm < cold
    assert "nowhere.cxi cannot be read" in one_line(run(*asked[:-1], "nowhere.cxi", "--overwrite"))
    assert run("phase", small, *QUICK, "--bin", "2,2,2", "-o", "coarse.cxi")[0] == 0
    assert "one [preprocess] shape" in one_line(run(*asked[:-1], "coarse.cxi", "--overwrite"))
    assert "start" not in read_result(tmp_path / "here.cxi").provenance


def test_a_dark_frame_comes_off(run, small, tmp_path):
    scan = read_scan(small)
    write_scan(tmp_path / "lit.h5", replace(scan, intensity=scan.intensity + 7))
    np.save(tmp_path / "dark.npy", np.full(scan.intensity.shape[1:], 7.0))
    (tmp_path / "c.toml").write_text(f"{cli.config_path('34idc').read_text()}\n[preprocess]\ndark = 'dark.npy'\n")
    assert run("phase", "lit.h5", *QUICK, "-o", "lit.cxi", "--config", "c.toml")[0] == 0
    assert run("phase", small, *QUICK, "-o", "plain.cxi")[0] == 0
    lit, plain = (read_result(tmp_path / name).volume for name in ("lit.cxi", "plain.cxi"))
    np.testing.assert_array_equal(lit.intensity, plain.intensity)
    np.save(tmp_path / "dark.npy", np.full((3, 4), 7.0))
    message = one_line(run("phase", "lit.h5", *QUICK, "-o", "no.cxi", "--config", "c.toml"))
    assert "the dark frame is (3, 4), frames are (32, 32)" in message
    (tmp_path / "dark.npy").write_bytes(b"no")
    assert "dark.npy is not an image" in one_line(run("phase", small, "-o", "no.cxi", "--config", "c.toml"))
    (tmp_path / "dark.npy").unlink()
    assert "no file dark.npy" in one_line(run("phase", small, "-o", "no.cxi", "--config", "c.toml"))


def test_what_is_not_there_reads_as_null(run, small):
    """One start has no transfer function: its resolution is NaN, which JSON cannot say."""
    status, out, _ = run("phase", small, *QUICK, "--json")
    assert status == 0
    assert told(out)["resolution_nm"] is None


def test_an_output_that_exists_is_replaced_only_when_asked(run, small):
    assert run("phase", small, *QUICK, "-o", "there.cxi")[0] == 0
    first = read_result("there.cxi")
    assert "there.cxi exists; give another --output, or --overwrite" in one_line(
        run("phase", small, "-o", "there.cxi", "--recipe", "20000*HIO")
    )
    assert read_result("there.cxi").recipe == first.recipe
    assert run("phase", small, "--starts", 1, "--recipe", "3*ER", "-o", "there.cxi", "--overwrite")[0] == 0
    assert read_result("there.cxi").recipe != first.recipe


@pytest.mark.parametrize("link", [None, "symlink_to", "hardlink_to"])
def test_the_input_is_never_the_output(run, small, link):
    output = small
    if link is not None:
        output = small.with_name("other.cxi")
        getattr(output, link)(small)
    before = small.read_bytes()
    assert "is the input itself" in one_line(run("phase", small, "-o", output, "--overwrite"))
    assert small.read_bytes() == before


def test_what_is_no_hdf5_file_is_never_replaced(run, small, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    assert "is not an HDF5 file" in one_line(run("phase", small, "-o", "notes.txt", "--overwrite"))
    assert (tmp_path / "notes.txt").read_text() == "mine"


@pytest.mark.parametrize("output", ["nowhere/r.cxi", "/proc/r.cxi", "notes.txt/r.cxi"])
def test_a_folder_that_takes_no_file_is_said_before_phasing(run, small, tmp_path, output):
    """A recipe that would run for an hour: who sees the line sees it at once."""
    (tmp_path / "notes.txt").write_text("mine")
    message = one_line(run("phase", small, "-o", output, "--recipe", "200000*HIO"))
    assert f"nothing can be written to {output.removesuffix('/r.cxi')}" in message


def test_an_output_that_is_a_folder(run, small, tmp_path):
    assert "is a folder" in one_line(run("phase", small, "-o", tmp_path, "--overwrite"))


def test_an_empty_recipe_is_chosen_from_the_pattern_and_the_user_is_told_why(run, small):
    status, out, err = run("phase", small, "--recipe", "", "--json")
    assert status == 0, err
    assert "HIO" in told(out)["recipe"]
    reasons = told(out)["chosen"]
    assert any("oversampling" in reason for reason in reasons)


@pytest.mark.parametrize("bad", [np.zeros((4, 4)), np.array([{}]), np.zeros((4, 4, 4), complex)])
def test_a_numpy_file_that_is_no_pattern(run, tmp_path, bad):
    np.save(tmp_path / "bad.npy", bad, allow_pickle=True)
    assert "bad.npy" in one_line(run("phase", "bad.npy"))


def test_the_list_of_results_keeps_every_path_whole(capfd):
    """On 80 columns, as where standard output is no terminal: folded, and nothing of it left out."""
    path = f"refined/{'0123abcd-0000-4000-8000-000000000000'}/1"
    row = {"path": path, "name": "a scan with quite a long name", "frames": 201, "num": 201, "chi": 0.0118}
    cli.live._list([{**row, "resolution_nm": 22.5, "voxel_nm": 9.87}])
    lines = capfd.readouterr().out.splitlines()[1:]
    assert "".join(line.split(" ")[1] for line in lines) == path
    assert lines[0].split()[-5:] == ["201", "201", "0.0118", "22.5", "9.87"]


@pytest.mark.parametrize(("text", "wanted"), [("5", 5.0), ("5s", 5.0), ("1.5 min", 90.0), ("2h", 7200.0)])
def test_times(text, wanted):
    assert cli.science.seconds(text) == wanted


@pytest.mark.parametrize("text", ["", "soon", "5 parsec", "s"])
def test_what_is_no_time(run, small, text):
    assert "is not a time" in one_line(run("phase", small, "--budget", text))


def test_phase_prints_what_it_wrote(run, small):
    status, out, err = run("phase", small, "--starts", 2, "--json")
    assert status == 0, err
    said = told(out)
    result = read_result(said["file"])
    assert said["chi"] == result.chi
    assert said["recipe"] == result.recipe
    assert len(said["chi_starts"]) == 2


def test_import_of_the_measured_scan(run, s0054):
    """Counts as measured independently (../shared/data/README.md)."""
    status, out, err = run("import", s0054, "--scan", 54, "-o", "scan.h5", "--json")
    assert status == 0, err
    said = told(out)
    assert (said["frames"], said["total_counts"], said["max_counts"]) == (201, 46_155_653, 165_297)


def test_import_of_bare_tiffs_and_the_retrieval_of_them(run, tmp_path):
    """The same scan as from a file of ours, by its options alone."""
    scan, _ = simulate_scan(config=load_config(cli.config_path("34idc")), shape=(24, 24, 24), seed=1)
    (tmp_path / "frames").mkdir()
    for index, image in enumerate(scan.intensity):
        tifffile.imwrite(tmp_path / "frames" / f"gold_{index:03d}.tif", image)
    np.savetxt(tmp_path / "angles.txt", scan.angles_deg, fmt="%.17g")
    np.savetxt(tmp_path / "monitor.txt", scan.monitor, fmt="%.17g")
    circles = (*scan.geometry.sample, *scan.geometry.arm)
    still = [f"--motor={circle.motor}={circle.angle_deg!r}" for circle in circles if circle.motor != "theta"]
    place = [
        f"--energy-kev={scan.geometry.energy_kev!r}",
        f"--distance-m={scan.geometry.distance_m!r}",
        "--monitor=monitor.txt",
        "--acquisitions-per-frame=20",
        "--config=mine.toml",
    ]
    ours = cli.config_path("34idc").read_text()
    (tmp_path / "mine.toml").write_text(ours.replace("arm_pixel = [128.0, 128.0]", "arm_pixel = [12.0, 12.0]"))
    status, out, err = run("import", "frames", "-o", "a.h5", "--angles", "angles.txt", *still, *place, "--json")
    assert status == 0, err
    said = told(out)
    assert (said["total_counts"], said["saturated"]) == (int(scan.intensity.sum()), 0)
    assert run("import", "frames", "-o", "c.h5", "--angles", "angles.txt", *still, *place[:2])[0] == 0
    assert (
        0 < (scan.intensity >= 11810).sum() == told(run("import", "c.h5", "-o", "d.h5", "--json")[1])["saturated"]
    )
    write_scan(tmp_path / "b.h5", scan)
    for name in ("a.h5", "b.h5"):
        assert run("phase", name, "--recipe", "5*ER", "--starts", 1)[0] == 0
    bare, whole = (read_result(tmp_path / f"{name}_result.cxi") for name in "ab")
    assert np.array_equal(bare.density, whole.density)
    assert np.array_equal(bare.lab.strain, whole.lab.strain, equal_nan=True)


@pytest.mark.parametrize("motor", ["delta", "delta=", "=3"])
def test_import_says_how_a_motor_is_written(run, tmp_path, motor):
    assert "write it like --motor delta=33.1" in one_line(run("import", ".", "-o", "a.h5", "--motor", motor))


def test_import_replaces_only_when_asked(run, s0054, tmp_path):
    (tmp_path / "scan.h5").write_text("mine")
    assert "scan.h5 exists" in one_line(run("import", s0054, "--scan", 54, "-o", "scan.h5"))
    assert "not an HDF5 file" in one_line(run("import", s0054, "--scan", 54, "-o", "scan.h5", "--overwrite"))
    assert (tmp_path / "scan.h5").read_text() == "mine"


def test_import_of_a_scan_that_is_not_in_the_file(run, s0054):
    assert "54" in one_line(run("import", s0054, "--scan", 55, "-o", "scan.h5"))


def test_a_figure_and_a_report_of_a_result_and_their_numbers(run, tmp_path):
    scan, _ = simulate_scan(config=load_config(cli.config_path("34idc")), shape=(24, 24, 24), seed=1)
    write_scan(tmp_path / "scan.h5", scan)
    status, _, err = run("phase", "scan.h5", "--recipe", "5*ER", "--starts", 2, "--json")
    assert status == 0, err
    status, out, err = run("figure", "scan_result.cxi", "--json")
    assert status == 0, err
    table = told(out)
    assert (tmp_path / "scan_result.png").read_bytes().startswith(b"\x89PNG")
    assert table["file"] == "scan_result.png"
    assert table["voxel_nm"] == pytest.approx(read_result(tmp_path / "scan_result.cxi").lab.voxel_nm)
    assert table["strain_uncertainty_median"] > 0
    assert "scan_result.png exists" in one_line(run("figure", "scan_result.cxi"))
    assert "is not a result" in one_line(run("figure", "scan.h5"))
    status, out, err = run("report", "scan_result.cxi", "--pdf", "scan.pdf", "--json")
    assert status == 0, err
    table = told(out)
    assert table["file"] == "scan_result_report.html" and table["pdf"] == "scan.pdf"
    assert table["chi"] == read_result(tmp_path / "scan_result.cxi").chi
    assert f"{table['chi']:.4g}" in (tmp_path / "scan_result_report.html").read_text(encoding="utf-8")
    assert "scan_result_report.html exists" in one_line(run("report", "scan_result.cxi"))
    assert "is not a result" in one_line(run("report", "scan.h5"))


def test_a_table_is_read_by_people(capsys):
    """No brackets, quotes or sixteen digits; what has brackets of its own is no mark-up."""
    table = {
        "chosen": ["two sentences", "[of words]"],
        "fsc": {"0.5": 43.29751831094191},
        "shape": [3, 4.5],
        "none": None,
    }
    print_table(table, False, "Title")
    lines = [line.strip() for line in capsys.readouterr().out.splitlines()]
    assert lines == ["Title", "chosen  two sentences", "[of words]", "fsc     0.5: 43.2975", "shape   3, 4.5"]

"""Verbs for a recorded scan: import, phase, figure."""

from pathlib import Path
from typing import Annotated, Any

import typer

from ..config import load_config
from ..types import RockingScan, ScanError
from .app import (
    DEFAULT_CONFIG,
    RESULTS,
    SCANS,
    ConfigOption,
    JsonOption,
    OverwriteOption,
    app,
    config_path,
    files_of,
    given,
    print_table,
    progress_bar,
)


@app.command("import")
def import_scan(
    source: Annotated[
        Path, typer.Argument(help="Folder of TIFF frames, with a SPEC file or without; or an HDF5 or TIFF file.")
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="NeXus file to write.")],
    scan: Annotated[
        int | None, typer.Option(help="Scan number in the SPEC file, which has all that follows up to --hkl.")
    ] = None,
    frames: Annotated[
        str | None, typer.Option(help="Dataset with the frames, or a pattern of the TIFF files' names.")
    ] = None,
    angles: Annotated[
        str | None, typer.Option(help="FIRST:LAST in degrees, a text file with one a line, or a dataset.")
    ] = None,
    energy_kev: Annotated[str | None, typer.Option(help="Photon energy, or a dataset.")] = None,
    distance_m: Annotated[
        str | None, typer.Option(help="To the detector, or a dataset; by default the configuration's.")
    ] = None,
    motor: Annotated[
        list[str] | None, typer.Option(help="NAME=DEGREES, or NAME=DATASET; once for each that does not rock.")
    ] = None,
    monitor: Annotated[str | None, typer.Option(help="A text file with a number a frame, or a dataset.")] = None,
    bad_pixels: Annotated[
        str | None, typer.Option(help="An image (TIFF or .npy) or a dataset, not 0 where a pixel is bad.")
    ] = None,
    acquisitions_per_frame: Annotated[
        int | None,
        typer.Option(min=1, help="Summed in one frame; it may hold as many times [detector] saturation_counts."),
    ] = None,
    hkl: Annotated[tuple[float, float, float] | None, typer.Option(help="Reflection, e.g. --hkl 1 1 1.")] = None,
    sample: Annotated[str | None, typer.Option(help="What the crystal is.")] = None,
    overwrite: OverwriteOption = False,
    config: ConfigOption = DEFAULT_CONFIG,
    as_json: JsonOption = False,
) -> None:
    """Gather a scan into one NeXus/CXI file: frames, angles, energy, positions of the motors.

    They are in a SPEC file (--scan), in a NeXus file, or where the options or [files] of the configuration say.
    """
    from ..transport.files import check_output
    from ..transport.gather import gather
    from ..transport.hdf5 import write_scan

    told: dict[str, Any] = {"frames": frames, "angles": angles, "energy_kev": energy_kev, "distance_m": distance_m}
    told |= {"monitor": monitor, "bad_pixels": bad_pixels, "acquisitions_per_frame": acquisitions_per_frame}
    check_output(output, overwrite=overwrite, source=source)
    files = {**given(told), **({"motors": _motors(motor)} if motor else {})}
    found = gather(source, load_config(config_path(config)), scan=scan, files=files, hkl=hkl, sample=sample)
    write_scan(output, found)
    print_table({**_in_numbers(found), "file": str(output)}, as_json, f"Imported {found.name}")


def _in_numbers(scan: RockingScan) -> dict[str, Any]:
    """What a person compares with the logbook."""
    return {
        "name": scan.name,
        "frames": len(scan.intensity),
        "shape": list(scan.intensity.shape),
        "angles_deg": [float(scan.angles_deg[0]), float(scan.angles_deg[-1])],
        "total_counts": int(scan.intensity.sum(dtype="int64")),
        "max_counts": int(scan.intensity.max()),
        "saturated": _saturated(scan),
        "bad_pixels": 0 if scan.bad_pixels is None else int(scan.bad_pixels.sum()),
    }


def _saturated(scan: RockingScan) -> int | None:
    """Counts above what a pixel can hold; None where that is not known."""
    limit = scan.saturation_counts
    return None if limit is None else int((scan.intensity >= limit).sum())


def _motors(told: list[str]) -> dict[str, str]:
    """{'delta': '33.1'} of ['delta=33.1']."""
    pairs = [each.partition("=") for each in told]
    if wrong := [each for each, (name, _, value) in zip(told, pairs) if not (name.strip() and value.strip())]:
        raise ScanError(f"--motor {wrong[0]} says no position; write it like --motor delta=33.1")
    return {name.strip(): value.strip() for name, _, value in pairs}


@app.command()
def phase(
    sources: Annotated[
        list[str],
        typer.Argument(
            help="A scan (NeXus/CXI), a centred pattern (.npy, .npz), or a run's uid. Several scans are summed.",
            autocompletion=files_of(*SCANS),
        ),
    ],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Result file; by default SOURCE_result.cxi.")
    ] = None,
    overwrite: OverwriteOption = False,
    recipe: Annotated[
        str | None,
        typer.Option(help="e.g. '3*(20*ER+180*HIO(beta=0.9))+20*ER'; where empty, from the data."),
    ] = None,
    starts: Annotated[int | None, typer.Option(min=1, help="Random starts.")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of every random choice.")] = None,
    budget: Annotated[
        str | None,
        typer.Option(
            help="Wall time of it all, e.g. 5s or 2min, half of it from the neighbours where there are any; the"
            " best so far is kept."
        ),
    ] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu or cuda.")] = None,
    aliens: Annotated[bool | None, typer.Option(help="Mask intensity of other crystals.")] = None,
    background: Annotated[str | None, typer.Option(help="Counts a voxel to take off, or 'corners'.")] = None,
    shape: Annotated[str | None, typer.Option(help="Of the volume, after binning: 128,128,128.")] = None,
    binning: Annotated[str | None, typer.Option("--bin", help="Voxels summed along each axis: 2,1,1.")] = None,
    correct: Annotated[
        bool | None, typer.Option(help="Undo motion of the crystal within the scan, where it is sure.")
    ] = None,
    neighbour: Annotated[
        list[Path] | None,
        typer.Option(
            help="Result of another state, to start from as well; what foretells free voxels better is kept.",
            autocompletion=files_of(*RESULTS),
        ),
    ] = None,
    config: ConfigOption = DEFAULT_CONFIG,
    as_json: JsonOption = False,
) -> None:
    """Retrieve a recorded scan, as the live path does; what no option says is the configuration's."""
    from ..offline import phase_to_file, warm_to_file
    from ..transport.hdf5 import read_result

    phasing = {"recipe": recipe, "starts": starts, "seed": seed, "device": device}
    preprocess = {
        "aliens": aliens,
        "background": background,
        "shape": None if shape is None else shape.split(","),
        "binning": None if binning is None else binning.split(","),
        "correct_motion": correct,
    }
    settings = load_config(config_path(config)).changed(phasing=given(phasing), preprocess=given(preprocess))
    budget_s = None if budget is None else seconds(budget) / (2 if neighbour else 1)
    near = [read_result(each) for each in neighbour or []]  # what cannot be read is said before the work
    with progress_bar("phase retrieval", quiet=as_json) as tell:
        table = phase_to_file(sources, output, settings, overwrite=overwrite, budget_s=budget_s, progress=tell)
        if near:
            path = Path(table["file"])
            table = warm_to_file(sources, path, near, settings, budget_s=budget_s, progress=tell)
    print_table(table, as_json, "Reconstruction")


@app.command()
def figure(
    result: Annotated[
        Path,
        typer.Argument(help="A result, as `live-bcdi phase` writes it.", autocompletion=files_of(*RESULTS)),
    ],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="A .png, .pdf or .svg; by default RESULT.png.")
    ] = None,
    overwrite: OverwriteOption = False,
    as_json: JsonOption = False,
) -> None:
    """Draw a result on one page: slices, strain, how sure they are, how it was made."""
    from ..figure import facts, save_figure
    from ..transport.hdf5 import read_result

    found = read_result(result)
    path = output or result.with_suffix(".png")
    save_figure(found, path, overwrite=overwrite)
    print_table({**facts(found), "file": str(path)}, as_json, "Figure")


def seconds(text: str) -> float:
    """'5', '5s', '1.5min' or '1h' in seconds."""
    units = {"": 1.0, "s": 1.0, "min": 60.0, "h": 3600.0}
    number = text.strip().rstrip("abcdefghijklmnopqrstuvwxyz").strip()
    unit = text.strip()[len(number) :].strip()
    try:
        return float(number) * units[unit]
    except (ValueError, KeyError):
        raise ScanError(f"{text!r} is not a time; write it like 5s, 2min or 1h") from None

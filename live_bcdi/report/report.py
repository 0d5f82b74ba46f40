"""From a result to its report: what it says, and the files."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from ..config import Config
from ..figure import facts, resolutions
from ..panels import power
from ..storage import replacing
from ..strain import extent_nm
from ..transport.files import check_output
from ..types import Reconstruction, ScanError
from .content import Report, Section, times
from .crystal import crystal_section, uncertainty_section
from .data import Overview, data_section, overview, preparation_section
from .material import Material, gather
from .methods import methods
from .page import page
from .pdf import write_pdf
from .retrieval import agreement_section, phasing_section


def write_report(
    source: str,
    output: Path | None,
    config: Config,
    *,
    version: str | None = None,
    pdf: Path | None = None,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Write the report of a result's file, or of a result of a run by its uid, the newest without a `version`, as
    HTML and as PDF where that is given; by default `<result>_report.html` beside the file, in the working folder
    for a run.

    Returns what there is to say of it. Raises ScanError where there is no such result or a file exists without
    `overwrite`, StorageError where one cannot be written.
    """
    material = gather(source, version, config)
    html = output or _default_output(material)
    for path, suffix in ((html, ".html"), (pdf, ".pdf")):
        if path is not None:
            _check(path, suffix, overwrite=overwrite)
    seen = _seen(material)
    prose = methods(material, seen)
    report = compose(material, seen, prose)
    with replacing(html) as partial:
        partial.write_text(page(report), encoding="utf-8")
    if pdf is not None:
        with replacing(pdf) as partial:
            write_pdf(report, partial)
    return {
        "scan": report.title,
        "run": material.run.uid or None,
        "result": material.stored.path,
        **_numbers(material.result),
        "remark": report.remark or None,
        "methods": prose,
        "file": str(html),
        "pdf": None if pdf is None else str(pdf),
    }


def _default_output(material: Material) -> Path:
    if "file" in material.run.metadata:
        path = Path(material.stored.path)
        return path.with_name(f"{path.stem}_report.html")
    return Path(f"{material.run.stem(material.stored)}_report.html")


def _check(path: Path, suffix: str, *, overwrite: bool) -> None:
    if path.suffix.lower() != suffix:
        raise ScanError(f"{path} would hold {suffix[1:].upper()}; call it something{suffix}")
    check_output(path, overwrite=overwrite, replaced=lambda it: it.suffix.lower() == suffix)


def _seen(material: Material) -> Overview | None:
    if material.scan is None or material.result.volume is None:
        return None
    return overview(material.scan, material.result.volume)


def _numbers(result: Reconstruction) -> dict[str, Any]:
    if result.lab is None:
        return {"chi": result.chi}
    return {name: value for name, value in facts(result).items() if name != "scan"}


def compose(material: Material, seen: Overview | None, prose: str) -> Report:
    """The report; sections for which the result has nothing are left out."""
    result = material.result
    sections = (
        data_section(material, seen),
        preparation_section(material),
        phasing_section(result),
        agreement_section(result),
        crystal_section(material),
        uncertainty_section(result),
        Section(title="Methods, to copy", paragraphs=(prose,)),
        Section(title="Provenance", rows=tuple(_provenance(material))),
    )
    name = material.run.name or result.provenance.get("scan") or Path(material.stored.path).stem
    sample = "" if seen is None else seen.scan.sample
    return Report(
        title=name,
        subtitle=" · ".join(each for each in ("Bragg coherent diffraction imaging", sample) if each),
        key=tuple(_key(result)),
        remark=material.remark,
        sections=tuple(each for each in sections if each is not None),
    )


def _key(result: Reconstruction) -> Iterator[tuple[str, str]]:
    """What is looked for first."""
    if result.lab is not None:
        lab = result.lab
        yield "crystal", f"{times(list(extent_nm(lab.support, lab.voxel_nm)), '.0f')}\u00a0nm"
        yield "strain, std", power(float(lab.strain[lab.support].std()))
        if lab.strain_std is not None:
            yield "its uncertainty, median", power(float(np.nanmedian(lab.strain_std)))
    if found := resolutions(result):
        coarsest = max(found, key=lambda each: each.nm)
        yield f"resolution, {coarsest.criterion}", coarsest.text
    yield "modulus error χ", f"{result.chi:.4g}"


_OWN = {
    *("chosen", "volume", "masked", "aliens", "background", "summed"),
    *("refraction", "starts", "guessed_starts", "selected_by", "free"),
}
_HEADS = {"scan": "Scan", "input_sha256": "Checksum of the scan (SHA-256)", "angular_blur_deg": "Angular blur (°)"}
_CONFIGURED = {"preprocessing": "[preprocess]", "crystal": "[crystal]"}


def _provenance(material: Material) -> Iterator[tuple[str, str]]:
    said = material.result.provenance
    run = material.run
    if "file" in run.metadata:
        yield "Result", Path(material.stored.path).name
    else:
        yield "Result", f"{material.stored.path} in Tiled"
    if run.uid:
        yield "Run", run.uid
    if "frames" in run.metadata:
        yield "Frames", Path(str(run.metadata["frames"])).name
    elif run.uid:
        yield "Frames", f"raw/{run.uid} in Tiled"
    for key, value in said.items():
        if key not in _OWN and key not in _CONFIGURED:
            yield _HEADS.get(key, key), value
    yield "Seed", str(material.result.seed)
    for key, head in _CONFIGURED.items():
        if key in said:
            yield head, _settings(json.loads(said[key]))


def _settings(table: dict[str, Any]) -> str:
    """As a beamline's file has them."""
    return ", ".join(f"{key} = {json.dumps(value)}" for key, value in table.items() if value is not None)

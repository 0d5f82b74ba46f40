"""From a result to its report: what it says, and the files."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from ..config import Config
from ..figure import facts, resolution
from ..panels import power
from ..strain import extent_nm
from ..transport.files import replacing
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
    source: str, output: Path | None, config: Config, *, pdf: Path | None = None, overwrite: bool = False
) -> dict[str, Any]:
    """Write the report of a result's file, or of the newest result of a run by its uid, as HTML and as PDF where
    that is given; by default `<result>_report.html` beside the result, in the working folder for a run.

    Returns what there is to say of it. Raises ScanError where there is no such result or a file exists without
    `overwrite`, StorageError where one cannot be written.
    """
    material = gather(source, config)
    name = f"{material.path.stem}_report.html"
    html = output or (material.path.with_name(name) if Path(source).exists() else Path(name))
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
        **_numbers(material.result),
        "remark": report.remark or None,
        "methods": prose,
        "file": str(html),
        "pdf": None if pdf is None else str(pdf),
    }


def _check(path: Path, suffix: str, *, overwrite: bool) -> None:
    if path.suffix.lower() != suffix:
        raise ScanError(f"{path} would hold {suffix[1:].upper()}; call it something{suffix}")
    if path.is_dir() or (path.exists() and not overwrite):
        raise ScanError(f"{path} exists; give another --output or --pdf, or --overwrite to replace it")


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
    name = material.origin.name or result.provenance.get("scan") or material.path.stem
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
    found = resolution(result)
    if found.startswith("PRTF"):
        yield "resolution, PRTF at 1/e", re.split("[,;]", found)[0].split("1/e")[1].strip()
    yield "modulus error χ", f"{result.chi:.4g}"


_OWN = {"chosen", "volume", "masked", "aliens", "background", "summed", "refraction", "starts", "selected_by"}
_HEADS = {"scan": "Scan", "input_sha256": "Checksum of the scan (SHA-256)", "angular_blur_deg": "Angular blur (°)"}
_CONFIGURED = {"preprocessing": "[preprocess]", "crystal": "[crystal]"}


def _provenance(material: Material) -> Iterator[tuple[str, str]]:
    said = material.result.provenance
    yield "Result", material.path.name
    if material.origin.run:
        yield "Run", material.origin.run
    if material.origin.frames is not None:
        yield "Frames", material.origin.frames.name
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

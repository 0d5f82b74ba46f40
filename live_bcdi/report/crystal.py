"""The crystal in the lab frame: slices, how sure they are, the strain's distribution."""

from collections.abc import Iterator
from functools import partial

from ..figure import words
from ..panels import SHARE, Column, fields, power, range_of, spreads
from ..types import LabImage, Reconstruction
from .charts import CURVE_IN, SLICES_IN, draw_histogram, draw_slices
from .content import Chart, Rows, Section
from .material import Material

_PLAIN = {
    "Amplitude": "Amplitude",
    "Displacement $u_h$": "Displacement along h",
    "Strain": "Strain",
    "Displacement, std of starts": "Uncertainty of the displacement",
    "Strain, std of starts": "Uncertainty of the strain",
}


def crystal_section(material: Material) -> Section | None:
    """Slices of amplitude, phase, displacement and strain, and the histogram; None without a lab image."""
    result, lab = material.result, material.result.lab
    if lab is None:
        return None
    said = dict(words(result, lab))
    rows: Rows = tuple((head, said[head]) for head in ("Crystal", "h", "Reference", "Strain"))
    refraction = result.provenance.get("refraction")
    rows += (("Refraction", refraction),) if refraction else ()
    needed = result.provenance.get("rung")
    rows += (("Theory that it needs", needed),) if needed else ()
    return Section(title="Crystal", rows=rows + _way(material), charts=tuple(_field_charts(lab)))


def _way(material: Material) -> Rows:
    """How the object came to the lab frame."""
    way = material.settings("crystal")
    if not way:
        return ()
    window = "" if way["window"] == "none" else f" under a {way['window']} window"
    return (
        (
            "Cubic voxels by",
            f"{way['method']} interpolation{window}; the crystal is the largest piece above"
            f" {way['threshold']:g} of the maximum amplitude",
        ),
    )


def _field_charts(lab: LabImage) -> Iterator[Chart]:
    captions = {
        "Amplitude": "Relative to its maximum.",
        "Displacement": f"Along h, zero mean; the colours hold {SHARE:.0f} % of the crystal. Arrow: h.",
        "Strain": f"∂u/∂x along h, zero mean; colours end at ±{power(range_of(lab.strain[lab.support]))},"
        f" which hold {SHARE:.0f} % of the crystal. Arrow: h.",
    }
    cyclic = "On a cyclic map: −π and π are one colour. Displacement along +h lowers the phase."
    for column in fields(lab):
        caption = captions.get(column.title.split(" $")[0], cyclic)
        yield _slices(column, lab, caption, arrow=column.title.startswith(("Displacement", "Strain")))
    yield Chart(
        title="Strain in the crystal",
        caption="Voxels inside the support; line and shade: mean and one standard deviation. The mean is zero by"
        " definition: strain is relative to the crystal's mean spacing of planes.",
        height_in=CURVE_IN,
        draw=partial(draw_histogram, lab),
    )


def _slices(column: Column, lab: LabImage, caption: str, *, arrow: bool = False) -> Chart:
    return Chart(
        title=_PLAIN.get(column.title, "Phase"),
        caption=caption,
        height_in=SLICES_IN,
        draw=lambda sheet: draw_slices(column, lab, arrow=arrow, sheet=sheet),
    )


def uncertainty_section(result: Reconstruction) -> Section | None:
    """Standard deviations over the starts; None where there was one."""
    lab = result.lab
    if lab is None or not (columns := spreads(lab)):
        return None
    caption = "Standard deviation over the starts that went to the end."
    return Section(
        title="Uncertainty",
        rows=(("Median", dict(words(result, lab))["Uncertainty"]),),
        charts=tuple(_slices(column, lab, caption) for column in columns),
    )

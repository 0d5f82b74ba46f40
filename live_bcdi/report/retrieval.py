"""How the phases were found, how well they fit, and how far the starts agree."""

from functools import partial

import numpy as np

from ..figure import resolution
from ..types import Reconstruction
from .charts import CURVE_IN, draw_agreement
from .content import Chart, Rows, Section, Table

_METRICS = {
    "chi": ("Modulus error χ", "Σ(|F| − √I)² / Σ I over the measured voxels"),
    "chi_operando": ("χ, operando", "the same sum over Σ |F|²"),
    "poisson_deviance": ("Poisson deviance", "a voxel; 1 where counting noise is all the misfit"),
    "free_llk": (
        "Free log-likelihood",
        "negative, a voxel held out of the retrieval; the lower the better",
    ),
    "support_stability": ("Support stability", "mean overlap of the crystals of two starts"),
    "sharpness": ("Sharpness", "Σ|S|⁴ of the scaled object"),
    "background_counts": ("Background found", "counts a voxel"),
    "coherence_width_rocking": ("Coherence kernel, rocking", "voxels, standard deviation"),
    "coherence_width_row": ("Coherence kernel, rows", "voxels, standard deviation"),
    "coherence_width_column": ("Coherence kernel, columns", "voxels, standard deviation"),
}


def phasing_section(result: Reconstruction) -> Section:
    """Recipe, why it, and every start that went to the end."""
    said = result.provenance
    begun = f"{said['starts']} begun, " if "starts" in said else ""
    rows: Rows = (
        ("Recipe", result.recipe),
        ("Why", said.get("chosen", "given by the user").replace(" x ", " × ")),
        ("Starts", f"{begun}{len(result.chi_starts)} to the end; seed {result.seed}"),
        ("Outcome", result.outcome.value),
        *(_measure(name, value) for name, value in _metrics(result).items()),
    )
    return Section(title="Phase retrieval", rows=rows, table=_starts(result))


def _metrics(result: Reconstruction) -> dict[str, float]:
    """Of the object that was kept, but for those that other sections have."""
    own = {"chi": result.chi}
    others = {name: value for name, value in result.metrics.items() if not name.startswith("free_llk_")}
    return own | {name: value for name, value in others.items() if name not in ("chi", "first_mode")}


def _measure(name: str, value: float) -> tuple[str, str]:
    head, meaning = _METRICS.get(name, (name, ""))
    return head, f"{value:.5g}" + (f"  ({meaning})" if meaning else "")


def _kept(result: Reconstruction) -> int | None:
    """The index in `chi_starts` of the start that was kept; None where none ended well."""
    away = np.abs(np.asarray(result.chi_starts) - result.chi)
    return int(np.nanargmin(away)) if np.isfinite(away).any() else None


def _starts(result: Reconstruction) -> Table:
    free = [result.metrics.get(f"free_llk_{place}") for place in range(len(result.chi_starts))]
    kept = _kept(result)
    lines = tuple(
        (
            str(place + 1),
            f"{chi:.5g}",
            *(() if None in free else (f"{free[place]:.5g}",)),
            "kept" if place == kept else "",
        )
        for place, chi in enumerate(result.chi_starts)
    )
    return Table(head=("start", "χ", *(() if None in free else ("free log-likelihood",)), ""), lines=lines)


def agreement_section(result: Reconstruction) -> Section | None:
    """PRTF, FSC and modes; None for a single start."""
    rows: Rows = ()
    charts: tuple[Chart, ...] = ()
    if result.resolution is not None and np.isfinite(result.resolution.resolution_nm):
        rows = (("Resolution", resolution(result)),)
        caption = (
            "Phase retrieval transfer function (PRTF) and Fourier shell correlation (FSC) of two halves of the"
            " starts against the distance from the peak, with their thresholds."
        )
        draw = partial(draw_agreement, result)
        charts = (Chart(title="Agreement of the starts", caption=caption, height_in=CURVE_IN, draw=draw),)
    if result.agreement is not None:
        weights = ", ".join(f"{100 * weight:.2f} %" for weight in result.agreement.weights)
        rows += (("Weights of the orthogonal modes", weights),)
    if not rows:
        return None
    return Section(title="Resolution", paragraphs=_guided(result), rows=rows, charts=charts)


def _guided(result: Reconstruction) -> tuple[str, ...]:
    if "Guide" not in result.recipe:
        return ()
    return (
        "The starts guide each other and are not independent: the resolution is an upper limit of what is"
        " resolved, and the uncertainties below are lower limits.",
    )

"""How the phases were found, how well they fit, and how far the starts agree."""

from collections.abc import Iterator
from functools import partial

import numpy as np

from ..figure import resolution
from ..phasing.metrics import centred_transform
from ..types import BoolArray, FloatArray, Reconstruction
from .charts import CURVE_IN, CUTS_IN, Cut, Scale, draw_agreement, draw_cuts
from .content import Chart, Rows, Section, Table

_FAR = 5.0  # standard deviations at which the colours of a difference end
_AXES = ("rocking", "row", "column")
_METRICS = {
    "chi_operando": ("χ, operando", "the same sum over that of the modelled intensity, not the measured one"),
    "poisson_deviance": ("Poisson deviance", "a voxel; 1 where counting noise is all the misfit"),
    "free_llk": (
        "Free log-likelihood",
        "negative, a voxel held out of the retrieval; the lower the better",
    ),
    "expected_error": ("Expected error", "of the preview, over the root mean square of |S|"),
    "dislocation_probability": ("Dislocation", "probability, as the network's preview says"),
    "twin_probability": ("Twin or wall", "probability, as the network's preview says"),
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
        *((("Held out", said["free"]),) if "free" in said else ()),
        ("Outcome", result.outcome.value),
        ("Modulus error χ", f"{result.chi:.5g} ({misfit_formula(result)}, over the measured voxels)"),
        *(_measure(name, value) for name, value in _metrics(result).items()),
    )
    return Section(title="Phase retrieval", rows=rows, table=_starts(result), charts=tuple(_fit(result)))


def misfit_formula(result: Reconstruction) -> str:
    """What chi is, by what the recipe took the detector to see of the object."""
    if "background_counts" in result.metrics:  # as `phasing.model` has it
        return "Σ(√c − √I)²/ΣI, c = γ∗|F|² + b with the coherence kernel γ and the background b"
    return "Σ(|F| − √I)²/ΣI"


def _fit(result: Reconstruction) -> Iterator[Chart]:
    """Measured and modelled intensity on one scale, and their difference; none where the volume is not there."""
    volume = result.volume
    if volume is None or volume.intensity.shape != result.density.shape or not np.isfinite(result.chi):
        return
    model = np.abs(centred_transform(result.density)) ** 2 + result.metrics.get("background_counts", 0.0)
    away = 2 * (np.sqrt(model) - np.sqrt(volume.intensity))
    counts = Scale("counts", "inferno", (0.5, max(float(volume.intensity.max()), 10.0)), logarithmic=True)
    deviations = Scale("standard deviations", "RdBu_r", (-_FAR, _FAR), logarithmic=False)
    cuts = partial(_cuts, mask=volume.mask)
    green = " Green: not used." if any(cut.unused.any() for cut in cuts(away)) else ""
    blurred = any(result.metrics.get(f"coherence_width_{axis}") for axis in _AXES)
    without = " The blur by γ is left out." if blurred else ""
    for title, caption, shown, scale in (
        ("Measured", f"Intensity in slices through the peak.{green}", cuts(volume.intensity), counts),
        ("Modelled", f"|F|² of the object on the same scale.{without}", _cuts(model), counts),
        (
            "Modelled less measured",
            f"2(|F| − √I): 1 is a standard deviation of counting noise. Colours end at {_FAR:g}.{green}{without}",
            cuts(away),
            deviations,
        ),
    ):
        draw = partial(draw_cuts, shown, scale)
        yield Chart(title=title, caption=caption, height_in=CUTS_IN, draw=draw)


def _cuts(values: FloatArray, mask: BoolArray | None = None) -> list[Cut]:
    """Three slices through voxel n//2, the rocking axis downwards where it is in one."""
    found = []
    for axis, (down, across) in zip((0, 1, 2), (("row", "column"), ("rocking", "column"), ("rocking", "row"))):
        middle = values.shape[axis] // 2
        cut = np.take(values, middle, axis=axis)
        unused = np.zeros(cut.shape, bool) if mask is None else np.take(mask, middle, axis=axis)
        found.append(Cut(cut, unused, down, across))
    return found


def _metrics(result: Reconstruction) -> dict[str, float]:
    """Of the object that was kept, but for those that other sections have."""
    others = {name: value for name, value in result.metrics.items() if not name.startswith("free_llk_")}
    return {name: value for name, value in others.items() if name not in ("chi", "first_mode")}


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
            " starts against the distance from the peak, with their thresholds. Where hardly anything was counted"
            " the PRTF goes above 1, and its end says nothing of the resolution."
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
        "The starts guide each other and are not independent: the resolution is the best that it can"
        " be, and the uncertainties below are lower limits.",
    )

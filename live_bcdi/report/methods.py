"""A paragraph for a paper's methods section, with the numbers filled in."""

from collections import Counter
from collections.abc import Iterator, Mapping

import numpy as np

from ..figure import resolution
from ..lattice import mean_spacing_angstrom
from ..panels import power
from ..phasing.recipe import parse
from ..strain import extent_nm
from ..types import LabImage, Reconstruction, ScanError
from .content import counted, times
from .data import Overview, corrections, counts, detector, energy, reflection, rocking, scattering
from .material import Material
from .retrieval import misfit_formula

# As papers call them; an operator that is not here goes by its name in the recipe.
_NAMES = {
    "ER": "error reduction (ER)",
    "HIO": "hybrid input-output (HIO)",
    "CHIO": "continuous hybrid input-output (CHIO)",
    "RAAR": "relaxed averaged alternating reflections (RAAR)",
    "HPR": "hybrid projection reflection (HPR)",
    "DM": "difference map (DM)",
    "SF": "solvent flipping (SF)",
    "ADMM": "alternating direction method of multipliers (ADMM)",
    "ML": "maximum likelihood (ML)",
}


def methods(material: Material, seen: Overview | None) -> str:
    """What was measured and done, in sentences, as far as the result and its scan say."""
    result = material.result
    sentences = [*(_measured(seen) if seen is not None else ()), *_prepared(material), *_phased(result)]
    if result.lab is not None:
        sentences += _imaged(material, result.lab)
    return " ".join(sentences)


def _measured(seen: Overview) -> Iterator[str]:
    scan = seen.scan
    of = f" of the {reflection(scan)} reflection" if scan.hkl else ""
    of += f" ({scan.sample})" if scan.sample else ""
    exposure = "" if scan.exposure_s is None else f", {scan.exposure_s:g} s each"
    yield f"A rocking scan{of} was measured at {energy(scan)}: {rocking(seen)}{exposure}."
    yield f"The detector had {detector(scan)}; at the peak {scattering(seen)}."
    yield f"The frames hold {counts(seen)}."


def _prepared(material: Material) -> Iterator[str]:
    said = material.result.provenance
    if used := corrections(material):
        yield f"Counts were corrected for the {' and '.join(used.rsplit(', ', 1))}."
    if "corrected: " in said.get("motion", ""):
        yield "Frames of a crystal that moved during the scan were brought onto even angles."
    if "summed" in said:
        yield f"{said['scan'].count(' + ') + 1} scans were aligned, and those of one state summed."
    elif "volume" in said:
        yield f"The volume phased was {said['volume'].replace(' x ', ' × ').replace(' of ', ' voxels of ', 1)}."
        masked = masked_only(said.get("masked", ""))
        yield f"Masked were {masked}." if masked else "Nothing was masked."


def masked_only(line: str) -> str:
    """What of `preprocess.Report`'s line on masks is not zero: "263 bad pixels, 2 frames without beam"."""
    found = []
    for part in line.split("; "):
        noun = next((each for each in ("pixels", "voxels", "frames") if each in part), "")
        for item in part.split(", "):
            number, _, what = item.partition(" ")
            what = what.replace(noun, "").strip()
            if number not in ("", "0"):
                found.append(f"{number} frames {what}" if noun == "frames" else f"{number} {what} {noun}")
    return ", ".join(found)


def _phased(result: Reconstruction) -> Iterator[str]:
    said = result.provenance
    made = f"live_bcdi {said['live_bcdi']}" if "live_bcdi" in said else "live_bcdi"
    starts = f"{_begun(said)} (seed {result.seed})"
    yield f"Phases were retrieved with {made} from {starts} by {_iterations(result.recipe)}."
    if not np.isfinite(result.chi):
        yield f"Outcome: {result.outcome.value}."
        return
    if len(result.chi_starts) > 1:
        yield f"{len(result.chi_starts)} starts went to the end; {_chosen_by(result)} was kept."
    yield f"Its modulus error, {misfit_formula(result)}, is {result.chi:.4g}{_of_all(result)}."
    if result.agreement is not None:
        weight = 100 * result.agreement.weights[0]
        yield f"The first orthogonal mode of these starts, aligned, holds {weight:.1f} % of their intensity."
        if result.resolution is not None:
            yield f"Resolution: {resolution(result)}."


def _begun(said: Mapping[str, str]) -> str:
    """How many starts there were, and what they began at."""
    if "starts" not in said:
        return "random starts"
    guessed = int(said.get("guessed_starts", 0))
    random = counted(int(said["starts"]) - guessed, "random start")
    guesses = counted(guessed, "initial guess")
    if not guessed:
        return random
    return guesses if random.startswith("0 ") else f"{guesses} and {random}"


def _iterations(recipe: str) -> str:
    """The recipe, and each kind of its iterations by name and number where it is one of this version."""
    quoted = f"the recipe “{recipe}”"
    try:
        found = Counter(type(step).__name__ for step in parse(recipe))
    except ScanError:
        return quoted
    known = [f"{number} of {_NAMES[name]}" for name, number in found.items() if name in _NAMES]
    if not known:
        return quoted
    listed = " and ".join([", ".join(known[:-1]), known[-1]] if len(known) > 1 else known)
    return f"iterations ({listed}) of {quoted}"


def _chosen_by(result: Reconstruction) -> str:
    by = result.provenance.get("selected_by", "free_llk")
    if by == "free_llk" and "free_llk" in result.metrics:
        free = result.provenance.get("free", "voxels")
        return f"the one with the best log-likelihood of {free}, which the retrieval had not seen,"
    return "the one of least sharpness Σ|S|⁴" if by == "sharpness" else "the one of least modulus error"


def _of_all(result: Reconstruction) -> str:
    low, high = min(result.chi_starts), max(result.chi_starts)
    return f" (all: {low:.4g} to {high:.4g})" if len(result.chi_starts) > 1 else ""


def _imaged(material: Material, lab: LabImage) -> Iterator[str]:
    way = material.settings("crystal")
    by = f" by {way['method']} interpolation" if way else ""
    size = times(list(extent_nm(lab.support, lab.voxel_nm)), ".0f")
    part = f", the largest piece above {way['threshold']:g} of the maximum amplitude," if way else ""
    yield (
        f"The object was put on cubic voxels of {lab.voxel_nm:.4g} nm in the laboratory frame{by}; the"
        f" crystal{part} measures {size} nm along x, y, z."
    )
    spread = power(float(lab.strain[lab.support].std()))
    yield (
        "With S = s exp(iφ) and φ = −h·u, the strain ∂u_h/∂x_h follows from the gradient of the complex object,"
        f" without unwrapping; it has a standard deviation of {spread} about the mean spacing of planes"
        f" {mean_spacing_angstrom(lab):.4f} Å."
    )
    if lab.strain_std is not None and lab.displacement_std_angstrom is not None:
        strain = power(float(np.nanmedian(lab.strain_std)))
        yield (
            f"Its uncertainty, the median standard deviation over the starts, is {strain}"
            f" ({float(np.nanmedian(lab.displacement_std_angstrom)):.2g} Å of displacement)"
            + (", a lower limit, as starts guided each other." if "Guide" in material.result.recipe else ".")
        )
    refraction = material.result.provenance.get("refraction", "")
    if refraction.startswith("corrected"):
        yield f"Refraction and absorption were {refraction}."

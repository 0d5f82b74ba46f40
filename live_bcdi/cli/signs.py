"""The verb that checks a beamline's signs: signs."""

from pathlib import Path
from typing import Annotated, Any

import typer

from .app import JsonOption, app, print_table


@app.command()
def signs(
    before: Annotated[Path, typer.Argument(help="A scan (NeXus/CXI).")],
    after: Annotated[
        Path, typer.Argument(help="The same peak again, after one motor was moved or the energy changed.")
    ],
    as_json: JsonOption = False,
) -> None:
    """Check a beamline's signs: where the Bragg peak went, against where the configuration says.

    The exit status is 1 where they do not agree.
    """
    from ..signs import check_signs
    from ..transport.hdf5 import read_scan

    found = check_signs(read_scan(before), read_scan(after))
    places = {name: getattr(found, name) for name in ("before", "after", "expected")}
    numbers = {name: place and [place.angle_deg, place.row, place.column] for name, place in places.items()}
    table: dict[str, Any] = {
        "changed": {name: list(pair) for name, pair in found.changed.items()},
        **numbers,
        **{name: getattr(found, name) for name in ("moved_px", "off_px", "agrees")},
        **{name: list(getattr(found, name)) for name in ("shown", "not_shown", "would_agree")},
    }
    print_table(table if as_json else _in_words(table), as_json, "Signs")
    if not found.agrees:
        raise typer.Exit(1)


def _in_words(table: dict[str, Any]) -> dict[str, Any]:
    def place(name: str) -> str:
        if table[name] is None:
            return "nowhere near"
        angle, row, column = table[name]
        return f"{angle:.4f} degrees, row {row:.1f}, column {column:.1f}"

    names = ("shown", "not_shown", "would_agree")
    return {
        "changed": ", ".join(f"{name} from {pair[0]:g} to {pair[1]:g}" for name, pair in table["changed"].items()),
        **{name: place(name) for name in ("before", "after", "expected")},
        "moved": f"{table['moved_px']:.1f} pixels",
        "off": f"{table['off_px']:.1f} pixels",
        "agrees": "yes" if table["agrees"] else "no",
        **{name.replace("_", " "): ", ".join(table[name]) or None for name in names},
    }

"""The verb that makes keys."""

from pathlib import Path
from typing import Annotated

import typer

from ..config import load_config
from .app import DEFAULT_CONFIG, ConfigOption, JsonOption, app, config_path, print_table


@app.command()
def keys(
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Else that of \\[stream] keys, or <storage>/keys."),
    ] = None,
    client: Annotated[
        str | None, typer.Option(help="Let one more machine in: makes a folder of this name for it to have.")
    ] = None,
    config: ConfigOption = DEFAULT_CONFIG,
    as_json: JsonOption = False,
) -> None:
    """Make keys (CURVE) for the streams of documents, updates and frames; \\[stream] keys turns them on."""
    from ..transport.keys import make_client, make_keys

    settings = load_config(config_path(config))
    folder = (output or settings.stream.keys or settings.storage.directory / "keys").absolute()
    if client is None:
        made, title = make_keys(folder), "Keys for the streams; what is secret is in the folder"
    else:
        folder, public = make_client(folder, client)
        made, title = {client: public}, f"A folder for {client} alone; its public key"
    print_table({"folder": str(folder), **made}, as_json, title)

"""``headgate data``: versions of files and folders that jobs read."""

from __future__ import annotations

from typing import Annotated

import typer
from typer import Option

from headgate.cli import options
from headgate.cli.assets import (
    Label,
    OptionalVersion,
    add_lifecycle,
    add_list,
)
from headgate.cli.session import Session, client_command

app = typer.Typer(no_args_is_help=True, help="Data assets: register, list, show, archive, delete.")

COLUMNS = ("name", "version", "type", "path", "description")


@client_command(app, "create")
async def create(
    session: Session,
    file: options.File = None,
    name: options.AssetName = "",
    version: options.AssetVersion = "",
    path: Annotated[str, Option("--path", "-p", help="File, folder or address.")] = "",
    type: Annotated[str, Option("--type", "-t", help="uri_file or uri_folder.")] = "",
    description: Annotated[str, Option("--description", "-d", help="What it is.")] = "",
    set: options.Set = None,
    allow_outside: options.AllowOutside = False,
) -> None:
    """Register a data version; what is local is uploaded. Versions never change."""
    from headgate.azure import yaml_storage
    from headgate.cli import shapes
    from headgate.cli.documents import Asked, tell_warnings
    from headgate.cli.progress import upload_bar
    from headgate.client.storage import Storage

    fields = {
        "name": name, "version": version, "path": path, "type": type, "description": description,
    }  # fmt: skip
    document = Asked(file, fields, set or (), allow_outside=allow_outside).document()
    local = yaml_storage.data(document)
    tell_warnings(document)
    async with session.client() as client:
        session.show(shapes.data(await Storage(client).create_data(local, upload_bar)))


add_list(app, "data", "data assets", COLUMNS)


@client_command(app, "show")
async def show(
    session: Session,
    name: options.AssetName,
    version: OptionalVersion = "",
    label: Label = "latest",
) -> None:
    """Show one version of a data asset."""
    from headgate.cli import shapes
    from headgate.client.storage import Storage

    async with session.client() as client:
        found = await Storage(client).get_data(name, version or f"@{label}")
        session.show(shapes.data(found))


add_lifecycle(app, "data", "data asset")

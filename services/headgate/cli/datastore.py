"""``headgate datastore``: where data lies. Secrets go in, and are never printed."""

from __future__ import annotations

import typer

from headgate.cli import options
from headgate.cli.errors import tell_removal
from headgate.cli.session import Session, client_command, confirm

app = typer.Typer(no_args_is_help=True, help="Datastores: create, list, show, delete.")

COLUMNS = ("name", "type", "account_name", "container_name", "is_default", "description")


@client_command(app, "create")
async def create(
    session: Session,
    file: options.File = None,
    name: options.AssetName = "",
    set: options.Set = None,
) -> None:
    """Create a datastore, or replace the one of this name, as 'az' does."""
    from headgate.azure import yaml_storage
    from headgate.cli import shapes
    from headgate.cli.documents import Asked, tell_warnings
    from headgate.client.storage import Storage

    document = Asked(file, {"name": name}, set or ()).document()
    spec, secret = yaml_storage.datastore(document)
    tell_warnings(document)
    async with session.client() as client:
        session.show(shapes.datastore(await Storage(client).put_datastore(spec, secret)))


@client_command(app, "list")
async def list_all(session: Session) -> None:
    """List datastores; every workspace has some of its own."""
    from headgate.cli import shapes
    from headgate.client.storage import Storage

    async with session.client() as client:
        found = await Storage(client).list_datastores()
        session.show([shapes.datastore(each) for each in found], COLUMNS)


@client_command(app, "show")
async def show(session: Session, name: options.AssetName) -> None:
    """Show one datastore, without its secret."""
    from headgate.cli import shapes
    from headgate.client.storage import Storage

    async with session.client() as client:
        session.show(shapes.datastore(await Storage(client).get_datastore(name)))


@client_command(app, "delete")
async def delete(session: Session, name: options.AssetName, yes: options.Yes = False) -> None:
    """Forget a datastore; what lies in it stays. There need not be one."""
    from headgate.client.storage import Storage

    confirm(f"Forget the datastore {name!r}?", yes=yes)
    async with session.client() as client:
        tell_removal(await Storage(client).delete_datastore(name), f"datastore {name!r}")

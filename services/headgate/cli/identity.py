"""``headgate identity``: who models are when they ask for something."""

from __future__ import annotations

from typing import Annotated

import typer
from typer import Option

from headgate.cli import options
from headgate.cli.session import Session, client_command, confirm

app = typer.Typer(no_args_is_help=True, help="Managed identities: create, list, show, delete.")

COLUMNS = ("name", "principal_id", "client_id", "grants")
IdentityName = Annotated[str, Option("--name", "-n", help="Name of the identity.")]


@client_command(app, "create")
async def create(
    session: Session,
    name: IdentityName,
    grant: Annotated[
        list[str] | None,
        Option("--grant", metavar="WORKSPACE/ROLE", help="What it may do; several are possible."),
    ] = None,
) -> None:
    """Create a named identity, or change what it may do."""
    from headgate.cli import shapes
    from headgate.client.access import Access

    async with session.client() as client:
        session.show(shapes.identity(await Access(client).put_identity(name, grant or ())))


@client_command(app, "list")
async def list_all(session: Session) -> None:
    """List the named identities of the workspace."""
    from headgate.cli import shapes
    from headgate.client.access import Access

    async with session.client() as client:
        found = await Access(client).list_identities()
        session.show([shapes.identity(each) for each in found], COLUMNS)


@client_command(app, "show")
async def show(session: Session, name: IdentityName) -> None:
    """Show one identity."""
    from headgate.cli import shapes
    from headgate.client.access import Access

    async with session.client() as client:
        session.show(shapes.identity(await Access(client).get_identity(name)))


@client_command(app, "delete")
async def delete(session: Session, name: IdentityName, yes: options.Yes = False) -> None:
    """Delete a named identity; what uses it gets no tokens any more."""
    from headgate.client.access import Access

    confirm(f"Delete the identity {name!r}?", yes=yes)
    async with session.client() as client:
        access = Access(client)
        await access.get_identity(name)
        await access.delete_identity(name)

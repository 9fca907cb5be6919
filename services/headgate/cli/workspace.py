"""``headgate workspace``: which there are."""

from __future__ import annotations

from typing import Annotated

import typer
from typer import Option

from headgate.cli.session import Session, client_command

app = typer.Typer(no_args_is_help=True, help="Workspaces: list, show.")

COLUMNS = ("name", "resource_group", "location")
Name = Annotated[str, Option("--name", "-n", help="Name; that of --workspace when not given.")]


@client_command(app, "list")
async def list_all(session: Session) -> None:
    """List the workspaces that you may see."""
    from headgate.cli import shapes
    from headgate.client.storage import Storage

    async with session.client() as client:
        found = await Storage(client).list_workspaces()
        session.show([shapes.workspace(body) for body in found], COLUMNS)


@client_command(app, "show")
async def show(session: Session, name: Name = "") -> None:
    """Show one workspace."""
    from headgate.cli import shapes
    from headgate.client.storage import Storage

    session.workspace = name or session.workspace
    async with session.client() as client:
        session.show(shapes.workspace(await Storage(client).get_workspace()))

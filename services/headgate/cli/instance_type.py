"""``headgate instance-type``: the sizes that an instance can have."""

from __future__ import annotations

import typer

from headgate.cli.session import Session, client_command

app = typer.Typer(no_args_is_help=True, help="Instance types: list.")

COLUMNS = ("name", "cores", "memory_gib", "gpus", "price_per_hour", "elastic", "description")


@client_command(app, "list")
async def list_all(session: Session) -> None:
    """List the sizes that 'instance_type' of a deployment can name."""
    from headgate.cli import shapes
    from headgate.client.storage import Storage

    async with session.client() as client:
        found = await Storage(client).instance_types()
    session.show([shapes.instance_type(each) for each in found], COLUMNS)

"""``headgate compute``: named pools of instances for batch jobs."""

from __future__ import annotations

from typing import Annotated

import typer
from typer import Option

from headgate.cli import options
from headgate.cli.errors import tell_removal
from headgate.cli.session import Session, client_command, confirm

app = typer.Typer(no_args_is_help=True, help="Computes of batch jobs, and their nodes.")

COLUMNS = ("name", "type", "size", "min_instances", "max_instances", "provisioning_state")
NODE_COLUMNS = ("node_id", "node_state", "run_id")
Minimum = Annotated[str, Option("--min-instances", help="Instances that are always there.")]
Maximum = Annotated[str, Option("--max-instances", help="Instances at most.")]
Idle = Annotated[
    str, Option("--idle-time-before-scale-down", help="Seconds without work before it shrinks.")
]


@client_command(app, "create")
async def create(
    session: Session,
    file: options.File = None,
    name: options.AssetName = "",
    type: Annotated[str, Option("--type", "-t", help="AmlCompute, the only one.")] = "",
    size: Annotated[str, Option("--size", "-s", help="Size of an instance.")] = "",
    tier: Annotated[str, Option("--tier", help="dedicated or low_priority.")] = "",
    min_instances: Minimum = "",
    max_instances: Maximum = "",
    idle_time_before_scale_down: Idle = "",
    description: Annotated[str, Option("--description", help="What it is for.")] = "",
    set: options.Set = None,
) -> None:
    """Create a compute, or replace the one of this name."""
    from headgate.azure import yaml_storage
    from headgate.cli import shapes
    from headgate.cli.documents import Asked, tell_warnings
    from headgate.client.storage import Storage

    fields = {
        "name": name,
        "type": type.lower(),
        "size": size,
        "tier": tier.lower(),
        "min_instances": min_instances,
        "max_instances": max_instances,
        "idle_time_before_scale_down": idle_time_before_scale_down,
        "description": description,
    }
    document = Asked(file, fields, set or ()).document()
    spec = yaml_storage.compute(document)
    tell_warnings(document)
    async with session.client() as client:
        session.show(shapes.compute(await Storage(client).put_compute(spec)))


@client_command(app, "update")
async def update(
    session: Session,
    name: options.AssetName = "",
    file: options.File = None,
    min_instances: Minimum = "",
    max_instances: Maximum = "",
    idle_time_before_scale_down: Idle = "",
    set: options.Set = None,
    add: options.Add = None,
    remove: options.Remove = None,
) -> None:
    """Change a compute; what is not mentioned stays."""
    from headgate.azure import yaml_storage
    from headgate.cli import shapes
    from headgate.cli.documents import Asked, named_in, tell_warnings
    from headgate.client.storage import Storage

    changes = {
        "min_instances": min_instances,
        "max_instances": max_instances,
        "idle_time_before_scale_down": idle_time_before_scale_down,
    }
    asked = Asked(file, {"name": name, **changes}, set or (), add or (), remove or ())
    if not any(changes.values()):
        asked.require_any()
    async with session.client() as client:
        storage = Storage(client)
        stored = await storage.get_compute(named_in(asked, "name"))
        document = asked.document(stored.spec)
        spec = yaml_storage.compute(document)
        tell_warnings(document)
        session.show(shapes.compute(await storage.put_compute(spec, stored.etag)))


@client_command(app, "list")
async def list_all(session: Session) -> None:
    """List computes."""
    from headgate.cli import shapes
    from headgate.client.storage import Storage

    async with session.client() as client:
        found = await Storage(client).list_computes()
        session.show([shapes.compute(each) for each in found], COLUMNS)


@client_command(app, "show")
async def show(session: Session, name: options.AssetName) -> None:
    """Show one compute."""
    from headgate.cli import shapes
    from headgate.client.storage import Storage

    async with session.client() as client:
        session.show(shapes.compute(await Storage(client).get_compute(name)))


@client_command(app, "list-nodes")
async def list_nodes(session: Session, name: options.AssetName) -> None:
    """List the nodes of a compute. What runs its jobs now, and what waits for one."""
    from headgate.cli.observed import renamed
    from headgate.client.storage import Storage

    async with session.client() as client:
        found = await Storage(client).compute_nodes(name)
    session.show([renamed(each) for each in found], NODE_COLUMNS)


@client_command(app, "delete")
async def delete(session: Session, name: options.AssetName, yes: options.Yes = False) -> None:
    """Delete a compute; there need not be one. Refused while a batch deployment uses it."""
    from headgate.client.storage import Storage

    confirm(f"Delete the compute {name!r}?", yes=yes)
    async with session.client() as client:
        tell_removal(await Storage(client).delete_compute(name), f"compute {name!r}")

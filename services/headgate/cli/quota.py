"""``headgate quota``: how much a workspace, an endpoint or a caller may have."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from typer import Option

from headgate.cli import options
from headgate.cli.errors import tell_removal
from headgate.cli.session import Session, client_command, confirm

app = typer.Typer(no_args_is_help=True, help="Quotas of resources, rates and callers.")

COLUMNS = (
    "name",
    "kind",
    "limit",
    "used",
    "endpoint",
    "deployment",
    "caller",
    "window",
    "frees_at",
)
USE_COLUMNS = ("endpoint", "deployment", "caller", "used", "frees_at")


class Kind(StrEnum):
    ENDPOINTS = "endpoints"
    DEPLOYMENTS = "deployments"
    INSTANCES = "instances"
    REQUESTS_PER_SECOND = "requests-per-second"
    CONNECTIONS = "connections"
    BYTES_PER_SECOND = "bytes-per-second"
    REQUESTS = "requests"
    COMPUTE_SECONDS = "compute-seconds"


@client_command(app, "set")
async def set_quota(
    session: Session,
    name: Annotated[str, Option("--name", "-n", help="Name of the quota.")] = "",
    kind: Annotated[Kind | None, Option("--kind", "-k", help="What is limited.")] = None,
    limit: Annotated[float | None, Option("--limit", "-l", help="How much of it.")] = None,
    endpoint: Annotated[
        str, Option("--endpoint-name", "--endpoint", "-e", help="Of which endpoint; *: of each.")
    ] = "",
    deployment: Annotated[
        str, Option("--deployment", "-d", help="Of which deployment; *: of each.")
    ] = "",
    caller: Annotated[
        str, Option("--caller", "-c", help="Id of a key, or whom a token is for; *: of each.")
    ] = "",
    window: Annotated[str, Option("--window", help="Of counts: per what, such as 1h or 1d.")] = "",
    file: Annotated[Path | None, Option("--file", "-f", help="YAML file of a quota.")] = None,
) -> None:
    """Make a quota, or replace the one of this name."""
    from headgate.azure import yaml_quotas
    from headgate.azure.arm_fields import write_duration
    from headgate.cli.autoscale_edit import seconds
    from headgate.cli.documents import Asked, tell_warnings
    from headgate.client import quotas as calls

    fields = {
        "name": name,
        "kind": kind.value.replace("-", "_") if kind else "",
        "limit": "" if limit is None else repr(limit),
        "endpoint": endpoint,
        "deployment": deployment,
        "caller": caller,
        "window": window,
    }
    document = Asked(file, fields).document()
    asked = yaml_quotas.quota(document)
    tell_warnings(document)
    properties = asked.model_dump(mode="json", exclude={"name", "window"})
    if asked.window:
        properties["window"] = write_duration(seconds(asked.window, "window") * 10**9)
    async with session.client() as client:
        session.show(_flat(await calls.put_quota(client, asked.name, properties)))


@client_command(app, "list")
async def list_all(session: Session) -> None:
    """List quotas and how much of each is used. Where a quota is one of each, the most."""
    from headgate.client import quotas as calls

    async with session.client() as client:
        found = await calls.all_quotas(client)
    session.show([_flat(each) for each in found], COLUMNS)


@client_command(app, "show")
async def show(session: Session, name: options.AssetName) -> None:
    """Show one quota, with who has used how much of it."""
    from headgate.client import quotas as calls

    async with session.client() as client:
        found = _flat(await calls.quota(client, name))
    if session.is_table:
        uses = found.pop("uses") or []
        session.show([found], COLUMNS)
        if uses:
            session.show(uses, USE_COLUMNS)
        return
    session.show(found)


@client_command(app, "remove")
async def remove(session: Session, name: options.AssetName, yes: options.Yes = False) -> None:
    """Remove a quota; there need not be one."""
    from headgate.client import quotas as calls

    confirm(f"Remove the quota {name!r}?", yes=yes)
    async with session.client() as client:
        tell_removal(await calls.delete_quota(client, name), f"quota {name!r}")


def _flat(quota: dict[str, Any]) -> dict[str, Any]:
    from headgate.cli.observed import renamed, snake_case

    properties = quota["properties"]
    kind = snake_case(properties["kind"]).replace("_", "-")
    found: dict[str, Any] = renamed({"name": quota["name"], **properties, "kind": kind})
    return found

"""``headgate online-endpoint``: the addresses that clients score at."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from typer import Option

from headgate.cli import options
from headgate.cli.session import Session, client_command, confirm

app = typer.Typer(no_args_is_help=True, help="Online endpoints: create, split traffic, invoke.")

LIST_COLUMNS = ("name", "provisioning_state", "auth_mode", "traffic", "scoring_uri")
TRAFFIC_COLUMNS = {
    "deployment": "deployment",
    "declared_percent": "declared %",
    "observed_percent": "observed %",
    "requests": "requests",
    "statuses": "statuses",
    "p50_ms": "p50 ms",
    "p99_ms": "p99 ms",
    "mirrored": "mirrored",
    "in_flight": "in flight",
    "ready_instances": "ready",
    "quarantined": "quarantined",
}


class KeyChoice(StrEnum):
    PRIMARY = "primary"
    SECONDARY = "secondary"


@client_command(app, "create")
async def create(
    session: Session,
    file: options.File = None,
    name: options.EndpointName = "",
    auth_mode: Annotated[str, Option("--auth-mode", help="key, aml_token or aad_token.")] = "",
    set: options.Set = None,
    force_string: options.ForceString = False,
    no_wait: options.NoWait = False,
    local: options.Local = False,
) -> None:
    """Create an endpoint. One of the same name must not exist."""
    from headgate.cli import shapes
    from headgate.cli.documents import Asked, tell_warnings
    from headgate.cli.waiting import waited

    fields = {"name": name, "auth_mode": auth_mode}
    document = Asked(file, fields, set or (), force_string=force_string).document()
    spec = document.endpoint()
    tell_warnings(document)
    if local:
        from headgate.cli.local import create_endpoint

        create_endpoint(session, spec)
        return
    async with session.client() as client:
        started = await client.create_endpoint(spec)
        if await waited(
            session, client, started, f"creating endpoint {spec.name}", no_wait=no_wait
        ):
            session.show(shapes.endpoint(await client.get_endpoint(spec.name)))


@client_command(app, "update")
async def update(
    session: Session,
    name: options.EndpointName = "",
    file: options.File = None,
    traffic: Annotated[
        list[str] | None,
        Option("--traffic", "-r", metavar="NAME=PERCENT", help='Such as "blue=90 green=10".'),
    ] = None,
    mirror_traffic: Annotated[
        list[str] | None,
        Option("--mirror-traffic", metavar="NAME=PERCENT", help='Such as "green=10".'),
    ] = None,
    set: options.Set = None,
    add: options.Add = None,
    remove: options.Remove = None,
    force_string: options.ForceString = False,
    no_wait: options.NoWait = False,
    local: options.Local = False,
) -> None:
    """Change an endpoint; what is not mentioned stays."""
    from headgate.cli import shapes
    from headgate.cli.documents import Asked, named_in, percentages, tell_warnings
    from headgate.cli.waiting import waited

    asked = Asked(file, {"name": name}, set or (), add or (), remove or (), force_string)
    shares = {} if traffic is None else {"traffic": percentages(traffic, "--traffic")}
    if mirror_traffic is not None:
        shares["mirror_traffic"] = percentages(mirror_traffic, "--mirror-traffic")
    if not shares:
        asked.require_any()
    name = named_in(asked, "name")
    if local:
        from headgate.cli.local import stored_endpoint, update_endpoint

        document = asked.document(stored_endpoint(session, name))
        update_endpoint(session, document.endpoint(), shares=bool(shares))
        return
    async with session.client() as client:
        stored = await client.get_endpoint(name)
        document = asked.document(stored.spec)
        spec = document.endpoint().model_copy(update=shares)
        tell_warnings(document)
        started = await client.update_endpoint(spec, stored.etag)
        if await waited(session, client, started, f"updating endpoint {name}", no_wait=no_wait):
            session.show(shapes.endpoint(await client.get_endpoint(name)))


@client_command(app, "show")
async def show(session: Session, name: options.EndpointName, local: options.Local = False) -> None:
    """Show one endpoint."""
    if local:
        from headgate.cli.local import show_endpoint

        show_endpoint(session, name)
        return
    from headgate.cli import shapes

    async with session.client() as client:
        found = await client.get_endpoint(name)
        deployments = await client.list_deployments(name)
        session.show(shapes.endpoint(found, tuple(each.spec.name for each in deployments)))


@client_command(app, "list")
async def list_all(session: Session, local: options.Local = False) -> None:
    """List all endpoints."""
    if local:
        from headgate.cli.local import list_endpoints

        list_endpoints(session)
        return
    from headgate.cli import shapes

    async with session.client() as client:
        found = await client.list_endpoints()
        session.show([shapes.endpoint(each) for each in found], LIST_COLUMNS)


@client_command(app, "delete")
async def delete(
    session: Session,
    name: options.EndpointName,
    yes: options.Yes = False,
    no_wait: options.NoWait = False,
    local: options.Local = False,
) -> None:
    """Delete an endpoint with its deployments."""
    from headgate.cli.waiting import waited

    confirm(f"Delete the endpoint {name!r} and its deployments?", yes=yes)
    if local:
        from headgate.cli.local import delete_endpoint

        await delete_endpoint(session, name)
        return
    async with session.client() as client:
        await client.get_endpoint(name)
        started = await client.delete_endpoint(name)
        await waited(session, client, started, f"deleting endpoint {name}", no_wait=no_wait)


@client_command(app, "stop")
async def stop(
    session: Session, name: options.EndpointName, no_wait: options.NoWait = False
) -> None:
    """Stop all deployments. The address and the traffic split stay."""
    from headgate.cli.power import set_power

    await set_power(session, name, stops=True, no_wait=no_wait)


@client_command(app, "start")
async def start(
    session: Session, name: options.EndpointName, no_wait: options.NoWait = False
) -> None:
    """Start all deployments of an endpoint again."""
    from headgate.cli.power import set_power

    await set_power(session, name, stops=False, no_wait=no_wait)


@client_command(app, "invoke")
async def invoke(
    session: Session,
    name: options.EndpointName,
    request_file: Annotated[
        Path, Option("--request-file", "-r", help="File with the request body; - reads stdin.")
    ],
    deployment_name: Annotated[
        str, Option("--deployment-name", "-d", help="Go straight to this deployment.")
    ] = "",
    content_type: Annotated[
        str, Option("--content-type", help="Media type of the request.")
    ] = "application/json",
    local: options.Local = False,
) -> None:
    """Send one request and print its answer as it is."""
    from headgate.cli.invoking import print_answer, read_request
    from headgate.client.access import Access
    from headgate.client.scoring import score

    body = read_request(request_file)
    if local:
        from headgate.cli.local import invoke

        print_answer(await invoke(session, name, deployment_name, body, content_type), session)
        return
    async with session.client() as client:
        found = await client.get_endpoint(name)
        secret = await Access(client).scoring_secret(found)
        answer = await score(
            client.http.target,
            str(found.properties.get("scoringUri")),
            secret,
            body,
            deployment=deployment_name,
            content_type=content_type,
        )
        print_answer(answer, session)


@client_command(app, "get-credentials")
async def get_credentials(session: Session, name: options.EndpointName) -> None:
    """Print what opens an endpoint. Both keys, or a token, as its auth_mode says."""
    from headgate.client.access import Access

    async with session.client() as client:
        session.show(await Access(client).credentials(await client.get_endpoint(name)))


@client_command(app, "regenerate-keys")
async def regenerate_keys(
    session: Session,
    name: options.EndpointName,
    key_type: Annotated[
        KeyChoice, Option("--key-type", help="Which key to replace.")
    ] = KeyChoice.PRIMARY,
    no_wait: options.NoWait = False,
) -> None:
    """Replace one key. The old one stops working within seconds."""
    from headgate.cli.waiting import waited
    from headgate_contracts.resources import KeyType

    async with session.client() as client:
        started = await client.regenerate_key(name, KeyType(key_type.value))
        text = f"regenerating the {key_type.value} key of {name}"
        if await waited(session, client, started, text, no_wait=no_wait):
            keys = await client.keys(name)
            session.show({"primaryKey": keys.primary_key, "secondaryKey": keys.secondary_key})


@client_command(app, "traffic")
async def traffic(session: Session, name: options.EndpointName) -> None:
    """Show the observed split. Requests, statuses and latencies per deployment."""
    from headgate.cli.observed import traffic_rows

    async with session.client() as client:
        session.show(traffic_rows(await client.traffic(name)), TRAFFIC_COLUMNS)

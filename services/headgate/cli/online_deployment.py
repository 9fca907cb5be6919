"""``headgate online-deployment``: the models behind an endpoint."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer
from typer import Option

from headgate.cli import options
from headgate.cli.session import Session, client_command, confirm

app = typer.Typer(no_args_is_help=True, help="Online deployments: create, scale, read logs.")

LIST_COLUMNS = {
    "name": "name",
    "provisioning_state": "state",
    "power_state": "power",
    "ready_instances": "ready",
    "instance_count": "of",
    "model": "model",
    "instance_type": "instance type",
    "error": "error",
}
INSTANCE_COLUMNS = {
    "id": "id",
    "state": "state",
    "quarantined_for_s": "quarantined s",
    "pid": "pid",
    "restarts": "restarts",
    "liveness_failures": "liveness failures",
    "readiness_failures": "readiness failures",
    "started_at": "started at",
    "ready_at": "ready at",
    "error": "error",
}


class Container(StrEnum):
    INFERENCE_SERVER = "inference-server"
    STORAGE_INITIALIZER = "storage-initializer"


AllTraffic = Annotated[
    bool, Option("--all-traffic", help="Once it runs, give it 100 % of the endpoint's traffic.")
]
SkipScriptValidation = Annotated[
    bool,
    Option("--skip-script-validation", help="Do not look whether the scoring script is there."),
]


Debug = Annotated[
    bool,
    Option(
        "--debug",
        "--vscode-debug",
        help="With --local: run under debugpy, and say where to attach.",
    ),
]
WaitForDebugger = Annotated[
    bool, Option("--wait-for-debugger", help="With --local: do nothing until one has attached.")
]


@client_command(app, "create")
async def create(
    session: Session,
    file: options.File = None,
    name: options.DeploymentName = "",
    endpoint_name: options.OfEndpoint = "",
    all_traffic: AllTraffic = False,
    set: options.Set = None,
    force_string: options.ForceString = False,
    allow_outside: options.AllowOutside = False,
    skip_script_validation: SkipScriptValidation = False,
    no_wait: options.NoWait = False,
    local: options.Local = False,
    debug: Debug = False,
    wait_for_debugger: WaitForDebugger = False,
) -> None:
    """Create a deployment. Its files are uploaded, and its instances waited for."""
    from headgate.cli.deploying import deploy
    from headgate.cli.documents import Asked, tell_warnings
    from headgate.cli.errors import UsageError

    _check_debugging(debug or wait_for_debugger, local=local)
    if all_traffic and no_wait:
        raise UsageError("--all-traffic waits for the deployment, so it excludes --no-wait")
    fields = {"name": name, "endpoint_name": endpoint_name}
    asked = Asked(file, fields, set or (), (), (), force_string, allow_outside)
    document = asked.document()
    wanted = document.deployment(check_script=not skip_script_validation)
    tell_warnings(document)
    if local:
        from headgate.cli.local import create_deployment

        await create_deployment(
            session, wanted, file, debug=debug, wait_for_debugger=wait_for_debugger
        )
        return
    async with session.client() as client:
        await deploy(session, client, wanted, all_traffic=all_traffic, no_wait=no_wait)


@client_command(app, "update")
async def update(
    session: Session,
    name: options.DeploymentName = "",
    endpoint_name: options.OfEndpoint = "",
    file: options.File = None,
    set: options.Set = None,
    add: options.Add = None,
    remove: options.Remove = None,
    force_string: options.ForceString = False,
    allow_outside: options.AllowOutside = False,
    skip_script_validation: SkipScriptValidation = False,
    no_wait: options.NoWait = False,
    local: options.Local = False,
    debug: Debug = False,
    wait_for_debugger: WaitForDebugger = False,
) -> None:
    """Change a deployment; what is not mentioned stays. Instances are replaced one by one."""
    from headgate.cli.deploying import deploy
    from headgate.cli.documents import Asked, named_in, tell_warnings

    _check_debugging(debug or wait_for_debugger, local=local)
    if local and file is None and name and endpoint_name:
        from headgate.cli.local import file_of

        file = file_of(session, endpoint_name, name)
    fields = {"name": name, "endpoint_name": endpoint_name}
    asked = Asked(
        file, fields, set or (), add or (), remove or (), force_string, allow_outside
    )  # fmt: skip
    asked.require_any()
    name = named_in(asked, "name")
    endpoint_name = named_in(asked, "endpoint_name")
    if local:
        from headgate.cli import local as on_this_machine

        document = asked.document()
        wanted = document.deployment(check_script=not skip_script_validation)
        tell_warnings(document)
        await on_this_machine.deploy(
            session, wanted, file, debug=debug, wait_for_debugger=wait_for_debugger
        )
        return
    async with session.client() as client:
        stored = await client.get_deployment(endpoint_name, name)
        document = asked.document(stored.spec)
        wanted = document.deployment(check_script=not skip_script_validation)
        tell_warnings(document)
        await deploy(session, client, wanted, no_wait=no_wait, etag=stored.etag)


@client_command(app, "show")
async def show(
    session: Session,
    name: options.DeploymentName,
    endpoint_name: options.OfEndpoint,
    local: options.Local = False,
) -> None:
    """Show one deployment, with the reason when it failed."""
    from headgate.cli import shapes

    if local:
        from headgate.cli.local import show_deployment

        await show_deployment(session, endpoint_name, name)
        return
    async with session.client() as client:
        session.show(shapes.deployment(await client.get_deployment(endpoint_name, name)))


@client_command(app, "list")
async def list_all(
    session: Session, endpoint_name: options.OfEndpoint, local: options.Local = False
) -> None:
    """List the deployments of an endpoint."""
    from headgate.cli import shapes

    if local:
        from headgate.cli.local import list_deployments

        await list_deployments(session, endpoint_name)
        return
    async with session.client() as client:
        found = await client.list_deployments(endpoint_name)
        session.show([shapes.deployment(each) for each in found], LIST_COLUMNS)


@client_command(app, "delete")
async def delete(
    session: Session,
    name: options.DeploymentName,
    endpoint_name: options.OfEndpoint,
    yes: options.Yes = False,
    no_wait: options.NoWait = False,
    local: options.Local = False,
) -> None:
    """Delete a deployment that has no traffic. Requests under way are finished first."""
    from headgate.cli.waiting import waited

    confirm(f"Delete the deployment {name!r} of {endpoint_name!r}?", yes=yes)
    if local:
        from headgate.cli.local import delete_deployment

        await delete_deployment(session, endpoint_name, name)
        return
    async with session.client() as client:
        await client.get_deployment(endpoint_name, name)
        started = await client.delete_deployment(endpoint_name, name)
        await waited(session, client, started, f"deleting deployment {name}", no_wait=no_wait)


@client_command(app, "stop")
async def stop(
    session: Session,
    name: options.DeploymentName,
    endpoint_name: options.OfEndpoint,
    no_wait: options.NoWait = False,
) -> None:
    """Take all instances away: no cost, and 503 for requests. Its share of the traffic stays."""
    from headgate.cli.power import set_power

    await set_power(session, endpoint_name, name, stops=True, no_wait=no_wait)


@client_command(app, "start")
async def start(
    session: Session,
    name: options.DeploymentName,
    endpoint_name: options.OfEndpoint,
    no_wait: options.NoWait = False,
) -> None:
    """Bring a stopped deployment back. It is as it was, and its instances are waited for."""
    from headgate.cli.power import set_power

    await set_power(session, endpoint_name, name, stops=False, no_wait=no_wait)


@client_command(app, "get-logs")
async def get_logs(
    session: Session,
    name: options.DeploymentName,
    endpoint_name: options.OfEndpoint,
    lines: Annotated[
        int, Option("--lines", "-l", min=1, max=50_000, help="How many of the last lines.")
    ] = 5_000,
    container: Annotated[
        Container, Option("--container", "-c", help="Whose log.")
    ] = Container.INFERENCE_SERVER,
    follow: Annotated[bool, Option("--follow", "-f", help="Go on with what comes.")] = False,
    request_id: Annotated[
        str, Option("--request-id", help="Only lines that this request wrote.")
    ] = "",
    grep: Annotated[str, Option("--grep", help="Only lines that contain this text.")] = "",
    local: options.Local = False,
) -> None:
    """Print the last log lines. Those of a failed deployment are kept."""
    from headgate.cli.deploying import follow_logs
    from headgate.cli.errors import UsageError
    from headgate.cli.output import write

    if local and (request_id or grep):
        raise UsageError("--request-id and --grep are not for --local; use grep on its output")
    if local:
        from headgate.cli.local import get_logs as get_local_logs

        await get_local_logs(session, endpoint_name, name, lines=lines, follow=follow)
        return
    async with session.client() as client:
        text, cursor = await client.logs(
            endpoint_name,
            name,
            container=container.value,
            tail=lines,
            request_id=request_id,
            contains=grep,
        )
        write(text if not text or text.endswith("\n") else f"{text}\n")
        if follow:
            await follow_logs(
                client, endpoint_name, name, container.value, cursor, request_id, grep
            )


@client_command(app, "instances")
async def instances(
    session: Session, name: options.DeploymentName, endpoint_name: options.OfEndpoint
) -> None:
    """List the running instances of a deployment."""
    from headgate.cli.observed import renamed

    async with session.client() as client:
        session.show(renamed(await client.instances(endpoint_name, name)), INSTANCE_COLUMNS)


def _check_debugging(wanted: bool, *, local: bool) -> None:
    from headgate.cli.errors import UsageError

    if wanted and not local:
        raise UsageError("a debugger can attach to local deployments only: add --local")

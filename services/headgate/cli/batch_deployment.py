"""``headgate batch-deployment``: the models behind a batch endpoint."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer
from typer import Option

from headgate.cli import options
from headgate.cli.batch_endpoint import JOB_COLUMNS
from headgate.cli.online_deployment import SkipScriptValidation
from headgate.cli.session import Session, client_command, confirm

if TYPE_CHECKING:
    from headgate.azure.yaml_values import LocalDeployment
    from headgate.client import Client
    from headgate_contracts.batch import BatchDeploymentSpec

app = typer.Typer(no_args_is_help=True, help="Batch deployments: create, change, list jobs.")

LIST_COLUMNS = ("name", "provisioning_state", "model", "compute", "mini_batch_size")
DEFAULT_TRIES = 5


@client_command(app, "create")
async def create(
    session: Session,
    file: options.File = None,
    name: options.DeploymentName = "",
    endpoint_name: options.OfEndpoint = "",
    set_default: Annotated[
        bool, Option("--set-default", help="Make it the endpoint's default deployment.")
    ] = False,
    set: options.Set = None,
    force_string: options.ForceString = False,
    allow_outside: options.AllowOutside = False,
    skip_script_validation: SkipScriptValidation = False,
    no_wait: options.NoWait = False,
) -> None:
    """Create a batch deployment, or replace the one of this name. Its files are uploaded."""
    from headgate.cli.documents import Asked, tell_warnings
    from headgate.cli.errors import UsageError

    if set_default and no_wait:
        raise UsageError("--set-default waits for the deployment, so it excludes --no-wait")
    fields = {"name": name, "endpoint_name": endpoint_name}
    asked = Asked(file, fields, set or (), (), (), force_string, allow_outside)
    document = asked.document()
    local = document.batch_deployment(check_script=not skip_script_validation)
    tell_warnings(document)
    async with session.client() as client:
        await client.get_batch_endpoint(local.spec.endpoint_name)  # before anything is uploaded
        await _deploy(session, client, local, set_default=set_default, no_wait=no_wait)


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
) -> None:
    """Change a batch deployment; what is not mentioned stays. Jobs under way are not touched."""
    from headgate.cli.documents import Asked, named_in, tell_warnings

    fields = {"name": name, "endpoint_name": endpoint_name}
    asked = Asked(
        file, fields, set or (), add or (), remove or (), force_string, allow_outside
    )  # fmt: skip
    asked.require_any()
    name = named_in(asked, "name")
    endpoint_name = named_in(asked, "endpoint_name")
    async with session.client() as client:
        stored = await client.get_batch_deployment(endpoint_name, name)
        document = asked.document(stored.spec)
        local = document.batch_deployment(check_script=not skip_script_validation)
        tell_warnings(document)
        await _deploy(session, client, local, no_wait=no_wait, etag=stored.etag)


async def _deploy(
    session: Session,
    client: Client,
    local: LocalDeployment[BatchDeploymentSpec],
    *,
    set_default: bool = False,
    no_wait: bool = False,
    etag: str = "",
) -> None:
    """Assets first, then the deployment, then its place as the default."""
    from headgate.cli import shapes
    from headgate.cli.progress import upload_bar
    from headgate.cli.waiting import waited
    from headgate.client.assets import register_all

    spec = await register_all(client, local, upload_bar)
    started = await client.put_batch_deployment(spec, etag)
    text = f"{'updating' if etag else 'creating'} batch deployment {spec.name}"
    if not await waited(session, client, started, text, no_wait=no_wait):
        return
    if set_default:
        await _make_default(session, client, spec)
    found = await client.get_batch_deployment(spec.endpoint_name, spec.name)
    session.show(shapes.batch_deployment(found))


async def _make_default(session: Session, client: Client, spec: BatchDeploymentSpec) -> None:
    """Whatever else changes on the endpoint meanwhile."""
    from headgate.cli.waiting import wait
    from headgate_contracts.batch import BatchDefaults
    from headgate_contracts.errors import ErrorCode, HeadgateError

    endpoint = spec.endpoint_name
    for tries_left in reversed(range(DEFAULT_TRIES)):
        stored = await client.get_batch_endpoint(endpoint)
        defaults = BatchDefaults(deployment_name=spec.name)
        wanted = stored.spec.model_copy(update={"defaults": defaults})
        try:
            started = await client.put_batch_endpoint(wanted, stored.etag)
        except HeadgateError as error:
            if error.error.code is not ErrorCode.REVISION_MISMATCH or not tries_left:
                raise
        else:
            await wait(session, client, started, f"making {spec.name} the default of {endpoint}")
            return


@client_command(app, "show")
async def show(
    session: Session, name: options.DeploymentName, endpoint_name: options.OfEndpoint
) -> None:
    """Show one batch deployment."""
    from headgate.cli import shapes

    async with session.client() as client:
        found = await client.get_batch_deployment(endpoint_name, name)
        session.show(shapes.batch_deployment(found))


@client_command(app, "list")
async def list_all(session: Session, endpoint_name: options.OfEndpoint) -> None:
    """List the deployments of a batch endpoint."""
    from headgate.cli import shapes

    async with session.client() as client:
        found = await client.list_batch_deployments(endpoint_name)
        session.show([shapes.batch_deployment(each) for each in found], LIST_COLUMNS)


@client_command(app, "delete")
async def delete(
    session: Session,
    name: options.DeploymentName,
    endpoint_name: options.OfEndpoint,
    yes: options.Yes = False,
    no_wait: options.NoWait = False,
) -> None:
    """Delete a batch deployment that is not the default. There need not be one."""
    from headgate.cli.waiting import end_deletion

    confirm(f"Delete the batch deployment {name!r} of {endpoint_name!r}?", yes=yes)
    async with session.client() as client:
        started = await client.delete_batch_deployment(endpoint_name, name)
        await end_deletion(session, client, started, f"batch deployment {name}", no_wait=no_wait)


@client_command(app, "list-jobs")
async def list_jobs(
    session: Session, name: options.DeploymentName, endpoint_name: options.OfEndpoint
) -> None:
    """List the jobs of a batch deployment."""
    async with session.client() as client:
        session.show(await client.list_batch_jobs(endpoint_name, name), JOB_COLUMNS)

"""``headgate batch-endpoint``: the addresses that jobs over many files are sent to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer
from typer import Option

from headgate.cli import options
from headgate.cli.session import Session, client_command, confirm

if TYPE_CHECKING:
    from headgate_contracts.batch import BatchDefaults

app = typer.Typer(no_args_is_help=True, help="Batch endpoints: create, invoke, choose the default.")

LIST_COLUMNS = ("name", "provisioning_state", "auth_mode", "defaults", "scoring_uri")
JOB_COLUMNS = ("name", "status", "deployment", "done", "created")


@client_command(app, "create")
async def create(
    session: Session,
    file: options.File = None,
    name: options.EndpointName = "",
    auth_mode: Annotated[str, Option("--auth-mode", help="aad_token, the only one.")] = "",
    set: options.Set = None,
    force_string: options.ForceString = False,
    no_wait: options.NoWait = False,
) -> None:
    """Create a batch endpoint. None of the same name must exist, batch or online."""
    from headgate.cli import shapes
    from headgate.cli.documents import Asked, tell_warnings
    from headgate.cli.waiting import waited

    fields = {"name": name, "auth_mode": auth_mode}
    document = Asked(file, fields, set or (), force_string=force_string).document()
    spec = document.batch_endpoint()
    tell_warnings(document)
    async with session.client() as client:
        started = await client.put_batch_endpoint(spec)
        if await waited(
            session, client, started, f"creating batch endpoint {spec.name}", no_wait=no_wait
        ):
            session.show(shapes.batch_endpoint(await client.get_batch_endpoint(spec.name)))


@client_command(app, "update")
async def update(
    session: Session,
    name: options.EndpointName = "",
    file: options.File = None,
    defaults: Annotated[
        list[str] | None,
        Option(
            "--defaults",
            metavar="deployment_name=NAME",
            help="What gets invocations that name no deployment; an empty NAME for none.",
        ),
    ] = None,
    set: options.Set = None,
    add: options.Add = None,
    remove: options.Remove = None,
    force_string: options.ForceString = False,
    no_wait: options.NoWait = False,
) -> None:
    """Change a batch endpoint; what is not mentioned stays."""
    from headgate.cli import shapes
    from headgate.cli.documents import Asked, named_in, tell_warnings
    from headgate.cli.waiting import waited

    asked = Asked(file, {"name": name}, set or (), add or (), remove or (), force_string)
    changes = {} if defaults is None else {"defaults": _defaults(defaults)}
    if not changes:
        asked.require_any()
    name = named_in(asked, "name")
    async with session.client() as client:
        stored = await client.get_batch_endpoint(name)
        document = asked.document(stored.spec)
        spec = document.batch_endpoint().model_copy(update=changes)
        tell_warnings(document)
        started = await client.put_batch_endpoint(spec, stored.etag)
        if await waited(
            session, client, started, f"updating batch endpoint {name}", no_wait=no_wait
        ):
            session.show(shapes.batch_endpoint(await client.get_batch_endpoint(name)))


def _defaults(words: Sequence[str]) -> BatchDefaults:
    """``deployment_name=blue`` as a value; nothing after ``=`` means none."""
    from headgate.cli.errors import UsageError
    from headgate_contracts.batch import BatchDefaults

    field, separator, name = words[0].partition("=")
    if len(words) > 1 or not separator or field.replace("_", "").lower() != "deploymentname":
        raise UsageError(f"--defaults {' '.join(words)!r}: write deployment_name=<deployment>")
    return BatchDefaults(deployment_name=name or None)


@client_command(app, "show")
async def show(session: Session, name: options.EndpointName) -> None:
    """Show one batch endpoint."""
    from headgate.cli import shapes

    async with session.client() as client:
        session.show(shapes.batch_endpoint(await client.get_batch_endpoint(name)))


@client_command(app, "list")
async def list_all(session: Session) -> None:
    """List all batch endpoints."""
    from headgate.cli import shapes

    async with session.client() as client:
        found = await client.list_batch_endpoints()
        session.show([shapes.batch_endpoint(each) for each in found], LIST_COLUMNS)


@client_command(app, "delete")
async def delete(
    session: Session,
    name: options.EndpointName,
    yes: options.Yes = False,
    no_wait: options.NoWait = False,
) -> None:
    """Delete a batch endpoint with its deployments. There need not be one."""
    from headgate.cli.waiting import end_deletion

    confirm(f"Delete the batch endpoint {name!r} and its deployments?", yes=yes)
    async with session.client() as client:
        started = await client.delete_batch_endpoint(name)
        await end_deletion(session, client, started, f"batch endpoint {name}", no_wait=no_wait)


@client_command(app, "invoke")
async def invoke(
    session: Session,
    name: options.EndpointName,
    deployment_name: Annotated[
        str, Option("--deployment-name", "-d", help="Default: the endpoint's default deployment.")
    ] = "",
    input: Annotated[
        str, Option("--input", help="Local file or folder, datastore path, data asset, address.")
    ] = "",
    input_type: Annotated[
        str, Option("--input-type", help="uri_folder or uri_file. Default: as a local path is.")
    ] = "",
    inputs: Annotated[
        str, Option("--inputs", help="The same for inputs with names: --inputs x=<path>.")
    ] = "",
    output_path: Annotated[
        str, Option("--output-path", help="Datastore path for the output.")
    ] = "",
    set: options.Set = None,
    mini_batch_size: Annotated[
        int | None, Option("--mini-batch-size", "-m", help="Files per call of run().")
    ] = None,
    instance_count: Annotated[
        int | None, Option("--instance-count", "-c", help="Nodes that work on the job.")
    ] = None,
    priority: Annotated[
        int | None, Option("--priority", help="-100 to 100: who shares a compute first.")
    ] = None,
    job_name: Annotated[str, Option("--job-name", help="Default: a new one.")] = "",
    experiment_name: Annotated[str, Option("--experiment-name", help="A group of jobs.")] = "",
    stream: Annotated[bool, Option("--stream", help="Follow the job until it has ended.")] = False,
) -> None:
    """Make a job of a batch endpoint."""
    from headgate.cli import batch_invoking, job
    from headgate.client.jobs import Jobs

    label, separator, path = inputs.partition("=")
    source = input or (path if separator else inputs)
    flags = {
        "mini_batch_size": mini_batch_size,
        "instance_count": instance_count,
        "priority": priority,
    }
    async with session.client() as client:
        found = {}
        if source:
            kind = batch_invoking.kind_of(source, input_type)
            uri = await batch_invoking.uploaded(client, source)
            found[label if separator else "input"] = {"type": kind, "uri": uri}
        command = batch_invoking.command_of(
            client.context.workspace,
            name,
            deployment=deployment_name,
            names={"name": job_name or None, "experiment_name": experiment_name},
            flags=flags,
            pairs=set or (),
            inputs=found,
            output=output_path,
        )
        jobs = Jobs(client)
        body = await jobs.invoke(command)
        if stream:
            body = await job.followed(jobs, str(body["name"]))
        session.show(job.shaped(body))
    if stream:
        job.end_with(body)


@client_command(app, "list-jobs")
async def list_jobs(session: Session, name: options.EndpointName) -> None:
    """List the jobs of a batch endpoint."""
    from headgate.cli import job

    async with session.client() as client:
        found = await client.list_batch_jobs(name)
        session.show([job.shaped(body) for body in found], JOB_COLUMNS)

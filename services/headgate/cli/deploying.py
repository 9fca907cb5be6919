"""Carries a deployment out: assets first, then the deployment itself, then its traffic."""

from __future__ import annotations

from headgate.azure.yaml_values import LocalDeployment
from headgate.cli import shapes
from headgate.cli.errors import OperationFailedError, say
from headgate.cli.output import write
from headgate.cli.progress import upload_bar
from headgate.cli.session import Session
from headgate.cli.waiting import tell_started, wait
from headgate.client import Client, Started
from headgate.client.assets import register_all
from headgate_contracts import limits
from headgate_contracts.errors import ErrorCode, HeadgateError
from headgate_contracts.resources import DeploymentSpec

TRAFFIC_TRIES = 5
LOG_WAIT_S = 20


async def deploy(
    session: Session,
    client: Client,
    local: LocalDeployment[DeploymentSpec],
    *,
    all_traffic: bool = False,
    no_wait: bool = False,
    etag: str = "",
) -> None:
    """Creates a deployment, or with ``etag`` changes it, and shows how it came out."""
    spec = local.spec
    endpoint, name = spec.endpoint_name, spec.name
    if not etag:
        await _refuse_existing(client, spec)
    spec = await register_all(client, local, upload_bar)
    if etag:
        started = await client.update_deployment(spec, etag)
    else:
        started = await client.create_deployment(spec)
    text = f"{'updating' if etag else 'creating'} deployment {name}"
    if no_wait:
        tell_started(started, text)
        return
    await wait_for_deployment(session, client, started, spec, text)
    if all_traffic:
        await _give_all_traffic(session, client, endpoint, name)
    session.show(shapes.deployment(await client.get_deployment(endpoint, name)))


async def wait_for_deployment(
    session: Session, client: Client, started: Started, spec: DeploymentSpec, text: str
) -> None:
    """Until it is ready; when it fails, says where the log is."""
    endpoint, name = spec.endpoint_name, spec.name
    try:
        await wait(session, client, started, text, deployment=(endpoint, name))
    except OperationFailedError:
        say(f"see the log: headgate online-deployment get-logs -n {name} -e {endpoint}")
        raise


async def _refuse_existing(client: Client, spec: DeploymentSpec) -> None:
    """Before anything is uploaded: is there an endpoint, and is the name free?"""
    await client.get_endpoint(spec.endpoint_name)
    try:
        await client.get_deployment(spec.endpoint_name, spec.name)
    except HeadgateError as error:
        if error.error.code is ErrorCode.RESOURCE_NOT_FOUND:
            return
        raise
    raise HeadgateError(
        ErrorCode.RESOURCE_EXISTS,
        f"the endpoint {spec.endpoint_name!r} has a deployment {spec.name!r} already; change it "
        "with 'headgate online-deployment update'",
    )


async def _give_all_traffic(session: Session, client: Client, endpoint: str, name: str) -> None:
    """100 % to one deployment and 0 % to the others, whatever else changes meanwhile."""
    for tries_left in reversed(range(TRAFFIC_TRIES)):
        stored = await client.get_endpoint(endpoint)
        traffic = dict.fromkeys(stored.spec.traffic, 0) | {name: 100}
        mirrors = {each: n for each, n in stored.spec.mirror_traffic.items() if each != name}
        spec = stored.spec.model_copy(update={"traffic": traffic, "mirror_traffic": mirrors})
        try:
            started = await client.update_endpoint(spec, stored.etag)
        except HeadgateError as error:
            if error.error.code is not ErrorCode.REVISION_MISMATCH or not tries_left:
                raise
        else:
            await wait(session, client, started, f"giving {name} all traffic of {endpoint}")
            return


async def follow_logs(
    client: Client,
    endpoint: str,
    name: str,
    container: str,
    cursor: str,
    request_id: str = "",
    contains: str = "",
) -> None:
    """Prints what comes, until it is broken off or the deployment is deleted."""
    while True:
        text, cursor = await client.logs(
            endpoint,
            name,
            container=container,
            tail=limits.LOG_LINES_MAX,
            cursor=cursor,
            wait_s=LOG_WAIT_S,
            request_id=request_id,
            contains=contains,
        )
        write(text if not text or text.endswith("\n") else f"{text}\n")

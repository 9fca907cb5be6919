"""Carries out what ``headgate apply`` has planned, one step after the other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from headgate.azure.yaml_values import D, LocalDeployment, LocalEnvironment, LocalModel
from headgate.cli.apply_plan import Action, Step, with_traffic
from headgate.cli.deploying import wait_for_deployment
from headgate.cli.errors import RefusedError, say
from headgate.cli.progress import upload_bar
from headgate.cli.session import Session
from headgate.cli.waiting import wait
from headgate.client import Client
from headgate.client.assets import register_all, register_environment, register_model
from headgate.client.autoscale import Autoscale
from headgate_contracts.autoscale import AutoscaleSpec
from headgate_contracts.batch import BatchDeploymentSpec, BatchEndpointSpec
from headgate_contracts.errors import Blame, HeadgateError
from headgate_contracts.resources import DeploymentSpec, EndpointSpec


@contextmanager
def refusing() -> Iterator[None]:
    """Tells what Headgate did not take from what it took and could not bring about."""
    try:
        yield
    except HeadgateError as error:
        if error.error.blame is not Blame.CALLER:
            raise
        raise RefusedError(error) from None


async def carry_out(session: Session, client: Client, steps: Sequence[Step]) -> None:
    """Do what is to be done. The first step that fails ends it; those before it stay done."""
    for step in steps:
        if step.action is not Action.NOTHING:
            say(f"{step.action} {step.kind} {step.wanted.name}")
            await _do(session, client, step)


async def _do(session: Session, client: Client, step: Step) -> None:
    match step.wanted.local:
        case LocalModel() as model:
            with refusing():
                await register_model(client, model, upload_bar)
        case LocalEnvironment() as environment:
            with refusing():
                await register_environment(client, environment, upload_bar)
        case LocalDeployment() as deployment:
            await _deploy(session, client, step, deployment)
        case EndpointSpec() as endpoint:
            put = _shift_traffic if step.part else _put_endpoint
            await put(session, client, step, endpoint)
        case AutoscaleSpec() as setting:
            with refusing():
                await Autoscale(client).put(setting, step.etag)
        case BatchEndpointSpec() as batch:
            put_batch = _set_default if step.part else _put_batch_endpoint
            await put_batch(session, client, step, batch)


async def _deploy(session: Session, client: Client, step: Step, local: LocalDeployment[D]) -> None:
    with refusing():
        spec = await register_all(client, local, upload_bar)
        if isinstance(spec, BatchDeploymentSpec):
            started = await client.put_batch_deployment(spec, step.etag)
        elif step.action is Action.CREATE:
            started = await client.create_deployment(spec)
        else:
            started = await client.update_deployment(spec, step.etag)
    text = f"deployment {spec.name} of {spec.endpoint_name}"
    if isinstance(spec, DeploymentSpec):
        await wait_for_deployment(session, client, started, spec, text)
    else:
        await wait(session, client, started, text)


async def _put_endpoint(
    session: Session, client: Client, step: Step, endpoint: EndpointSpec
) -> None:
    spec = step.endpoint or endpoint
    with refusing():
        if step.action is Action.CREATE:
            started = await client.create_endpoint(spec)
        else:
            started = await client.update_endpoint(spec, step.etag)
    await wait(session, client, started, f"endpoint {endpoint.name}")


async def _shift_traffic(
    session: Session, client: Client, step: Step, endpoint: EndpointSpec
) -> None:
    """Set the shares on the endpoint as it is by now: its deployments may be new."""
    with refusing():
        found = await client.get_endpoint(endpoint.name)
        spec = with_traffic(found.spec, endpoint, step.wanted.mentions)
        started = await client.update_endpoint(spec, found.etag)
    await wait(session, client, started, f"traffic of {endpoint.name}")


async def _put_batch_endpoint(
    session: Session, client: Client, step: Step, endpoint: BatchEndpointSpec
) -> None:
    with refusing():
        started = await client.put_batch_endpoint(step.batch_endpoint or endpoint, step.etag)
    await wait(session, client, started, f"batch endpoint {endpoint.name}")


async def _set_default(
    session: Session, client: Client, step: Step, endpoint: BatchEndpointSpec
) -> None:
    """Set the default deployment on the endpoint as it is by now: the deployment may be new."""
    with refusing():
        found = await client.get_batch_endpoint(endpoint.name)
        spec = found.spec.model_copy(update={"defaults": endpoint.defaults})
        started = await client.put_batch_endpoint(spec, found.etag)
    await wait(session, client, started, f"{step.kind} of {endpoint.name}")

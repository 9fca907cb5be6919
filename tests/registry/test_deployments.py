"""Deployments and traffic over the bus, the same on SQLite and PostgreSQL."""

from __future__ import annotations

from typing import Any

import pytest

from headgate_contracts import limits, registry
from headgate_contracts.errors import ErrorCode, ErrorDetail, WireError
from headgate_contracts.resources import (
    CodeConfiguration,
    DeploymentSpec,
    Probe,
    ProvisioningState,
    RequestSettings,
)
from headgate_contracts.resources import OperationStatus as Status
from registry.harness import EventLog, World, refused

pytestmark = pytest.mark.asyncio(loop_scope="session")

S = ProvisioningState
BROKEN = WireError(code=ErrorCode.USER_SCRIPT_INIT_FAILED, message="init() raised ValueError")


async def test_a_deployment_becomes_ready(world: World, name: str, events: EventLog) -> None:
    await world.put_endpoint(name)
    made = await world.put_deployment(name, instance_count=2)
    assert made.created
    assert made.deployment.provisioning_state is S.CREATING
    assert made.operation is not None
    assert made.operation.status is Status.IN_PROGRESS
    await world.report(made.deployment, "progressing", ready_instances=1, percent_complete=50)
    assert (await world.deployment(name)).ready_instances == 1
    assert (await world.operation(made.operation.id)).percent_complete == 50
    await world.report(made.deployment, "progressing", ready_instances=1, percent_complete=20)
    assert (await world.operation(made.operation.id)).percent_complete == 50  # never backwards
    await world.report(made.deployment, "succeeded", ready_instances=2)
    ready = await world.deployment(name)
    assert ready.provisioning_state is S.SUCCEEDED
    assert ready.ready_instances == 2
    ended = await world.operation(made.operation.id)
    assert (ended.status, ended.percent_complete) == (Status.SUCCEEDED, 100)
    assert ended.ended_at is not None
    await events.until("endpoint_created", "deployment_created", "deployment_succeeded")


async def test_an_unknown_instance_type_is_refused_with_similar_names(
    world: World, name: str
) -> None:
    await world.put_endpoint(name)
    asked = world.put_deployment(name, instance_type="Standard_DS3v2")
    await refused(ErrorCode.BAD_ARGUMENT, asked, "'Standard_DS3v2'", "Standard_DS3_v2")
    made = await world.put_deployment(name, instance_type="standard_ds3_V2")
    assert made.deployment.spec.instance_type == "standard_ds3_V2"
    asked = world.put_deployment(name, instance_type="huge")
    await refused(ErrorCode.BAD_ARGUMENT, asked, "'huge'")


async def test_progress_alone_changes_no_revision(world: World, name: str) -> None:
    """A user who read the deployment before may still write it after."""
    await world.put_endpoint(name)
    made = (await world.put_deployment(name)).deployment
    await world.report(made, "progressing", ready_instances=1, percent_complete=50)
    assert (await world.deployment(name)).revision == made.revision


async def test_a_deployment_that_fails_says_why_and_recovers(
    world: World, name: str, events: EventLog
) -> None:
    await world.put_endpoint(name)
    made = await world.put_deployment(name)
    await world.report(made.deployment, "failed", error=BROKEN)
    failed = await world.deployment(name)
    assert (failed.provisioning_state, failed.error) == (S.FAILED, BROKEN)
    assert made.operation is not None
    operation = await world.operation(made.operation.id)
    assert (operation.status, operation.error) == (Status.FAILED, BROKEN)
    await world.report(made.deployment, "failed", error=BROKEN)  # the same word again is no news
    await world.report(made.deployment, "succeeded", ready_instances=1)
    well = await world.deployment(name)
    assert (well.provisioning_state, well.error) == (S.SUCCEEDED, None)
    await events.until(
        "endpoint_created", "deployment_created", "deployment_failed", "deployment_succeeded"
    )


async def test_a_ready_deployment_fails_only_when_it_is_said_so(world: World, name: str) -> None:
    await world.put_endpoint(name)
    made = await world.deploy(name)
    await world.report(made, "progressing", ready_instances=0)
    now = await world.deployment(name)
    assert (now.provisioning_state, now.ready_instances) == (S.SUCCEEDED, 0)
    await world.report(made, "failed", error=BROKEN)
    assert (await world.deployment(name)).provisioning_state is S.FAILED


async def test_an_endless_error_is_cut_so_that_its_event_fits(
    world: World, name: str, events: EventLog
) -> None:
    await world.put_endpoint(name)
    made = (await world.put_deployment(name)).deployment
    detail = ErrorDetail(code="x", message="\x01" * 10_000, target="\x02" * 10_000)
    error = WireError(
        code=ErrorCode.INTERNAL,
        message="\x00" * 100_000,
        target="\x03" * 5_000,
        details=(detail,) * 50,
    )
    await world.report(made, "failed", error=error)
    await events.until("deployment_failed")


async def test_a_word_about_an_older_generation_is_ignored(world: World, name: str) -> None:
    await world.put_endpoint(name)
    first = await world.deploy(name)
    second = (await world.put_deployment(name, environment_variables={"A": "1"})).deployment
    assert second.generation > first.generation
    await world.report(first, "failed", error=BROKEN)
    await world.report(first, "succeeded", ready_instances=1)
    assert (await world.deployment(name)).provisioning_state is S.UPDATING


async def test_a_late_word_never_hits_a_successor_of_the_same_name(world: World, name: str) -> None:
    await world.put_endpoint(name)
    old = (await world.put_deployment(name)).deployment
    await world.delete_deployment(name)
    await world.report(old, "gone")
    new = (await world.put_deployment(name)).deployment
    await world.delete_deployment(name)
    await world.report(old, "gone")
    assert (await world.deployment(name)).generation == new.generation
    await world.report(new, "gone")
    await refused(ErrorCode.RESOURCE_NOT_FOUND, world.deployment(name))


async def test_a_failure_without_a_reason_is_refused(world: World, name: str) -> None:
    await world.put_endpoint(name)
    made = (await world.put_deployment(name)).deployment
    await refused(ErrorCode.BAD_ARGUMENT, world.report(made, "failed"), "why")
    await refused(ErrorCode.RESOURCE_CONFLICT, world.report(made, "gone"))


@pytest.mark.parametrize(
    ("change", "state", "new_generation"),
    [
        ({"instance_count": 3}, S.SCALING, True),
        ({"environment_variables": {"A": "1"}}, S.UPDATING, True),
        ({"instance_count": 3, "environment_variables": {"A": "1"}}, S.UPDATING, True),
        ({"request_settings": RequestSettings(request_timeout_ms=9_000)}, S.UPDATING, True),
        ({"tags": {"a": "1"}, "description": "x"}, S.SUCCEEDED, False),
        ({"properties": {"a": "1"}}, S.SUCCEEDED, False),
        ({}, S.SUCCEEDED, False),
    ],
    ids=["scale", "update", "both", "settings", "labels", "properties", "same"],
)
async def test_what_changes_decides_what_happens(
    world: World, name: str, change: dict[str, Any], state: S, new_generation: bool
) -> None:
    await world.put_endpoint(name)
    before = await world.deploy(name)
    reply = await world.put_deployment(name, **change)
    after = reply.deployment
    assert after.provisioning_state is state
    assert (after.generation > before.generation) is new_generation
    assert (after.revision > before.revision) is bool(change)
    assert reply.operation is not None
    busy = state is not S.SUCCEEDED
    assert reply.operation.status is (Status.IN_PROGRESS if busy else Status.SUCCEEDED)


async def test_one_operation_at_a_time(world: World, name: str) -> None:
    await world.put_endpoint(name)
    running = (await world.put_deployment(name)).operation
    assert running is not None
    again = world.put_deployment(name, instance_count=2)
    await refused(ErrorCode.RESOURCE_CONFLICT, again, "being created", running.id)


async def test_the_same_again_retries_what_failed(world: World, name: str) -> None:
    await world.put_endpoint(name)
    made = (await world.put_deployment(name)).deployment
    await world.report(made, "failed", error=BROKEN)
    again = (await world.put_deployment(name)).deployment
    assert again.provisioning_state is S.UPDATING
    assert again.generation > made.generation
    assert again.error is None


async def test_create_only_and_revisions_hold_for_deployments(world: World, name: str) -> None:
    await world.put_endpoint(name)
    spec = DeploymentSpec(name="blue", endpoint_name=name, tags={"a": "1"})
    command = registry.PutDeployment(workspace=world.workspace, spec=spec, if_revision=1)
    await refused(ErrorCode.REVISION_MISMATCH, world.ask(command))
    made = await world.deploy(name)
    create = registry.PutDeployment(workspace=world.workspace, spec=spec, create_only=True)
    await refused(ErrorCode.RESOURCE_EXISTS, world.ask(create))
    await refused(ErrorCode.REVISION_MISMATCH, world.ask(command))
    fitting = command.model_copy(update={"if_revision": made.revision})
    assert (await world.ask(fitting)).deployment.spec.tags == {"a": "1"}


async def test_the_number_of_deployments_is_bounded(world: World, name: str) -> None:
    await world.put_endpoint(name)
    for number in range(limits.DEPLOYMENTS_PER_ENDPOINT_MAX):
        await world.put_deployment(name, f"dep{number}")
    await refused(ErrorCode.QUOTA_EXCEEDED, world.put_deployment(name, "one-more"), "20")


@pytest.mark.parametrize(
    ("spec", "target"),
    [
        ({"liveness_probe": Probe(success_threshold=2)}, "liveness_probe.success_threshold"),
        ({"model": "azureml:absent:1"}, "model"),
        ({"model": "azureml:absent@latest"}, "model"),
        ({"model": "azureml:some@stable"}, "model"),
        ({"model": "./local/folder"}, "model"),
        ({"environment": "azureml:absent:1"}, "environment"),
        (
            {"code_configuration": CodeConfiguration(code="azureml:a:1", scoring_script="s.py")},
            "code_configuration.code",
        ),
        ({"environment_variables": {"A": "x" * limits.SPEC_BYTES_MAX}}, ""),
    ],
)
async def test_a_wrong_deployment_is_refused_by_field(
    world: World, name: str, spec: dict[str, Any], target: str
) -> None:
    await world.put_endpoint(name)
    error = await refused(ErrorCode.BAD_ARGUMENT, world.put_deployment(name, **spec))
    assert error.error.target == target
    await refused(ErrorCode.RESOURCE_NOT_FOUND, world.deployment(name))


@pytest.mark.parametrize("script", ["/etc/passwd", "../score.py", "a/../../b.py", "a\0b"])
async def test_a_scoring_script_stays_in_its_folder(world: World, name: str, script: str) -> None:
    await world.put_endpoint(name)
    await register_code(world)
    code = CodeConfiguration(code="azureml:code:1", scoring_script=script)
    bad = world.put_deployment(name, code_configuration=code)
    error = await refused(ErrorCode.BAD_ARGUMENT, bad)
    assert error.error.target == "code_configuration.scoring_script"


async def register_code(world: World) -> None:
    from headgate_contracts.resources import CodeSpec

    spec = CodeSpec(name="code", version="1", path="uploads/abc")
    await world.ask(registry.PutCode(workspace=world.workspace, spec=spec))


async def test_egress_and_properties_cannot_be_changed(world: World, name: str) -> None:
    await world.put_endpoint(name)
    await world.deploy(name, properties={"a": "1"})
    for change in ({"egress_public_network_access": "disabled"}, {"properties": {"a": "2"}}):
        await refused(ErrorCode.BAD_ARGUMENT, world.put_deployment(name, **change))


# --- deletion ---


async def test_deleting_a_deployment_cancels_what_was_under_way(
    world: World, name: str, events: EventLog
) -> None:
    await world.put_endpoint(name)
    made = await world.put_deployment(name)
    deletion = await world.delete_deployment(name)
    assert deletion is not None
    assert made.operation is not None
    cancelled = await world.operation(made.operation.id)
    assert cancelled.status is Status.CANCELED
    assert cancelled.error is not None
    assert cancelled.error.code is ErrorCode.OPERATION_CANCELED
    assert await world.delete_deployment(name) == deletion
    await world.report(made.deployment, "succeeded", ready_instances=1)  # too late
    assert (await world.deployment(name)).provisioning_state is S.DELETING
    busy = world.put_deployment(name)
    await refused(ErrorCode.RESOURCE_CONFLICT, busy, "being deleted", deletion.id)
    await world.report(made.deployment, "gone")
    assert (await world.operation(deletion.id)).status is Status.SUCCEEDED
    await refused(ErrorCode.RESOURCE_NOT_FOUND, world.deployment(name))
    assert await world.delete_deployment(name) is None
    await events.until("deployment_created", "deployment_deleting", "deployment_deleted")


async def test_a_deployment_with_traffic_cannot_be_deleted(world: World, name: str) -> None:
    await world.put_endpoint(name)
    for each in ("blue", "green", "red"):
        await world.deploy(name, each)
    await world.put_endpoint(name, traffic={"blue": 90, "green": 10}, mirror_traffic={"red": 5})
    busy = ErrorCode.RESOURCE_CONFLICT
    await refused(busy, world.delete_deployment(name, "blue"), "90 percent", '"blue=0 green=100"')
    await refused(
        busy, world.delete_deployment(name, "red"), "mirrored", '--mirror-traffic "red=0"'
    )
    await world.put_endpoint(name, traffic={"green": 100})
    await world.delete_deployment(name, "blue")
    route = await world.routed(name, lambda route: "blue" not in route.deployments)
    assert set(route.deployments) == {"green", "red"}


# --- traffic ---


async def test_traffic_reaches_the_routers(world: World, name: str, events: EventLog) -> None:
    await world.put_endpoint(name)
    await world.deploy(name, "blue")
    await world.deploy(
        name,
        "green",
        request_settings=RequestSettings(
            max_concurrent_requests_per_instance=7, request_timeout_ms=1234
        ),
    )
    reply = await world.put_endpoint(
        name, traffic={"Blue": 100, "green": 0}, mirror_traffic={"GREEN": 10}
    )
    assert reply.endpoint.spec.traffic == {"blue": 100}  # zeros are not kept
    route = await world.routed(name, lambda route: route.traffic == {"blue": 100})
    assert route.mirror_traffic == {"green": 10}
    assert route.deployments["green"].max_concurrent_requests_per_instance == 7
    assert route.deployments["green"].request_timeout_ms == 1234
    assert route.workspace == world.workspace
    assert (await events.until("traffic_changed"))[-2] == "deployment_succeeded"


async def test_other_fields_and_traffic_are_told_apart(
    world: World, name: str, events: EventLog
) -> None:
    await world.put_endpoint(name)
    await world.deploy(name)
    await world.put_endpoint(name, traffic={"blue": 100}, description="x")
    await events.until("endpoint_updated", "traffic_changed")
    updated = (await events.all())[-2][1]
    assert updated["fields"] == ["description"]


@pytest.mark.parametrize(
    ("traffic", "mirror", "target"),
    [
        ({"blue": 99}, {}, "traffic"),
        ({"blue": 60, "green": 60}, {}, "traffic"),
        ({"blue": 50, "absent": 50}, {}, "traffic.absent"),
        ({"blue": 50, "BLUE": 50}, {}, "traffic"),
        ({"blue": 100}, {"green": 51}, "mirror_traffic"),
        ({"blue": 100}, {"blue": 10}, "mirror_traffic"),
        ({"blue": 100}, {"green": 10, "red": 10}, "mirror_traffic"),
        ({"blue": 100}, {"absent": 10}, "mirror_traffic.absent"),
    ],
)
async def test_wrong_traffic_changes_nothing(
    world: World, name: str, traffic: dict[str, int], mirror: dict[str, int], target: str
) -> None:
    await world.put_endpoint(name)
    for each in ("blue", "green", "red"):
        await world.deploy(name, each)
    stored = await world.endpoint(name)
    bad = world.put_endpoint(name, traffic=traffic, mirror_traffic=mirror)
    error = await refused(ErrorCode.BAD_ARGUMENT, bad)
    assert error.error.target == target
    assert await world.endpoint(name) == stored


async def test_traffic_cannot_be_set_before_there_are_deployments(world: World, name: str) -> None:
    early = world.put_endpoint(name, traffic={"blue": 100})
    await refused(ErrorCode.BAD_ARGUMENT, early, "create the deployment first")
    assert (await world.put_endpoint(name, traffic={"blue": 0})).created


@pytest.mark.parametrize("field", ["traffic", "mirror_traffic"])
async def test_only_a_deployment_that_was_ready_takes_traffic(
    world: World, name: str, field: str
) -> None:
    share = {"traffic": {"blue": 100}, "mirror_traffic": {"blue": 30}}[field]
    await world.put_endpoint(name)
    made = (await world.put_deployment(name)).deployment
    await refused(ErrorCode.RESOURCE_CONFLICT, world.put_endpoint(name, **{field: share}), "ready")
    await world.report(made, "failed", error=BROKEN)
    await refused(ErrorCode.RESOURCE_CONFLICT, world.put_endpoint(name, **{field: share}), "Failed")
    await world.report(made, "succeeded", ready_instances=1)
    await world.put_endpoint(name, **{field: share})
    await world.put_deployment(name, instance_count=2)  # Scaling
    await world.put_endpoint(name, tags={"a": "1"}, **{field: share})


async def test_a_broken_deployment_keeps_its_traffic_until_told_otherwise(
    world: World, name: str
) -> None:
    """Or no other field of its endpoint could be changed any more."""
    await world.put_endpoint(name)
    made = await world.deploy(name)
    await world.put_endpoint(name, traffic={"blue": 100})
    await world.report(made, "failed", error=BROKEN)
    await world.put_endpoint(name, traffic={"blue": 100}, description="under repair")
    assert (await world.put_endpoint(name)).endpoint.spec.traffic == {}


async def test_deployments_of_all_endpoints_are_listed(world: World, name: str) -> None:
    await world.put_endpoint(name)
    for each in ("green", "blue"):
        await world.put_deployment(name, each)
    everything = (await world.ask(registry.ListDeployments())).deployments
    assert sum(each.spec.endpoint_name == name for each in everything) == 2
    for query in (
        registry.ListDeployments(workspace=world.workspace),
        registry.ListDeployments(workspace=world.workspace, endpoint=name),
    ):
        listed = (await world.ask(query)).deployments
        assert [each.spec.name for each in listed] == ["blue", "green"]
    assert (await world.ask(registry.ListDeployments(workspace="other"))).deployments == ()

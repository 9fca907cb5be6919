"""Decisions about endpoints: pure functions from a group and a command to an outcome."""

from __future__ import annotations

from dataclasses import replace

from headgate.registry import core, deployments, traffic
from headgate.registry.core import Happening
from headgate.registry.records import EndpointRecord, Group, Keys, Moment, Outcome, StoredKey
from headgate_contracts import limits, registry
from headgate_contracts.envelope import Event
from headgate_contracts.errors import ErrorCode
from headgate_contracts.resources import (
    AuthMode,
    Endpoint,
    EndpointKeys,
    EndpointSpec,
    Identity,
    KeyType,
    Operation,
)


def put(group: Group | None, command: registry.PutEndpoint, keys: Keys, moment: Moment) -> Outcome:
    """Create the endpoint with ``keys``, or replace its settings and traffic."""
    spec = command.spec.model_copy(
        update={
            field: traffic.normalised(getattr(command.spec, field), field)
            for field in traffic.FIELDS
        }
    )
    core.check_workspace(command.workspace)
    core.check_size(spec)
    if group is None:
        core.check_absent(f"the endpoint {spec.name!r}", command)
        return _create(command, spec, keys, moment)
    if group.workspace != command.workspace:
        raise core.taken(spec.name)
    stored = group.endpoint.value
    core.check_put(f"the endpoint {spec.name!r}", command, stored.revision)
    core.endpoint_after(group, Happening.UPDATE)
    spec = _keep_fixed(stored.spec, spec)
    traffic.check(spec, stored.spec, group.deployments)
    operation = core.done("update", group.workspace, core.path(spec.name), moment)
    fields = core.changed(stored.spec, spec)
    if not fields:
        return Outcome(group, (operation,))
    value = stored.model_copy(update={"spec": spec, **moment.touched})
    endpoint = replace(group.endpoint, value=value, operation=operation)
    return Outcome(replace(group, endpoint=endpoint), (operation,), _events(value, fields))


def _create(
    command: registry.PutEndpoint, spec: EndpointSpec, keys: Keys, moment: Moment
) -> Outcome:
    core.check_new_endpoint(spec.name, moment)
    traffic.check(spec, None, {})
    if command.keys:
        check_given_keys(command.keys)
    operation = core.done("create", command.workspace, core.path(spec.name), moment)
    value = Endpoint(
        workspace=command.workspace,
        spec=spec,
        **moment.made,
    )
    event = registry.EndpointCreated(
        workspace=command.workspace, endpoint=spec.name, revision=moment.revision
    )
    # Tokens of an endpoint that had this name before, maybe somebody else's, open nothing here.
    record = EndpointRecord(value, keys, operation, tokens_not_before=moment.now)
    group = Group(record)
    return Outcome(group, (operation,), (event,), created=True)


def _events(endpoint: Endpoint, fields: tuple[str, ...]) -> tuple[Event, ...]:
    spec = endpoint.spec
    about = {
        "workspace": endpoint.workspace,
        "endpoint": spec.name,
        "revision": endpoint.revision,
    }
    events: list[Event] = []
    others = tuple(field for field in fields if field not in traffic.FIELDS)
    if others:
        events.append(registry.EndpointUpdated(**about, fields=others))
    if len(others) < len(fields):
        events.append(
            registry.TrafficChanged(
                **about, traffic=spec.traffic, mirror_traffic=spec.mirror_traffic
            )
        )
    return tuple(events)


def _keep_fixed(old: EndpointSpec, new: EndpointSpec) -> EndpointSpec:
    """``new`` with what an update may leave out taken over; refused if it changes what is fixed."""
    if new.auth_mode is not old.auth_mode:
        raise core.fixed("auth_mode", old.auth_mode, new.auth_mode)
    if new.identity is not None and new.identity != (old.identity or Identity()):
        raise core.fixed("identity", (old.identity or Identity()).type, new.identity.type)
    if new.compute is not None and new.compute != old.compute:
        raise core.fixed("compute", old.compute or "none", new.compute)
    kept = {"identity": old.identity, "compute": old.compute}
    return new.model_copy(update={**kept, "properties": core.added(old, new)})


def delete(group: Group | None, command: registry.DeleteEndpoint, moment: Moment) -> Outcome:
    """Withdraw the endpoint at once; it goes with the last of its deployments."""
    what = f"the endpoint {command.name!r}"
    if group is None or group.workspace != command.workspace:
        core.check_absent(what, command)
        return Outcome(group)
    if group.endpoint.is_deleting:
        return Outcome(group, (group.endpoint.operation,))
    core.check_revision(what, command, group.endpoint.value.revision)
    state = core.endpoint_after(group, Happening.DELETE)
    about = {"workspace": group.workspace, "endpoint": group.name, "revision": moment.revision}
    if not group.deployments:
        operation = core.done("delete", group.workspace, core.path(group.name), moment)
        return Outcome(None, (operation,), (registry.EndpointDeleted(**about),))
    operation = core.begun("delete", group.workspace, core.path(group.name), moment)
    value = group.endpoint.value.model_copy(
        update={
            "provisioning_state": state,
            **moment.touched,
        }
    )
    group = replace(group, endpoint=replace(group.endpoint, value=value, operation=operation))
    operations: tuple[Operation, ...] = (operation,)
    events: tuple[Event, ...] = (registry.EndpointDeleting(**about),)
    for record in group.deployments.values():
        if not record.is_deleting:
            outcome = deployments.withdraw(group, record, moment)
            assert outcome.group is not None
            group = outcome.group
            operations += outcome.operations
            events += outcome.events
    return Outcome(group, operations, events)


def check_given_keys(keys: EndpointKeys) -> None:
    """Refuse keys of a user's own that are weak, or that no header can carry."""
    for field, key in (("primary_key", keys.primary_key), ("secondary_key", keys.secondary_key)):
        check_given_key(key, field)
    if keys.primary_key == keys.secondary_key:
        raise core.error(
            ErrorCode.BAD_ARGUMENT,
            "primary_key and secondary_key are the same; two different keys are needed, so that "
            "one can be changed while the other is in use",
            "keys",
        )


def check_given_key(key: str, field: str) -> None:
    """Refuse one key of a user's own that is weak, or that no header can carry."""
    within = limits.KEY_CHARS_MIN <= len(key) <= limits.KEY_CHARS_MAX
    if not within or not all("!" <= char <= "~" for char in key):
        raise core.error(
            ErrorCode.BAD_ARGUMENT,
            f"{field} must have {limits.KEY_CHARS_MIN} to {limits.KEY_CHARS_MAX} printable ASCII "
            "characters without blanks; leave it out to get a random one",
            field,
        )


def regenerate_key(
    group: Group | None,
    command: registry.RegenerateKey,
    fresh: StoredKey,
    given: StoredKey | None,
    moment: Moment,
) -> Outcome:
    """Replace one key by ``given``, or by ``fresh`` when none is given or it is the current one.

    An endpoint that hands out tokens has no use for its keys: there this ends every token that
    was issued so far.
    """
    found = core.visible(group, command.workspace, command.endpoint)
    core.endpoint_after(found, Happening.UPDATE)
    mode = found.endpoint.value.spec.auth_mode
    if mode is AuthMode.AAD_TOKEN:
        raise core.error(
            ErrorCode.BAD_ARGUMENT,
            f"the endpoint {found.name!r} has neither keys nor tokens of its own, for its "
            "auth_mode is aad_token; revoke the caller's token, or take its role away",
            "auth_mode",
        )
    keys = found.endpoint.keys
    which = command.key_type.value
    current: StoredKey = getattr(keys, which)
    other = keys.secondary if command.key_type is KeyType.PRIMARY else keys.primary
    chosen = fresh
    if given is not None and given.sha256 != current.sha256:
        check_given_key(command.value, "value")
        if given.sha256 == other.sha256:
            raise core.error(
                ErrorCode.BAD_ARGUMENT, "this is the endpoint's other key already", "value"
            )
        chosen = given
    value = found.endpoint.value.model_copy(update=moment.touched)
    endpoint = replace(found.endpoint, value=value, keys=replace(keys, **{which: chosen}))
    if mode is AuthMode.AML_TOKEN:
        endpoint = replace(endpoint, tokens_not_before=moment.now)
    event = registry.KeyRegenerated(
        workspace=found.workspace,
        endpoint=found.name,
        revision=moment.revision,
        key_type=command.key_type,
    )
    return Outcome(replace(found, endpoint=endpoint), events=(event,))

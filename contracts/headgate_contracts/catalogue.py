"""Everything on the bus as data: JSON Schemas, the subject table, and what counts as a break.

``make schemas`` writes the results into ``contracts/``; a test compares them with what is there.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Iterator
from typing import Any, get_origin

from headgate_contracts import (
    alerts,
    assets,
    audit,
    autoscale,
    batch,
    identity,
    jobs,
    load,
    logs,
    metering,
    metrics,
    mini_batches,
    nodes,
    power,
    provisioning,
    quotas,
    refreshing,
    registry,
    routing,
    rpc,
    scoring,
    simulations,
    sla,
    storage,
    streams,
    subjects,
    usage,
)
from headgate_contracts.envelope import Command, Done, Event, Message, Refused, Value

_MODULES = (
    alerts,
    assets,
    audit,
    autoscale,
    batch,
    identity,
    jobs,
    load,
    logs,
    metering,
    mini_batches,
    nodes,
    metrics,
    power,
    provisioning,
    quotas,
    refreshing,
    registry,
    routing,
    scoring,
    simulations,
    sla,
    storage,
    usage,
)
# Told to whoever listens now, and kept nowhere.
PASSING_EVENTS: tuple[type[Event], ...] = (load.LoadReported, scoring.Heartbeat)
STORED_VALUES: dict[str, type[Value]] = {
    "headgate.batch.value.v1.task": mini_batches.Task,
    "headgate.router.value.v1.route": scoring.Route,
    "headgate.identity.value.v1.trust": identity.Trust,
}
# JSON Schema limit -> whether the first value is tighter than the second
_LIMITS = {
    "minimum": operator.gt,
    "minLength": operator.gt,
    "maximum": operator.lt,
    "maxLength": operator.lt,
    "pattern": operator.ne,
}


def message_types() -> list[type[Message]]:
    """Every message type that can cross the bus, in order of its tag."""
    found: dict[str, type[Message]] = {Done.TYPE: Done, Refused.TYPE: Refused}
    for module in _MODULES:
        for item in vars(module).values():
            if isinstance(item, type) and issubclass(item, Message) and item.TYPE:
                found[item.TYPE] = item
    return [found[tag] for tag in sorted(found)]


def schemas() -> dict[str, dict[str, Any]]:
    """File name -> JSON Schema, one per message type and stored value."""
    types: dict[str, type[Value]] = {message.TYPE: message for message in message_types()}
    types |= STORED_VALUES
    return {f"{tag}.json": _schema(tag, model) for tag, model in sorted(types.items())}


def _schema(tag: str, model: type[Value]) -> dict[str, Any]:
    schema = model.model_json_schema(mode="validation")
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "$id": tag, **schema}


def breaking_changes(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """What in ``new`` would break a reader or writer of ``old``; empty when nothing does.

    Allowed within ``v1``: new optional fields, wider limits, new descriptions. Not allowed: a
    field gone, a new required field, another type, a value taken out of an enumeration.
    """
    return list(_compare(old, new, old.get("$defs", {}), new.get("$defs", {}), ""))


def _compare(
    old: dict[str, Any], new: dict[str, Any], old_defs: Any, new_defs: Any, path: str
) -> Iterator[str]:
    old_required, new_required = set(old.get("required", ())), set(new.get("required", ()))
    for name in sorted(new_required - old_required):
        yield f"{path}/{name} has become required"
    old_fields, new_fields = old.get("properties", {}), new.get("properties", {})
    for name in sorted(set(old_fields) - set(new_fields)):
        yield f"{path}/{name} is gone"
    for name in sorted(set(old_fields) & set(new_fields)):
        yield from _compare(
            old_fields[name], new_fields[name], old_defs, new_defs, f"{path}/{name}"
        )
    for key in ("type", "$ref", "items", "additionalProperties"):
        was, now = old.get(key), new.get(key)
        if isinstance(was, dict) and isinstance(now, dict):
            yield from _compare(was, now, old_defs, new_defs, f"{path}/{key}")
        elif was != now and not (was is None and key == "additionalProperties"):
            yield f"{path}: {key} was {was!r}, is {now!r}"
    for key, tighter in _LIMITS.items():
        if key in new and (key not in old or tighter(new[key], old[key])):
            yield f"{path}: {key} was {old.get(key)!r}, is {new[key]!r}"
    for value in _values(old):
        if value not in _values(new):
            yield f"{path}: the value {value!r} is gone"
    if path == "":
        for name in sorted(set(old_defs) & set(new_defs)):
            yield from _compare(old_defs[name], new_defs[name], {}, {}, f"/$defs/{name}")


def _values(schema: dict[str, Any]) -> list[Any]:
    """What an enumeration may say; a constant is one of a single value."""
    return [schema["const"]] if "const" in schema else schema.get("enum", [])


def subject_table() -> str:
    """The Markdown page that lists every subject, who asks or says it, and where it is kept."""
    rows = ["| subject | facility | message | answered with |", "|---|---|---|---|"]
    for table in rpc.ANSWERS.values():
        for request, reply in table.items():
            kind = "command" if issubclass(request, Command) else "query"
            rows.append(
                f"| `{rpc.subject_of(request)}` | request-reply | {kind} `{request.TYPE}` "
                f"| `{reply.TYPE}` |"
            )
    for message in message_types():
        if issubclass(message, Event) and message not in PASSING_EVENTS:
            rows.append(
                f"| `{event_subject(message)}` | stream `{stream_of(message).name}` "
                f"| event `{message.TYPE}` | |"
            )
    rows += [
        f"| `{subjects.HEARTBEAT_ALL}` | core | event `{scoring.Heartbeat.TYPE}` | |",
        f"| `{subjects.LOAD_ALL}` | core | event `{load.LoadReported.TYPE}` | |",
        f"| `{subjects.SCORE_ALL}` | core request-reply | opaque body, headers | opaque body |",
        f"| `{subjects.INSTANCE_ALL}` | core request-reply | scoring frames | scoring frames |",
        f"| `{subjects.DEPLOYMENT_ALL}` | core request-reply | scoring frames | scoring frames |",
        f"| `{subjects.BATCH_ALL}` | stream `{streams.BATCH.name}` "
        "| value `headgate.batch.value.v1.task` | |",
    ]
    stored = ["| name | kind | subjects | limits | holds |", "|---|---|---|---|---|"]
    for stream in streams.LAYOUT.streams:
        kind = "work queue" if stream.is_queue else "stream"
        stored.append(
            f"| `{stream.name}` | {kind} | {', '.join(f'`{s}`' for s in stream.subjects)} "
            f"| {stream.max_bytes // 2**20} MiB, {_age(stream)} "
            f"| {stream.description} |"
        )
    for bucket in streams.LAYOUT.buckets:
        stored.append(
            f"| `{bucket.name}` | KV bucket | `$KV.{bucket.name}.>` "
            f"| {bucket.max_bytes // 2**20} MiB | {bucket.description} |"
        )
    return _PAGE.format(rows="\n".join(rows), stored="\n".join(stored))


def _age(stream: streams.Stream) -> str:
    return f"{stream.max_age_s / 86_400:g} days" if stream.max_age_s else "until it is done"


def event_subject(event: type[Event]) -> str:
    """The subject of an event type, with its ids shown as ``<id>``."""
    sample: dict[str, Any] = {
        name: f"id-{name}"
        for name, field in event.model_fields.items()
        if field.is_required() and (field.annotation is str or get_origin(field.annotation))
    }
    subject: str = event.model_construct(**sample).subject()
    return re.sub(r"id-(\w+)", r"<\1>", subject)


def stream_of(event: type[Event]) -> streams.Stream:
    """The stream that keeps an event type."""
    if issubclass(event, usage.UsageReported):
        return streams.USAGE
    return streams.LOGS if issubclass(event, logs.LogRows) else streams.EVENTS


_PAGE = """# The wire

This page is generated by `make schemas` from `headgate_contracts`; a test fails when it is stale.
`schemas/` holds one JSON Schema per message, `asyncapi.json` the control plane as AsyncAPI 3.

## Subjects

{rows}

## Streams and buckets

{stored}
"""

"""Who may say and hear what on the bus: one row per service, and nothing beyond it.

A forbidden subject shows up in the client only as a timeout, so a service compares what it was
granted with its row at start (:func:`missing`).

Answers need no row of their own: a service that is asked something may answer on the reply subject
of that very message (``responses``), and on no other inbox.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from headgate_contracts import limits, streams, subjects

USER_INFO = "$SYS.REQ.USER.INFO"
DISCOVERY = "$SRV.>"
WORKER_QUEUE = "w"

# A command is answered once. The other seven are for messages of a stream, whose reply subject
# also takes the marks "still at work" and flow control.
RESPONSES_PER_REQUEST_MAX = 8
RESPONSE_TTL_S = 120.0

# A scoring message carries as many frames as an instance has slots, and each is answered when its
# own model run ends. The server counts anew with every message on the same reply subject, so the
# worst case is a full instance plus a full message refused frame by frame: twice the slots.
WORKER_RESPONSES_PER_MESSAGE_MAX = 2 * limits.CONCURRENCY_PER_INSTANCE_MAX
WORKER_RESPONSE_TTL_S = limits.REQUEST_TIMEOUT_MS_MAX / 1000 + 15


@dataclass(frozen=True, slots=True)
class Permissions:
    """What one identity may do. A ``hear`` entry may name a queue group: ``"subject group"``."""

    say: tuple[str, ...]
    hear: tuple[str, ...]
    responses_max: int = 0
    response_ttl_s: float = 0.0


def _read_stream(stream: str) -> tuple[str, ...]:
    """What nats-py needs to read a stream by number and by ordered consumers (found by trial)."""
    return (
        f"$JS.API.STREAM.INFO.{stream}",
        f"$JS.API.STREAM.MSG.GET.{stream}",
        f"$JS.API.DIRECT.GET.{stream}",
        f"$JS.API.DIRECT.GET.{stream}.>",
        f"$JS.API.CONSUMER.CREATE.{stream}",
        f"$JS.API.CONSUMER.CREATE.{stream}.>",
        f"$JS.API.CONSUMER.INFO.{stream}.>",
        f"$JS.API.CONSUMER.DELETE.{stream}.>",
        f"$JS.FC.{stream}.>",
    )


def _read_bucket(bucket: str) -> tuple[str, ...]:
    return _read_stream(f"KV_{bucket}")


def _write_bucket(bucket: str) -> tuple[str, ...]:
    return (f"$KV.{bucket}.>", *_read_bucket(bucket))


_EVENTS = streams.EVENTS.name
_ROUTES = streams.ROUTES.name
_TRUST = streams.TRUST.name
_REPEATS = streams.REPEATS.name
_LOGS = streams.LOGS.name
_USAGE = streams.USAGE.name
_BATCH = streams.BATCH.name
_RPC_ALL = f"{subjects.ROOT}.rpc.>"


@dataclass(frozen=True, slots=True)
class _Row:
    say: tuple[str, ...] = ()
    hear: tuple[str, ...] = ()
    answers: bool = True


_TABLE: Mapping[str, _Row] = {
    # Creates streams and buckets, then goes: the only one that may.
    "bootstrap": _Row(say=("$JS.API.>",), answers=False),
    "registry": _Row(
        say=(subjects.EVENT_ALL, *_write_bucket(_ROUTES)),
        hear=(subjects.rpc_all("registry"),),
    ),
    "identity": _Row(
        say=(
            subjects.rpc_all("registry"),
            f"{subjects.ROOT}.evt.token.>",
            f"{subjects.ROOT}.evt.identity.>",
            *_write_bucket(_TRUST),
        ),
        hear=(subjects.rpc_all("identity"), subjects.IDENTITY_ALL, subjects.EVENT_ALL),
    ),
    "provisioner": _Row(
        say=(
            subjects.rpc_all("registry"),
            subjects.HEARTBEAT_ALL,
            f"{subjects.ROOT}.evt.instance.>",
            f"{subjects.ROOT}.evt.environment.>",
            f"{subjects.ROOT}.evt.node.>",
            subjects.logs_of("console"),
            subjects.rpc_all("batch"),
            f"$JS.API.CONSUMER.MSG.NEXT.{_BATCH}.>",
            f"$JS.API.CONSUMER.INFO.{_BATCH}.>",
            f"$JS.ACK.{_BATCH}.>",
        ),
        hear=(subjects.rpc_all("provisioner"), subjects.HEARTBEAT_ALL, subjects.EVENT_ALL),
    ),
    "batch": _Row(
        say=(
            subjects.rpc_all("registry"),
            subjects.rpc_all("provisioner"),
            f"{subjects.ROOT}.evt.job.>",
            subjects.BATCH_ALL,
            f"$JS.API.STREAM.INFO.{_BATCH}",
            f"$JS.API.STREAM.PURGE.{_BATCH}",
            f"$JS.API.CONSUMER.CREATE.{_BATCH}.>",
            f"$JS.API.CONSUMER.DURABLE.CREATE.{_BATCH}.>",
            f"$JS.API.CONSUMER.INFO.{_BATCH}.>",
            f"$JS.API.CONSUMER.DELETE.{_BATCH}.>",
        ),
        hear=(subjects.rpc_all("batch"), subjects.events_of("node")),
    ),
    "router": _Row(
        say=(
            subjects.INSTANCE_ALL,
            subjects.DEPLOYMENT_ALL,
            subjects.USAGE_ALL,
            subjects.LOAD_ALL,
            subjects.QUARANTINED_ALL,
            subjects.RELEASED_ALL,
            subjects.rpc("metering", "get_quota_use"),
            f"{subjects.ROOT}.evt.quota.>",
            subjects.logs_of("traces"),
            subjects.logs_of("traffic"),
            *_read_bucket(_ROUTES),
            *_read_bucket(_TRUST),
        ),
        hear=(
            subjects.rpc_all("router"),
            subjects.HEARTBEAT_ALL,
            subjects.SCORE_ALL,
            subjects.LOAD_ALL,
        ),
    ),
    "logs": _Row(
        say=(*_read_stream(_LOGS), *_read_stream(_EVENTS)),
        hear=(subjects.rpc_all("logs"),),
    ),
    "metering": _Row(
        say=(
            subjects.rpc_all("registry"),
            f"{subjects.ROOT}.evt.budget.>",
            f"{subjects.ROOT}.evt.sla.>",
            *_read_stream(_USAGE),
            f"$JS.API.STREAM.PURGE.{_USAGE}",
            *_read_stream(_EVENTS),
        ),
        hear=(subjects.rpc_all("metering"), subjects.LOAD_ALL, subjects.HEARTBEAT_ALL),
    ),
    "autoscaler": _Row(
        say=(subjects.rpc_all("registry"), f"{subjects.ROOT}.evt.autoscale.>"),
        hear=(
            subjects.rpc_all("autoscaler"),
            subjects.LOAD_ALL,
            subjects.HEARTBEAT_ALL,
            subjects.EVENT_ALL,
        ),
    ),
    "gateway": _Row(
        say=(
            _RPC_ALL,
            DISCOVERY,
            f"{subjects.ROOT}.evt.audit.>",
            *_read_stream(_EVENTS),
            *_read_bucket(_TRUST),
            *_write_bucket(_REPEATS),
        ),
        hear=(subjects.EVENT_ALL, subjects.LOAD_ALL),
    ),
    # Looks at everything and changes nothing but what a command changes: status, tests.
    "probe": _Row(
        say=(
            _RPC_ALL,
            DISCOVERY,
            subjects.SCORE_ALL,
            "$JS.API.INFO",
            *_read_stream(_EVENTS),
            *_read_bucket(_ROUTES),
            *_read_bucket(_TRUST),
        ),
        hear=(subjects.EVENT_ALL, subjects.HEARTBEAT_ALL, subjects.LOAD_ALL),
        answers=False,
    ),
}

SERVICES: tuple[str, ...] = tuple(_TABLE)


def permissions(service: str) -> Permissions:
    """Everything that ``service`` may say and hear; KeyError for a name without a row."""
    row = _TABLE[service]
    own_inbox = f"{subjects.inbox_prefix(service)}.>"
    discovery = (DISCOVERY,) if row.answers else ()
    return Permissions(
        say=(*row.say, USER_INFO),
        hear=(*row.hear, *discovery, own_inbox),
        responses_max=RESPONSES_PER_REQUEST_MAX if row.answers else 0,
        response_ttl_s=RESPONSE_TTL_S if row.answers else 0.0,
    )


def worker_permissions(endpoint: str, deployment: str, lanes: Sequence[str]) -> Permissions:
    """What the process of one instance may do: its own heartbeats, its own requests, its answers.

    The deployment's subject is heard only in the queue group: a plain subscription there would
    hear the requests of its sisters. Answers go to the reply subject of a request, and to the
    instance's own place in a router's inbox: the server forgets the former with the connection,
    and an answer that was finished while the bus was away has only the latter. The first lane's
    id is that of the instance, under which it asks for tokens of its managed identity.
    """
    return Permissions(
        say=(
            *(subjects.heartbeat(endpoint, deployment, lane) for lane in lanes),
            *map(subjects.answers_all, lanes),
            subjects.identity(endpoint, deployment, lanes[0]),
        ),
        hear=(
            f"{subjects.worker_inbox(lanes[0])}.>",
            *(subjects.instance(endpoint, deployment, lane) for lane in lanes),
            *(subjects.instance_parts(endpoint, deployment, lane) for lane in lanes),
            f"{subjects.deployment(endpoint, deployment)} {WORKER_QUEUE}",
        ),
        responses_max=WORKER_RESPONSES_PER_MESSAGE_MAX,
        response_ttl_s=WORKER_RESPONSE_TTL_S,
    )


def missing(wanted: Permissions, granted: Mapping[str, Any]) -> list[str]:
    """Which lines of ``wanted`` are not in ``granted``, the server's ``permissions`` object.

    To the server a list that is absent means "everything".
    """
    lacking: list[str] = []
    for direction, subjects_wanted in (("publish", wanted.say), ("subscribe", wanted.hear)):
        allowed = granted.get(direction, {}).get("allow")
        if allowed is not None:
            lacking += [f"{direction} {line}" for line in subjects_wanted if line not in allowed]
    return lacking

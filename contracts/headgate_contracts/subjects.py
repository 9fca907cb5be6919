"""Every subject of the bus as a function, with its wildcard; nobody else formats a subject.

Grammar: ``hg.v1.<kind>.<ids...>.<verb or fact>``. Ids are single tokens of letters, digits, ``-``
and ``_``, checked here, because nats-py lets ``a..b`` and ``a.*`` pass as publish subjects.
"""

from __future__ import annotations

import re

ROOT = "hg.v1"
_TOKEN = re.compile(r"[A-Za-z0-9_-]{1,64}\Z")


def token(value: str) -> str:
    """``value`` itself when it is one safe subject token; ValueError otherwise."""
    if not _TOKEN.match(value):
        raise ValueError(
            f"not a subject token: {value[:80]!r} (letters, digits, '-', '_'; 1 to 64)"
        )
    return value


def tamed(name: str) -> str:
    """An asset name (which may hold dots) as one token: every other character becomes ``_``."""
    return token(re.sub(r"[^A-Za-z0-9_-]", "_", name)[:64])


def score(endpoint: str) -> str:
    """Bus-native scoring entry of an endpoint, answered by the routers."""
    return f"{ROOT}.score.{token(endpoint)}"


def deployment(endpoint: str, deployment_name: str) -> str:
    """All instances of a deployment, as one queue group."""
    return f"{ROOT}.dep.{token(endpoint)}.{token(deployment_name)}"


def instance(endpoint: str, deployment_name: str, instance_id: str) -> str:
    """One instance: scoring frames, and pings (empty payload)."""
    return f"{ROOT}.inst.{token(endpoint)}.{token(deployment_name)}.{token(instance_id)}"


def instance_parts(endpoint: str, deployment_name: str, instance_id: str) -> str:
    """One instance, about requests that it has in hand; heard also while it drains."""
    return f"{instance(endpoint, deployment_name, instance_id)}.parts"


def heartbeat(endpoint: str, deployment_name: str, instance_id: str) -> str:
    """The heartbeats of one instance."""
    return f"{ROOT}.hb.{token(endpoint)}.{token(deployment_name)}.{token(instance_id)}"


def identity(endpoint: str, deployment_name: str, instance_id: str) -> str:
    """Where one instance asks for a token of its managed identity; the bus vouches for who asks."""
    return f"{ROOT}.idt.{token(endpoint)}.{token(deployment_name)}.{token(instance_id)}"


def rpc(service: str, op: str) -> str:
    """One command or query of a service."""
    return f"{ROOT}.rpc.{token(service)}.{token(op)}"


def event(kind: str, name: str, what: str) -> str:
    """One fact about one resource; ``name`` may hold several tokens joined by dots."""
    names = ".".join(token(part) for part in name.split("."))
    return f"{ROOT}.evt.{token(kind)}.{names}.{token(what)}"


def events_of(kind: str) -> str:
    """Every fact about resources of one kind."""
    return f"{ROOT}.evt.{token(kind)}.>"


def events_about(kind: str, what: str) -> str:
    """One fact about every resource of a kind whose names have one token."""
    return f"{ROOT}.evt.{token(kind)}.*.{token(what)}"


def batch_tasks(job: str) -> str:
    """The mini-batches of one job that wait for a node."""
    return f"{ROOT}.batch.{token(job)}"


def log(table: str, writer: str) -> str:
    """Rows of a log table, said by one of its writers."""
    return f"{ROOT}.log.{token(table)}.{token(writer)}"


def logs_of(table: str) -> str:
    """All rows of one log table."""
    return f"{ROOT}.log.{token(table)}.*"


def load(router: str) -> str:
    """What one router tells of the load of deployments."""
    return f"{ROOT}.load.{token(router)}"


def usage(reporter: str) -> str:
    """What one process reports of the requests that it answered."""
    return f"{ROOT}.usage.{token(reporter)}"


SCORE_ALL = f"{ROOT}.score.*"
DEPLOYMENT_ALL = f"{ROOT}.dep.>"
INSTANCE_ALL = f"{ROOT}.inst.>"
HEARTBEAT_ALL = f"{ROOT}.hb.>"
EVENT_ALL = f"{ROOT}.evt.>"
IDENTITY_ALL = f"{ROOT}.idt.>"
LOG_ALL = f"{ROOT}.log.>"
LOAD_ALL = f"{ROOT}.load.*"
USAGE_ALL = f"{ROOT}.usage.*"
BATCH_ALL = f"{ROOT}.batch.*"


# What routers say of instances.
QUARANTINED_ALL = f"{ROOT}.evt.instance.*.*.*.quarantined"
RELEASED_ALL = f"{ROOT}.evt.instance.*.*.*.released"


def rpc_all(service: str) -> str:
    """Every command and query of one service."""
    return f"{ROOT}.rpc.{token(service)}.>"


def inbox_prefix(service: str) -> str:
    """The private inbox prefix of a service: nobody else may listen there."""
    return f"_INBOX_{token(service)}"


def answers(connection: str, instance_id: str) -> str:
    """Where one instance answers one connection of a router (the reply subject of its requests).

    A worker may always publish here, also after a reconnect, when the server has forgotten which
    requests it handed out; so an answer that was finished while the bus was away still arrives.
    A router takes an answer only from the instance that it asked: the last token says which.
    """
    return f"{inbox_prefix('router')}.{token(connection)}.{token(instance_id)}"


def answers_all(instance_id: str) -> str:
    """Where one instance answers any router."""
    return f"{inbox_prefix('router')}.*.{token(instance_id)}"


def worker_inbox(instance_id: str) -> str:
    """The private inbox prefix of one instance."""
    return f"_INBOX_worker.{token(instance_id)}"

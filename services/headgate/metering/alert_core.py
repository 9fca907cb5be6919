"""Decisions about alerts: which rules want an event, what is sent, when it is tried anew. Pure."""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from headgate_contracts import limits
from headgate_contracts.alerts import AlertRule, Topic

_TOPICS = {
    ("budget", "alerted"): Topic.BUDGET_ALERTED,
    ("sla", "burning"): Topic.SLA_BURNING,
    ("sla", "recovered"): Topic.SLA_RECOVERED,
    ("quota", "refused"): Topic.QUOTA_REFUSED,
    ("deployment", "failed"): Topic.DEPLOYMENT_FAILED,
    ("autoscale", "failed"): Topic.AUTOSCALE_FAILED,
    ("job", "status_changed"): Topic.JOB_FAILED,
}
SIGNATURE_HEADER = "Headgate-Signature"


def topic_of(subject: str, event: Mapping[str, Any]) -> Topic | None:
    """What an event is about; None when no rule can be about it."""
    tokens = subject.split(".")  # hg.v1.evt.<kind>.<names...>.<what>
    if len(tokens) < 6:
        return None
    topic = _TOPICS.get((tokens[3], tokens[-1]))
    if topic is Topic.JOB_FAILED and event.get("status") != "Failed":
        return None
    return topic


def is_for(rule: AlertRule, topic: Topic, event: Mapping[str, Any]) -> bool:
    """Whether a rule wants an event."""
    return (
        rule.is_enabled
        and topic in rule.topics
        and event.get("workspace") == rule.workspace
        and rule.endpoint in ("", event.get("endpoint"))
    )


def body(delivery_id: str, rule: AlertRule, topic: Topic, event: Mapping[str, Any]) -> str:
    """What is sent, as JSON."""
    return json.dumps(
        {
            "id": delivery_id,
            "rule": rule.name,
            "workspace": rule.workspace,
            "topic": topic.value,
            "summary": summary(topic, event),
            "event": event,
        }
    )


def summary(topic: Topic, event: Mapping[str, Any]) -> str:
    """A sentence for people."""
    if topic is Topic.TEST:
        return "this is a test"
    if isinstance(message := event.get("message"), str) and message:
        return message
    if topic is Topic.BUDGET_ALERTED:
        return (
            f"the budget {event.get('budget')!r} has spent {event.get('spent'):g} of "
            f"{event.get('amount'):g} {event.get('currency')}"
        )
    error = event.get("error")
    why = str(error.get("message", "")) if isinstance(error, dict) else ""
    if topic is Topic.JOB_FAILED:
        return f"the job {event.get('job')!r} has failed: {why}"
    return f"{event.get('endpoint')}/{event.get('deployment')} has failed: {why}"


def signature(secret: str, sent: str, now: float) -> str:
    """``t=<Unix time>,v1=<HMAC-SHA256 of "<time>.<body>", hexadecimal>``.

    The time is signed too, so that nobody can send an old one again and have it taken for new.
    """
    at = int(now)
    digest = hmac.new(secret.encode(), f"{at}.{sent}".encode(), hashlib.sha256).hexdigest()
    return f"t={at},v1={digest}"


def next_try(attempts: int, created_at: float, now: float, dice: float) -> float | None:
    """When a delivery is tried again that has failed so often; None: it is given up.

    Waits double, up to an hour, and are spread by ``dice`` in [0, 1) so that what failed together
    does not come together again.
    """
    wait_s = min(
        limits.DELIVERY_RETRY_MAX_S, limits.DELIVERY_RETRY_FIRST_S * 2 ** min(attempts - 1, 20)
    )
    due_at = now + wait_s * (0.5 + dice / 2)
    return due_at if due_at <= created_at + limits.DELIVERY_TRIED_S else None


def is_delivered(status: int) -> bool:
    return 200 <= status < 300


def wanted(rules: Iterable[AlertRule], topic: Topic, event: Mapping[str, Any]) -> list[AlertRule]:
    """The rules that an event is for."""
    return [rule for rule in rules if is_for(rule, topic, event)]


def trial_event(rule: AlertRule, event_id: str, now: float) -> dict[str, Any]:
    """What a test delivers."""
    at = datetime.fromtimestamp(now, UTC).isoformat(timespec="seconds")
    return {"id": event_id, "workspace": rule.workspace, "at": now, "message": f"a test at {at}"}

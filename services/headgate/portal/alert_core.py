"""What the studio's form of alert rules decides, and rows of its tables. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from pydantic import ValidationError

from headgate.azure.arm_fields import Json
from headgate.portal.core import UNKNOWN, moment
from headgate_contracts.alerts import SECRET_CHARS_MIN, URL_CHARS_MAX, AlertRule, Topic

TOPICS = {
    Topic.SLA_BURNING: "an error budget burns too fast",
    Topic.SLA_RECOVERED: "an error budget does so no more",
    Topic.DEPLOYMENT_FAILED: "a deployment has failed",
    Topic.JOB_FAILED: "a batch job has failed",
    Topic.AUTOSCALE_FAILED: "a decided count could not be set",
    Topic.QUOTA_REFUSED: "a quota has refused something",
    Topic.BUDGET_ALERTED: "a budget has reached a threshold",
}
_BY_WIRE = {topic.value.replace("_", "-"): topic for topic in TOPICS}
_TEXTS = {
    "name": "a name begins with a letter or digit; letters, digits, . _ and - may follow",
    "topics": "choose at least one",
    "url": f"an address such as https://hooks.example.com/x, at most {URL_CHARS_MAX:,} characters",
}


def rule_of(workspace: str, given: Mapping[str, Any]) -> AlertRule:
    """The rule that a form asks for. Raises ValidationError."""
    fields = {name: value for name, value in given.items() if name != "secret"}
    return AlertRule(workspace=workspace, **fields)


def problems(given: Mapping[str, Any], taken: list[str]) -> dict[str, str]:
    """What is wrong with a form, by field. ``taken``: names that rules have already."""
    found: dict[str, str] = {}
    if given["name"] in taken:
        found["name"] = "there is a rule of this name; change that one, or take another name"
    parts = urlsplit(given["url"])
    if parts.scheme not in ("http", "https") or not parts.netloc:
        found["url"] = _TEXTS["url"]
    if given["secret"] and len(given["secret"]) < SECRET_CHARS_MIN:
        found["secret"] = f"at least {SECRET_CHARS_MIN} characters"
    try:
        rule_of("local", given)
    except ValidationError as error:
        for each in error.errors():
            field = str(each["loc"][0])
            found.setdefault(field, _TEXTS.get(field, each["msg"]))
    return found


def meaning(rule: AlertRule) -> str:
    """What a rule does, in words."""
    when = " or ".join(TOPICS[topic] for topic in rule.topics)
    where = f", if it is about the endpoint {rule.endpoint}" if rule.endpoint else ""
    text = (
        f"When {when}{where}, a signed POST goes to {urlsplit(rule.url).netloc}; it is tried "
        "again for a day until it is answered with 2xx."
    )
    return text if rule.is_enabled else f"Switched off. {text}"


def body(rule: AlertRule, secret: str) -> Json:
    """The properties of a rule as the gateway takes them."""
    return {
        "topics": [topic.value.replace("_", "-") for topic in rule.topics],
        "url": rule.url,
        "endpoint": rule.endpoint,
        "enabled": rule.is_enabled,
        **({"secret": secret} if secret else {}),
    }


def read(told: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a form from the gateway's rule."""
    fields = told["properties"]
    return {
        "name": told["name"],
        "topics": [_BY_WIRE[topic] for topic in fields["topics"] if topic in _BY_WIRE],
        "url": fields["url"],
        "endpoint": fields["endpoint"],
        "is_enabled": fields["enabled"],
    }


def row(told: Mapping[str, Any]) -> dict[str, str]:
    """A rule as a line of a table."""
    fields = told["properties"]
    return {
        "name": str(told["name"]),
        "topics": ", ".join(fields["topics"]),
        "about": fields["endpoint"] or "the workspace",
        "url": fields["url"],
        "on": "on" if fields["enabled"] else "off",
        "delivered": f"{fields['delivered']:,}",
        "waiting": f"{fields['waiting']:,}",
        "given_up": f"{fields['givenUp']:,}",
    }


def delivery_row(told: Mapping[str, Any]) -> dict[str, str]:
    """A delivery as a line of a table."""
    return {
        "id": str(told["id"]),
        "created": moment(told["createdAt"]),
        "topic": str(told["topic"]),
        "state": str(told["state"]).replace("_", " "),
        "attempts": str(told["attempts"]),
        "answer": str(told["status"] or told["error"] or UNKNOWN),
        "due": moment(told["dueAt"] or ""),
    }

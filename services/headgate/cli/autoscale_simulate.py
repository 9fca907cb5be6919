"""``headgate autoscale simulate``: loads from flags and files, and what is shown of the outcome."""

from __future__ import annotations

import csv
import re
import shutil
import sys
from bisect import bisect_right
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from typing import Any

from headgate.autoscaler import schedule, target
from headgate.autoscaler.simulation import Rate, Scenario, Trace, simulate
from headgate.azure import yaml_autoscale
from headgate.azure.yaml_files import YamlFile
from headgate.cli import charts, output
from headgate.cli.autoscale_edit import seconds
from headgate.cli.errors import UsageError
from headgate.cli.options import Format
from headgate.cli.session import Session
from headgate.client.autoscale import Autoscale
from headgate_contracts import limits
from headgate_contracts.autoscale import AutoscaleSpec
from headgate_contracts.resources import DeploymentSpec

DURATION_S_MAX = 31 * 86_400
_ROWS_MAX = 1_000_000
_SEGMENT = re.compile(
    r"\s*(?P<from>[0-9]+(?:\.[0-9]+)?)(?:\.\.(?P<to>[0-9]+(?:\.[0-9]+)?))?"
    r"\s+for\s+(?P<length>\w+)\s*"
)


def synthetic(text: str) -> tuple[Rate, float]:
    """Requests per second from ``10 for 5m, 80 for 10m, 80..10 for 5m``, and how long."""
    segments: list[tuple[float, float, float, float]] = []
    at = 0.0
    for part in text.split(","):
        found = _SEGMENT.fullmatch(part)
        if found is None:
            raise UsageError(
                f"--load {part.strip()!r}: write '10 for 5m', or '10..80 for 5m' for a slope, "
                "several separated by commas"
            )
        length = float(seconds(found["length"], "--load"))
        start = float(found["from"])
        segments.append((at, length, start, float(found["to"] or start)))
        at += length
    begins = [segment[0] for segment in segments]

    def rate(at_s: float) -> float:
        begin, length, start, end = segments[max(0, bisect_right(begins, at_s) - 1)]
        return start + (end - start) * min(1.0, (at_s - begin) / length)

    return rate, at


def recorded(path: Path) -> tuple[Rate, float]:
    """Requests per second from a CSV file: a time (seconds, or ISO 8601) and a rate per line."""
    points: list[tuple[float, float]] = []
    try:
        with path.open(newline="", encoding="utf-8") as file:
            for number, row in enumerate(csv.reader(file), 1):
                if number == 1 and len(row) >= 2 and _number(row[1]) is None:
                    continue  # headings
                if number > _ROWS_MAX:
                    raise UsageError(f"{path} has more than {_ROWS_MAX:,} lines")
                points.append(_point(path, number, row))
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} cannot be read: {error}") from None
    if len(points) < 2 or points != sorted(points, key=lambda point: point[0]):
        raise UsageError(f"{path} needs at least two lines, in the order of their times")
    first = points[0][0]
    times = [at - first for at, _ in points]
    rates = [rate for _, rate in points]
    return lambda at_s: rates[max(0, bisect_right(times, at_s) - 1)], times[-1]


def _point(path: Path, number: int, row: list[str]) -> tuple[float, float]:
    at = _time(row[0]) if len(row) >= 2 else None
    rate = _number(row[1]) if len(row) >= 2 else None
    if at is None or rate is None or rate < 0:
        raise UsageError(f"{path}, line {number}: a time and a rate are expected, as in '60,12.5'")
    return at, rate


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _time(text: str) -> float | None:
    if (number := _number(text)) is not None:
        return number
    try:
        found = datetime.fromisoformat(text.replace("Z", "+00:00"))
        return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()
    except ValueError:
        return None


@dataclass(frozen=True, slots=True)
class Assumed:
    """What the flags say of the deployment; its own values count where there is one."""

    target: float | None
    least: int | None
    most: int | None
    slots: int
    service_s: float
    startup_s: float
    start: str


async def subject(
    session: Session, file: Path | None, name: str, endpoint: str, deployment: str
) -> tuple[AutoscaleSpec | None, DeploymentSpec | None]:
    """The setting and the deployment that are meant, as far as there are any."""
    if file is not None:
        YamlFile.open(file)
        return yaml_autoscale.setting(file), None
    if not (name or endpoint):
        return None, None
    async with session.client() as client:
        spec = None
        if name:
            spec = (await Autoscale(client).get(name)).spec
        else:
            settings = await Autoscale(client).list_all()
            place = (endpoint, deployment)
            spec = next(
                (s.spec for s in settings if (s.spec.endpoint, s.spec.deployment) == place), None
            )
        where = (spec.endpoint, spec.deployment) if spec else (endpoint, deployment)
        return spec, (await client.get_deployment(*where)).spec


def scenario(
    spec: AutoscaleSpec | None,
    deployed: DeploymentSpec | None,
    assumed: Assumed,
    rate: Rate,
    duration_s: float,
) -> Scenario:
    """What to simulate. UsageError when there is nothing that would scale."""
    policy = None
    if deployed is not None and deployed.scale_settings.follows_load:
        policy = target.policy_of(deployed)
    elif assumed.target is not None:
        least = 1 if assumed.least is None else assumed.least
        most = max(least, 10 if assumed.most is None else assumed.most)
        policy = target.Policy(assumed.target, least, most)
    if policy is None and spec is None:
        raise UsageError(
            "nothing here would scale: give --file, --name, a deployment with scale_settings of "
            "type target_utilization, or --target with --min-count and --max-count"
        )
    slots = assumed.slots
    if deployed is not None:
        slots = deployed.request_settings.max_concurrent_requests_per_instance
    starts_at = 0.0
    if assumed.start:
        begin = _time(assumed.start)
        if begin is None:
            raise UsageError(f"--start {assumed.start!r} is no time such as 2030-01-31T08:00:00Z")
        starts_at = begin
    count = policy.least if policy else 1
    if spec is not None:
        profile = schedule.in_force(spec.profiles, starts_at).profile
        count = profile.capacity.default if profile else count
    return Scenario(
        rate,
        duration_s,
        policy,
        spec,
        count,
        assumed.service_s,
        slots,
        assumed.startup_s,
        starts_at,
        held_max=limits.HELD_REQUESTS_DEFAULT if policy else 0,
    )


def run(scenario: Scenario, seed: int | None) -> Trace:
    """The simulation, refused where it would take for ever."""
    if not 0 < scenario.duration_s <= DURATION_S_MAX:
        raise UsageError("a simulation covers more than nothing and at most 31 days")
    dice = None if seed is None else Random(seed)  # noqa: S311 - arrivals, no secrets
    return simulate(scenario, dice)


def document(trace: Trace) -> dict[str, Any]:
    """The outcome for programs."""
    return {
        "requests": round(trace.requests),
        "refused": round(trace.refused),
        "instance_hours": round(trace.instance_s / 3_600, 3),
        "instances_max": max((sample.instances for sample in trace.samples), default=0),
        "reversals": trace.reversals(),
        "decisions": [
            {
                "at_s": at,
                "from": before,
                "to": decision.count,
                "reason": decision.reason.value,
                "message": decision.message,
            }
            for at, before, decision in trace.decisions
        ],
        "samples": [
            {
                "at_s": sample.at_s,
                "requests_per_s": round(sample.rate, 3),
                "instances": sample.instances,
                "ready": sample.ready,
                "in_hand": round(sample.in_hand, 2),
                "latency_ms": round(1000 * sample.latency_s, 1),
            }
            for sample in trace.samples
        ],
    }


def show(trace: Trace, form: Format | None, query: str) -> None:
    """Charts and changes for people; the whole document for programs."""
    found = document(trace)
    if query or output.form_of(form) is not Format.TABLE:
        output.show(found, form, query)
        return
    width = min(120, shutil.get_terminal_size().columns)
    is_unicode = (sys.stdout.encoding or "").lower().replace("-", "") == "utf8"
    samples = trace.samples
    for title, values in (
        ("requests per second", [s.rate for s in samples]),
        ("instances wanted", [float(s.instances) for s in samples]),
        ("requests in hand", [s.in_hand for s in samples]),
    ):
        output.write("\n".join(charts.chart(title, values, width, is_unicode=is_unicode)) + "\n\n")
    for each in found["decisions"]:
        change = f"{each['from']} -> {each['to']}" if each["from"] != each["to"] else "held"
        output.write(f"{_clock(each['at_s']):>12}  {change:<10}  {each['message']}\n")
    output.write(
        f"\n{found['requests']:,} requests, {found['refused']:,} refused; "
        f"{found['instance_hours']:g} instance hours, at most {found['instances_max']} instances\n"
    )


def _clock(at_s: float) -> str:
    days, rest = divmod(int(at_s), 86_400)
    text = f"{rest // 3_600:02}:{rest // 60 % 60:02}:{rest % 60:02}"
    return f"{days}d {text}" if days else text

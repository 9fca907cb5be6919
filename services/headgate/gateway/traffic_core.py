"""How the traffic that all routers have seen adds up. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from headgate.azure.arm_fields import Json
from headgate_contracts.routing import LATENCY_BOUNDS_MS, DeploymentTraffic, TrafficReply

QUANTILES = (0.5, 0.9, 0.95, 0.99)


def quantile_ms(buckets: Sequence[int], quantile: float) -> float | None:
    """The latency below which that share of the answers lies; None without answers.

    Within a bucket latencies are taken to lie evenly on a logarithmic scale, as its bounds do.
    """
    total = sum(buckets)
    if total == 0:
        return None
    wanted, seen = quantile * total, 0
    for index, count in enumerate(buckets):
        if count and seen + count >= wanted:
            upper = LATENCY_BOUNDS_MS[min(index, len(LATENCY_BOUNDS_MS) - 1)]
            if index >= len(LATENCY_BOUNDS_MS):
                return upper
            lower = upper / 2**0.25
            return round(float(lower * (upper / lower) ** ((wanted - seen) / count)), 3)
        seen += count
    return LATENCY_BOUNDS_MS[-1]


def histogram(buckets: Sequence[int]) -> list[Json]:
    """Buckets that hold answers, in order: above ``fromMs``, up to ``upToMs`` (None: endless)."""
    bounds = [round(bound, 4) for bound in LATENCY_BOUNDS_MS]
    return [
        {"fromMs": lower, "upToMs": upper, "count": count}
        for count, lower, upper in zip(buckets, [0.0, *bounds], [*bounds, None], strict=False)
        if count
    ]


def summed(replies: Iterable[TrafficReply]) -> dict[str, DeploymentTraffic]:
    """What all routers together answered, per deployment.

    Requests add up; instances do not, because all routers see the same ones.
    """
    total: dict[str, DeploymentTraffic] = {}
    for reply in replies:
        for name, part in reply.deployments.items():
            total[name] = _add(total.get(name, DeploymentTraffic()), part)
    return total


def _add(one: DeploymentTraffic, other: DeploymentTraffic) -> DeploymentTraffic:
    return DeploymentTraffic(
        requests=one.requests + other.requests,
        statuses=dict(Counter(one.statuses) + Counter(other.statuses)),
        mirrored=dict(Counter(one.mirrored) + Counter(other.mirrored)),
        latency_buckets=_add_buckets(one.latency_buckets, other.latency_buckets),
        mirror_latency_buckets=_add_buckets(
            one.mirror_latency_buckets, other.mirror_latency_buckets
        ),
        in_flight=one.in_flight + other.in_flight,
        ready_instances=max(one.ready_instances, other.ready_instances),
        quarantined={
            instance: max(one.quarantined.get(instance, 0.0), other.quarantined.get(instance, 0.0))
            for instance in sorted({*one.quarantined, *other.quarantined})
        },
    )


def _add_buckets(one: Sequence[int], other: Sequence[int]) -> tuple[int, ...]:
    size = max(len(one), len(other))
    padded = ([*part, *[0] * (size - len(part))] for part in (one, other))
    return tuple(map(sum, zip(*padded, strict=True)))


def describe_traffic(
    endpoint: str,
    declared: Mapping[str, int],
    mirrors: Mapping[str, int],
    replies: Sequence[TrafficReply],
) -> Json:
    """Declared and observed split of an endpoint, with latencies per deployment."""
    total = summed(replies)
    requests = sum(part.requests for part in total.values())
    refused: Counter[int] = Counter()
    for reply in replies:
        refused.update(reply.refused)
    return {
        "endpoint": endpoint,
        "routers": len(replies),
        "since": min((reply.since for reply in replies), default=None),
        "requests": requests,
        "refused": _by_status(refused),
        "deployments": {
            name: _describe_part(
                total.get(name, DeploymentTraffic()),
                declared.get(name, 0),
                mirrors.get(name, 0),
                requests,
            )
            for name in sorted({*total, *declared, *mirrors})
        },
    }


def _describe_part(part: DeploymentTraffic, declared: int, mirror: int, requests: int) -> Json:
    share = 100 * part.requests / requests if requests else None
    return {
        "declaredPercent": declared,
        "observedPercent": None if share is None else round(share, 2),
        "declaredMirrorPercent": mirror,
        "requests": part.requests,
        "statuses": _by_status(part.statuses),
        "mirrored": _by_status(part.mirrored),
        "latencyMs": _quantiles(part.latency_buckets),
        "mirrorLatencyMs": _quantiles(part.mirror_latency_buckets),
        "latencyHistogram": histogram(part.latency_buckets),
        "mirrorLatencyHistogram": histogram(part.mirror_latency_buckets),
        "inFlight": part.in_flight,
        "readyInstances": part.ready_instances,
        "quarantined": part.quarantined,
    }


def _quantiles(buckets: Sequence[int]) -> Json:
    return {f"p{quantile * 100:g}": quantile_ms(buckets, quantile) for quantile in QUANTILES}


def _by_status(counts: Mapping[int, int]) -> dict[str, int]:
    return {str(status): counts[status] for status in sorted(counts)}

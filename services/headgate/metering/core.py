"""What hours cost, and who pays for them. Pure; money is exact (``Decimal``) until it is told.

Instances cost for every second that they run, with or without requests. Traffic costs by the bytes
of answers to clients. Everything is added up from atoms of one hour and one deployment, so every
way of grouping has the same total.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from typing import NamedTuple

from headgate_contracts import limits
from headgate_contracts.metering import Cost, CostGroup
from headgate_contracts.usage import MINUTE_S, UsageKind

HOUR_S = 3_600
GB = Decimal(10**9)
_US = Decimal(10**6)
_DECIMALS = 6
_SEEN_WITHIN_S = 300.0  # who lives is noted once a minute
NOBODY = ""

Place = tuple[str, str]  # endpoint, deployment
Tags = Mapping[Place, Mapping[str, str]]


class Used(NamedTuple):
    """Requests of one hour, deployment, caller and kind."""

    hour: int
    endpoint: str
    deployment: str
    caller: str
    kind: str
    requests: int
    request_bytes: int
    response_bytes: int
    compute_us: int


@dataclass(frozen=True, slots=True)
class Ran:
    """An instance or node that ran from ``began_at`` until ``ended_at`` (None: it still does)."""

    endpoint: str
    deployment: str
    began_at: float
    ended_at: float | None
    price_per_hour: Decimal
    job: str = ""  # that it was a node of


@dataclass(slots=True)
class Sum:
    """What is added up for one group."""

    requests: int = 0
    mirrored: int = 0
    batch: int = 0
    request_bytes: int = 0
    response_bytes: int = 0
    compute_us: int = 0
    instance_s: Decimal = field(default_factory=Decimal)
    instance_cost: Decimal = field(default_factory=Decimal)
    node_s: Decimal = field(default_factory=Decimal)
    node_cost: Decimal = field(default_factory=Decimal)
    traffic_cost: Decimal = field(default_factory=Decimal)

    @property
    def cost(self) -> Decimal:
        return self.instance_cost + self.node_cost + self.traffic_cost

    def add_time(self, piece: Piece, share: Decimal = Decimal(1)) -> None:
        """The time of an instance or node, or a share of it."""
        if piece.job:
            self.node_s += piece.seconds * share
            self.node_cost += piece.cost * share
        else:
            self.instance_s += piece.seconds * share
            self.instance_cost += piece.cost * share

    def told(self, group: str = "") -> Cost:
        return Cost(
            group=group,
            requests=self.requests,
            mirrored=self.mirrored,
            batch=self.batch,
            request_bytes=self.request_bytes,
            response_bytes=self.response_bytes,
            compute_s=_number(self.compute_us / _US),
            instance_s=_number(self.instance_s),
            instance_cost=_number(self.instance_cost),
            node_s=_number(self.node_s),
            node_cost=_number(self.node_cost),
            traffic_cost=_number(self.traffic_cost),
            cost=_number(self.cost),
        )


def _number(exact: Decimal) -> float:
    return float(round(exact, _DECIMALS))


class GbPrices:
    """What a GB costs when: each price counts from its time on, the first one from ever."""

    def __init__(self, since: Mapping[float, Decimal]) -> None:
        self._since = sorted(since.items(), reverse=True)

    def at(self, hour: int) -> Decimal:
        """The price at the end of an hour: a change within it counts for all of it."""
        for since, price in self._since:
            if since < hour + HOUR_S:
                return price
        return self._since[-1][1] if self._since else Decimal(0)


def hour_of(at: float) -> int:
    return int(at // HOUR_S) * HOUR_S


def begins_of(minute: int, now: float) -> int | None:
    """Where the requests of a minute are kept; None when they are too old to be taken in."""
    if now - minute > limits.USAGE_AGE_S_MAX:
        return None
    whole = minute // MINUTE_S * MINUTE_S
    return hour_of(whole) if is_folded(whole, now) else whole


def is_folded(minute: int, now: float) -> bool:
    """Whether its hour has been added up. Whole hours are, so that none is half added up."""
    return minute < hour_of(now - limits.LEDGER_MINUTES_KEPT_S)


def end_of(at: float, seen_at: float | None, *, was_asked: bool) -> float:
    """When an instance ended that was told to be gone ``at`` a time.

    One that nobody asked to end may have been found dead long after, when the machine was off; then
    it ended when it was last heard of.
    """
    is_late = seen_at is not None and at - seen_at > _SEEN_WITHIN_S
    return seen_at if is_late and not was_asked and seen_at is not None else at


def costs(
    used: Sequence[Used],
    ran: Iterable[Ran],
    prices: GbPrices,
    tags: Tags,
    *,
    by: CostGroup,
    since: float,
    until: float,
) -> tuple[list[Cost], Cost]:
    """Costs by group, and all together, of a time; ``used`` and ``ran`` may reach beyond it."""
    used = [each for each in used if since <= each.hour < until]
    pieces = _pieces(ran, since, until)
    if by is CostGroup.KEY:
        sums = _by_key(used, pieces, prices)
    else:
        sums = _by_place(used, pieces, prices, _groups(by, tags))
    total = Sum()
    for each in _by_place(used, pieces, prices, lambda _hour, _place, _job: ("",)).values():
        total = each
    return _ordered(sums, by), total.told()


def _ordered(sums: Mapping[str, Sum], by: CostGroup) -> list[Cost]:
    if by is CostGroup.DAY:
        return [each.told(group) for group, each in sorted(sums.items())]
    dearest = sorted(sums.items(), key=lambda item: (-item[1].cost, -item[1].requests, item[0]))
    return [each.told(group) for group, each in dearest]


Groups = Callable[[int, Place, str], Iterable[str]]


def _groups(by: CostGroup, tags: Tags) -> Groups:
    def tagged(_hour: int, place: Place, _job: str) -> Iterable[str]:
        found = tags.get(place) or tags.get((place[0], "")) or {}
        return [f"{name}={value}" for name, value in found.items()] or [""]

    return {
        CostGroup.ENDPOINT: lambda _hour, place, _job: (place[0],),
        CostGroup.DEPLOYMENT: lambda _hour, place, _job: ("/".join(place) if place[1] else "",),
        CostGroup.DAY: lambda hour, _place, _job: (day_of(hour),),
        CostGroup.TAG: tagged,
        CostGroup.JOB: lambda _hour, _place, job: (job,),
    }[by]


def day_of(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d")


class Piece(NamedTuple):
    """Instance time within one hour."""

    hour: int
    place: Place
    seconds: Decimal
    cost: Decimal
    job: str


def _pieces(ran: Iterable[Ran], since: float, until: float) -> list[Piece]:
    found = []
    for each in ran:
        began = max(each.began_at, since)
        ended = min(until if each.ended_at is None else each.ended_at, until)
        for begin, end in _by_hours(began, ended):
            seconds = Decimal(str(end)) - Decimal(str(begin))
            cost = seconds * each.price_per_hour / HOUR_S
            place = (each.endpoint, each.deployment)
            found.append(Piece(hour_of(begin), place, seconds, cost, each.job))
    return found


def _by_hours(began: float, ended: float) -> Iterator[tuple[float, float]]:
    while began < ended:
        end = min(ended, float(hour_of(began) + HOUR_S))
        yield began, end
        began = end


def _note(total: Sum, each: Used, prices: GbPrices) -> None:
    total.compute_us += each.compute_us
    if each.kind == UsageKind.MIRRORED:
        total.mirrored += each.requests
        return
    if each.kind == UsageKind.BATCH:
        total.batch += each.requests
        return
    total.requests += each.requests
    total.request_bytes += each.request_bytes
    total.response_bytes += each.response_bytes
    total.traffic_cost += each.response_bytes * prices.at(each.hour) / GB


def _by_place(
    used: Iterable[Used], pieces: Iterable[Piece], prices: GbPrices, groups: Groups
) -> dict[str, Sum]:
    sums: defaultdict[str, Sum] = defaultdict(Sum)
    for each in used:
        for group in groups(each.hour, (each.endpoint, each.deployment), _job_of(each)):
            _note(sums[group], each, prices)
    for piece in pieces:
        for group in groups(piece.hour, piece.place, piece.job):
            sums[group].add_time(piece)
    return sums


def _job_of(each: Used) -> str:
    """Who calls for a mini-batch is its job."""
    return each.caller if each.kind == UsageKind.BATCH else ""


def _by_key(used: Iterable[Used], pieces: Iterable[Piece], prices: GbPrices) -> dict[str, Sum]:
    """An hour's instances are paid for by the keys of its requests, by the time they computed."""
    sums: defaultdict[str, Sum] = defaultdict(Sum)
    computed: defaultdict[tuple[int, Place], dict[str, int]] = defaultdict(dict)
    for each in used:
        _note(sums[NOBODY if _job_of(each) else each.caller], each, prices)
        if each.kind == UsageKind.SCORED and each.compute_us:
            keys = computed[each.hour, (each.endpoint, each.deployment)]
            keys[each.caller] = keys.get(each.caller, 0) + each.compute_us
    for piece in pieces:
        keys = computed.get((piece.hour, piece.place)) or {NOBODY: 1}
        whole = sum(keys.values())
        for caller, share in keys.items():
            sums[caller].add_time(piece, Decimal(share) / whole)
    return sums

"""The quotas of this router in memory: one gate for each endpoint that has any.

No I/O, and no clock on the scoring path: requests bring the monotonic time of their arrival, and
``Meters.wall`` is what has to be added to it for the time of day. An endpoint without quotas has no
gate, and its requests cost a look at that.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from headgate.router import quotas
from headgate.router.core import Refusal
from headgate.router.demand import Demand
from headgate.router.quotas import Bucket
from headgate_contracts import limits
from headgate_contracts.quotas import (
    EACH,
    RATES,
    Quota,
    QuotaKind,
    QuotaUse,
    is_counted,
    window_of,
)
from headgate_contracts.scoring import Route

K = QuotaKind
RowKey = tuple[int, int]
"""Page and row of the usage journal, which the ledger counts by."""
_PRUNE_EVERY_S = 0.1


class Place(NamedTuple):
    """What a quota counts apart."""

    workspace: str
    quota: str
    endpoint: str = ""
    caller: str = ""


class Window:
    """A count in a window: what the ledger has, what this router has counted since, and what is
    under way here. Before the ledger has been asked its part is taken to be nothing.
    """

    __slots__ = ("ledger", "own", "own_sum", "quota", "since", "under_way", "until")

    def __init__(self, quota: Quota) -> None:
        self.quota = quota
        self.since = self.until = 0
        self.ledger = self.own_sum = 0.0
        self.own: dict[RowKey, float] = {}
        self.under_way = 0

    @property
    def used(self) -> float:
        started = self.under_way if self.quota.kind is K.REQUESTS else 0
        return self.ledger + self.own_sum + started

    def turn(self, now: float) -> None:
        """Begin another window when it is time."""
        if now >= self.until:
            self.since, self.until = window_of(self.quota.window_s, now)
            self.ledger = self.own_sum = 0.0
            self.own.clear()

    def add(self, key: RowKey, amount: float) -> None:
        self.own[key] = self.own.get(key, 0.0) + amount
        self.own_sum += amount

    def reconcile(self, used: float, key: RowKey) -> None:
        """The ledger has ``used``, with our rows up to ``key``."""
        self.ledger = used
        for old in [each for each in self.own if each <= key]:
            del self.own[old]
        self.own_sum = sum(self.own.values())


class Rate:
    """A rate of one endpoint; ``share`` is this router's part of it."""

    __slots__ = ("bucket", "pruned_at", "quota", "seats", "share")

    def __init__(self, quota: Quota, share: float) -> None:
        self.quota = quota
        self.share = share
        self.bucket = Bucket(quotas.burst_of(share), 0.0)
        self.seats: set[object] = set()  # connections
        self.pruned_at = 0.0

    def wait_s(self, client: object, live: Iterable[object], now: float) -> float:
        """Take what a request needs at its arrival; otherwise when to come again."""
        kind = self.quota.kind
        if kind is K.CONNECTIONS:
            return self._sit(client, live, now)
        amount = 1.0 if kind is K.REQUESTS_PER_SECOND else 0.0
        burst = quotas.burst_of(self.share)
        after = quotas.taken(self.bucket, amount, self.share, burst, now)
        if isinstance(after, Bucket):
            self.bucket = after
            return 0.0
        return after

    def pay(self, amount: float) -> None:
        """Bytes that have been moved; more than there were make the next requests wait."""
        self.bucket = Bucket(self.bucket.tokens - amount, self.bucket.at)

    def _sit(self, client: object, live: Iterable[object], now: float) -> float:
        if client is None or client in self.seats:
            return 0.0
        if len(self.seats) >= self.share and now - self.pruned_at >= _PRUNE_EVERY_S:
            self.pruned_at = now
            self.seats.intersection_update(live)
        if len(self.seats) >= self.share:
            return 1.0
        self.seats.add(client)
        return 0.0


class Tolls:
    """What one request owes when it has ended."""

    __slots__ = ("rates", "windows")

    def __init__(self, windows: list[Window], rates: tuple[Rate, ...]) -> None:
        self.windows = windows
        self.rates = rates

    def pay(
        self, key: RowKey | None, deployment: str, status: int, compute_us: int, moved_bytes: int
    ) -> None:
        """It has its answer, counted in the row ``key`` (None: nowhere)."""
        counts = key is not None and is_counted(deployment, status)
        for window in self.windows:
            window.under_way -= 1
            if counts and key is not None:
                is_number = window.quota.kind is K.REQUESTS
                window.add(key, 1.0 if is_number else compute_us / 1e6)
        for rate in self.rates:
            rate.pay(moved_bytes)


class Gate:
    """The quotas of one endpoint."""

    def __init__(self, meters: Meters, route: Route) -> None:
        self.quotas = route.quotas
        self.asked = 0
        self._meters = meters
        self._endpoint = route.endpoint
        self._rates = [meters.rate(q, route.endpoint) for q in route.quotas if q.kind in RATES]
        self._bytes = tuple(r for r in self._rates if r.quota.kind is K.BYTES_PER_SECOND)
        self._counts = [quota for quota in route.quotas if quota.window_s]

    def refusal(self, caller: str, client: object, now: float) -> Refusal | None:
        """Whether a request may go on, from its headers. ``client``: its connection, if any."""
        self.asked += 1
        for window in self._windows(caller):
            refusal = self._full(window, caller, now)
            if refusal is not None:
                return refusal
        for rate in self._rates:
            wait_s = rate.wait_s(client, self._meters.connections, now)
            if wait_s > 0:
                self._meters.note_refused(rate.quota, self._endpoint, "")
                return quotas.rate_refusal(rate.quota, self._endpoint, wait_s)
        return None

    def enter(self, caller: str, now: float) -> Tolls | Refusal | None:
        """What a request owes that is about to be sent; refused when others were faster."""
        windows = list(self._windows(caller))
        for window in windows:
            refusal = self._full(window, caller, now)
            if refusal is not None:
                return refusal
        for window in windows:
            window.under_way += 1
        return Tolls(windows, self._bytes) if windows or self._bytes else None

    def _windows(self, caller: str) -> Iterator[Window]:
        for quota in self._counts:
            if quota.caller in ("", EACH, caller):
                yield self._meters.window(quota, self._endpoint, caller)

    def _full(self, window: Window, caller: str, now: float) -> Refusal | None:
        day_time = now + self._meters.wall
        window.turn(day_time)
        quota = window.quota
        if window.used < quota.limit:
            return None
        self._meters.note_refused(quota, self._endpoint, caller if quota.caller else "")
        return quotas.count_refusal(quota, caller, window.used, window.until, day_time)


class Meters:
    """What all gates of a router share; bounded."""

    def __init__(self) -> None:
        self.wall = 0.0
        self.demand = Demand()
        self.connections: Iterable[object] = ()
        self.gates: dict[str, Gate] = {}
        self.windows: dict[Place, Window] = {}
        self.rates: dict[Place, Rate] = {}
        self.refused: Counter[tuple[Quota, str, str]] = Counter()

    def gate(self, route: Route) -> Gate | None:
        """The gate of an endpoint with this route; counts outlive a change of it."""
        known = self.gates.get(route.endpoint)
        if not route.quotas:
            self.gates.pop(route.endpoint, None)
            return None
        if known is None or known.quotas != route.quotas:
            known = self.gates[route.endpoint] = Gate(self, route)
        return known

    def close(self, endpoint: str) -> None:
        """The endpoint is gone."""
        self.gates.pop(endpoint, None)

    def rate(self, quota: Quota, endpoint: str) -> Rate:
        place = Place(quota.workspace, quota.name, endpoint)
        known = self.rates.get(place)
        if known is None or known.quota != quota:
            known = self.rates[place] = Rate(quota, quota.limit)
        return known

    def window(self, quota: Quota, endpoint: str, caller: str) -> Window:
        place = Place(
            quota.workspace,
            quota.name,
            endpoint if quota.endpoint else "",
            caller if quota.caller else "",
        )
        known = self.windows.get(place)
        if known is None:
            if len(self.windows) >= limits.QUOTA_COUNTERS_MAX:
                del self.windows[next(iter(self.windows))]  # the ledger still has its part
            known = self.windows[place] = Window(quota)
        elif known.quota is not quota:
            if known.quota.window_s != quota.window_s:
                known.until = 0
            known.quota = quota
        return known

    def note_refused(self, quota: Quota, endpoint: str, caller: str) -> None:
        key = (quota, endpoint, caller)
        if key in self.refused or len(self.refused) < limits.QUOTA_COUNTERS_MAX:
            self.refused[key] += 1

    def counted(self) -> list[Quota]:
        """Every quota that counts in a window, once."""
        found = {(q.workspace, q.name): q for g in self.gates.values() for q in g.quotas}
        return [quota for quota in found.values() if quota.window_s]

    def reconcile(
        self, asked: Iterable[Quota], uses: Iterable[QuotaUse], key: RowKey, *, is_whole: bool
    ) -> None:
        """Take in what the ledger says; places that a whole answer does not name used nothing."""
        now_of = {Place(use.workspace, use.quota, use.endpoint, use.caller): use for use in uses}
        wanted = {(quota.workspace, quota.name): quota for quota in asked}
        for place in now_of.keys() - self.windows.keys():
            quota = wanted.get((place.workspace, place.quota))
            if quota is not None and len(self.windows) < limits.QUOTA_COUNTERS_MAX:
                self.windows[place] = Window(quota)
        for place, window in self.windows.items():
            if (place.workspace, place.quota) not in wanted:
                continue
            use = now_of.get(place)
            if use is not None:
                window.turn(use.since)
                if window.since == use.since:
                    window.reconcile(use.used, key)
            elif is_whole:
                window.reconcile(0.0, key)

    def forget(self, now: float) -> None:
        """Drop what no gate uses, and windows that are over; ``now`` is the time of day."""
        kept = {(q.workspace, q.name) for g in self.gates.values() for q in g.quotas}
        self.rates = {p: r for p, r in self.rates.items() if (p.workspace, p.quota) in kept}
        self.windows = {
            place: window
            for place, window in self.windows.items()
            if (place.workspace, place.quota) in kept and (window.under_way or now < window.until)
        }

    def divide(
        self, rank: int, count: int, demands: Mapping[str, tuple[float, list[float]]]
    ) -> None:
        """Take this router's part of each rate; ``demands``: own and others', by endpoint."""
        for place, rate in self.rates.items():
            own, others = demands.get(place.endpoint, (0.0, [0.0] * (count - 1)))
            limit = rate.quota.limit
            if rate.quota.kind is K.CONNECTIONS:
                rate.share = quotas.seats(int(limit), rank, count)
            elif rate.quota.kind is K.REQUESTS_PER_SECOND:
                rate.share = quotas.share(limit, own, others)
            else:  # bytes follow requests: the same parts of it
                demand = own + sum(others)
                part = own / demand if demand else 1 / count
                floor = quotas.IDLE_SHARE
                rate.share = limit * (part + floor) / (1 + count * floor)

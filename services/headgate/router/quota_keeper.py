"""Keeps this router's quotas true: its part of rates, what the ledger has counted, what is told.

All of it once a second, off the scoring path. While the ledger does not answer the last figures
hold, and what this router itself has counted goes on being added to them.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter

from nats.errors import Error as NatsError

from headgate.router.gates import Meters
from headgate.runtime.bus import Bus
from headgate.runtime.log import Log
from headgate_contracts import limits
from headgate_contracts.errors import HeadgateError
from headgate_contracts.quotas import (
    GetQuotaUse,
    Quota,
    QuotaRefused,
    QuotaUseReply,
    window_of,
)

LOOK_S = 1.0
FIRST_ANSWER_S = 2.0
"""So long a router waits for the ledger before it opens its doors; it may be away."""

_log = Log("router")


class QuotaKeeper:
    """The loop of one router."""

    def __init__(self, bus: Bus, meters: Meters, router_id: str, reporter: str) -> None:
        self._bus = bus
        self._meters = meters
        self._router_id = router_id
        self._reporter = reporter
        self._told: dict[tuple[Quota, str, str], float] = {}
        self._is_away = False

    async def start(self) -> None:
        """Know what has been used before the first request comes."""
        self._set_clock()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(FIRST_ANSWER_S):
                await self._ask()

    async def run(self) -> None:
        """Look for ever."""
        while True:
            await asyncio.sleep(LOOK_S)
            self._set_clock()
            self._divide()
            await self._ask()
            await self._tell()
            self._meters.forget(self._bus.clock.now())

    def _set_clock(self) -> None:
        self._meters.wall = self._bus.clock.now() - self._bus.clock.monotonic()

    def _divide(self) -> None:
        demand, me = self._meters.demand, self._router_id
        if self._meters.rates:
            demands = {endpoint: demand.of(endpoint, me) for endpoint in self._meters.gates}
            self._meters.divide(*demand.place_of(me), demands)

    async def _ask(self) -> None:
        """What the ledger has counted, with our own records up to a key."""
        wanted = self._meters.counted()[: limits.QUOTAS_PER_QUERY_MAX]
        if not wanted:
            return
        query = GetQuotaUse(quotas=tuple(wanted), reporter=self._reporter)
        try:
            reply = await self._bus.ask(query, QuotaUseReply)
        except HeadgateError as error:
            if not self._is_away:
                self._is_away = True
                _log.warning("quota_use_unknown", error=str(error))
            return
        self._is_away = False
        key = (reply.epoch, reply.sequence)
        self._meters.reconcile(wanted, reply.uses, key, is_whole=not reply.is_cut)

    async def _tell(self) -> None:
        """Events of refusals, each quota and place at most once a minute."""
        now = self._bus.clock.now()
        since = now - limits.QUOTA_TOLD_EVERY_S
        self._told = {key: at for key, at in self._told.items() if at > since}
        refused, self._meters.refused = self._meters.refused, Counter()
        for key, count in refused.items():
            if key in self._told:
                self._meters.refused[key] += count  # told with those to come
                continue
            self._told[key] = now
            with contextlib.suppress(NatsError):  # the bus is away; answers say the same
                await self._bus.tell(_event(*key, count, now))


def _event(quota: Quota, endpoint: str, caller: str, count: int, now: float) -> QuotaRefused:
    return QuotaRefused(
        workspace=quota.workspace,
        quota=quota.name,
        kind=quota.kind,
        limit=quota.limit,
        endpoint=endpoint,
        caller=caller,
        refusals=count,
        frees_at=float(window_of(quota.window_s, now)[1]) if quota.window_s else None,
        message=f"the quota {quota.name!r} ({quota.limit:g} {quota.kind.value.replace('_', ' ')}) "
        f"has refused {count} requests to the endpoint {endpoint!r}",
    )

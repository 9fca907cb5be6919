"""What each router is asked for, per endpoint and second, from the reports that routers tell.

Only endpoints with quotas are looked at. Figures are growth between the last two whole reports.
"""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass, field

from headgate_contracts.load import LoadReported


@dataclass(slots=True)
class _Told:
    """A report, as far as its parts have come: requests since the router's start."""

    seq: int
    mono_s: float
    sums: dict[str, int] = field(default_factory=dict)

    def since(self, before: _Told) -> dict[str, float]:
        """Requests per second; an endpoint that was not looked at before has none yet."""
        seconds = self.mono_s - before.mono_s
        return {
            endpoint: max(0, count - before.sums[endpoint]) / seconds
            for endpoint, count in self.sums.items()
            if seconds > 0 and endpoint in before.sums
        }


class Demand:
    """All routers that are heard, this one among them."""

    def __init__(self) -> None:
        self._now: dict[str, _Told] = {}
        self._before: dict[str, _Told] = {}
        self._rates: dict[str, dict[str, float]] = {}

    def hear(self, report: LoadReported, wanted: Container[str]) -> None:
        """Take a report in, or a part of one."""
        router = report.router
        if report.is_last:
            self.drop(router)
            return
        told = self._now.get(router)
        if told is None or told.seq != report.seq:
            if told is not None:
                if (before := self._before.get(router)) is not None:
                    self._rates[router] = told.since(before)
                self._before[router] = told
            told = self._now[router] = _Told(report.seq, report.mono_s)
        for row in report.deployments:
            if row.endpoint in wanted:
                count = sum(row.statuses.values())
                told.sums[row.endpoint] = told.sums.get(row.endpoint, 0) + count
        for refused in report.endpoints:
            if refused.endpoint in wanted:
                count = sum(refused.refused.values())
                told.sums[refused.endpoint] = told.sums.get(refused.endpoint, 0) + count

    def drop(self, router: str) -> None:
        """It is heard no more."""
        for kept in (self._now, self._before, self._rates):
            kept.pop(router, None)

    def place_of(self, router: str) -> tuple[int, int]:
        """The rank of a router among all, and how many there are."""
        known = sorted({router, *self._now})
        return known.index(router), len(known)

    def of(self, endpoint: str, router: str) -> tuple[float, list[float]]:
        """What a router is asked for at an endpoint, and what each of the others is."""
        own = self._rates.get(router, {}).get(endpoint, 0.0)
        others = [name for name in self._now if name != router]
        return own, [self._rates.get(name, {}).get(endpoint, 0.0) for name in others]

"""What the computes of nodes want now; it may have changed since their jobs came."""

from __future__ import annotations

from collections.abc import Set

from headgate.runtime.bus import Bus
from headgate.runtime.clock import Clock
from headgate.runtime.log import Log
from headgate_contracts.errors import Blame, HeadgateError
from headgate_contracts.storage import ComputeReply, ComputeSpec, GetCompute

LOOK_S = 2.0

Place = tuple[str, str]  # workspace, compute

_log = Log("batch")


class Computes:
    """The computes that have nodes, as they were a moment ago."""

    def __init__(self, bus: Bus, clock: Clock) -> None:
        self._bus = bus
        self._clock = clock
        self._specs: dict[Place, ComputeSpec | None] = {}  # None: there is none
        self._looked_at = 0.0

    def get(self, place: Place) -> ComputeSpec | None:
        """None: there is none, or it is not known yet."""
        return self._specs.get(place)

    def known(self, places: Set[Place]) -> Set[Place]:
        """Those of these that have been looked up."""
        return places & self._specs.keys()

    async def look(self, places: Set[Place]) -> None:
        """Ask now and then, and at once when there are others than before."""
        now = self._clock.monotonic()
        self._specs = {place: self._specs[place] for place in self.known(places)}
        if now - self._looked_at > LOOK_S or places - self._specs.keys():
            self._looked_at = now
            for place in places:
                await self._ask(place)

    async def _ask(self, place: Place) -> None:
        query = GetCompute(workspace=place[0], name=place[1])
        try:
            self._specs[place] = (await self._bus.ask(query, ComputeReply)).compute.spec
        except HeadgateError as error:
            if error.error.blame is Blame.CALLER:
                self._specs[place] = None
            else:
                _log.warning("compute_unknown", compute=place[1], error=str(error))

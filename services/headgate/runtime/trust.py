"""What checks tokens, kept equal to the trust bucket."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import ValidationError

from headgate.runtime.bus import Bus
from headgate.runtime.follower import BucketFollower
from headgate.runtime.log import Log
from headgate_contracts import streams
from headgate_contracts.identity import Trust


class TrustFollower(BucketFollower):
    """Reads the trust bucket, as a loop of the service. Without any, no token counts."""

    def __init__(self, bus: Bus) -> None:
        self.trust = Trust()
        self._log_trust = Log(bus.service)
        super().__init__(bus, streams.TRUST.name, self)

    @property
    def is_known(self) -> bool:
        """Whether there is an issuer at all; before that nothing can be said of a token."""
        return bool(self.trust.issuers)

    def replace(self, values: Mapping[str, bytes]) -> None:
        if streams.TRUST_KEY in values:
            self.apply(streams.TRUST_KEY, values[streams.TRUST_KEY])

    def apply(self, key: str, value: bytes) -> None:
        if key != streams.TRUST_KEY:
            return
        try:
            found = Trust.model_validate_json(value)
        except ValidationError as error:
            self._log_trust.error("bad_trust", error=str(error)[:200])
            return
        if found != self.trust:  # an unchanged one stays the same object: what it proved holds
            self.trust = found

    def remove(self, key: str) -> None:
        """Its owner writes it anew; until then the last one is better than none."""

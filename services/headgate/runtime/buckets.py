"""One KV bucket, as the writer of its values needs it: compare, then set.

Hides the traps of nats-py's KV: deleted keys that read as errors, and listing by a watcher (which
stays blind after a restart of the server); the key list here is one plain question.
"""

from __future__ import annotations

from dataclasses import dataclass

from nats.errors import Error as NatsError
from nats.js.errors import KeyNotFoundError, KeyWrongLastSequenceError
from nats.js.kv import KeyValue

from headgate.runtime.bus import Bus
from headgate_contracts.errors import ErrorCode, HeadgateError


@dataclass(frozen=True, slots=True)
class Entry:
    """What a key holds; ``sequence`` is needed to change it. ``value`` None: nothing."""

    value: bytes | None
    sequence: int


class BucketWriter:
    """Reads and compare-and-sets the keys of one bucket.

    Raises HeadgateError(ServiceUnavailable) when the bus does not do its part.
    """

    def __init__(self, bus: Bus, name: str) -> None:
        self._bus = bus
        self._name = name
        self._subject = f"$KV.{name}."
        self._kv: KeyValue | None = None

    async def get(self, key: str) -> Entry:
        """What ``key`` holds now."""
        try:
            entry = await (await self._bucket()).get(key)
        except KeyNotFoundError as error:  # of a deleted key it carries the mark of the deletion
            return Entry(None, error.entry.revision if error.entry else 0)
        except NatsError as error:
            raise self._failure(error) from error
        return Entry(entry.value or b"", entry.revision or 0)

    async def replace(self, key: str, found: Entry, value: bytes | None) -> bool:
        """Set the key (None: delete it) unless somebody changed it since ``found``."""
        try:
            bucket = await self._bucket()
            if value is None:
                await bucket.delete(key, last=found.sequence)
            else:
                await bucket.update(key, value, last=found.sequence)
        except KeyWrongLastSequenceError:
            return False
        except NatsError as error:
            if "wrong last sequence" in str(error):
                return False
            raise self._failure(error) from error
        return True

    async def keys(self) -> list[str]:
        """Every key that was ever set, deleted ones included, in order."""
        try:
            info = await self._bus.js.stream_info(
                f"KV_{self._name}", subjects_filter=f"{self._subject}>"
            )
        except NatsError as error:
            raise self._failure(error) from error
        return sorted(subject.removeprefix(self._subject) for subject in info.state.subjects or {})

    async def _bucket(self) -> KeyValue:
        if self._kv is None:
            self._kv = await self._bus.js.key_value(self._name)
        return self._kv

    def _failure(self, error: NatsError) -> HeadgateError:
        self._kv = None
        text = str(error) or type(error).__name__
        return HeadgateError(
            ErrorCode.UNAVAILABLE, f"the bucket {self._name} does not answer: {text}"
        )

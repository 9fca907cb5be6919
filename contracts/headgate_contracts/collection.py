"""What a deployment collects of its traffic and its script's data frames (azure.md 1.5)."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from headgate_contracts import limits
from headgate_contracts.envelope import Value

# Whole payloads, collected without any code. All other names belong to the script.
PAYLOADS = ("request", "response")
COLLECTIONS_MAX = limits.COLLECTORS_MAX + len(PAYLOADS)

_HEADER = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,100}\Z")
_SECRET_HEADERS = ("authorization", "proxy-authorization", "cookie", "set-cookie")


def _check_headers(names: tuple[str, ...]) -> tuple[str, ...]:
    for name in names:
        if not _HEADER.match(name):
            raise ValueError(f"{name[:40]!r} is no name of a header")
        if name.lower() in _SECRET_HEADERS:
            raise ValueError(f"{name!r} carries credentials, which are never collected")
    return names


Rate = Annotated[float, Field(ge=0.0, le=1.0)]
CollectionName = Annotated[
    str,
    Field(
        pattern=limits.COLLECTION_NAME_PATTERN,
        description="1 to 63 letters, digits, '_' and '-', a letter first",
    ),
]


class RequestLogging(Value):
    """Headers that are written down beside payloads."""

    capture_headers: Annotated[
        tuple[str, ...],
        Field(max_length=limits.CAPTURED_HEADERS_MAX),
        AfterValidator(_check_headers),
    ] = ()


class Collection(Value):
    """One stream of collected data. ``data`` refers to the data asset that names its folder."""

    enabled: bool = True
    sampling_rate: Rate = 1.0
    data: str | None = None
    client_id: Annotated[str, Field(max_length=limits.TAG_CHARS_MAX)] | None = None


def _check_collections(found: dict[str, Collection]) -> dict[str, Collection]:
    if len({name.lower() for name in found}) < len(found):
        raise ValueError("two collections have names that differ only in case")
    own = [name for name in found if name.lower() not in PAYLOADS]
    if len(own) > limits.COLLECTORS_MAX:
        raise ValueError(
            f"at most {limits.COLLECTORS_MAX} collections besides request and response are "
            f"allowed, not {len(own)}"
        )
    return found


class DataCollector(Value):
    """What is collected, how much of it, and into how large a part of the year each folder."""

    collections: Annotated[
        dict[CollectionName, Collection],
        Field(min_length=1, max_length=COLLECTIONS_MAX),
        AfterValidator(_check_collections),
    ]
    rolling_rate: Literal["minute", "hour", "day", "month", "year"] = "hour"
    request_logging: RequestLogging = RequestLogging()

    @property
    def enabled(self) -> dict[str, Collection]:
        """The collections that collect something."""
        return {
            name: each
            for name, each in self.collections.items()
            if each.enabled and each.sampling_rate > 0
        }


def asset_name(endpoint: str, deployment: str, collection: str) -> str:
    """The data asset of a collection that names none, as Azure's clients call it."""
    return f"{endpoint}-{deployment}-{collection}"


def default_path(endpoint: str, deployment: str, collection: str) -> str:
    """Where a collection goes that names no place, as a path in the default datastore."""
    return f"modelDataCollector/{endpoint}/{deployment}/{collection}"

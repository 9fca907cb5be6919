"""What data collection writes down, and where, as pure functions.

Every event is one line of JSON in the form of a CloudEvent, with the attributes that Azure's
collector gives it. A header, or an attribute of ``azureml-ai-monitoring``, becomes an attribute by
leaving out what attribute names cannot have: ``x-request-id`` is ``xrequestid``.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from datetime import datetime, timezone
from functools import lru_cache
from typing import NamedTuple, Optional

REQUEST = "request"
RESPONSE = "response"
TYPE = "azureml.inference."
DATA_BYTES_MAX = 4 * 1024 * 1024  # larger ones become an object of their own, as in Azure
ATTRIBUTE_CHARS_MAX = 1024
JSON = "application/json"
TEXT = "text/plain"

_FOLDERS = {
    "year": "%Y",
    "month": "%Y/%m",
    "day": "%Y/%m/%d",
    "hour": "%Y/%m/%d/%H",
    "minute": "%Y/%m/%d/%H/%M",
}
_NOT_OF_A_NAME = re.compile("[^a-z0-9]")
_TEXTS = ("text/", "application/xml", "application/x-www-form-urlencoded")
_RESERVED = {"specversion", "id", "source", "type", "datacontenttype", "time", "data", "path"}
_RESERVED |= {"method", "contentrange", "correlationid", "xrequestid", "modelversion", "agent"}
_RESERVED |= {"collectdatatype", "datainblob"}

_IN_BLOB = ',"datainblob":"true"'
_quoted = json.encoder.encode_basestring  # a text as JSON; in C, unlike a call of dumps()


class Collection(NamedTuple):
    """One stream of events. ``address`` is where its folder will be, for readers."""

    name: str
    rate: float = 1.0
    address: str = ""


class Plan(NamedTuple):
    """What is collected. ``collections`` by their names in lower case; so are ``headers``."""

    source: str
    rolling_rate: str
    headers: tuple[str, ...]
    collections: dict[str, Collection]

    @property
    def custom(self) -> bool:
        """Whether there is anything for the script's own collectors."""
        return any(name not in (REQUEST, RESPONSE) for name in self.collections)


class Event(NamedTuple):
    """Something to be written down: ``body`` is data of the media type ``kind``.

    It is the beginning of ``whole_bytes``, where that is given.
    """

    collection: Collection
    at: float
    request_id: str
    kind: str
    body: bytes
    attributes: dict[str, str]
    whole_bytes: Optional[int] = None


def plan(text: str) -> Plan:
    """What the driver said. Raises ValueError."""
    said = json.loads(text)
    collections = {
        name.lower(): Collection(name, float(each["rate"]), str(each["address"]))
        for name, each in said["collections"].items()
    }
    headers = tuple(str(name).lower() for name in said["capture_headers"])
    return Plan(str(said["source"]), str(said["rolling_rate"]), headers, collections)


def sampled(request_id: str, rate: float) -> bool:
    """Whether a request is among those that are kept: the same for all who ask with its id.

    What a lower rate keeps, a higher one keeps too.
    """
    if rate >= 1.0:
        return True
    digest = hashlib.blake2b(request_id.encode("utf-8", "replace"), digest_size=8).digest()
    return int.from_bytes(digest, "big") < rate * 2.0**64


def folder(at: float, rolling_rate: str) -> str:
    """The part of a path that a time gives, in UTC."""
    return datetime.fromtimestamp(at, timezone.utc).strftime(_FOLDERS[rolling_rate])


def attribute(name: str) -> str:
    """A header's name as the name of an attribute."""
    return _NOT_OF_A_NAME.sub("", name.lower())


def attributes(pairs: Mapping[str, str]) -> dict[str, str]:
    """Headers as attributes, without those that an event has anyway."""
    named = {attribute(name): value[:ATTRIBUTE_CHARS_MAX] for name, value in pairs.items()}
    return {name: value for name, value in named.items() if name and name not in _RESERVED}


def data_of(kind: str, body: bytes) -> Optional[tuple[str, str]]:
    """A media type and the body as JSON text in one line; None for what no line can hold.

    JSON stays as it was written: numbers keep their digits.
    """
    media = kind.partition(";")[0].strip().lower()
    is_json = media == JSON or media.endswith("+json")
    if len(body) > DATA_BYTES_MAX or not (is_json or not media or media.startswith(_TEXTS)):
        return None
    try:
        text = body.decode()
    except UnicodeDecodeError:
        return None
    if is_json and _is_json(text):
        return media, text.strip().replace("\n", " ").replace("\r", " ")
    written = _quoted(text)
    if len(written) > DATA_BYTES_MAX:  # control characters take six
        return None
    return (TEXT if is_json or not media else media), written


def _is_json(text: str) -> bool:
    """Strictly: Python also reads NaN and Infinity."""
    try:
        _decode(text)
    except (ValueError, RecursionError):
        return False
    return True


def _refuse(word: str) -> None:
    raise ValueError(word)


_decode = json.JSONDecoder(parse_constant=_refuse).decode


def line(source: str, event: Event, event_id: str, kind: str, data: str, *, in_blob: bool) -> bytes:
    """The event as it is stored; ``data`` is JSON text."""
    size, request_id = len(event.body), _quoted(event.request_id)
    about = "".join(f"{_quoted(name)}:{_quoted(text)}," for name, text in event.attributes.items())
    whole = size if event.whole_bytes is None else event.whole_bytes
    extent = f"bytes 0-{size - 1}/{whole}" if size else f"bytes */{whole}"
    text = (
        f'{{"specversion":"1.0","id":{_quoted(event_id)},"source":{_quoted(source)},'
        f'"type":{_quoted(TYPE + event.collection.name)},"datacontenttype":{_quoted(kind)},'
        f'"time":"{_stamp(int(event.at))}","data":{data},{about}"contentrange":"{extent}",'
        f'"correlationid":{request_id},"xrequestid":{request_id}'
        f"{_IN_BLOB if in_blob else ''}}}\n"
    )
    return text.encode("utf-8", "replace")


@lru_cache(maxsize=16)
def _stamp(second: int) -> str:
    return datetime.fromtimestamp(second, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def address_json(address: str) -> str:
    """Where the data lies instead, as JSON text."""
    return _quoted(address)

"""Lists of blobs: which part is wanted, and how it is written. Pure."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from heapq import nsmallest
from xml.sax.saxutils import escape, quoteattr

from headgate.gateway.storage_core import Stored, http_date
from headgate.gateway.storage_errors import StorageError, bad_query

PAGE_MAX = 1_000  # Azure's is 5,000; whoever lists must look at the marker anyway
_FOLDER_END = "/"


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which part of a list is wanted. ``by_folder``: what lies deeper is taken together."""

    prefix: str = ""
    by_folder: bool = False
    after: str = ""
    size: int = PAGE_MAX


@dataclass(frozen=True, slots=True)
class Page:
    """Names in order, those of folders with a slash at the end; where the next part begins."""

    names: Sequence[str]
    marker: str


def read_wanted(query: Mapping[str, str]) -> Wanted:
    """What a list request asks for."""
    size = query.get("maxresults", str(PAGE_MAX))
    if not (size.isascii() and size.isdecimal() and len(size) < 9 and int(size) > 0):
        raise StorageError(
            400, "OutOfRangeQueryParameterValue", "maxresults is a number from 1 upwards."
        )
    if query.get("delimiter", "") not in ("", _FOLDER_END):
        raise bad_query("delimiter", "only / is known here.")
    prefix = query.get("prefix", "")
    if not prefix.isprintable():
        raise bad_query("prefix", "no name has such characters.")
    try:
        marker = query.get("marker", "").encode()
        after = base64.b64decode(marker, altchars=b"-_", validate=True).decode()
    except ValueError:
        raise bad_query("marker", "it is none that was given out.") from None
    return Wanted(
        prefix=prefix,
        by_folder="delimiter" in query and bool(query["delimiter"]),
        after=after,
        size=min(int(size), PAGE_MAX),
    )


def is_of(name: str, wanted: Wanted) -> bool:
    """Whether a name belongs to the part that is wanted or to a later one."""
    return name.startswith(wanted.prefix) and name > wanted.after


def page_of(names: Iterable[str], wanted: Wanted) -> Page:
    """The first of the names, however many there are and in whatever order they come."""
    found = nsmallest(wanted.size + 1, (name for name in names if is_of(name, wanted)))
    shown = found[: wanted.size]
    marker = base64.urlsafe_b64encode(shown[-1].encode()).decode() if found[wanted.size :] else ""
    return Page(shown, marker)


def list_xml(
    address: str, container: str, wanted: Wanted, page: Page, blobs: Iterable[Stored]
) -> str:
    """A list as the protocol writes it. Blobs that have gone meanwhile are not among ``blobs``."""
    entries = "".join(_entry(blob) for blob in blobs)
    entries += "".join(
        f"<BlobPrefix><Name>{escape(name)}</Name></BlobPrefix>"
        for name in page.names
        if name.endswith(_FOLDER_END)
    )
    delimiter = f"<Delimiter>{_FOLDER_END}</Delimiter>" if wanted.by_folder else ""
    return (
        '<?xml version="1.0" encoding="utf-8"?>'
        f"<EnumerationResults ServiceEndpoint={quoteattr(address)} "
        f"ContainerName={quoteattr(container)}>"
        f"<Prefix>{escape(wanted.prefix)}</Prefix><MaxResults>{wanted.size}</MaxResults>"
        f"{delimiter}<Blobs>{entries}</Blobs>"
        f"<NextMarker>{page.marker}</NextMarker></EnumerationResults>"
    )


def _entry(stored: Stored) -> str:
    note = stored.note
    metadata = "".join(f"<{name}>{escape(value)}</{name}>" for name, value in note.metadata.items())
    kept = "".join(f"<{name}>{escape(value)}</{name}>" for name, value in note.kept.items())
    return (
        f"<Blob><Name>{escape(stored.place.blob)}</Name><Properties>"
        f"<Creation-Time>{http_date(stored.created_at)}</Creation-Time>"
        f"<Last-Modified>{http_date(stored.blob.modified_at)}</Last-Modified>"
        f"<Etag>{escape(stored.etag)}</Etag>"
        f"<Content-Length>{stored.blob.size_bytes}</Content-Length>"
        f"<Content-Type>{escape(note.content_type)}</Content-Type>"
        f"{kept}<Content-MD5>{note.md5}</Content-MD5><BlobType>BlockBlob</BlobType>"
        "<LeaseStatus>unlocked</LeaseStatus><LeaseState>available</LeaseState>"
        f"</Properties><Metadata>{metadata}</Metadata></Blob>"
    )

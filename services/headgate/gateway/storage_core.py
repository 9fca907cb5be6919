"""The blob protocol's decisions: places, rights, conditions, ranges, blocks. Pure."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from email.utils import formatdate, parsedate_to_datetime
from urllib.parse import unquote_to_bytes

from headgate.azure.storage_uris import HOST_SUFFIX, folder_of
from headgate.gateway.storage_errors import (
    StorageError,
    already_there,
    bad_header,
    bad_name,
    condition_not_met,
    no_container,
    not_done_here,
    not_found,
)
from headgate.runtime.store import Blob, checked_key
from headgate.runtime.tokens import Principal
from headgate_contracts.envelope import Value
from headgate_contracts.errors import HeadgateError
from headgate_contracts.identity import Role

BLOCK_ID_CHARS_MAX = 88
BLOCKS_MAX = 50_000
METADATA_BYTES_MAX = 8 * 1024  # Azure's limit
META_PREFIX = "x-ms-meta-"
PLAIN_TYPE = "application/octet-stream"
# Headers that a blob is written with -> those that it is read with.
_KEPT = {
    "x-ms-blob-cache-control": "Cache-Control",
    "x-ms-blob-content-encoding": "Content-Encoding",
    "x-ms-blob-content-language": "Content-Language",
}
_HEADER_CHARS_MAX = 256
_WORKSPACE = re.compile(r"[a-z0-9_(][a-z0-9._()-]{0,89}\Z")
_CONTAINER = re.compile(r"[a-z0-9](?:[a-z0-9-]{1,61})[a-z0-9]\Z")
_RANGE = re.compile(r"bytes=(\d{1,18})-(\d{0,18})\Z", re.ASCII)
_ASCII = re.compile(r"[ -~]*\Z")
_OF_ROLE = {Role.READER: "rl", Role.OPERATOR: "racwdl", Role.OWNER: "racwdl", Role.ADMIN: "racwdl"}
# Clients rely on what these ask for, so they are refused and not left out.
_NOT_DONE = (
    "x-ms-copy-source",
    "x-ms-structured-body",
    "x-ms-content-crc64",
    "x-ms-encryption-key",
    "x-ms-lease-id",
    "x-ms-if-tags",
    "x-ms-legal-hold",
)


def check_headers(headers: Mapping[str, str]) -> None:
    """Refuse a request that relies on something not done here."""
    for name in _NOT_DONE:
        if name in headers:
            raise not_done_here(name)


# --- places ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Place:
    """What a request is about: a container, or a blob in it (``blob`` not empty)."""

    workspace: str
    container: str
    blob: str = ""

    @property
    def key(self) -> str:
        folder = folder_of(self.workspace, self.container)
        return f"{folder}/{self.blob}" if self.blob else folder

    def note_key(self, etag: str) -> str:
        """Where the blob's own headers are kept: not every store can keep them.

        One note for each version, so that of two writers none loses its note to the other; and
        by digest, so that any name a blob can have leaves room for it.
        """
        folder = folder_of(self.workspace, self.container)
        return f"notes/{folder}/{_digest(self.key)}/{_digest(etag)}.json"

    def block_key(self, block_id: str, stamp: str) -> str:
        """Where a block waits until it is committed. What has been put once never changes."""
        return f"{self.blocks_folder}/{block_id.encode().hex()}/{stamp}"

    @property
    def blocks_folder(self) -> str:
        return f"{BLOCKS_FOLDER}/{_digest(self.key)}"


BLOCKS_FOLDER = "blocks"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def is_storage(raw_path: str) -> bool:
    """Whether a request is one of the blob protocol."""
    first = raw_path.partition("?")[0].lstrip("/").partition("/")[0]
    return first.lower().endswith(HOST_SUFFIX)


def read_place(raw_path: str) -> Place:
    """The container or blob in a request target. A blob with a slash at its end never exists."""
    parts = []
    for part in raw_path.partition("?")[0][1:].split("/"):
        try:
            parts.append(unquote_to_bytes(part).decode())
        except UnicodeDecodeError:
            raise bad_name("it is not UTF-8") from None
    workspace = parts[0].lower().removesuffix(HOST_SUFFIX)
    container = parts[1] if len(parts) > 1 else ""
    if not _WORKSPACE.match(workspace) or not _CONTAINER.match(container):
        raise no_container()
    blob = "/".join(parts[2:])
    if blob.endswith("/"):
        raise not_found()
    place = Place(workspace, container, blob)
    try:
        checked_key(place.key)
    except HeadgateError as error:
        raise bad_name(error.error.message) from None
    return place


# --- rights ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Rights:
    """What a caller may do, as letters of a signature, with names that begin with ``prefix``."""

    letters: str
    prefix: str = ""

    @property
    def creates_only(self) -> bool:
        """``c`` alone makes new blobs and leaves alone what is there."""
        return "w" not in self.letters

    def require(self, *any_of: str) -> None:
        if not set(any_of) & set(self.letters):
            raise StorageError(
                403,
                "AuthorizationPermissionMismatch",
                f"This request needs the permission {' or '.join(any_of)}; "
                f"the caller has {self.letters!r}.",
            )


def rights_of(who: Principal, place: Place) -> Rights:
    """What the signature or the role allows at a place. One that is another's does not exist."""
    if who.storage is not None:
        scope = who.storage
        if (scope.workspace, scope.container) != (place.workspace, place.container):
            raise no_container()
        if place.blob and not place.blob.startswith(scope.prefix):
            raise not_found()
        return Rights(scope.permissions, scope.prefix)
    role = who.role_in(place.workspace)
    if role is None:
        raise no_container()
    return Rights(_OF_ROLE[role])


# --- what is stored ----------------------------------------------------------------------------


class Note(Value):
    """What is kept beside a blob. ``md5`` is base64, as HTTP writes it.

    ``etag`` is that of the object it was written for: beside any other it says nothing, so a
    crash between the two writes leaves a blob without a note and never one with a wrong note.
    """

    etag: str = ""
    content_type: str = PLAIN_TYPE
    md5: str = ""
    sha256: str = ""
    block_list: str = ""
    metadata: dict[str, str] = {}
    kept: dict[str, str] = {}
    created_at: float = 0.0


@dataclass(frozen=True, slots=True)
class Stored:
    """A blob with its note."""

    place: Place
    blob: Blob
    note: Note

    @property
    def etag(self) -> str:
        """Another one whenever content or note change."""
        told = f"{self.blob.etag}\0{self.note.model_dump_json()}"
        return f'"0x{hashlib.sha256(told.encode()).hexdigest()[:16].upper()}"'

    @property
    def created_at(self) -> float:
        return self.note.created_at or self.blob.modified_at


def read_metadata(headers: Iterable[tuple[str, str]]) -> dict[str, str]:
    """The caller's own key-value pairs of a request."""
    found: dict[str, str] = {}
    total_bytes = 0
    for name, value in headers:
        if not name.lower().startswith(META_PREFIX):
            continue
        key = name[len(META_PREFIX) :].lower()
        if not re.fullmatch(r"[a-z_][a-z0-9_]{0,99}", key):
            raise bad_header(META_PREFIX + key[:40], "a name is made of letters, digits and '_'")
        if not _ASCII.match(value):
            raise bad_header(META_PREFIX + key[:40], "only ASCII can be stored; encode the rest")
        total_bytes += len(key) + len(value)
        found[key] = value
    if total_bytes > METADATA_BYTES_MAX:
        raise StorageError(
            400, "MetadataTooLarge", f"The metadata is larger than {METADATA_BYTES_MAX} bytes."
        )
    return found


def read_content_type(headers: Mapping[str, str]) -> str:
    """What the client says that the blob is."""
    given = headers.get("x-ms-blob-content-type") or headers.get("Content-Type") or ""
    return (
        given if given and _ASCII.match(given) and len(given) <= _HEADER_CHARS_MAX else PLAIN_TYPE
    )


def read_kept(headers: Mapping[str, str]) -> dict[str, str]:
    """What else the client says of the blob, to be said to whoever reads it."""
    found = {name: headers[given] for given, name in _KEPT.items() if headers.get(given)}
    for name, text in found.items():
        if not _ASCII.match(text) or len(text) > _HEADER_CHARS_MAX:
            raise bad_header(name, f"only {_HEADER_CHARS_MAX} characters of ASCII can be stored")
    return found


def http_date(at: float) -> str:
    return formatdate(at, usegmt=True)


# --- conditions --------------------------------------------------------------------------------


def check_conditions(
    headers: Mapping[str, str], present: Stored | None, *, reading: bool = False
) -> None:
    """Refuse a request whose conditional headers do not fit what is there."""
    wanted, unwanted = headers.get("If-Match"), headers.get("If-None-Match")
    if wanted is not None and not _names(wanted, present):
        raise condition_not_met()
    if unwanted is not None and _names(unwanted, present):
        if reading:
            raise StorageError(304, "ConditionNotMet", "The blob is what the client has.")
        raise already_there() if unwanted.strip() == "*" else condition_not_met()
    if present is None:
        return
    at = int(present.blob.modified_at)
    until = _time(headers, "If-Unmodified-Since")
    if wanted is None and until is not None and at > until:
        raise condition_not_met()
    since = _time(headers, "If-Modified-Since")
    if unwanted is None and since is not None and at <= since:
        if reading:
            raise StorageError(304, "ConditionNotMet", "The blob has not changed since.")
        raise condition_not_met()


def _names(listed: str, present: Stored | None) -> bool:
    if present is None:
        return False
    tags = [tag.strip().removeprefix("W/") for tag in listed.split(",")]
    return "*" in tags or present.etag in tags


def _time(headers: Mapping[str, str], name: str) -> float | None:
    text = headers.get(name)
    if text is None:
        return None
    try:
        at: datetime = parsedate_to_datetime(text)
        return at.timestamp()
    except (ValueError, OverflowError):
        raise bad_header(name, "this is no time") from None


# --- ranges ------------------------------------------------------------------------------------


def read_range(text: str | None, size: int) -> tuple[int, int] | None:
    """First byte and the one after the last; None for the whole blob."""
    if not text:
        return None
    match = _RANGE.match(text.strip())
    if match is None:
        raise bad_header("Range", "write bytes=<first>-<last>")
    start = int(match[1])
    end = min(int(match[2]) + 1 if match[2] else size, size)
    if start >= size or end <= start:
        raise StorageError(416, "InvalidRange", "The range lies outside the blob.")
    return start, end


# --- blocks ------------------------------------------------------------------------------------

_BLOCK = re.compile(r"<(Latest|Uncommitted)>([^<]{1,200})</\1>")
_AROUND_BLOCKS = re.compile(
    r"\ufeff?\s*(<\?xml[^<>]*>)?\s*<BlockList(\s*/>|\s*>\s*</BlockList\s*>)\s*\Z"
)


def check_block_id(text: str | None) -> str:
    """A block's id: base64, as the protocol wants it."""
    try:
        if not text or len(text) > BLOCK_ID_CHARS_MAX:
            raise ValueError
        base64.b64decode(text, validate=True)
    except ValueError:
        raise StorageError(
            400, "InvalidBlockId", "blockid is not base64 of at most 64 bytes."
        ) from None
    return text


def read_block_list(text: str) -> list[str]:
    """The ids of the blocks that make a blob, in order."""
    if "<Committed>" in text:
        raise StorageError(
            400, "InvalidBlockList", "Blocks of a blob that is complete are not kept; send them."
        )
    # Whatever is not understood may stand for a block, and a blob without it would be damaged.
    if not _AROUND_BLOCKS.match(_BLOCK.sub("", text)):
        raise StorageError(400, "InvalidXmlDocument", "The body is no list of blocks.")
    found = [check_block_id(match[2].strip()) for match in _BLOCK.finditer(text)]
    if len(found) > BLOCKS_MAX:
        raise StorageError(
            400, "InvalidBlockList", f"A blob is made of at most {BLOCKS_MAX} blocks."
        )
    return found


def block_list_digest(block_ids: Sequence[str]) -> str:
    """By which a list is known again whose answer was lost."""
    return hashlib.sha256("\n".join(block_ids).encode()).hexdigest()


def newest_blocks(place: Place, waiting: Iterable[Blob]) -> dict[str, Blob]:
    """By id what was put last: a block may be sent again, and its newest content counts."""
    start = f"{place.blocks_folder}/"
    found: dict[str, Blob] = {}
    for blob in sorted(waiting, key=lambda blob: blob.key):
        folder = blob.key.removeprefix(start).partition("/")[0]
        found[bytes.fromhex(folder).decode()] = blob
    return found

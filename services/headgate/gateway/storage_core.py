"""The blob protocol's decisions: places, rights, ranges, pages, and how they are written. Pure."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from email.utils import formatdate
from urllib.parse import unquote_to_bytes
from xml.sax.saxutils import escape, quoteattr

from headgate.azure.storage_uris import HOST_SUFFIX, folder_of
from headgate.runtime.tokens import Principal
from headgate_contracts.envelope import Value
from headgate_contracts.errors import ErrorCode
from headgate_contracts.identity import Role

PAGE_MAX = 5_000
BLOCK_ID_CHARS_MAX = 88
BLOCKS_MAX = 50_000
METADATA_BYTES_MAX = 8 * 1024  # Azure's limit
META_PREFIX = "x-ms-meta-"
_CONTAINER = re.compile(r"[a-z0-9](?:[a-z0-9-]{1,61})[a-z0-9]\Z")
_RANGE = re.compile(r"bytes=(\d{1,18})-(\d{0,18})\Z", re.ASCII)
_ETAG_SIGNS = re.compile(r'["\s]')
_OF_ROLE = {Role.READER: "rl", Role.OPERATOR: "rlacw", Role.OWNER: "rlacwd", Role.ADMIN: "rlacwd"}


class StorageError(Exception):
    """A refusal in the blob protocol's own form."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code


def not_found() -> StorageError:
    return StorageError(404, "BlobNotFound", "The specified blob does not exist.")


def no_container() -> StorageError:
    return StorageError(404, "ContainerNotFound", "The specified container does not exist.")


def bad_name(problem: str) -> StorageError:
    return StorageError(400, "InvalidResourceName", f"The blob's name is not possible: {problem}")


def bad_header(name: str, problem: str) -> StorageError:
    return StorageError(400, "InvalidHeaderValue", f"{name}: {problem}")


_ERRORS: Mapping[ErrorCode, tuple[int, str]] = {
    ErrorCode.UNAUTHORIZED: (403, "AuthenticationFailed"),
    ErrorCode.FORBIDDEN: (403, "AuthorizationPermissionMismatch"),
    ErrorCode.RESOURCE_NOT_FOUND: (404, "BlobNotFound"),
    ErrorCode.PAYLOAD_TOO_LARGE: (413, "RequestBodyTooLarge"),
    ErrorCode.UNSUPPORTED_MEDIA_TYPE: (415, "UnsupportedHeader"),
    ErrorCode.BAD_ARGUMENT: (400, "InvalidInput"),
    ErrorCode.QUOTA_EXCEEDED: (409, "BlobCountLimitExceeded"),
    ErrorCode.TOO_MANY_REQUESTS: (429, "OperationTimedOut"),
    ErrorCode.STORAGE_FULL: (507, "InsufficientAccountPermissions"),
    ErrorCode.UNAVAILABLE: (503, "ServerBusy"),
}


def error_of(code: ErrorCode, message: str) -> StorageError:
    """One of our own errors in the blob protocol's words."""
    status, word = _ERRORS.get(code, (500, "InternalError"))
    return StorageError(status, word, message)


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

    @property
    def note_key(self) -> str:
        """Where the blob's own headers are kept: not every store can keep them."""
        return f"notes/{self.key}.json"

    def block_key(self, block_id: str) -> str:
        """Where a block waits until it is committed."""
        return f"{self.blocks_folder}/{block_id.encode().hex()}"

    @property
    def blocks_folder(self) -> str:
        return f"blocks/{hashlib.sha256(self.key.encode()).hexdigest()}"


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
    if not _CONTAINER.match(container):
        raise no_container()
    blob = "/".join(parts[2:])
    if blob.endswith("/"):
        raise not_found()
    return Place(workspace, container, blob)


# --- rights ------------------------------------------------------------------------------------


def check_right(who: Principal, place: Place, letter: str) -> None:
    """Refuse what the signature or the role does not allow."""
    if who.storage is not None:
        scope = who.storage
        if (scope.workspace, scope.container) != (place.workspace, place.container):
            raise no_container()
        if place.blob and not place.blob.startswith(scope.prefix):
            raise not_found()
        allowed = scope.permissions
    else:
        role = who.role_in(place.workspace)
        if role is None:
            raise no_container()
        allowed = _OF_ROLE[role]
    # Whoever may write may create, and the other way round: clients ask for either.
    wanted = {"w", "c"} if letter == "w" else {letter}
    if not wanted & set(allowed):
        raise StorageError(
            403,
            "AuthorizationPermissionMismatch",
            f"This request needs the permission {letter!r}; the caller has {allowed!r}.",
        )


# --- notes -------------------------------------------------------------------------------------


class Note(Value):
    """What is kept beside a blob. ``md5`` is base64, as HTTP writes it."""

    content_type: str = "application/octet-stream"
    md5: str = ""
    sha256: str = ""
    metadata: dict[str, str] = {}
    created_at: float = 0.0


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
        total_bytes += len(key) + len(value.encode())
        found[key] = value
    if total_bytes > METADATA_BYTES_MAX:
        raise StorageError(
            400, "MetadataTooLarge", f"The metadata is larger than {METADATA_BYTES_MAX} bytes."
        )
    return found


def plain_etag(etag: str) -> str:
    """An ETag of any store in HTTP's form."""
    return f'"{_ETAG_SIGNS.sub("", etag) or "0"}"'


def http_date(at: float) -> str:
    return formatdate(at, usegmt=True)


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

_BLOCK = re.compile(r"<(Latest|Committed|Uncommitted)>([^<]{1,200})</\1>")


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
    found = [check_block_id(match[2].strip()) for match in _BLOCK.finditer(text)]
    if len(found) > BLOCKS_MAX or "<BlockList" not in text:
        raise StorageError(
            400, "InvalidBlockList", f"A blob is made of at most {BLOCKS_MAX} blocks."
        )
    return found


# --- lists -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Listed:
    """One blob of a list."""

    name: str
    size_bytes: int
    modified_at: float
    etag: str
    note: Note | None = None


@dataclass(frozen=True, slots=True)
class Page:
    """A part of a list: blobs, names of folders, and where the next part begins."""

    names: Sequence[str] = ()
    folders: Sequence[str] = ()
    marker: str = ""


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which part of a list is wanted."""

    prefix: str = ""
    delimiter: str = ""
    after: str = ""
    size: int = PAGE_MAX
    with_metadata: bool = field(default=False)


def read_wanted(query: Mapping[str, str]) -> Wanted:
    """What a list request asks for."""
    size = query.get("maxresults", str(PAGE_MAX))
    if not size.isascii() or not size.isdecimal() or not 1 <= int(size[:9]) <= 10**8:
        raise StorageError(
            400, "OutOfRangeQueryParameterValue", "maxresults is a number from 1 upwards."
        )
    try:
        after = base64.urlsafe_b64decode(query.get("marker", "").encode()).decode()
    except ValueError:
        raise StorageError(
            400, "InvalidQueryParameterValue", "marker is none that was given out."
        ) from None
    return Wanted(
        prefix=query.get("prefix", ""),
        delimiter=query.get("delimiter", ""),
        after=after,
        size=min(int(size[:9]), PAGE_MAX),
        with_metadata="metadata" in query.get("include", ""),
    )


def page_of(names: Iterable[str], wanted: Wanted) -> Page:
    """The part of a sorted list of names that is wanted, folders taken together."""
    shown: list[str] = []
    folders: list[str] = []
    last = ""
    for name in names:
        if not name.startswith(wanted.prefix) or name <= wanted.after:
            continue
        rest = name[len(wanted.prefix) :]
        cut = rest.find(wanted.delimiter) if wanted.delimiter else -1
        folder = wanted.prefix + rest[: cut + len(wanted.delimiter)] if cut >= 0 else ""
        if folder and (folder in folders[-1:] or wanted.after.startswith(folder)):
            last = name
            continue
        if len(shown) + len(folders) >= wanted.size:
            marker = base64.urlsafe_b64encode(last.encode()).decode()
            return Page(shown, folders, marker)
        (folders if folder else shown).append(folder or name)
        last = name
    return Page(shown, folders)


def list_xml(
    address: str, container: str, wanted: Wanted, blobs: Sequence[Listed], page: Page
) -> str:
    """A list as the protocol writes it."""
    entries = "".join(_entry(blob) for blob in blobs)
    entries += "".join(
        f"<BlobPrefix><Name>{escape(folder)}</Name></BlobPrefix>" for folder in page.folders
    )
    return (
        '<?xml version="1.0" encoding="utf-8"?>'
        f"<EnumerationResults ServiceEndpoint={quoteattr(address)} "
        f"ContainerName={quoteattr(container)}>"
        f"<Prefix>{escape(wanted.prefix)}</Prefix><MaxResults>{wanted.size}</MaxResults>"
        f"<Delimiter>{escape(wanted.delimiter)}</Delimiter><Blobs>{entries}</Blobs>"
        f"<NextMarker>{page.marker}</NextMarker></EnumerationResults>"
    )


def _entry(blob: Listed) -> str:
    note = blob.note or Note()
    metadata = "".join(f"<{name}>{escape(value)}</{name}>" for name, value in note.metadata.items())
    return (
        f"<Blob><Name>{escape(blob.name)}</Name><Properties>"
        f"<Last-Modified>{http_date(blob.modified_at)}</Last-Modified>"
        f"<Etag>{escape(plain_etag(blob.etag))}</Etag>"
        f"<Content-Length>{blob.size_bytes}</Content-Length>"
        f"<Content-Type>{escape(note.content_type)}</Content-Type>"
        f"<Content-MD5>{note.md5}</Content-MD5><BlobType>BlockBlob</BlobType>"
        "<LeaseStatus>unlocked</LeaseStatus><LeaseState>available</LeaseState>"
        f"</Properties><Metadata>{metadata}</Metadata></Blob>"
    )


def error_xml(error: StorageError) -> str:
    """A refusal as the protocol writes it."""
    return (
        '<?xml version="1.0" encoding="utf-8"?>'
        f"<Error><Code>{error.code}</Code><Message>{escape(str(error))}</Message></Error>"
    )

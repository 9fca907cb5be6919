"""The object store: model files, code and data by key, in a local folder or behind any obstore URL.

A key is a relative path of safe components (``uploads/<hash>/model/weights.bin``). Keys come from
outside, so each is checked here before it reaches a disk or a cloud.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import re
import stat
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import obstore
from obstore.exceptions import (
    AlreadyExistsError,
    BaseError,
    PermissionDeniedError,
    UnauthenticatedError,
)
from obstore.store import LocalStore, from_url

from headgate_contracts import limits
from headgate_contracts.errors import ErrorCode, HeadgateError

KEY_BYTES_MAX = 1_024  # as in S3
COMPONENT_BYTES_MAX = 250  # disks allow 255, and the folder store adds to a name while it writes
CHUNK_BYTES = 1024 * 1024

_FILE_SCHEME = "file://"
# The folder store gives files this name while they are written.
_DRAFT_NAME = re.compile(r"#\d+\Z", re.ASCII)
# A large object is sent in parts, of which only so many are in memory.
_PART_BYTES = 5 * 1024 * 1024
_PARTS_AT_ONCE = 3
_DENIED = ("status code: 403", "status code: 401")  # of a list these are no error of their own
_FILE_OR_FOLDER = ("Not a directory", "Is a directory")


@dataclass(frozen=True, slots=True)
class Blob:
    """What the store knows of one object. ``modified_at`` is Unix time in seconds."""

    key: str
    size_bytes: int
    modified_at: float
    etag: str = ""


@dataclass(frozen=True, slots=True)
class Opened:
    """An object that is being read: what is known of it, and bytes of that very version."""

    blob: Blob
    chunks: AsyncIterator[bytes]


@dataclass(frozen=True, slots=True)
class Level:
    """One level of a folder: the keys of its folders and its objects, in order."""

    folders: tuple[str, ...]
    blobs: tuple[Blob, ...]


def checked_key(key: str) -> str:
    """``key`` itself when it is safe; HeadgateError(BadArgument) that says what is wrong with it.

    Allowed are relative paths without empty, ``.`` or ``..`` components, backslashes or control
    characters: they mean the same thing on every disk and in every cloud.
    """
    problem = _problem_of(key)
    if problem:
        raise HeadgateError(
            ErrorCode.BAD_ARGUMENT, f"{key[:80]!r} cannot be a storage key: {problem}", target="key"
        )
    return key


def _problem_of(key: str) -> str:
    if not key.isprintable() or "\\" in key:
        return "control characters and backslashes are not allowed"
    if not 1 <= len(key.encode()) <= KEY_BYTES_MAX:
        return f"it must have 1 to {KEY_BYTES_MAX} bytes"
    for component in key.split("/"):
        if component in ("", ".", ".."):
            return f"the part {component!r} is not allowed"
        if len(component.encode()) > COMPONENT_BYTES_MAX:
            return f"a part is longer than {COMPONENT_BYTES_MAX} bytes"
    if _DRAFT_NAME.search(key):
        return "it must not end with '#' and a number"
    return ""


@contextlib.contextmanager
def _explained(what: str, denied: ErrorCode) -> Iterator[None]:
    """Failures of the storage behind us, as errors with a code; ``denied`` if it refuses us."""
    try:
        yield
    except FileNotFoundError:
        raise _nothing_at(what) from None
    except AlreadyExistsError:
        raise _already_there(what) from None
    except (PermissionDeniedError, UnauthenticatedError) as error:
        raise _refusal(what, denied) from error
    except (BaseError, OSError) as error:
        said = str(error).split("\n", 1)[0]
        if any(text in said for text in _DENIED):
            raise _refusal(what, denied) from error
        if "No space left" in said:
            raise HeadgateError(
                ErrorCode.STORAGE_FULL, "the disk of the object store is full"
            ) from error
        if any(text in said for text in _FILE_OR_FOLDER):
            raise HeadgateError(
                ErrorCode.RESOURCE_CONFLICT,
                f"{what!r}, or a part of it, would be a file and a folder at once",
                target="key",
            ) from None
        raise HeadgateError(
            ErrorCode.UNAVAILABLE, f"the object store failed at {what!r}: {said}", retry_after_s=1
        ) from error


@contextlib.contextmanager
def _none_if_missing() -> Iterator[None]:
    """Goes on after the block when there is no such object: a name below a file is none either."""
    try:
        yield
    except HeadgateError as error:
        missing = (ErrorCode.RESOURCE_NOT_FOUND, ErrorCode.RESOURCE_CONFLICT)
        if error.error.code not in missing:
            raise


def _refusal(what: str, code: ErrorCode) -> HeadgateError:
    return HeadgateError(
        code, f"the object store refuses access to {what!r} with the credentials it was given"
    )


def _nothing_at(key: str) -> HeadgateError:
    return HeadgateError(
        ErrorCode.RESOURCE_NOT_FOUND, f"the object store has no {key!r}", target="key"
    )


def _already_there(key: str) -> HeadgateError:
    return HeadgateError(
        ErrorCode.RESOURCE_EXISTS, f"the object store has {key!r} already", target="key"
    )


async def _chunks(key: str, found: Any, denied: ErrorCode) -> AsyncIterator[bytes]:
    with _explained(key, denied):
        async for chunk in found.stream(min_chunk_size=CHUNK_BYTES):
            yield bytes(chunk)


class Store:
    """Objects by key. A written object appears whole or not at all."""

    def __init__(self, url: str, **options: Any) -> None:
        """``options`` are obstore's, such as ``endpoint`` (GCS: ``base_url``) and credentials;
        without one for a credential, the environment's count.

        Raises HeadgateError(BadArgument) for a URL that no storage answers to.
        """
        try:
            # A plain path, not a parsed URL: folders may be called "a b#c".
            self.folder: Path | None = None
            """Where the objects lie as files of this machine, if they do."""
            if url.startswith(_FILE_SCHEME):
                self.folder = Path(url.removeprefix(_FILE_SCHEME))
                self._store: Any = LocalStore(prefix=self.folder, mkdir=True)
            else:
                server = options.get("endpoint") or options.get("base_url") or ""
                allow_http = str(server).startswith("http:")
                client: Any = {"client_options": {"allow_http": True}} if allow_http else {}
                self._store = from_url(url, **client, **options)
        except (BaseError, ValueError, OSError) as error:
            said = str(error).split("\n", 1)[0]
            raise HeadgateError(
                ErrorCode.BAD_ARGUMENT,
                f"the object store URL {url.partition('?')[0]!r} cannot be used: {said}",
                target="store",
            ) from None

        # Whose mistake it is when a server does not let us in: that of who gave the credentials.
        self._denied = ErrorCode.FORBIDDEN if options else ErrorCode.UNAVAILABLE

    def _explained(self, what: str) -> contextlib.AbstractContextManager[None]:
        return _explained(what, self._denied)

    async def put(
        self,
        key: str,
        data: bytes | AsyncIterator[bytes],
        *,
        create_only: bool = False,
    ) -> str:
        """Write an object, replacing an earlier one; its etag. Nothing is changed when ``data``
        raises.

        With ``create_only``, HeadgateError(ResourceAlreadyExists) when there is one. For ``bytes``
        that is decided in the same step; what takes longer to arrive is looked for before and
        after, because stores have no such step for objects that come in parts.
        """
        checked_key(key)
        with self._explained(key):
            if isinstance(data, bytes):
                mode: Literal["create", "overwrite"] = "create" if create_only else "overwrite"
                done = await obstore.put_async(self._store, key, data, mode=mode)
            else:
                source = self._if_new(key, data) if create_only else data
                done = await obstore.put_async(
                    self._store,
                    key,
                    source,
                    chunk_size=_PART_BYTES,
                    max_concurrency=_PARTS_AT_ONCE,
                )
        return done["e_tag"] or ""

    async def _if_new(self, key: str, data: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        for is_sent in (False, True):
            if await self.exists(key):
                raise _already_there(key)
            if not is_sent:
                async for chunk in data:
                    yield chunk

    async def head(self, key: str) -> Blob | None:
        """What is known of the object, or None if there is none."""
        checked_key(key)
        with _none_if_missing(), self._explained(key):
            return _blob(await obstore.head_async(self._store, key))
        return None

    async def exists(self, key: str) -> bool:
        """Whether there is an object (not: a folder) of this name."""
        return await self.head(key) is not None

    async def open(self, key: str, *, start: int = 0, end: int | None = None) -> Opened | None:
        """An object and its bytes from ``start`` up to, not including, ``end``; None without one.

        A range lies inside the object: who asks for one has looked at its size.
        """
        checked_key(key)
        options: obstore.GetOptions = {}
        if end is not None:
            options["range"] = (start, end)
        elif start:
            options["range"] = {"offset": start}
        with _none_if_missing(), self._explained(key):
            found = await obstore.get_async(self._store, key, options=options)
            return Opened(_blob(found.meta), _chunks(key, found, self._denied))
        return None

    async def get(
        self, key: str, *, start: int = 0, end: int | None = None
    ) -> AsyncIterator[bytes]:
        """The bytes of an object from ``start`` up to, not including, ``end``, in chunks."""
        opened = await self.open(key, start=start, end=end)
        if opened is None:
            raise _nothing_at(key)
        async for chunk in opened.chunks:
            yield chunk

    async def read(self, key: str, *, bytes_max: int) -> bytes:
        """A whole small object. Raises HeadgateError(PayloadTooLarge) when it is not small."""
        content = bytearray()
        async for chunk in self.get(key):
            content += chunk
            if len(content) > bytes_max:
                raise HeadgateError(
                    ErrorCode.PAYLOAD_TOO_LARGE, f"{key!r} is larger than {bytes_max} bytes"
                )
        return bytes(content)

    async def walk(self, prefix: str) -> AsyncIterator[Blob]:
        """Every object below a folder, in no order, however many there are."""
        checked_key(prefix)
        with self._explained(prefix):
            async for batch in obstore.list(self._store, prefix):
                for meta in batch:
                    yield _blob(meta)

    async def walk_ordered(self, prefix: str, *, after: str = "") -> AsyncIterator[Blob]:
        """Every object below a folder in the order of their keys, from behind the key ``after``.

        However many there are; of a folder of this machine, one level's names are in memory. An
        empty prefix is everything.
        """
        if prefix:
            checked_key(prefix)
        if self.folder is not None:
            found = _files_below(self.folder, prefix, after)
            while part := await asyncio.to_thread(lambda: tuple(itertools.islice(found, 500))):
                for blob in part:
                    yield blob
            return
        with self._explained(prefix):
            # Object stores list in the order of keys by themselves.
            async for batch in obstore.list(self._store, prefix or None, offset=after or None):
                for meta in batch:
                    yield _blob(meta)

    async def list(self, prefix: str, *, limit: int = limits.UPLOAD_FILES_MAX) -> list[Blob]:
        """The objects below a folder, in order of their keys.

        Raises HeadgateError(QuotaExceeded) when there are more than ``limit``.
        """
        found: list[Blob] = []
        async for blob in self.walk(prefix):
            found.append(blob)
            if len(found) > limit:
                raise HeadgateError(
                    ErrorCode.QUOTA_EXCEEDED,
                    f"{prefix!r} holds more than {limit} files",
                    target="key",
                )
        return sorted(found, key=lambda blob: blob.key)

    async def level(self, prefix: str) -> Level:
        """What lies right below a folder."""
        checked_key(prefix)
        with self._explained(prefix):
            found = await obstore.list_with_delimiter_async(self._store, prefix)
        blobs = sorted(map(_blob, found["objects"]), key=lambda blob: blob.key)
        return Level(tuple(sorted(found["common_prefixes"])), tuple(blobs))

    async def delete(self, key: str) -> None:
        """Remove an object; nothing happens when there is none."""
        checked_key(key)
        with _none_if_missing(), self._explained(key):
            await obstore.delete_async(self._store, key)


def _files_below(root: Path, prefix: str, after: str) -> Iterator[Blob]:
    """The files of a folder in the order of their keys, a level's names at a time.

    In that order a folder comes where its name with a slash would: ``a-b`` before ``a/c``.
    """
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        with os.scandir(root / prefix) as entries:
            names = sorted(
                f"{entry.name}/" if entry.is_dir(follow_symlinks=False) else entry.name
                for entry in entries
            )
        for name in names:
            key = f"{prefix}/{name}" if prefix else name
            if name.endswith("/"):
                if after < key or after.startswith(key):
                    yield from _files_below(root, key[:-1], after)
            elif key > after and not _DRAFT_NAME.search(name):
                with contextlib.suppress(FileNotFoundError):
                    found = (root / key).lstat()
                    if stat.S_ISREG(found.st_mode):
                        yield Blob(key, found.st_size, found.st_mtime)


def _blob(meta: Any) -> Blob:
    return Blob(
        key=meta["path"],
        size_bytes=meta["size"],
        modified_at=meta["last_modified"].timestamp(),
        etag=meta["e_tag"] or "",
    )

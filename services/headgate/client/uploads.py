"""Sends files and folders to the store, by content: what is there already is not sent again."""

from __future__ import annotations

import asyncio
import hashlib
import os
import stat
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from headgate.azure import uploads
from headgate.azure.uploads import Manifest, UploadedFile
from headgate.client.api import Client
from headgate.client.http import ATTEMPTS_MAX, RETRY_FIRST_S, Http
from headgate.client.ignore import Rule, is_ignored, rules_of
from headgate_contracts import limits
from headgate_contracts.errors import ErrorCode, HeadgateError

CHUNK_BYTES = 1 << 20
PARALLEL_MAX = 4

Advance = Callable[[int], None]
Bar = Callable[[str, int], AbstractContextManager[Advance]]


@dataclass(frozen=True, slots=True)
class Source:
    """One local file and its path in the store's folder."""

    file: Path
    path: str


@dataclass(frozen=True, slots=True)
class Upload:
    """A folder in the store, and what there is in it."""

    digest: str
    files: tuple[UploadedFile, ...]

    @property
    def uri(self) -> str:
        """How assets of the same workspace name it."""
        return f"uploads/{self.digest}"


def silent_bar(name: str, total_bytes: int) -> AbstractContextManager[Advance]:
    """For callers that show nothing."""
    return nullcontext(lambda sent_bytes: None)


async def measured(path: Path, *, keep_name: bool) -> Upload:
    """What an upload of the same file or folder would make; nothing is sent."""
    return (await _prepared(path, keep_name))[0]


async def upload(client: Client, path: Path, *, keep_name: bool, bar: Bar = silent_bar) -> Upload:
    """Sends a file or the content of a folder. ``keep_name`` puts its own name above it."""
    sent, sources = await _prepared(path, keep_name)
    http, folder = client.http, f"{client.uploads}/{sent.digest}"
    if not await _exists(http, folder):
        with bar(path.name, sum(file.size for file in sent.files)) as advance:
            await _send_all(http, folder, sources, sent.files, advance)
        body = Manifest(files=sent.files).model_dump(mode="json")
        await http.send("POST", f"{folder}/complete", body=body, repeatable=True)
    return sent


async def _prepared(path: Path, keep_name: bool) -> tuple[Upload, list[Source]]:
    sources = await asyncio.to_thread(_sources, path, keep_name)
    manifest = Manifest(files=await asyncio.to_thread(_measured, sources))
    uploads.check_manifest(manifest.files)
    return Upload(manifest.digest, manifest.files), sources


def _sources(path: Path, keep_name: bool) -> list[Source]:
    """The files to send, in the order of their paths."""
    if path.is_file():
        return [Source(path, path.name)]
    prefix = f"{path.name}/" if keep_name else ""
    found = [Source(file, f"{prefix}{inner}") for file, inner in _walk(path, rules_of(path))]
    if not found:
        raise HeadgateError(ErrorCode.BAD_ARGUMENT, f"the folder {path} holds no files to upload")
    return sorted(found, key=lambda source: source.path)


def _walk(root: Path, rules: tuple[Rule, ...]) -> Iterator[tuple[Path, str]]:
    """Regular files below ``root``; links only when they lead to a file inside it."""
    waiting, count = [root], 0
    while waiting:
        folder = waiting.pop()
        for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
            file = Path(entry.path)
            inner = file.relative_to(root).as_posix()
            is_folder = entry.is_dir(follow_symlinks=False)
            if is_ignored(rules, inner, is_folder=is_folder):
                continue
            if is_folder:
                waiting.append(file)
                continue
            _check_regular(file, inner, root)
            count += 1
            if count > limits.UPLOAD_FILES_MAX:
                raise HeadgateError(
                    ErrorCode.BAD_ARGUMENT,
                    f"{root} holds more than {limits.UPLOAD_FILES_MAX:,} files; leave out what is "
                    "not needed with an .amlignore file",
                )
            yield file, inner


def _check_regular(file: Path, inner: str, root: Path) -> None:
    try:
        real = file.resolve(strict=True)
        mode = real.stat().st_mode
    except (OSError, RuntimeError) as error:
        reason = getattr(error, "strerror", None) or "a loop of links"
        raise HeadgateError(
            ErrorCode.BAD_ARGUMENT, f"{inner} in {root} cannot be read: {reason}"
        ) from None
    if file.is_symlink() and not real.is_relative_to(root.resolve()):
        problem = "is a link out of the folder; put a copy in its place"
    elif not stat.S_ISREG(mode):
        problem = "is no regular file; links to folders, pipes and devices cannot be uploaded"
    else:
        return
    raise HeadgateError(ErrorCode.BAD_ARGUMENT, f"{inner} in {root} {problem}")


def _measured(sources: list[Source]) -> tuple[UploadedFile, ...]:
    measured = []
    for source in sources:
        try:
            with source.file.open("rb") as stream:
                sha256 = hashlib.file_digest(stream, "sha256").hexdigest()
                size = stream.tell()
        except OSError as error:
            raise HeadgateError(
                ErrorCode.BAD_ARGUMENT, f"{source.file} cannot be read: {error.strerror}"
            ) from None
        if size > limits.UPLOAD_FILE_BYTES_MAX:
            raise HeadgateError(
                ErrorCode.BAD_ARGUMENT,
                f"{source.file} is larger than {limits.UPLOAD_FILE_BYTES_MAX >> 30} GiB",
            )
        measured.append(UploadedFile(path=source.path, sha256=sha256, size=size))
    return tuple(measured)


async def _exists(http: Http, path: str) -> bool:
    try:
        await http.send("HEAD", path)
    except HeadgateError as error:
        if error.error.code is ErrorCode.RESOURCE_NOT_FOUND:
            return False
        raise
    return True


async def _send_all(
    http: Http,
    folder: str,
    sources: list[Source],
    files: tuple[UploadedFile, ...],
    advance: Advance,
) -> None:
    limit = asyncio.Semaphore(PARALLEL_MAX)
    try:
        async with asyncio.TaskGroup() as group:
            for source, file in zip(sources, files, strict=True):
                group.create_task(_send(http, folder, source, file, limit, advance))
    except* HeadgateError as errors:
        first = next(iter(errors.exceptions))
        assert isinstance(first, HeadgateError)
        failure = first
    else:
        return
    raise failure


async def _send(
    http: Http,
    folder: str,
    source: Source,
    file: UploadedFile,
    limit: asyncio.Semaphore,
    advance: Advance,
) -> None:
    """Sends one file unless it is there; a broken transfer is begun again."""
    path = f"{folder}/{quote(file.path)}"
    async with limit:
        if await _exists(http, path):
            advance(file.size)
            return
        for attempt in range(1, ATTEMPTS_MAX + 1):
            counted = _Counted(advance)
            try:
                headers = {"Content-Length": str(file.size), "x-ms-meta-sha256": file.sha256}
                await http.put_file(path, counted.chunks(source.file, file.size), headers)
                return
            except HeadgateError as error:
                if error.error.code is not ErrorCode.UNAVAILABLE or attempt == ATTEMPTS_MAX:
                    raise
                counted.take_back()
                await asyncio.sleep(RETRY_FIRST_S * 2**attempt)


class _Counted:
    """The chunks of a file, counted as they leave."""

    def __init__(self, advance: Advance) -> None:
        self._advance = advance
        self._sent_bytes = 0

    async def chunks(self, file: Path, size: int) -> AsyncIterator[bytes]:
        """Exactly ``size`` bytes: a file that grew meanwhile is cut, the digest then tells."""
        with file.open("rb") as stream:
            left = size
            while left and (chunk := await asyncio.to_thread(stream.read, min(CHUNK_BYTES, left))):
                left -= len(chunk)
                yield chunk
                self._sent_bytes += len(chunk)
                self._advance(len(chunk))

    def take_back(self) -> None:
        self._advance(-self._sent_bytes)

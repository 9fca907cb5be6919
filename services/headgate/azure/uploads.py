"""Uploaded folders are named by what is in them: the digest and the rules of their paths.

Client and gateway share these functions, so a folder that is there already is not sent again.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Iterable, Sequence
from typing import Annotated

from pydantic import Field

from headgate_contracts import limits
from headgate_contracts.envelope import Value
from headgate_contracts.errors import ErrorCode, HeadgateError

PART_BYTES_MAX = 255
PATH_BYTES_MAX = 900
_SHA256 = re.compile(r"[0-9a-f]{64}\Z")

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class UploadedFile(Value):
    """One file of a folder; ``path`` is relative to the folder, with ``/`` between its parts."""

    path: str = Field(min_length=1)
    sha256: Sha256
    size: int = Field(ge=0, le=limits.UPLOAD_FILE_BYTES_MAX, description="bytes")


class Manifest(Value):
    """What a folder holds; sent when all its files are there."""

    files: tuple[UploadedFile, ...] = Field(min_length=1, max_length=limits.UPLOAD_FILES_MAX)

    @property
    def digest(self) -> str:
        return folder_digest((file.path, file.sha256) for file in self.files)


def folder_digest(files: Iterable[tuple[str, str]]) -> str:
    """The name of a folder's content, from the path and SHA-256 of each file.

    It is the SHA-256 of the lines ``<sha256>  <path>\\n`` in the byte order of their paths, so
    ``sha256sum`` makes the same from a list of files.
    """
    lines = sorted((path.encode(), sha256) for path, sha256 in files)
    total = hashlib.sha256()
    for path, sha256 in lines:
        total.update(sha256.encode() + b"  " + path + b"\n")
    return total.hexdigest()


def check_digest(text: str) -> str:
    """``text`` itself when it is a SHA-256 in lower-case hexadecimal."""
    if not _SHA256.match(text):
        raise HeadgateError(
            ErrorCode.BAD_ARGUMENT,
            "a digest is the SHA-256 of the content: 64 lower-case hexadecimal digits",
            target="digest",
        )
    return text


def check_path(path: str) -> str:
    """``path`` itself when it can only mean a file inside its folder, on every system."""
    parts = path.split("/")
    if len(path.encode("utf-8", "surrogatepass")) > PATH_BYTES_MAX:
        raise _bad_path(path, f"is longer than {PATH_BYTES_MAX} bytes")
    for part in parts:
        if part in ("", ".", ".."):
            raise _bad_path(path, "has an empty part, '.' or '..'")
        if "\\" in part or not part.isprintable():
            raise _bad_path(path, "has a backslash or a character that cannot be printed")
        if len(part.encode()) > PART_BYTES_MAX:
            raise _bad_path(path, f"has a part of more than {PART_BYTES_MAX} bytes")
    if re.match(r"[A-Za-z]:", parts[0]):
        raise _bad_path(path, "starts with a drive letter")
    return path


def check_manifest(files: Sequence[UploadedFile]) -> None:
    """Every path is safe, and no two of them fall together on any file system."""
    seen: dict[str, str] = {}
    for file in files:
        check_path(file.path)
        folded = _folded(file.path)
        if folded in seen:
            raise _bad_path(file.path, f"is the same file as {seen[folded][:80]!r} on some systems")
        seen[folded] = file.path
    for file in files:
        parts = _folded(file.path).split("/")
        for depth in range(1, len(parts)):
            if "/".join(parts[:depth]) in seen:
                raise _bad_path(file.path, "lies inside a path that is also a file")


def _folded(path: str) -> str:
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", path).casefold())


def _bad_path(path: str, problem: str) -> HeadgateError:
    return HeadgateError(
        ErrorCode.BAD_ARGUMENT, f"the path {path[:80]!r} {problem}; rename the file", target="path"
    )

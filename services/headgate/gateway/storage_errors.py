"""Refusals of the blob protocol, in its own words. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from xml.sax.saxutils import escape

from headgate_contracts.errors import ErrorCode, WireError


class StorageError(Exception):
    """A refusal in the blob protocol's own form."""

    def __init__(
        self, status: int, code: str, message: str, *, retry_after_s: float | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.retry_after_s = retry_after_s


def not_found() -> StorageError:
    return StorageError(404, "BlobNotFound", "The specified blob does not exist.")


def no_container() -> StorageError:
    return StorageError(404, "ContainerNotFound", "The specified container does not exist.")


def bad_name(problem: str) -> StorageError:
    return StorageError(400, "InvalidResourceName", f"The blob's name is not possible: {problem}")


def bad_header(name: str, problem: str) -> StorageError:
    return StorageError(400, "InvalidHeaderValue", f"{name}: {problem}")


def not_done_here(name: str) -> StorageError:
    """Rather than leave out silently what the client relies on."""
    return StorageError(400, "UnsupportedHeader", f"{name} asks for something not done here.")


def bad_query(name: str, problem: str) -> StorageError:
    return StorageError(400, "InvalidQueryParameterValue", f"{name}: {problem}")


def already_there() -> StorageError:
    return StorageError(409, "BlobAlreadyExists", "The specified blob already exists.")


def condition_not_met() -> StorageError:
    return StorageError(
        412, "ConditionNotMet", "The condition of the request's headers is not met."
    )


_WORDS: Mapping[ErrorCode, tuple[int, str]] = {
    ErrorCode.UNAUTHORIZED: (403, "AuthenticationFailed"),
    ErrorCode.FORBIDDEN: (403, "AuthorizationPermissionMismatch"),
    ErrorCode.RESOURCE_NOT_FOUND: (404, "BlobNotFound"),
    ErrorCode.RESOURCE_EXISTS: (409, "BlobAlreadyExists"),
    ErrorCode.RESOURCE_CONFLICT: (409, "ResourceTypeMismatch"),
    ErrorCode.PAYLOAD_TOO_LARGE: (413, "RequestBodyTooLarge"),
    ErrorCode.UNSUPPORTED_MEDIA_TYPE: (415, "UnsupportedHeader"),
    ErrorCode.BAD_ARGUMENT: (400, "InvalidInput"),
    ErrorCode.TOO_MANY_REQUESTS: (429, "TooManyRequests"),
    ErrorCode.STORAGE_FULL: (507, "InsufficientStorage"),
    ErrorCode.UNAVAILABLE: (503, "ServerBusy"),
}


MD5 = "Content-MD5"
NO_MD5 = "Content-MD5 itself"
"""What an error is about: content that is not what was announced; or what was announced."""
_OF_TARGETS = {MD5: "Md5Mismatch", NO_MD5: "InvalidMd5"}


def refusal_of(error: WireError) -> StorageError:
    """One of our own errors in the blob protocol's words."""
    status, word = _WORDS.get(error.code, (500, "InternalError"))
    word = _OF_TARGETS.get(error.target or "", word)
    return StorageError(status, word, error.message, retry_after_s=error.retry_after_s)


def error_xml(error: StorageError) -> str:
    """A refusal as the protocol writes it."""
    return (
        '<?xml version="1.0" encoding="utf-8"?>'
        f"<Error><Code>{error.code}</Code><Message>{escape(str(error))}</Message></Error>"
    )

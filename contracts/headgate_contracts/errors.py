"""Numbered errors, by range and by blame.

The number and the code are API; the text is not and may be improved at any time. ``blame`` says
who must act: the caller, us, nobody (we are busy), or nobody (it took too long). HTTP statuses are
assigned at the HTTP edges only, from :data:`HTTP_STATUS` below.

Ranges: 1000 any service · 1100 registry · 1200 provisioner · 1300 router · 1400 gateway ·
1500 metering · 1600 batch · 1700 autoscaler · 1800 identity.
"""

from __future__ import annotations

from enum import StrEnum

from pydantic import BaseModel, ConfigDict


class Blame(StrEnum):
    """Whose fault an error is, and so who can mend it."""

    CALLER = "caller"
    OURS = "ours"
    BUSY = "busy"
    TIMEOUT = "timeout"


class ErrorCode(StrEnum):
    """Stable names of everything that can go wrong on the control plane."""

    # 1000: any service
    INTERNAL = "InternalServerError"
    INVALID_MESSAGE = "InvalidMessage"
    UNAVAILABLE = "ServiceUnavailable"
    TIMED_OUT = "RequestTimeout"
    # 1100: registry
    BAD_ARGUMENT = "BadArgument"
    INVALID_NAME = "InvalidName"
    RESOURCE_NOT_FOUND = "ResourceNotFound"
    RESOURCE_EXISTS = "ResourceAlreadyExists"
    RESOURCE_CONFLICT = "ResourceConflict"
    REVISION_MISMATCH = "PreconditionFailed"
    QUOTA_EXCEEDED = "QuotaExceeded"
    REGISTRY_BUSY = "RegistryBusy"
    STORAGE_FULL = "StorageFull"
    # 1200: provisioner; names are Azure's
    IMAGE_BUILD_FAILURE = "ImageBuildFailure"
    OUT_OF_QUOTA = "OutOfQuota"
    RESOURCE_NOT_READY = "ResourceNotReady"
    USER_SCRIPT_IMPORT_ERROR = "UserScriptImportError"
    USER_SCRIPT_INIT_FAILED = "UserScriptInitFailed"
    USER_SCRIPT_FUNCTION_NOT_FOUND = "UserScriptFunctionNotFound"
    OPERATION_CANCELED = "OperationCanceled"
    OUT_OF_MEMORY = "OutOfMemory"
    # 1600: batch
    ERROR_THRESHOLD_EXCEEDED = "ErrorThresholdExceeded"
    NO_SUCCESS = "NoSuccess"
    URI_NOT_ALLOWED = "UriNotAllowed"
    OUTPUT_EXISTS = "OutputAlreadyExists"
    NO_INPUT = "NoInputFiles"
    NODES_FAILED = "NodesFailed"
    # 1400: gateway
    UNAUTHORIZED = "Unauthorized"
    FORBIDDEN = "Forbidden"
    INVALID_JSON = "InvalidJson"
    PAYLOAD_TOO_LARGE = "PayloadTooLarge"
    METHOD_NOT_ALLOWED = "MethodNotAllowed"
    UNSUPPORTED_MEDIA_TYPE = "UnsupportedMediaType"
    PRECONDITION_REQUIRED = "PreconditionRequired"
    IDEMPOTENCY_KEY_REUSED = "IdempotencyKeyReused"
    TOO_MANY_REQUESTS = "TooManyRequests"
    URI_TOO_LONG = "UriTooLong"


# code -> (number, blame, HTTP status at the gateway)
_TABLE: dict[ErrorCode, tuple[int, Blame, int]] = {
    ErrorCode.INTERNAL: (1000, Blame.OURS, 500),
    ErrorCode.INVALID_MESSAGE: (1001, Blame.CALLER, 400),
    ErrorCode.UNAVAILABLE: (1002, Blame.BUSY, 503),
    ErrorCode.TIMED_OUT: (1003, Blame.TIMEOUT, 504),
    ErrorCode.BAD_ARGUMENT: (1100, Blame.CALLER, 400),
    ErrorCode.INVALID_NAME: (1101, Blame.CALLER, 400),
    ErrorCode.RESOURCE_NOT_FOUND: (1102, Blame.CALLER, 404),
    ErrorCode.RESOURCE_EXISTS: (1103, Blame.CALLER, 409),
    ErrorCode.RESOURCE_CONFLICT: (1104, Blame.CALLER, 409),
    ErrorCode.REVISION_MISMATCH: (1105, Blame.CALLER, 412),
    ErrorCode.QUOTA_EXCEEDED: (1106, Blame.CALLER, 409),
    ErrorCode.REGISTRY_BUSY: (1107, Blame.BUSY, 503),
    ErrorCode.STORAGE_FULL: (1108, Blame.OURS, 507),
    ErrorCode.IMAGE_BUILD_FAILURE: (1200, Blame.CALLER, 400),
    ErrorCode.OUT_OF_QUOTA: (1201, Blame.CALLER, 400),
    ErrorCode.RESOURCE_NOT_READY: (1202, Blame.CALLER, 400),
    ErrorCode.USER_SCRIPT_IMPORT_ERROR: (1203, Blame.CALLER, 400),
    ErrorCode.USER_SCRIPT_INIT_FAILED: (1204, Blame.CALLER, 400),
    ErrorCode.USER_SCRIPT_FUNCTION_NOT_FOUND: (1205, Blame.CALLER, 400),
    ErrorCode.OPERATION_CANCELED: (1206, Blame.CALLER, 409),
    ErrorCode.OUT_OF_MEMORY: (1207, Blame.CALLER, 400),
    ErrorCode.ERROR_THRESHOLD_EXCEEDED: (1600, Blame.CALLER, 400),
    ErrorCode.NO_SUCCESS: (1601, Blame.CALLER, 400),
    ErrorCode.URI_NOT_ALLOWED: (1602, Blame.CALLER, 400),
    ErrorCode.OUTPUT_EXISTS: (1603, Blame.CALLER, 409),
    ErrorCode.NO_INPUT: (1604, Blame.CALLER, 400),
    ErrorCode.NODES_FAILED: (1605, Blame.OURS, 500),
    ErrorCode.UNAUTHORIZED: (1400, Blame.CALLER, 401),
    ErrorCode.FORBIDDEN: (1401, Blame.CALLER, 403),
    ErrorCode.INVALID_JSON: (1402, Blame.CALLER, 400),
    ErrorCode.PAYLOAD_TOO_LARGE: (1403, Blame.CALLER, 413),
    ErrorCode.METHOD_NOT_ALLOWED: (1404, Blame.CALLER, 405),
    ErrorCode.UNSUPPORTED_MEDIA_TYPE: (1405, Blame.CALLER, 415),
    ErrorCode.PRECONDITION_REQUIRED: (1406, Blame.CALLER, 428),
    ErrorCode.IDEMPOTENCY_KEY_REUSED: (1407, Blame.CALLER, 422),
    ErrorCode.TOO_MANY_REQUESTS: (1408, Blame.CALLER, 429),
    ErrorCode.URI_TOO_LONG: (1409, Blame.CALLER, 414),
}


def number_of(code: ErrorCode) -> int:
    """The stable number of an error code."""
    return _TABLE[code][0]


def blame_of(code: ErrorCode) -> Blame:
    """Who must act on an error with this code."""
    return _TABLE[code][1]


def http_status_of(code: ErrorCode) -> int:
    """The HTTP status that the gateway answers for this code."""
    return _TABLE[code][2]


class ErrorDetail(BaseModel):
    """One part of an error: the field it concerns (a JSON pointer or dotted path) and the text."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    code: str
    message: str
    target: str = ""


class WireError(BaseModel):
    """An error as it crosses the bus."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    code: ErrorCode
    message: str
    target: str = ""
    details: tuple[ErrorDetail, ...] = ()
    retry_after_s: float | None = None

    @property
    def number(self) -> int:
        return number_of(self.code)

    @property
    def blame(self) -> Blame:
        return blame_of(self.code)


class HeadgateError(Exception):
    """A failure with a code; what handlers raise and what callers of the bus receive.

    Leaves are told apart by ``error.code`` and ``error.blame``, not by class.
    """

    def __init__(
        self,
        code: ErrorCode,
        message: str,
        *,
        target: str = "",
        details: tuple[ErrorDetail, ...] = (),
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(message)
        self.error = WireError(
            code=code, message=message, target=target, details=details, retry_after_s=retry_after_s
        )

    @classmethod
    def of(cls, error: WireError) -> HeadgateError:
        """The exception for an error that arrived over the bus."""
        return cls(
            error.code,
            error.message,
            target=error.target,
            details=error.details,
            retry_after_s=error.retry_after_s,
        )

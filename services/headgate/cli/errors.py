"""What a failed command says and with which exit code it ends."""

from __future__ import annotations

import sys
from textwrap import indent
from typing import TYPE_CHECKING

from headgate.runtime.visible import visible

if TYPE_CHECKING:
    from headgate_contracts.errors import HeadgateError

OK = 0
FAILED = 1
USAGE = 2
AUTH = 3
NOT_FOUND = 4
CONFLICT = 5
TIMEOUT = 6
INTERRUPTED = 130

_EXIT_CODES = {
    "Unauthorized": AUTH,
    "Forbidden": AUTH,
    "ResourceNotFound": NOT_FOUND,
    "ResourceAlreadyExists": CONFLICT,
    "ResourceConflict": CONFLICT,
    "PreconditionFailed": CONFLICT,
    "RequestTimeout": TIMEOUT,
}
_MISTAKES = ("BadArgument", "InvalidName")
"""What Headgate finds wrong in what it was given, as the command line does in its arguments."""


class UsageError(Exception):
    """The command was given what it cannot work with."""


class CommandFailedError(Exception):
    """The command has said what it had to say and ends with ``exit_code``."""

    def __init__(self, message: str, exit_code: int = FAILED, hint: str = "") -> None:
        super().__init__(message)
        self.exit_code = exit_code
        self.hint = hint


class OperationFailedError(Exception):
    """What was begun did not succeed, whatever the reason: the command itself was a good one."""

    def __init__(self, cause: HeadgateError) -> None:
        super().__init__(str(cause))
        self.cause = cause


class RefusedError(Exception):
    """Headgate did not begin what was asked, and the caller can mend it: like a usage error."""

    def __init__(self, cause: HeadgateError) -> None:
        super().__init__(str(cause))
        self.cause = cause


def say(text: str) -> None:
    """A message for people: on stderr, so that stdout stays one document."""
    print(visible(text), file=sys.stderr, flush=True)  # noqa: T201 - this is the place that prints


def warn(text: str) -> None:
    say(f"warning: {text}")


def tell_removal(existed: bool, what: str) -> None:
    """A word about a deletion that found nothing: it is gone, as was wanted, or misspelt."""
    if not existed:
        say(f"there was no {what}")


def report(error: Exception) -> int:
    """Tells about a user's error and gives its exit code. Anything else is a bug, and raised."""
    from headgate.azure.yaml_changes import ChangeError
    from headgate.azure.yaml_files import YamlFileError
    from headgate_contracts.errors import HeadgateError

    match error:
        case UsageError() | ChangeError():
            say(f"error: {error}")
            return USAGE
        case YamlFileError():
            for problem in error.problems:
                say(f"error: {problem}")
            return USAGE
        case CommandFailedError():
            say(f"error: {error}")
            if error.hint:
                say(error.hint)
            return error.exit_code
        case RefusedError():
            return _report_refusal(error.cause, USAGE)
        case OperationFailedError():
            return _report_refusal(error.cause, FAILED)
        case HeadgateError():
            is_mistake = error.error.code.value in _MISTAKES
            return _report_refusal(error, USAGE if is_mistake else FAILED)
    raise error


def _report_refusal(failure: HeadgateError, otherwise: int) -> int:
    error = failure.error
    say(f"error: {error.code.value}: {error.message}")
    for detail in error.details:
        if detail.message not in error.message:
            said = detail.message if "\n" not in detail.message else f"\n{detail.message}"
            text = f"{detail.target}: {said}" if detail.target else said.lstrip("\n")
            say(indent(text, "  "))
    return _EXIT_CODES.get(error.code.value, otherwise)

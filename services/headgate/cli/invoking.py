"""Reads a request body and prints the answer to it."""

from __future__ import annotations

import sys
from pathlib import Path

from headgate.cli import errors, output
from headgate.cli.options import Format
from headgate.cli.session import Session
from headgate.client.scoring import MODEL_STATUS_HEADER, Scored
from headgate_contracts import limits

SHOWN_CHARS_MAX = 2_000


def read_request(file: Path) -> bytes:
    """The body in ``file``, or of stdin for ``-``."""
    try:
        if str(file) == "-":
            body = sys.stdin.buffer.read(limits.BODY_BYTES_MAX + 1)
        else:
            with file.open("rb") as stream:
                body = stream.read(limits.BODY_BYTES_MAX + 1)
    except OSError as error:
        raise errors.UsageError(f"{file} cannot be read: {error.strerror}") from None
    if len(body) > limits.BODY_BYTES_MAX:
        raise errors.UsageError(
            f"{file} is larger than {limits.BODY_BYTES_MAX:,} bytes, the limit of a request"
        )
    return body


def print_answer(answer: Scored, session: Session) -> None:
    """The body on stdout as it came; a refusal as a message with its status."""
    if not 200 <= answer.status < 300:
        text = answer.body[:SHOWN_CHARS_MAX].decode("utf-8", "replace").strip()
        model_status = answer.headers.get(MODEL_STATUS_HEADER)
        model = f" (the model answered {model_status})" if model_status else ""
        exit_code = {401: errors.AUTH, 404: errors.NOT_FOUND, 408: errors.TIMEOUT}
        raise errors.CommandFailedError(
            f"the endpoint answered {answer.status} {answer.reason}{model}: {text}",
            exit_code.get(answer.status, errors.FAILED),
        )
    if session.query or session.form in (Format.YAML, Format.TSV, Format.JSON):
        session.show(_value(answer.body))
    else:
        output.write_bytes(answer.body)


def _value(body: bytes) -> object:
    """The answer as a value: of JSON what it means, of anything else its text."""
    import json

    try:
        return json.loads(body)
    except ValueError:
        return body.decode("utf-8", "replace")

"""What a client is told: statuses and headers of answers and refusals, as Azure gives them. Pure.

The body of a refusal is ``{"error": {"code", "message", "request_id", "retryable"}}``, and below
``/v2`` it is ``{"error": <the message>, "code", "request_id", "retryable"}``.
"""

from __future__ import annotations

import json
from functools import lru_cache
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from headgate.router import headers
from headgate.router.core import Refusal
from headgate.router.headers import Ids

if TYPE_CHECKING:
    from headgate.router.streams import AnswerStream


DEPLOYMENT_HEADER = "azureml-model-deployment"
MODEL_STATUS_HEADER = "ms-azureml-model-error-statuscode"
MODEL_REASON_HEADER = "ms-azureml-model-error-reason"
MODEL_ERROR = 424
V2 = "/v2"  # the Open Inference Protocol
_JSON = "content-type: application/json\r\n"
_COMPUTE_MS_MAX = 1e9


class Answer:
    """An answer on its way to a client. With a ``stream`` the body is only its beginning.

    ``lines`` are its headers, each ``name: value`` and CR LF.
    """

    __slots__ = ("body", "lines", "status", "stream")

    def __init__(
        self, status: int, lines: str, body: bytes = b"", stream: AnswerStream | None = None
    ) -> None:
        self.status = status
        self.lines = lines
        self.body = body
        self.stream = stream

    def add(self, name: str, value: str) -> None:
        """One header more."""
        self.lines += f"{name}: {value}\r\n"


class ModelAnswer:
    """What an instance answered, as it came: nothing of it is trusted yet.

    ``status`` is what the model's server gave, 0 when that is none; ``compute_us`` is for how many
    microseconds ``run()`` took, as the instance says.
    """

    __slots__ = ("body", "compute_us", "meta", "status", "stream")

    def __init__(
        self, meta: dict[str, Any], body: bytes, stream: AnswerStream | None = None
    ) -> None:
        status, ms = meta.get("s"), meta.get("ms")
        self.meta = meta
        self.body = body
        self.stream = stream
        self.status = status if type(status) is int and 100 <= status <= 999 else 0
        self.compute_us = 0
        if type(ms) is int:
            ms = float(ms)
        if type(ms) is float and 0 <= ms < _COMPUTE_MS_MAX:
            self.compute_us = int(1000 * ms + 0.5)


def of_model(given: ModelAnswer, deployment: str, ids: Ids) -> Answer:
    """A model's 2xx passes; everything else is 424, with the model's own status in a header."""
    meta = given.meta
    told = headers.answered(meta["h"]) if "h" in meta else _ordinary(given.compute_us)
    lines = f"{ids.lines}{DEPLOYMENT_HEADER}: {deployment}\r\n{told}"
    if 200 <= given.status <= 299:
        return Answer(given.status, lines, given.body, given.stream)
    status = meta.get("s")
    answer = Answer(MODEL_ERROR, lines, given.body, given.stream)
    answer.add(MODEL_STATUS_HEADER, str(status) if type(status) is int else "0")
    answer.add(MODEL_REASON_HEADER, _reason(status))
    return answer


@lru_cache(maxsize=4096)
def _ordinary(compute_us: int) -> str:
    """What an answer without a list of headers has."""
    return (
        f"{_JSON}x-ms-run-function-failed: False\r\n"
        f"x-ms-run-fn-exec-ms: {compute_us / 1000:.3f}\r\n"
    )


def of_refusal(refusal: Refusal, ids: Ids, deployment: str = "", path: str = "") -> Answer:
    """A refusal as JSON; ``deployment`` names the one that was to serve, if any.

    Clients of the V2 protocol, which is spoken below the path ``/v2``, want a text as the error.
    """
    answer = Answer(refusal.status, ids.lines + _JSON)
    if deployment:
        answer.add(DEPLOYMENT_HEADER, deployment)
    if refusal.retry_after_s:
        answer.add("retry-after", str(refusal.retry_after_s))
    if refusal.status == 401:
        answer.add("www-authenticate", "Bearer")
    about = {"request_id": ids.request, "retryable": refusal.retryable}
    if path.startswith(V2):
        said: dict[str, Any] = {"error": refusal.message, "code": refusal.code, **about}
    else:
        said = {"error": {"code": refusal.code, "message": refusal.message, **about}}
    answer.body = json.dumps(said).encode()
    return answer


def without_body(answer: Answer) -> Answer:
    """Instead of a model's answer that has no end, or is too large for its edge."""
    lines = answer.lines.split("\r\n")
    kept = [line for line in lines if not line.startswith("content-type:")]
    return Answer(MODEL_ERROR, "\r\n".join(kept))


def _reason(status: object) -> str:
    try:
        return HTTPStatus(int(str(status))).phrase
    except ValueError:
        return "the model gave no valid status"

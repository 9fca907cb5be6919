"""What a client is told: statuses and headers of answers and refusals, as Azure gives them. Pure.

The body of a refusal is ``{"error": {"code", "message", "request_id", "retryable"}}``, and below
``/v2`` it is ``{"error": <the message>, "code", "request_id", "retryable"}``.
"""

from __future__ import annotations

import json
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, NamedTuple

from headgate.router import headers
from headgate.router.core import Refusal
from headgate.router.headers import Ids, Pairs

if TYPE_CHECKING:
    from headgate.router.streams import AnswerStream


DEPLOYMENT_HEADER = "azureml-model-deployment"
MODEL_STATUS_HEADER = "ms-azureml-model-error-statuscode"
MODEL_REASON_HEADER = "ms-azureml-model-error-reason"
MODEL_ERROR = 424
V2 = "/v2"  # the Open Inference Protocol
_JSON = ("content-type", "application/json")


class Answer(NamedTuple):
    """An answer on its way to a client. With a ``stream`` the body is only its beginning."""

    status: int
    headers: Pairs
    body: bytes = b""
    stream: AnswerStream | None = None


class ModelAnswer(NamedTuple):
    """What an instance answered, as it came: nothing of it is trusted yet."""

    meta: dict[str, Any]
    body: bytes
    stream: AnswerStream | None = None

    @property
    def status(self) -> int:
        """The status that the model's server gave; 0 when that is none."""
        status = self.meta.get("s")
        return status if type(status) is int and 100 <= status <= 999 else 0

    @property
    def compute_s(self) -> float:
        """How long ``run()`` took, as the instance says."""
        ms = self.meta.get("ms")
        return ms / 1000 if isinstance(ms, int | float) and 0 <= ms < 1e9 else 0.0


def of_model(given: ModelAnswer, deployment: str, ids: Ids) -> Answer:
    """A model's 2xx passes; everything else is 424, with the model's own status in a header."""
    pairs = ids.pairs()
    pairs.append((DEPLOYMENT_HEADER, deployment))
    said = given.meta.get("h")
    pairs += headers.answered(said if isinstance(said, list) else ())
    status = given.meta.get("s")
    if type(status) is int and 200 <= status <= 299:
        return Answer(status, pairs, given.body, given.stream)
    pairs.append((MODEL_STATUS_HEADER, str(status) if type(status) is int else "0"))
    pairs.append((MODEL_REASON_HEADER, _reason(status)))
    return Answer(MODEL_ERROR, pairs, given.body, given.stream)


def of_refusal(refusal: Refusal, ids: Ids, deployment: str = "", path: str = "") -> Answer:
    """A refusal as JSON; ``deployment`` names the one that was to serve, if any.

    Clients of the V2 protocol, which is spoken below the path ``/v2``, want a text as the error.
    """
    pairs = [*ids.pairs(), _JSON]
    if deployment:
        pairs.append((DEPLOYMENT_HEADER, deployment))
    if refusal.retry_after_s:
        pairs.append(("retry-after", str(refusal.retry_after_s)))
    if refusal.status == 401:
        pairs.append(("www-authenticate", "Bearer"))
    about = {"request_id": ids.request, "retryable": refusal.retryable}
    if path.startswith(V2):
        said: dict[str, Any] = {"error": refusal.message, "code": refusal.code, **about}
    else:
        said = {"error": {"code": refusal.code, "message": refusal.message, **about}}
    return Answer(refusal.status, pairs, json.dumps(said).encode())


def _reason(status: object) -> str:
    try:
        return HTTPStatus(int(str(status))).phrase
    except ValueError:
        return "the model gave no valid status"

"""A request on its way through the router, and one try of it at one instance."""

from __future__ import annotations

from typing import TYPE_CHECKING

from headgate.router.answers import ModelAnswer
from headgate.router.core import Refusal
from headgate.router.spool import RequestBody
from headgate_contracts import limits

if TYPE_CHECKING:
    from headgate.router.table import Deployment, Instance
    from headgate.router.trace import Trace
    from headgate.router.usage_journal import Journal
    from headgate.router.wire import Outbox

Outcome = ModelAnswer | Refusal


class Request:
    """Work for one deployment with a deadline on the router's monotonic clock, in seconds.

    ``meta`` is what every instance is told of it, as :func:`frames.encode_request` made it.
    Settled exactly once: with the model's answer, or with the reason why there is none.
    """

    __slots__ = (
        "began", "body", "deadline", "deployment", "due", "flight", "is_held", "is_patient", "left",
        "meta", "retries", "settled", "timeout_s",
    )  # fmt: skip

    is_copy = False
    trace: Trace | None = None  # of a client's request that is traced

    def __init__(
        self,
        deployment: Deployment,
        meta: str,
        body: RequestBody,
        began: float,
        deadline: float,
    ) -> None:
        self.deployment = deployment
        self.meta = meta
        self.body = body
        self.began = began
        self.deadline = deadline
        self.timeout_s = deadline - began
        self.is_held = False  # it waits for the first instance; then its time begins to run
        self.is_patient = True  # its client has set no time limit of its own
        self.retries = 0
        self.settled = False
        self.left = False  # its client has gone
        self.flight: Flight | None = None
        self.due: dict[Request, None] | None = None  # others whose deadline is about as near

    def open(self, answer: ModelAnswer) -> None:
        """An answer in parts begins; ``settle`` comes when it has ended."""

    def settle(self, outcome: Outcome, elapsed_s: float) -> None:
        """Tell whoever asked. Called by the dispatcher, once."""
        raise NotImplementedError


class Copy(Request):
    """A mirrored request: its answer is counted and goes nowhere."""

    __slots__ = ("usage",)

    is_copy = True

    def __init__(
        self,
        deployment: Deployment,
        meta: str,
        body: RequestBody,
        began: float,
        deadline: float,
        usage: Journal,
    ) -> None:
        super().__init__(deployment, meta, body, began, deadline)
        self.usage = usage

    def settle(self, outcome: Outcome, elapsed_s: float) -> None:
        given = outcome if isinstance(outcome, ModelAnswer) else None
        self.deployment.traffic.note_mirrored(elapsed_s, given)
        self.usage.note_copy(self, given)


def copies_max(body_bytes: int) -> int:
    """How many copies may wait for a deployment when one with such a body comes.

    Requests of one turn of the loop come together and so do their copies, many more than slots;
    copies of large bodies may take no more memory than small ones.
    """
    return min(limits.MIRROR_WAITING_MAX, limits.MIRROR_WAITING_BYTES_MAX // (body_bytes + 1))


class Flight:
    """One request in the hands of one instance.

    ``request`` is None once its deadline has passed: nobody waits any more, but the model may
    still be at it, so the slot stays taken until the instance says otherwise. ``message`` is the
    number of the message that it went with, in the ``box`` of the instance. ``passed_on`` is the
    request when another instance tries it as well, since nothing was heard of this one any more.
    """

    __slots__ = ("box", "instance", "message", "number", "passed_on", "request", "sent")

    def __init__(
        self, number: int, request: Request, instance: Instance, box: Outbox, sent: float
    ) -> None:
        self.number = number
        self.box = box
        self.message = box.message
        self.request: Request | None = request
        self.passed_on: Request | None = None
        self.instance = instance
        self.sent = sent

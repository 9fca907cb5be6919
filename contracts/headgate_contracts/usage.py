"""Usage: what the parts that serve requests report of them, exactly once.

A reporter is one process; it numbers its journal's pages (``epoch``) and the rows of a page
(``sequence``). A row is final once it is said. Rows are said in the order of their keys, and one
only after all before it are stored; so whoever adds them up keeps the highest key of each reporter
and takes nothing twice, whatever is repeated, and whenever.
"""

from __future__ import annotations

from enum import StrEnum
from typing import ClassVar

from pydantic import Field

from headgate_contracts import limits, subjects
from headgate_contracts.envelope import Event, Value

MINUTE_S = 60


class UsageKind(StrEnum):
    """What requests were for. Only ``scored`` ones have answers that a client waited for."""

    SCORED = "scored"
    MIRRORED = "mirrored"
    BATCH = "batch"


class UsageRow(Value):
    """Requests of one minute that are alike in all but their sizes.

    ``status`` is what the client was told (499: it had gone), of mirrored requests what the model
    said (0: nothing). ``caller`` is the id of the key, or whom the token speaks for; empty where
    nobody was known. ``compute_us``: execution of the model, as the instance measured it.
    """

    minute: int = Field(ge=0, description="begin of the minute, Unix time in seconds")
    workspace: str = Field(max_length=64)
    endpoint: str = Field(max_length=64)
    deployment: str = Field("", max_length=64)
    caller: str = Field("", max_length=limits.CALLER_CHARS_MAX)
    kind: UsageKind = UsageKind.SCORED
    status: int = Field(ge=0, le=999)
    requests: int = Field(ge=0)
    request_bytes: int = Field(0, ge=0)
    response_bytes: int = Field(0, ge=0)
    compute_us: int = Field(0, ge=0)


class UsageReported(Event):
    """Rows ``first``, ``first + 1``, ... of a page."""

    TYPE: ClassVar[str] = "headgate.usage.event.v1.reported"

    reporter: str
    epoch: int = Field(ge=0)
    first: int = Field(0, ge=0)
    rows: tuple[UsageRow, ...]

    def subject(self) -> str:
        return subjects.usage(self.reporter)

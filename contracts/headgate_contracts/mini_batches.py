"""Mini-batches on their way: as tasks into the work queue, and back as reports of nodes."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from headgate_contracts import limits
from headgate_contracts.envelope import Command, Query, Reply, Value


class FilePart(Value):
    """A file of the input, or rows of one: bytes ``start`` to ``end`` after its first ``head``.

    ``path`` is relative to the place of the input.
    """

    path: str
    size_bytes: int
    start: int = 0
    end: int | None = None
    head: int = 0


class Task(Value):
    """One mini-batch in the queue. ``files`` is None when there are too many for a message."""

    job: str
    number: int
    attempt: int
    items: int
    files: tuple[FilePart, ...] | None = None


class GetFiles(Query):
    """The files of one mini-batch."""

    TYPE: ClassVar[str] = "headgate.batch.query.v1.get_files"

    job: str
    number: int


class FilesReply(Reply):
    TYPE: ClassVar[str] = "headgate.batch.reply.v1.files"

    files: tuple[FilePart, ...]


class OutputFile(Value):
    """A file that the script wrote itself; ``key`` is where it waits in the object store."""

    name: str
    key: str
    size_bytes: int


class MiniBatchReport(Value):
    """What became of one attempt at a mini-batch.

    ``returned`` counts the elements that run() gave back. Their text is ``rows``, or the object
    ``part`` when it is long. ``outcome`` says what failed: the script raised, took too long or
    ended its process; ``lost``: nobody is to blame, the node ended.
    """

    job: str
    number: int
    attempt: int
    node: str
    outcome: Literal["done", "raised", "timed_out", "crashed", "lost"]
    returned: int = Field(0, ge=0)
    rows: str = ""
    part: str = ""
    files: tuple[OutputFile, ...] = ()
    run_ms: float = 0.0
    error: str = Field("", max_length=limits.ERROR_MESSAGE_CHARS_MAX)


class ReportMiniBatches(Command):
    """Reports of a node. They may come again, and late; each counts once at most."""

    TYPE: ClassVar[str] = "headgate.batch.command.v1.report_mini_batches"

    reports: tuple[MiniBatchReport, ...] = Field(max_length=limits.BATCH_REPORTS_MAX)


class ReportsReply(Reply):
    """``counted``: for each report whether it counted. ``ended`` are jobs that want no more."""

    TYPE: ClassVar[str] = "headgate.batch.reply.v1.reports"

    counted: tuple[bool, ...]
    ended: tuple[str, ...] = ()

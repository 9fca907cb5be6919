"""Batch jobs: what is asked of the batch service, what it answers and says (azure.md 7).

A job reads the files of one input, cut into mini-batches. Each mini-batch is committed once: the
first good report about it counts, whoever sends another.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from headgate_contracts import limits, subjects
from headgate_contracts.batch import FileName
from headgate_contracts.envelope import Command, Event, Query, Reply, Value
from headgate_contracts.errors import WireError
from headgate_contracts.resources import Description, Name, Tags

SERVICE = "batch"

JOB_NAME_RULE = "1 to 64 letters, digits, '_' and '-', a letter or digit first"
JobName = Annotated[str, Field(pattern=limits.JOB_NAME_PATTERN, description=JOB_NAME_RULE)]
Uri = Annotated[str, Field(min_length=1, max_length=limits.DATA_PATH_CHARS_MAX)]


class JobStatus(StrEnum):
    """The life of a job, in Azure's words."""

    QUEUED = "Queued"
    PREPARING = "Preparing"
    RUNNING = "Running"
    FINALIZING = "Finalizing"
    CANCEL_REQUESTED = "CancelRequested"
    PAUSED = "Paused"
    COMPLETED = "Completed"
    FAILED = "Failed"
    CANCELED = "Canceled"

    @property
    def is_final(self) -> bool:
        return self in (self.COMPLETED, self.FAILED, self.CANCELED)

    @property
    def wants_nodes(self) -> bool:
        return self in (self.QUEUED, self.PREPARING, self.RUNNING)


# --- what a job is -----------------------------------------------------------------------------


class JobInput(Value):
    """Where the files are: a data asset, a datastore path, or an address that is allowed."""

    type: Literal["uri_file", "uri_folder"] = "uri_folder"
    uri: Uri


class JobOutput(Value):
    """Where the results go."""

    uri: Uri


class JobOverrides(Value):
    """What a job does in another way than its deployment says; None: as the deployment.

    ``mini_batch_bytes`` cuts by size instead of by number of files, ``mini_batch_rows`` cuts tables
    and lines of JSON by their rows.
    Of jobs that share a compute, those of higher ``priority`` come first.
    """

    instance_count: int | None = Field(None, ge=1, le=limits.COMPUTE_INSTANCES_MAX)
    max_concurrency_per_instance: int | None = Field(
        None, ge=1, le=limits.CONCURRENCY_PER_INSTANCE_MAX
    )
    mini_batch_size: int | None = Field(None, ge=1, le=limits.INT32_MAX)
    mini_batch_bytes: int | None = Field(None, ge=1)
    mini_batch_rows: int | None = Field(None, ge=1, le=limits.INT32_MAX)
    max_retries: int | None = Field(None, ge=0, le=limits.BATCH_RETRIES_MAX)
    timeout: int | None = Field(None, ge=1, le=limits.BATCH_TIMEOUT_S_MAX, description="seconds")
    error_threshold: int | None = Field(None, ge=-1, le=limits.INT32_MAX)
    output_file_name: FileName | None = None
    priority: int | None = Field(None, ge=-100, le=100)


class JobSettings(Value):
    """How a job is run: its deployment's settings with its own overrides on top."""

    instance_count: int = 1
    max_concurrency_per_instance: int = 1
    mini_batch_size: int = 10
    mini_batch_bytes: int | None = None
    mini_batch_rows: int | None = None
    max_retries: int = 3
    timeout_s: int = 30
    error_threshold: int = -1
    logging_level: str = "info"
    output_action: Literal["append_row", "summary_only"] = "append_row"
    output_file_name: str = "predictions.csv"
    priority: int = 0


class JobCounts(Value):
    """How far a job is. Items are files, or rows in a job that is cut by them.

    ``mini_batches`` and ``items`` grow until ``is_listed``; ``settled`` mini-batches are committed
    or have failed for good.
    """

    is_listed: bool = False
    mini_batches: int = 0
    settled: int = 0
    failed_mini_batches: int = 0
    items: int = 0
    succeeded: int = 0
    failed: int = 0
    rows: int = 0
    retries: int = 0


class Job(Value):
    """A job as everybody sees it. Times are Unix seconds."""

    id: str
    name: str
    workspace: str
    endpoint: str
    deployment: str
    status: JobStatus
    input: JobInput
    output: JobOutput
    settings: JobSettings
    compute: str = ""
    display_name: str = ""
    experiment_name: str = ""
    description: str = ""
    tags: dict[str, str] = {}
    properties: dict[str, str] = {}
    counts: JobCounts = JobCounts()
    nodes: int = Field(0, description="nodes that work on it now")
    mini_batches_per_s: float | None = None
    left_s: float | None = Field(None, description="time left at this rate; None: not known")
    error: WireError | None = None
    created_at: float = 0.0
    started_at: float | None = None
    ended_at: float | None = None
    created_by: str = ""
    revision: int = 0


class DeadLetter(Value):
    """A mini-batch that was given up: what it held, how often it was tried, what went wrong."""

    number: int
    files: tuple[str, ...] = Field((), description="the first of its files")
    items: int
    attempts: int
    error: str
    node: str = ""


class MiniBatchGroup(Value):
    """How many of some neighbouring mini-batches are in which state.

    ``waiting``: not tried so far; ``retrying``: an attempt has failed and there will be another;
    ``running``: handed out to the nodes; ``done`` and ``failed``: settled. ``retried`` counts
    those, of whatever state, that needed more than one attempt.
    """

    first: int
    waiting: int = 0
    retrying: int = 0
    running: int = 0
    done: int = 0
    failed: int = 0
    retried: int = 0


# --- commands and queries ----------------------------------------------------------------------


class SubmitJob(Command):
    """Make a job of a batch endpoint. The same ``repeat_id`` again gives the same job.

    ``inputs`` and ``outputs`` hold exactly one and at most one entry; their names do not count.
    """

    TYPE: ClassVar[str] = "headgate.batch.command.v1.submit_job"

    workspace: str
    endpoint: Name
    deployment: Name | None = None
    name: JobName | None = None
    inputs: dict[str, JobInput]
    outputs: dict[str, JobOutput] = {}
    overrides: JobOverrides = JobOverrides()
    display_name: str = Field("", max_length=limits.TAG_CHARS_MAX)
    experiment_name: str = Field("", max_length=limits.TAG_CHARS_MAX)
    description: Description = ""
    tags: Tags = {}
    properties: Tags = {}
    repeat_id: str = Field("", max_length=limits.REPEAT_KEY_CHARS_MAX)


class CancelJob(Command):
    """End a job; what runs gets a short while. Nothing happens to one that has ended."""

    TYPE: ClassVar[str] = "headgate.batch.command.v1.cancel_job"

    workspace: str
    name: str


class PauseJob(Command):
    """Let go of a job's compute until it is resumed; what is committed stays."""

    TYPE: ClassVar[str] = "headgate.batch.command.v1.pause_job"

    workspace: str
    name: str


class ResumeJob(Command):
    """Go on with a paused, failed or canceled job where it was: only what is missing is run."""

    TYPE: ClassVar[str] = "headgate.batch.command.v1.resume_job"

    workspace: str
    name: str


class RedriveDeadLetters(Command):
    """Try mini-batches again that were given up: those of ``numbers``, or all."""

    TYPE: ClassVar[str] = "headgate.batch.command.v1.redrive_dead_letters"

    workspace: str
    name: str
    numbers: tuple[int, ...] = Field((), max_length=limits.PAGE_SIZE_MAX)


class GetJob(Query):
    TYPE: ClassVar[str] = "headgate.batch.query.v1.get_job"

    workspace: str
    name: str


class ListJobs(Query):
    """Jobs, newest first, older than the one named ``after``; of one endpoint or deployment."""

    TYPE: ClassVar[str] = "headgate.batch.query.v1.list_jobs"

    workspace: str
    endpoint: str = ""
    deployment: str = ""
    after: str = ""
    limit: int = Field(limits.PAGE_SIZE_DEFAULT, ge=1, le=limits.PAGE_SIZE_MAX)


class ListDeadLetters(Query):
    """Mini-batches of a job that were given up, by number, after ``after``."""

    TYPE: ClassVar[str] = "headgate.batch.query.v1.list_dead_letters"

    workspace: str
    name: str
    after: int = -1
    limit: int = Field(limits.PAGE_SIZE_DEFAULT, ge=1, le=limits.PAGE_SIZE_MAX)


class GetMiniBatches(Query):
    """How far mini-batches are: ``count`` from ``first`` on (0: all), in at most ``groups``."""

    TYPE: ClassVar[str] = "headgate.batch.query.v1.get_mini_batches"

    workspace: str
    name: str
    first: int = Field(0, ge=0)
    count: int = Field(0, ge=0)
    groups: int = Field(limits.BATCH_GROUPS_DEFAULT, ge=1, le=limits.BATCH_GROUPS_MAX)


class JobReply(Reply):
    TYPE: ClassVar[str] = "headgate.batch.reply.v1.job"

    job: Job
    created: bool = False


class JobsReply(Reply):
    """``after`` is the cursor of the next page, empty on the last."""

    TYPE: ClassVar[str] = "headgate.batch.reply.v1.jobs"

    jobs: tuple[Job, ...]
    after: str = ""


class DeadLettersReply(Reply):
    """``after`` is the cursor of the next page, None on the last."""

    TYPE: ClassVar[str] = "headgate.batch.reply.v1.dead_letters"

    dead_letters: tuple[DeadLetter, ...]
    after: int | None = None


class MiniBatchesReply(Reply):
    """Groups of ``size`` neighbours each, in order; the last one may be smaller."""

    TYPE: ClassVar[str] = "headgate.batch.reply.v1.mini_batches"

    size: int
    groups: tuple[MiniBatchGroup, ...] = ()


# --- events ------------------------------------------------------------------------------------


class JobEvent(Event):
    """Base of events about a job."""

    WHAT: ClassVar[str] = ""

    workspace: str
    endpoint: str
    deployment: str
    job: str

    def subject(self) -> str:
        return subjects.event("job", self.job, self.WHAT)


class JobSubmitted(JobEvent):
    TYPE: ClassVar[str] = "headgate.batch.event.v1.job_submitted"
    WHAT: ClassVar[str] = "submitted"


class JobStatusChanged(JobEvent):
    """``error`` is set when the job failed."""

    TYPE: ClassVar[str] = "headgate.batch.event.v1.job_status_changed"
    WHAT: ClassVar[str] = "status_changed"

    status: JobStatus
    was: JobStatus
    counts: JobCounts = JobCounts()
    error: WireError | None = None


class SettledMiniBatch(Value):
    """One mini-batch that was committed, or given up (``failed``)."""

    number: int
    failed: bool = False
    items: int = 0
    succeeded: int = 0
    attempt: int = 1
    run_ms: float = 0.0


class MiniBatchesSettled(JobEvent):
    """Mini-batches that were settled in one transaction, with the job's counts after it."""

    TYPE: ClassVar[str] = "headgate.batch.event.v1.mini_batches_settled"
    WHAT: ClassVar[str] = "mini_batches_settled"

    mini_batches: tuple[SettledMiniBatch, ...]
    counts: JobCounts


class MiniBatchRetried(JobEvent):
    """An attempt failed and there will be another, ``in_s`` seconds later."""

    TYPE: ClassVar[str] = "headgate.batch.event.v1.mini_batch_retried"
    WHAT: ClassVar[str] = "mini_batch_retried"

    number: int
    attempt: int
    reason: str
    in_s: float

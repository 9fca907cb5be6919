"""Decisions about jobs: pure functions over values.

The failure arithmetic follows Azure's parallel-run engine (azure.md 3.4, items 1 to 5).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from headgate_contracts import limits
from headgate_contracts.batch import BatchDeploymentSpec
from headgate_contracts.errors import ErrorCode, HeadgateError, WireError
from headgate_contracts.jobs import (
    JobCounts,
    JobOverrides,
    JobSettings,
    JobStatus,
    MiniBatchGroup,
)
from headgate_contracts.mini_batches import MiniBatchReport

# --- the life of a job -------------------------------------------------------------------------


class Trigger(StrEnum):
    """What moves a job from one status to the next."""

    NODES_ORDERED = "nodes_ordered"
    NODE_READY = "node_ready"
    ALL_SETTLED = "all_settled"
    OUTPUT_WRITTEN = "output_written"
    FAIL = "fail"
    CANCEL = "cancel"
    NODES_GONE = "nodes_gone"
    PAUSE = "pause"
    RESUME = "resume"


_S, _T = JobStatus, Trigger
_ACTIVE = (_S.QUEUED, _S.PREPARING, _S.RUNNING)
TRANSITIONS: Mapping[tuple[JobStatus, Trigger], JobStatus] = {
    (_S.QUEUED, _T.NODES_ORDERED): _S.PREPARING,
    (_S.QUEUED, _T.NODE_READY): _S.RUNNING,
    (_S.PREPARING, _T.NODE_READY): _S.RUNNING,
    **{(status, _T.ALL_SETTLED): _S.FINALIZING for status in _ACTIVE},
    (_S.FINALIZING, _T.OUTPUT_WRITTEN): _S.COMPLETED,
    **{(status, _T.FAIL): _S.FAILED for status in (*_ACTIVE, _S.FINALIZING)},
    **{(status, _T.CANCEL): _S.CANCEL_REQUESTED for status in (*_ACTIVE, _S.FINALIZING, _S.PAUSED)},
    (_S.CANCEL_REQUESTED, _T.NODES_GONE): _S.CANCELED,
    **{(status, _T.PAUSE): _S.PAUSED for status in _ACTIVE},
    **{(status, _T.RESUME): _S.QUEUED for status in (_S.PAUSED, _S.FAILED, _S.CANCELED)},
}


def moved(status: JobStatus, trigger: Trigger) -> JobStatus | None:
    """The status after ``trigger``; None where it has no meaning."""
    return TRANSITIONS.get((status, trigger))


def asked_to(name: str, status: JobStatus, trigger: Trigger) -> JobStatus:
    """The same for what a caller wants. Raises HeadgateError(ResourceConflict)."""
    found = moved(status, trigger)
    if found is None:
        raise HeadgateError(
            ErrorCode.RESOURCE_CONFLICT,
            f"the job {name!r} is {status.value}; there is nothing to {trigger.value}",
            target="status",
        )
    return found


# --- settings ----------------------------------------------------------------------------------


def settings_of(deployment: BatchDeploymentSpec, wanted: JobOverrides) -> JobSettings:
    """The deployment's settings with the job's own on top."""
    said = {
        "instance_count": deployment.resources.instance_count,
        "max_concurrency_per_instance": deployment.max_concurrency_per_instance,
        "mini_batch_size": deployment.mini_batch_size,
        "max_retries": deployment.retry_settings.max_retries,
        "timeout_s": deployment.retry_settings.timeout,
        "error_threshold": deployment.error_threshold,
        "logging_level": deployment.logging_level,
        "output_action": deployment.output_action,
        "output_file_name": deployment.output_file_name,
    }
    given = wanted.model_dump(exclude_none=True)
    if "timeout" in given:
        given["timeout_s"] = given.pop("timeout")
    if wanted.mini_batch_rows and wanted.mini_batch_bytes:
        raise HeadgateError(
            ErrorCode.BAD_ARGUMENT,
            "mini-batches are cut by mini_batch_bytes or by mini_batch_rows, not by both",
            target="overrides.mini_batch_rows",
        )
    return JobSettings.model_validate({**said, **given})


# --- what an attempt means ---------------------------------------------------------------------

# Seconds before the second, third, ... attempt at what the script itself did wrong. A process that
# was killed is tried again at once the first time: that is more often the machine's fault.
BACKOFF_S = (5.0, 30.0, 120.0)


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of a mini-batch before a report: how often it was tried, and lost."""

    items: int
    attempt: int
    losses: int


@dataclass(frozen=True, slots=True)
class Commit:
    """The attempt counts: so many items have succeeded and failed, so many rows were returned."""

    succeeded: int
    failed: int
    rows: int


@dataclass(frozen=True, slots=True)
class Retry:
    """There will be another attempt after ``in_s`` seconds."""

    in_s: float
    attempt: int
    losses: int


@dataclass(frozen=True, slots=True)
class GiveUp:
    """The mini-batch has failed, with all of its items."""

    failed: int
    error: str


def judged(report: MiniBatchReport, known: Known, settings: JobSettings) -> Commit | Retry | GiveUp:
    """What follows from a report of the present attempt.

    Each returned element is one success, and what is missing to the number of items has failed. An
    attempt that raised, timed out or ended its process is repeated ``max_retries`` times.
    """
    if report.outcome == "done":
        succeeded = min(report.returned, known.items)
        return Commit(succeeded, known.items - succeeded, report.returned)
    if report.outcome == "lost":
        if known.losses < limits.BATCH_LOSSES_MAX:
            return Retry(0.0, known.attempt, known.losses + 1)
        return GiveUp(known.items, report.error or "its node ended again and again")
    if known.attempt > settings.max_retries:
        return GiveUp(known.items, report.error)
    return Retry(
        backoff_s(known.attempt, is_crash=report.outcome == "crashed"),
        known.attempt + 1,
        known.losses,
    )


def backoff_s(attempt: int, *, is_crash: bool = False) -> float:
    """How long to wait after the attempt of this number, the first being 1."""
    steps = (0.0, *BACKOFF_S) if is_crash else BACKOFF_S
    return steps[min(attempt, len(steps)) - 1]


def added(counts: JobCounts, done: Commit | GiveUp) -> JobCounts:
    """The counts after a mini-batch was settled."""
    is_commit = isinstance(done, Commit)
    return counts.model_copy(
        update={
            "settled": counts.settled + 1,
            "failed_mini_batches": counts.failed_mini_batches + (not is_commit),
            "succeeded": counts.succeeded + (done.succeeded if isinstance(done, Commit) else 0),
            "failed": counts.failed + done.failed,
            "rows": counts.rows + (done.rows if isinstance(done, Commit) else 0),
        }
    )


def over_threshold(counts: JobCounts, settings: JobSettings) -> WireError | None:
    """Why a job must be aborted now; None when it may go on."""
    allowed = settings.error_threshold
    if allowed < 0 or counts.failed <= allowed:
        return None
    return WireError(
        code=ErrorCode.ERROR_THRESHOLD_EXCEEDED,
        message=f"{counts.failed} items have failed; error_threshold allows {allowed}. "
        "`headgate job dead-letters` shows what was given up and why",
        target="error_threshold",
    )


def is_settled(counts: JobCounts) -> bool:
    """Whether nothing is left to be run."""
    return counts.is_listed and counts.settled == counts.mini_batches


def verdict(counts: JobCounts) -> WireError | None:
    """Why a job whose mini-batches are all settled has failed; None when it has not."""
    if counts.succeeded:
        return None
    return WireError(
        code=ErrorCode.NO_SUCCESS,
        message=f"not one of {counts.items} items succeeded; `headgate job dead-letters` shows why",
    )


# --- sharing -----------------------------------------------------------------------------------


# Node-seconds after which a node that cannot be divided goes to the next job: a change costs the
# start of a node, and the loading of a model.
TURN_S = 30.0


@dataclass(frozen=True, slots=True)
class Claim:
    """What a job wants of a compute. ``served_s`` are the node-seconds that it has had."""

    job: str
    wanted: int
    priority: int = 0
    served_s: float = 0.0
    created_at: float = 0.0

    @property
    def turns(self) -> int:
        return int(self.served_s // TURN_S)


def shares(total: int, claims: Sequence[Claim]) -> dict[str, int]:
    """How many nodes each job may have of ``total``.

    Higher priorities first; among equals no job has two more than another that wants more, and
    what cannot be divided goes in turns: to whoever has had fewest of them, then to the oldest
    (max-min fairness).
    """
    given = {claim.job: 0 for claim in claims}
    for priority in sorted({claim.priority for claim in claims}, reverse=True):
        level = [claim for claim in claims if claim.priority == priority]
        while total > 0:
            hungry = [claim for claim in level if given[claim.job] < claim.wanted]
            if not hungry:
                break
            first = min(hungry, key=lambda c: (given[c.job], c.turns, c.created_at, c.job))
            given[first.job] += 1
            total -= 1
    return given


def wanted_nodes(settings: JobSettings, counts: JobCounts) -> int:
    """How many nodes a job can make use of: no more than there are mini-batches to be run."""
    if not counts.is_listed:
        return settings.instance_count
    left = counts.mini_batches - counts.settled
    per_node = settings.max_concurrency_per_instance
    return min(settings.instance_count, -(-left // per_node))


# --- groups ------------------------------------------------------------------------------------


def group_size(count: int, groups_max: int) -> int:
    """How many neighbours make a group, so that there are no more than ``groups_max`` groups."""
    return max(1, -(-count // groups_max))


def groups_of(
    first: int, size: int, counted: Iterable[tuple[int, str, bool, int]]
) -> tuple[MiniBatchGroup, ...]:
    """Groups from counts of (group, state as stored, tried more than once, how many)."""
    found: dict[int, Counter[str]] = {}
    for part, state, is_again, count in counted:
        counts = found.setdefault(part, Counter())
        counts[_SHOWN_AS.get((state, is_again), state)] += count
        counts["retried"] += count if is_again else 0
    return tuple(
        MiniBatchGroup(first=first + part * size, **counts)
        for part, counts in sorted(found.items())
    )


_SHOWN_AS = {
    ("pending", False): "waiting", ("pending", True): "retrying",
    ("queued", False): "running", ("queued", True): "running",
}  # fmt: skip


# --- progress ----------------------------------------------------------------------------------


def left_s(counts: JobCounts, per_s: float | None) -> float | None:
    """How long a job will still take at this rate; None when that cannot be said."""
    if not counts.is_listed or not per_s:
        return None
    return (counts.mini_batches - counts.settled) / per_s


def overview(name: str, status: JobStatus, counts: JobCounts) -> str:
    """The text of ``logs/job_progress_overview.txt``."""
    listed = "" if counts.is_listed else " so far"
    return (
        f"job {name}: {status.value}\n"
        f"mini-batches: {counts.settled} of {counts.mini_batches}{listed} are done, "
        f"{counts.failed_mini_batches} were given up, {counts.retries} attempts were repeated\n"
        f"items: {counts.succeeded} succeeded, {counts.failed} failed, "
        f"{counts.items} were found{listed}; {counts.rows} rows were returned\n"
    )

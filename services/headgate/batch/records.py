"""Jobs as the service handles them, between rows and messages."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from headgate.batch import core
from headgate.batch.core import Trigger
from headgate_contracts.batch import BatchDeploymentSpec
from headgate_contracts.envelope import Value
from headgate_contracts.errors import WireError
from headgate_contracts.jobs import (
    Job,
    JobCounts,
    JobInput,
    JobOutput,
    JobSettings,
    JobStatus,
    JobStatusChanged,
)
from headgate_contracts.nodes import Place
from headgate_contracts.resources import CodeSpec, EnvironmentSpec, ModelSpec


class JobDocument(Value):
    """What a job was made of, once and for all: nothing is looked up again later.

    ``file_name`` is the only file of ``from_place`` that is read, if it is a single one.
    """

    input: JobInput
    output: JobOutput
    settings: JobSettings
    deployment: BatchDeploymentSpec
    code: CodeSpec | None = None
    model: ModelSpec | None = None
    environment: EnvironmentSpec | None = None
    from_place: Place
    file_name: str = ""
    to_place: Place
    compute: str = ""
    instance_type: str = ""
    instances_max: int | None = None
    is_low_priority: bool = False
    display_name: str = ""
    experiment_name: str = ""
    description: str = ""
    tags: dict[str, str] = {}
    properties: dict[str, str] = {}
    created_by: str = ""


@dataclass(frozen=True, slots=True)
class JobRecord:
    """A job with all that is known of it."""

    id: str
    workspace: str
    name: str
    endpoint: str
    deployment: str
    status: JobStatus
    document: JobDocument
    counts: JobCounts = JobCounts()
    error: WireError | None = None
    repeat_id: str = ""
    listed_key: str = ""
    next_number: int = 0
    epoch: int = 0
    has_parts: bool = True
    created_at: float = 0.0
    started_at: float | None = None
    ended_at: float | None = None
    revision: int = 1

    @property
    def settings(self) -> JobSettings:
        return self.document.settings

    @property
    def is_file(self) -> bool:
        return bool(self.document.file_name)

    @property
    def about(self) -> dict[str, str]:
        """What every event about it says."""
        return {
            "workspace": self.workspace,
            "endpoint": self.endpoint,
            "deployment": self.deployment,
            "job": self.name,
        }

    @property
    def parts(self) -> str:
        """The key in the store below which its results wait."""
        return f"jobs/{self.workspace}/{self.id}/parts"

    @property
    def logs(self) -> str:
        """The key below which its log files are, where Azure's clients look for them."""
        return f"workspaces/{self.workspace}/workspaceartifactstore/ExperimentRun/dcid.{self.name}"

    def changed(self, **changes: Any) -> JobRecord:
        return replace(self, revision=self.revision + 1, **changes)


@dataclass(frozen=True, slots=True)
class Step:
    """A job after a change of its status, and the event that tells of it."""

    job: JobRecord
    event: JobStatusChanged


def stepped(
    job: JobRecord, trigger: Trigger, now: float, error: WireError | None = None
) -> Step | None:
    """The job after ``trigger``; None where it has no meaning."""
    status = core.moved(job.status, trigger)
    if status is None:
        return None
    changes: dict[str, Any] = {"status": status}
    if status is JobStatus.RUNNING and job.started_at is None:
        changes["started_at"] = now
    if status.is_final:
        changes |= {"ended_at": now, "error": error}
    if trigger is Trigger.RESUME:
        changes |= {"ended_at": None, "error": None, "epoch": job.epoch + 1}
    after = job.changed(**changes)
    event = JobStatusChanged(
        **job.about, status=status, was=job.status, counts=job.counts, error=error
    )
    return Step(after, event)


def shown(job: JobRecord, *, nodes: int = 0, per_s: float | None = None) -> Job:
    """The job as everybody sees it."""
    document = job.document
    return Job(
        id=job.id,
        name=job.name,
        workspace=job.workspace,
        endpoint=job.endpoint,
        deployment=job.deployment,
        status=job.status,
        input=_without_query(document.input),
        output=document.output,
        settings=document.settings,
        compute=document.compute,
        display_name=document.display_name or job.name,
        experiment_name=document.experiment_name,
        description=document.description,
        tags=document.tags,
        properties=document.properties,
        counts=job.counts,
        nodes=nodes,
        mini_batches_per_s=per_s,
        left_s=core.left_s(job.counts, per_s) if job.status is JobStatus.RUNNING else None,
        error=job.error,
        created_at=job.created_at,
        started_at=job.started_at,
        ended_at=job.ended_at,
        created_by=document.created_by,
        revision=job.revision,
    )


def _without_query(given: JobInput) -> JobInput:
    """The query of a web server's address may hold a signature, which is nobody else's business."""
    is_web = given.uri.lower().startswith(("https://", "http://"))
    return given.model_copy(update={"uri": given.uri.partition("?")[0]}) if is_web else given

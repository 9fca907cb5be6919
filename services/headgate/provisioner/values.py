"""The values that the provisioner decides with: what is observed, what is wanted, what to do.

All times are readings of one monotonic clock, in seconds.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

from headgate_contracts import limits
from headgate_contracts.errors import ErrorCode, WireError

# --- what is observed --------------------------------------------------------------------------


class State(StrEnum):
    """Where an instance is in its life."""

    PENDING = "pending"  # on record, its process not yet seen
    STARTING = "starting"
    READY = "ready"
    UNRESPONSIVE = "unresponsive"  # was ready and has fallen silent
    UNREADY = "unready"  # was ready, and its readiness probe fails
    STOPPING = "stopping"
    ENDED = "ended"

    @property
    def is_live(self) -> bool:
        """Counts for what is wanted."""
        return self not in (State.STOPPING, State.ENDED)


class EndKind(StrEnum):
    """Why a process ended."""

    ASKED = "asked"  # we, or the user, wanted it
    SCRIPT = "script"  # the user's script cannot be loaded: the same again next time
    LATE = "late"  # not ready within its budget
    SILENT = "silent"  # stopped answering
    CRASH = "crash"  # anything else


@dataclass(frozen=True, slots=True)
class Ending:
    """How an instance ended, in words for the owner of the deployment."""

    kind: EndKind
    code: ErrorCode
    message: str

    def to_wire(self) -> WireError:
        return WireError(code=self.code, message=self.message)


@dataclass(frozen=True, slots=True)
class Rule:
    """A probe as its owner wants it; both thresholds count results in a row."""

    initial_delay_s: float = 10.0
    period_s: float = 10.0
    timeout_s: float = 2.0
    success_threshold: int = 1
    failure_threshold: int = 30


@dataclass(frozen=True, slots=True)
class Rules:
    liveness: Rule = Rule()
    readiness: Rule = Rule()


@dataclass(frozen=True, slots=True)
class Count:
    """How one probe of one instance goes, up to its thresholds; ``due_at`` 0: not begun."""

    due_at: float = 0.0
    passed: int = 0
    failed: int = 0


@dataclass(frozen=True, slots=True)
class Observed:
    """One instance. ``failures`` counts the failed starts in a row of its slot before it.

    ``overdue_s``: for how long its model has been in a request whose time is over, or its own
    server has not passed its probe; ``trouble`` says how that server fails.

    ``ending`` is set when it has ended, and already while it is being killed for a cause.
    ``place`` is the line of the script at which it last was while it started.
    """

    id: str
    spec: str
    slot: int
    state: State
    started_at: float
    failures: int = 0
    heard_at: float = 0.0
    ended_at: float | None = None
    ending: Ending | None = None
    place: str = ""
    says_ready: bool = True
    overdue_s: float = 0.0
    trouble: str = ""
    liveness: Count = Count()
    readiness: Count = Count()

    @property
    def was_ready(self) -> bool:
        """Is serving, or was until it fell silent or unready."""
        return self.state in (State.READY, State.UNRESPONSIVE, State.UNREADY)


# --- what is wanted ----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Version:
    """One version as the core needs it. ``prepared``: code, model and environment are in place."""

    spec: str
    prepared: bool
    budget_s: float
    rules: Rules = Rules()


@dataclass(frozen=True, slots=True)
class Backoff:
    """Waits between restarts of one slot."""

    first_s: float = limits.RESTART_BACKOFF_FIRST_S
    max_s: float = limits.RESTART_BACKOFF_MAX_S
    reset_s: float = limits.RESTART_BACKOFF_RESET_S

    def wait_s(self, failures: int) -> float:
        """The first restart is at once, later ones after ``first_s`` doubling to ``max_s``."""
        if failures <= 0:
            return 0.0
        return min(self.max_s, self.first_s * 2.0 ** min(failures - 1, 32))


@dataclass(frozen=True, slots=True)
class Wanted:
    """One deployment.

    ``proven``: the target has succeeded before. ``settled``: the outcome of this generation has
    been told. ``stopped``: its owner wants no instance for now. ``since``: when this generation
    was first seen; what ended earlier counts no more. ``hearing_since``: since when heartbeats can
    be heard, None while they cannot.
    """

    count: int
    target: Version
    proven: bool = False
    settled: bool = False
    fallback: Version | None = None
    failed: WireError | None = None
    deleting: bool = False
    stopped: bool = False
    since: float = 0.0
    hearing_since: float | None = None
    backoff: Backoff = Backoff()


# --- what to do --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Prepare:
    """Put code, model and environment of a version in place."""

    spec: str


@dataclass(frozen=True, slots=True)
class Start:
    spec: str
    slot: int
    failures: int = 0


@dataclass(frozen=True, slots=True)
class Stop:
    """Drain an instance; or kill it, when ``because`` says what is wrong with it."""

    instance: str
    because: Ending | None = None


@dataclass(frozen=True, slots=True)
class Fail:
    """The target cannot start. ``instance`` is the one whose log shows why."""

    instance: str
    error: WireError


Action = Prepare | Start | Stop | Fail


@dataclass(frozen=True, slots=True)
class Report:
    """What the registry should know."""

    outcome: Literal["progressing", "succeeded", "failed", "gone"]
    ready_instances: int = 0
    percent_complete: float = 0.0
    error: WireError | None = None


@dataclass(frozen=True, slots=True)
class Decision:
    actions: tuple[Action, ...]
    report: Report

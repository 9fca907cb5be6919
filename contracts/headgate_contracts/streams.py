"""JetStream streams and KV buckets, declared as data; only the bootstrap creates them."""

from __future__ import annotations

from dataclasses import dataclass, field

from headgate_contracts import limits, subjects

_MIB = 1024 * 1024
_DAY_S = 86_400.0


@dataclass(frozen=True, slots=True)
class Stream:
    """A stream. Every one has a size limit: a full disk gives publishers no error, only silence.

    A full one drops its oldest messages, or takes no new ones when it ``refuses_when_full``. In a
    queue a message goes to one consumer and is gone once acknowledged. ``max_age_s`` 0: what it
    holds stays.
    """

    name: str
    subjects: tuple[str, ...]
    description: str
    max_bytes: int
    max_age_s: float
    max_msg_bytes: int
    duplicate_window_s: float = 120.0
    refuses_when_full: bool = False
    is_queue: bool = False


@dataclass(frozen=True, slots=True)
class Bucket:
    """A KV bucket. ``max_age_s`` 0: what it holds stays."""

    name: str
    description: str
    max_bytes: int
    history: int = 1
    max_age_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Layout:
    """Everything JetStream holds for Headgate."""

    streams: tuple[Stream, ...] = field(default=())
    buckets: tuple[Bucket, ...] = field(default=())


EVENTS = Stream(
    name="HG_EVT",
    subjects=(subjects.EVENT_ALL,),
    description="Every change of every resource and instance",
    max_bytes=512 * _MIB,
    max_age_s=7 * _DAY_S,
    max_msg_bytes=64 * 1024,
)
LOGS = Stream(
    name="HG_LOG",
    subjects=(subjects.LOG_ALL,),
    description="Rows of the log tables on their way to the service that answers for them",
    max_bytes=256 * _MIB,
    max_age_s=_DAY_S,
    max_msg_bytes=1024 * 1024,
)
USAGE = Stream(
    name="HG_USAGE",
    subjects=(subjects.USAGE_ALL,),
    description="Usage on its way to the ledger, which removes what it has taken in",
    max_bytes=256 * _MIB,
    max_age_s=limits.USAGE_AGE_S_MAX,
    max_msg_bytes=1024 * 1024,
    refuses_when_full=True,  # reporters keep what it does not take
)
BATCH = Stream(
    name="HG_BATCH",
    subjects=(subjects.BATCH_ALL,),
    description="Mini-batches of jobs that wait for a node; what they are is in the database",
    max_bytes=512 * _MIB,
    max_age_s=0.0,
    max_msg_bytes=64 * 1024,
    duplicate_window_s=600.0,
    refuses_when_full=True,
    is_queue=True,
)
ROUTES = Bucket(
    name="hg_routes",
    description="Routing tables, one key per endpoint; rebuilt from the registry",
    max_bytes=64 * _MIB,
)
TRUST = Bucket(
    name="hg_trust",
    description="What checks a token: public keys, revocations; one key, rebuilt by identity",
    max_bytes=16 * _MIB,
)
TRUST_KEY = "trust"
REPEATS = Bucket(
    name="hg_repeats",
    description="Sealed answers to requests with an Idempotency-Key; nothing is lost with it",
    max_bytes=64 * _MIB,
    max_age_s=limits.REPEATS_KEPT_S,
)
LAYOUT = Layout(streams=(EVENTS, LOGS, USAGE, BATCH), buckets=(ROUTES, TRUST, REPEATS))

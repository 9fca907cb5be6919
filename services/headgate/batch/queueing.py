"""The work queue as the batch service sees it: mini-batches go in, a job's consumer comes and goes.

Messages have ids, so that publishing again what was published is harmless.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence

from nats.errors import Error as NatsError
from nats.js.api import AckPolicy, ConsumerConfig
from nats.js.errors import Error as JetStreamError
from nats.js.errors import NotFoundError

from headgate.batch.state import Due
from headgate.runtime.bus import Bus
from headgate.runtime.log import Log
from headgate_contracts import limits, streams, subjects
from headgate_contracts.errors import ErrorCode, HeadgateError

_STREAM = streams.BATCH.name
_AT_ONCE = 64
_ACK_PENDING_MAX = 10_000

_log = Log("batch")


class WorkQueue:
    """The stream of all jobs."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus

    async def open(self, job: str) -> None:
        """Make sure that nodes can take the mini-batches of a job."""
        config = ConsumerConfig(
            durable_name=consumer_name(job),
            filter_subject=subjects.batch_tasks(job),
            ack_policy=AckPolicy.EXPLICIT,
            ack_wait=limits.BATCH_ACK_WAIT_S,
            max_deliver=-1,
            max_ack_pending=_ACK_PENDING_MAX,
        )
        try:
            await self._bus.js.add_consumer(_STREAM, config)
        except (NatsError, JetStreamError, TimeoutError) as error:
            raise _unavailable(error) from error

    async def publish(self, job: str, epoch: int, found: Sequence[Due]) -> list[int]:
        """Publish mini-batches; the numbers of those that the queue has not taken."""
        refused: list[int] = []
        for first in range(0, len(found), _AT_ONCE):
            group = found[first : first + _AT_ONCE]
            done = await asyncio.gather(*(self._publish(job, epoch, due) for due in group))
            refused += [due.task.number for due, ok in zip(group, done, strict=True) if not ok]
        return refused

    async def _publish(self, job: str, epoch: int, due: Due) -> bool:
        task = due.task
        message_id = f"{job}/{task.number}/{task.attempt}.{due.losses}/{epoch}"
        try:
            await self._bus.js.publish(
                subjects.batch_tasks(job),
                task.model_dump_json(exclude_defaults=True).encode(),
                headers={"Nats-Msg-Id": message_id},
            )
        except (NatsError, JetStreamError, TimeoutError) as error:
            text = str(error) or type(error).__name__
            _log.warning("task_not_published", job=job, number=task.number, error=text)
            return False
        return True

    async def is_empty(self, job: str) -> bool:
        """Whether nothing waits and nobody holds anything."""
        try:
            info = await self._bus.js.consumer_info(_STREAM, consumer_name(job))
        except NotFoundError:
            return True
        except (NatsError, JetStreamError, TimeoutError) as error:
            raise _unavailable(error) from error
        return not info.num_pending and not info.num_ack_pending

    async def clear(self, job: str, *, close: bool) -> None:
        """Take everything of a job out; with ``close`` its consumer, too."""
        try:
            await self._bus.js.purge_stream(_STREAM, subject=subjects.batch_tasks(job))
            if close:
                with contextlib.suppress(NotFoundError):
                    await self._bus.js.delete_consumer(_STREAM, consumer_name(job))
        except (NatsError, JetStreamError, TimeoutError) as error:
            raise _unavailable(error) from error


def consumer_name(job: str) -> str:
    """The durable consumer of a job, as its nodes call it."""
    return f"job-{job}"


def _unavailable(error: Exception) -> HeadgateError:
    text = str(error) or type(error).__name__
    return HeadgateError(
        ErrorCode.UNAVAILABLE, f"the work queue does not answer: {text}", retry_after_s=1
    )

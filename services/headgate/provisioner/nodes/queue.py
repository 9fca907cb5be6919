"""The work queue as a node sees it: mini-batches are taken, held while they last, and given back.

What a node holds it says every few seconds, or the queue hands it to another.
"""

from __future__ import annotations

import asyncio
import contextlib

from nats.aio.msg import Msg
from nats.errors import Error as NatsError
from nats.js.client import JetStreamContext
from nats.js.errors import Error as JetStreamError
from pydantic import ValidationError

from headgate.runtime.bus import Bus
from headgate.runtime.log import Log
from headgate_contracts import limits, streams
from headgate_contracts.mini_batches import Task

HOLD_EVERY_S = limits.BATCH_ACK_WAIT_S / 3
FETCH_WAIT_S = 2.0
RETRY_S = 0.5

_log = Log("provisioner")


class Held:
    """One mini-batch in hand."""

    def __init__(self, task: Task, message: Msg) -> None:
        self.task = task
        self._message = message

    async def hold(self) -> None:
        with contextlib.suppress(NatsError):
            await self._message.in_progress()

    async def done(self) -> None:
        """Take it out of the queue; if that is lost, it comes again and is not counted."""
        with contextlib.suppress(NatsError):
            await self._message.ack()

    async def give_back(self) -> None:
        """Another may have it at once."""
        with contextlib.suppress(NatsError):
            await self._message.nak()


class Queue:
    """The mini-batches of one job."""

    def __init__(self, bus: Bus, job: str) -> None:
        self._bus = bus
        self._job = job
        self._subscription: JetStreamContext.PullSubscription | None = None
        self.held: set[Held] = set()

    async def take(self, most: int) -> list[Held]:
        """Wait for up to ``most`` mini-batches; none after a while without any."""
        try:
            if self._subscription is None:
                self._subscription = await self._bus.js.pull_subscribe_bind(
                    consumer=consumer_name(self._job), stream=streams.BATCH.name
                )
            messages = await self._subscription.fetch(most, timeout=FETCH_WAIT_S)
        except TimeoutError:
            return []
        except (NatsError, JetStreamError) as error:
            # A consumer that is gone means that the job has ended: the node is told so, too.
            _log.debug("queue_waits", job=self._job, error=str(error) or type(error).__name__)
            await asyncio.sleep(RETRY_S)
            return []
        taken = []
        for message in messages:
            try:
                held = Held(Task.model_validate_json(message.data), message)
            except ValidationError as error:
                _log.error("bad_task", job=self._job, error=str(error)[:200])
                await message.term()
                continue
            self.held.add(held)
            taken.append(held)
        return taken

    async def keep_holding(self) -> None:
        """Say every few seconds what is still worked on, for ever."""
        while True:
            await asyncio.sleep(HOLD_EVERY_S)
            for held in list(self.held):
                await held.hold()

    async def close(self) -> None:
        """Give back what is left."""
        for held in list(self.held):
            await held.give_back()
        self.held.clear()
        if self._subscription is not None:
            with contextlib.suppress(NatsError, JetStreamError):
                await self._subscription.unsubscribe()


def consumer_name(job: str) -> str:
    """The durable consumer of a job."""
    return f"job-{job}"

"""One instance on the bus: heartbeats, admission, answers, drain. Lives on a thread of its own."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Optional

from headgate_worker import core, failure, frames, memory, output
from headgate_worker.bus import Bus
from headgate_worker.collector import Collector
from headgate_worker.execution import Executor
from headgate_worker.inbox import Watch
from headgate_worker.kinds import Kinds
from headgate_worker.links import Links
from headgate_worker.machine import Machine
from headgate_worker.nats import RefusedError
from headgate_worker.replies import Replies
from headgate_worker.request import Answer, Request
from headgate_worker.settings import Settings
from headgate_worker.supervisor import watch
from headgate_worker.transfers import Key, Transfers

EXIT_DRAINED = 0
EXIT_CRASHED = 1
EXIT_SCRIPT_FAILED = 3
EXIT_REFUSED = 4

LAST_WORD_TIMEOUT_S = 1.0


class Lane:
    """The bus side of a model process. ``ready``, ``fail`` and ``deliver`` come from its thread."""

    def __init__(self, settings: Settings, number: int, signals: socket.socket) -> None:
        self._settings = settings
        self._signals = signals
        self.instance = core.lane_instance(settings.instance, number)
        names = (settings.endpoint, settings.deployment)
        self._own_subject = core.instance_subject(*names, self.instance)
        self._parts_subject = core.parts_subject(*names, self.instance)
        self._shared_subject = core.deployment_subject(*names)
        self._beat_subject = core.heartbeat_subject(*names, self.instance)
        self._capacity = core.lane_capacity(settings.capacity, settings.lanes)
        self._state = core.STARTING
        self._error = ("", "")
        self._beats = 0
        self._executor: Optional[Executor] = None
        self._kinds = Kinds()
        # Requests that can be interrupted, when the script is of that kind.
        self._interruptible: dict[Key, Request] = {}
        self._links: Optional[Links] = None
        if settings.link_dir:
            self._links = Links(settings.link_dir, self.instance, self._on_message, _warn)
        self.collector: Optional[Collector] = None
        # One process speaks for the instance; a server beside us may be on another machine's disk.
        measures = number == 0 and not settings.server
        self._machine = Machine(os.environ) if measures else None
        self.trouble = ""  # why a server beside us does not pass its probes
        self.exit_code = EXIT_CRASHED
        self.started = threading.Event()
        self.ended = threading.Event()

    # -- from the model's thread --------------------------------------------------------------

    def ready(self, executor: Executor) -> None:
        """init() has returned; requests go to ``executor``."""
        self._loop.call_soon_threadsafe(self._on_ready, executor)

    def fail(self, code: str, text: str) -> None:
        """The script cannot serve; says so and ends."""
        self._loop.call_soon_threadsafe(self._on_failure, code, text)

    def deliver(self, request: Request, answer: Optional[Answer]) -> None:
        """An answer, from any thread; None for a request that nobody waits for."""
        self._forget(request)
        self._replies.deliver(request, answer)

    def gather(self, request: Request, answer: Optional[Answer]) -> None:
        """The same from a thread that says ``flush`` before it waits, and so saves a wake-up."""
        self._forget(request)
        self._replies.gather(request, answer)

    def flush(self) -> None:
        """What was gathered leaves."""
        self._replies.flush()

    def _forget(self, request: Request) -> None:
        if self._interruptible:
            self._interruptible.pop((request.reply, request.id), None)

    def say_ready(self, ready: bool) -> None:
        """A model that had been ready is so no more, or again; routers leave it out meanwhile."""
        self._loop.call_soon_threadsafe(self._on_readiness, ready)

    @property
    def serving(self) -> bool:
        """Whether the model's thread has got beyond init()."""
        return self._executor is not None

    # -- the thread ---------------------------------------------------------------------------

    def run(self) -> None:
        """The whole life of the bus side; sets ``exit_code`` and then ``ended``."""
        loop = _new_loop()
        self._loop = loop
        try:
            loop.run_until_complete(self._main())
        except RefusedError:
            self.exit_code = EXIT_REFUSED
        except BaseException as error:
            output.log("ERROR", f"the worker itself has failed: {error!r}", 2)
        finally:
            loop.close()
            self.started.set()
            self.ended.set()
            if self._executor is not None:
                self._executor.stop()

    async def _main(self) -> None:
        self._over: asyncio.Future[None] = self._loop.create_future()
        self._idle = asyncio.Event()
        self._ending: Optional[asyncio.Task[None]] = None
        settings = self._settings
        bus = self._bus = Bus(settings.bus_urls, settings.token_file, self.instance, report=_warn)
        self._own_sid = bus.subscribe(
            self._own_subject, core.QUEUE_GROUP, self._on_message, anywhere=True
        )
        self._shared_sid = 0
        bus.subscribe(self._parts_subject, core.QUEUE_GROUP, self._on_parts)
        self._replies = replies = Replies(bus, self._say, self._loop, self._send_in_parts)
        replies.on_idle = self._look_whether_idle
        self._transfers = Transfers(bus, self._submit, self._on_gone, lambda: replies.in_flight)
        bus.on_connect = self._beat
        bus.on_lost = self._transfers.lose_all
        self._loop.add_reader(self._signals.fileno(), self._on_signal)
        unwatch = watch(settings.supervisor, self._loop, self.drain)
        self.started.set()
        if self._machine is not None:
            self._machine.start()
        connection = self._loop.create_task(bus.run())
        pulse = self._loop.create_task(self._pulse())
        try:
            await asyncio.wait((connection, self._over), return_when=asyncio.FIRST_COMPLETED)
            if not self._over.done():
                await connection  # it ends by itself only to say why
        finally:
            pulse.cancel()
            unwatch()
            self._loop.remove_reader(self._signals.fileno())
            if self._links is not None:
                self._links.close()
            bus.close()
            await asyncio.wait((connection, pulse))

    def _on_signal(self) -> None:
        if self._signals.recv(64).strip(b"\x0e"):  # all but SIGALRM, which is the executor's
            self.drain()

    # -- heartbeats ---------------------------------------------------------------------------

    async def _pulse(self) -> None:
        while True:
            await asyncio.sleep(core.HEARTBEAT_INTERVAL_S)
            self._beat()
            self._transfers.give_up_expired(_now_ms())

    def _enter(self, state: str) -> None:
        self._state = state
        self._beat()

    def _beat(self) -> None:
        self._beats += 1
        if self._executor is not None and self._settings.capacity == 1:  # nobody said more
            self._capacity = self._executor.room
        now = time.time()
        said: dict[str, Any] = {
            "id": f"{self.instance}.{os.getpid()}.{self._beats}",
            "at": now,
            "endpoint": self._settings.endpoint,
            "deployment": self._settings.deployment,
            "instance": self.instance,
            "state": self._state,
            "spec": self._settings.spec,
            "mono_ms": _now_ms(),
            "wall_ms": now * 1e3,
            "capacity": self._capacity,
            "in_flight": self._replies.in_flight,
            "requests": self._replies.finished,
            "overdue_ms": self._executor.overdue_ms(_now_ms()) if self._executor else 0.0,
            "pid": os.getpid(),
            "rss_bytes": memory.rss_bytes(),
            "cpu_s": time.process_time(),
            "trouble": self.trouble,
            "link": self._links is not None and self._links.listening,
            "error_code": self._error[0],
            "error_message": self._error[1] or self._place(),
        }
        if self._executor is not None:
            said.update(self._executor.figures())
        if self.collector is not None:
            said["collected"] = self.collector.collected
            said["collect_dropped"] = self.collector.dropped
        if self._machine is not None:
            said.update(self._machine.figures)
        self._bus.publish(self._beat_subject, json.dumps(said).encode())

    def _place(self) -> str:
        """Where the script is while it starts, so that one that hangs can be told its line."""
        if self._state != core.STARTING:
            return ""
        main = sys._current_frames().get(threading.main_thread().ident or 0)
        return failure.place(main, self._settings.app_root) if main is not None else ""

    # -- requests -----------------------------------------------------------------------------

    def _on_ready(self, executor: Executor) -> None:
        self._executor = executor
        if executor.inbox is not None:
            Watch(self._loop, executor.inbox, self._look)
            self._bus.lend(executor.inbox)
        if self._links is not None:
            self._listening = self._loop.create_task(self._links.listen(executor.inbox))
        if self._state == core.STARTING:
            self._shared_sid = self._bus.subscribe(
                self._shared_subject, core.QUEUE_GROUP, self._on_message, anywhere=True
            )
            self._enter(core.READY)

    def _on_readiness(self, ready: bool) -> None:
        before, after = (core.STARTING, core.READY) if ready else (core.READY, core.STARTING)
        if self._state == before and self._executor is not None:
            self._enter(after)

    def _on_message(self, subject: str, reply: str, payload: memoryview) -> None:
        """Requests for the model, on whichever thread has read them."""
        if not reply:
            return
        if not payload:  # a ping
            self._on_loop(self._bus.publish, reply, b"")
            return
        now_ms = _now_ms()
        in_flight = self._replies.in_flight
        taken: list[Request] = []
        refused = False
        for encoded, body in frames.split(payload):
            meta, kind = self._kinds.read(encoded)
            request = Request(reply, meta, body, core.deadline_ms(meta, now_ms), kind)
            refusal = core.refusal(
                self._state,
                in_flight=in_flight + len(taken),
                capacity=self._capacity,
                deadline=request.deadline_ms,
                now_ms=now_ms,
            )
            if refusal is not None or self._executor is None or self._transfers.crowded:
                self._replies.refuse(request, refusal or core.BUSY)
                refused = True
                continue
            if "tr" in meta:
                request.came_ms = now_ms
            taken.append(request)
        self._replies.take(len(taken))
        for request in taken:
            if request.size is None:
                self._submit(request)
            else:
                self._on_loop(self._transfers.receive, request, request.size)
        if refused:
            self._replies.flush()

    def _say(self, subject: str, payload: bytes, deadline_ms: float) -> None:
        """An answer leaves, from any thread."""
        if self._links is None or not self._links.answer_now(subject, payload):
            self._bus.answer_now(subject, payload, deadline_ms)

    def _look(self) -> None:
        """What the model's thread would do if it were free. No answer waits for a slow one."""
        self._replies.flush()
        self._bus.look_after_answers()

    def _on_loop(self, call: Callable[..., None], *arguments: object) -> None:
        with suppress(RuntimeError):  # it is closed: the process ends
            self._loop.call_soon_threadsafe(call, *arguments)

    def _submit(self, request: Request) -> None:
        executor = self._executor
        assert executor is not None
        if executor.interruptible:
            self._interruptible[request.reply, request.id] = request
        executor.submit(request)

    def _on_parts(self, subject: str, reply: str, payload: memoryview) -> None:
        """About requests that are in hand."""
        for meta, body in frames.decode(payload):
            self._on_control(meta.get("c"), (str(meta.get("r")), meta.get("id")), meta, body)

    def _on_control(self, kind: object, key: Key, meta: dict[str, Any], body: bytes) -> None:
        if kind == core.TAKE:
            self._transfers.may_go_on(key, meta["to"])
        elif kind == core.BODY:
            self._transfers.take(key, meta.get("q"), body)
        elif kind == core.LEAVE:
            request = self._transfers.left(key) or self._interruptible.get(key)
            if request is not None and self._executor is not None:
                request.left = True
                request.deadline_ms = _now_ms()  # from now on it is overdue
                self._executor.leave(request)

    def _send_in_parts(self, request: Request, answer: Answer) -> None:
        self._transfers.send(request, answer)

    def _on_gone(self, frees_slot: bool) -> None:
        """An answer in parts has left, or a body that never came was given up."""
        if frees_slot:
            self._replies.end(finished=True)
        self._look_whether_idle()

    def _look_whether_idle(self) -> None:
        if self._replies.draining and self._replies.is_idle and not self._transfers:
            self._idle.set()

    # -- the end ------------------------------------------------------------------------------

    def drain(self) -> None:
        """Told to stop, or the supervisor is gone. Also before init() has returned."""
        if self._ending is None:
            drains = self._executor is not None
            self._ending = self._loop.create_task(self._drain() if drains else self._stop())

    def _on_failure(self, code: str, text: str) -> None:
        if self._ending is None:
            self._error = (code, text)
            self._ending = self._loop.create_task(self._end(core.FAILED, EXIT_SCRIPT_FAILED))

    async def _drain(self) -> None:
        until_s = self._loop.time() + self._settings.drain_timeout_s
        self._enter(core.DRAINING)
        await asyncio.sleep(min(core.DRAIN_PROPAGATION_S, self._settings.drain_timeout_s))
        self._bus.unsubscribe(self._own_sid)
        self._bus.unsubscribe(self._shared_sid)
        # After this nothing more can arrive, or there is no bus that it could come from.
        await self._bus.flush(min(LAST_WORD_TIMEOUT_S, until_s - self._loop.time()))
        self._replies.draining = True
        self._look_whether_idle()
        with suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self._idle.wait(), max(0.0, until_s - self._loop.time()))
        unfinished = self._replies.in_flight
        if self._executor is not None and unfinished:
            for request in self._executor.withdraw():
                self._replies.end(finished=False)
                self._replies.refuse(request, core.DRAINING)
            self._replies.flush()
            lost = self._replies.in_flight
            output.log(
                "WARNING",
                f"the time to drain is over: of {unfinished} requests {lost} are lost, "
                "the others were not started and are handed back",
                2,
            )
        await self._bus.settle(max(LAST_WORD_TIMEOUT_S, until_s - self._loop.time()))
        await self._stop()

    async def _stop(self) -> None:
        await self._end(core.STOPPED, EXIT_DRAINED)

    async def _end(self, state: str, exit_code: int) -> None:
        """Says the last word, and ends when it was heard or nobody is there to hear it."""
        self.exit_code = exit_code
        self._enter(state)
        await self._bus.flush(LAST_WORD_TIMEOUT_S)
        if not self._over.done():
            self._over.set_result(None)


def _warn(text: str) -> None:
    output.log("WARNING", text, 2)


def _now_ms() -> float:
    return time.monotonic() * 1e3


def _new_loop() -> asyncio.AbstractEventLoop:
    """uvloop's where the user's environment has it: a third more requests a second."""
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()

"""The worker as a process: one model, or a small parent of ``WORKER_COUNT`` of them.

Exit status: 0 drained, 3 the user's script failed, 4 the bus refused our credentials; anything
else is a crash. A parent ends as the first of its children that ended badly.
"""

from __future__ import annotations

import asyncio
import ctypes
import faulthandler
import json
import os
import signal
import socket
import sys
import threading
from collections.abc import Iterable
from contextlib import suppress
from types import FrameType
from typing import Optional, Union

from headgate_worker import (
    __version__,
    collector,
    core,
    memory,
    monitoring,
    output,
    script,
    settings,
)
from headgate_worker.batch_executor import BatchExecutor
from headgate_worker.batching import MAX_ROWS_DEFAULT, Limits
from headgate_worker.beside import Bridge, Server
from headgate_worker.collector import Collector
from headgate_worker.direct import Direct
from headgate_worker.execution import AsyncExecutor, Deliver, Executor, SyncExecutor
from headgate_worker.identity import IdentityEndpoint
from headgate_worker.lane import EXIT_CRASHED, EXIT_SCRIPT_FAILED, Lane
from headgate_worker.mdc import Listener
from headgate_worker.pyfunc import script as mlflow_script
from headgate_worker.scoring import Scorer
from headgate_worker.settings import Settings

EXIT_USAGE = 2
END_GRACE_S = 2.0  # for the script's own clean-up after its last request
_STOPS = (signal.SIGTERM, signal.SIGINT)
_PR_SET_PDEATHSIG = 1


def main() -> int:
    """The exit status of this process."""
    faulthandler.enable()
    memory.keep_freed()
    try:
        chosen = settings.load(os.environ, version=__version__)
    except settings.SettingsError as error:
        output.log("ERROR", str(error), 2)
        if not error.user:
            return EXIT_USAGE
        _last_words(os.environ.get("HEADGATE_LAST_WORDS", ""), "BadArgument", str(error))
        return EXIT_SCRIPT_FAILED
    settings.forget(os.environ)
    if chosen.batch:
        from headgate_worker import batch

        return batch.main(chosen)
    if chosen.server:
        return _agent(chosen)
    if chosen.lanes == 1:
        return _model_process(chosen, 0)
    return _parent(chosen)


# -- the parent of several -------------------------------------------------------------------


def _parent(chosen: Settings) -> int:
    """Starts a process per lane, passes on what it is told, and ends them all when one ends."""
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, _STOPS)
    children: dict[int, Optional[int]] = {}
    for number in range(chosen.lanes):
        children[_fork(chosen, number, mask)] = None

    def stop_all(number: int, frame: Optional[FrameType]) -> None:
        for pid, status in children.items():
            if status is None:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGTERM)

    for number in _STOPS:
        signal.signal(number, stop_all)
    signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    worst = 0
    for _ in range(chosen.lanes):
        pid, status = os.wait()
        children[pid] = status
        worst = worst or status
        stop_all(signal.SIGTERM, None)
    return _end_like(worst)


def _fork(chosen: Settings, number: int, mask: Iterable[int]) -> int:
    parent = os.getpid()
    pid = os.fork()
    if pid:
        return pid
    status = EXIT_CRASHED
    try:
        die_with(parent)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        status = _model_process(chosen, number)
        sys.exit(status)
    finally:
        # The rest of the stack belongs to the parent's program.
        _leave(status)


def die_with(parent: int) -> None:
    """The kernel kills us when our parent ends, however it ends."""
    with suppress(OSError, AttributeError):  # not Linux
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
    if os.getppid() != parent:
        os._exit(EXIT_CRASHED)


def _end_like(status: int) -> int:
    """Our own end looks like the child's, so that its signal is what others hear of."""
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        with suppress(OSError, ValueError):
            signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
    return os.WEXITSTATUS(status)


# -- one model -------------------------------------------------------------------------------


def _model_process(chosen: Settings, number: int) -> int:
    """The script on this thread, the bus (or the port) on another."""
    output.install(chosen.log_level)
    lane: Union[Lane, Direct]
    lane = Direct(chosen, _signals()) if chosen.listen else Lane(chosen, number, _signals())
    collecting = _collector(chosen, number)
    if isinstance(lane, Lane):
        lane.collector = collecting
    threading.Thread(target=lane.run, name="headgate-bus", daemon=True).start()
    threading.Thread(
        target=_end_soon, args=(lane, collecting), name="headgate-end", daemon=True
    ).start()
    lane.started.wait()
    if not chosen.listen:
        IdentityEndpoint(chosen).start(os.environ)
    try:
        without = chosen.mlflow_folder and not chosen.entry_script
        loaded = mlflow_script.load(chosen) if without else script.load(chosen)
        loop = asyncio.new_event_loop() if loaded.is_async else None
        script.initialise(loaded, loop)
    except script.ScriptError as error:
        output.log("ERROR", f"{error.code}: {error.message}", 2)
        _last_words(chosen.last_words, error.code, error.message)
        lane.fail(error.code, error.message)
        lane.ended.wait()
        return lane.exit_code
    model = _executor(Scorer(loaded, chosen), lane, collecting, loop, chosen)
    lane.ready(model)
    model.serve()
    lane.ended.wait()
    if collecting is not None:
        collecting.close()
    return lane.exit_code


def _executor(
    scorer: Scorer,
    lane: Union[Lane, Direct],
    collecting: Optional[Collector],
    loop: Optional[asyncio.AbstractEventLoop],
    chosen: Settings,
) -> Executor:
    """The right one for the script; one with coroutines comes with their ``loop``."""
    deliver: Deliver = lane.gather if loop is None else lane.deliver
    if collecting is not None:
        deliver = collecting.through(deliver)
    if loop is not None:
        return AsyncExecutor(scorer, deliver, loop)
    if scorer.batches:
        max_rows = chosen.batch_max_rows or MAX_ROWS_DEFAULT
        limits = Limits(max_rows, chosen.batch_max_wait_ms / 1000)
        return BatchExecutor(scorer, deliver, lane.flush, limits)
    return SyncExecutor(scorer, deliver, lane.flush)


def _agent(chosen: Settings) -> int:
    """No script: the model is a server of its own, and we are its way to the bus."""
    output.install(chosen.log_level)
    lane = Lane(chosen, 0, _signals())
    lane.collector = collecting = _collector(chosen, 0)
    threading.Thread(target=lane.run, name="headgate-bus", daemon=True).start()
    threading.Thread(
        target=_end_soon, args=(lane, collecting), name="headgate-end", daemon=True
    ).start()
    lane.started.wait()
    deliver = lane.deliver if collecting is None else collecting.through(lane.deliver)
    bridge = Bridge(Server.parse(chosen.server), deliver, chosen.capacity)
    bridge.wait_ready(lane)
    lane.ready(bridge)
    bridge.watch(lane)
    return lane.exit_code


def _collector(chosen: Settings, number: int) -> Optional[Collector]:
    """What collects for this process, known to the script's own collectors."""
    try:
        found = collector.start(chosen, core.lane_instance(chosen.instance, number))
        if found is not None and found.plan.custom:
            Listener(found).start(chosen.collect_dir, os.environ)
    except (OSError, ValueError, LookupError) as error:
        output.log("ERROR", f"nothing is collected: {error!r}", 2)
        return None
    monitoring.current = found
    return found


def _signals() -> socket.socket:
    """A socket from which the numbers of signals can be read, on any thread.

    The kernel's signal reaches it at once, even while the main thread computes in C code.
    """
    receiver, sender = socket.socketpair()
    receiver.setblocking(False)
    sender.setblocking(False)
    signal.set_wakeup_fd(sender.detach(), warn_on_full_buffer=False)
    for number in _STOPS:
        signal.signal(number, lambda number, frame: None)
    return receiver


def _end_soon(lane: Union[Lane, Direct], collecting: Optional[Collector]) -> None:
    """Nothing of the script keeps a finished worker alive: no hung call, no thread of its own."""
    lane.ended.wait()
    if collecting is not None:
        collecting.close()
    if lane.serving:
        threading.Event().wait(END_GRACE_S)
    _leave(lane.exit_code)


def _leave(status: int) -> None:
    output.flush()
    os._exit(status)


def _last_words(path: str, code: str, message: str) -> None:
    """Why the script cannot serve, for whoever started us, whole or not at all."""
    if not path:
        return
    draft = f"{path}.{os.getpid()}"
    try:
        with open(draft, "w", encoding="utf-8") as file:
            json.dump({"code": code, "message": message}, file, ensure_ascii=False)
        os.replace(draft, path)
    except OSError as error:
        output.log("ERROR", f"cannot write {path}: {error}", 2)

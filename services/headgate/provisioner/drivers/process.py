"""Instances as processes of this machine.

A process is found again by what it was started with: the kernel keeps the first environment of
every process readable, so even one whose record was never written has a label. Workers are not
tied to our life; they survive a restart of the control services.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import resource
import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from headgate.provisioner.drivers import (
    Exit,
    Interpreter,
    LastWords,
    Launch,
    Running,
    confinement,
    worker_archive,
)
from headgate.provisioner.logs import LOG
from headgate.runtime import procs
from headgate.runtime.copies import remove_tree
from headgate.runtime.files import private_dir, write_atomic

LABEL = "instance.json"
TOKEN = "bus.token"
LAST_WORDS = "last_words.json"

LAST_WORDS_BYTES_MAX = 64 * 1024
OPEN_FILES_MAX = 4_096
# After its own drain time a worker still has to flush answers and say goodbye.
ABORT_GRACE_S = 1.0
STOP_GRACE_S = 2.0
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_PROC = Path("/proc")


class ProcessDriver:
    """Starts workers as child processes; watches and ends them whoever their parent is."""

    def __init__(
        self,
        data: Path,
        bus_url: str,
        *,
        drain_timeout_s: float,
        supervisor: str = "",
        gpus: Sequence[str] = (),
        links: Path | None = None,
    ) -> None:
        """``supervisor`` (``pid:start``) is the process whose end workers shall not survive.

        ``gpus`` are the devices of this machine that instances can have, ``links`` is the folder
        where workers listen for routers of this machine.
        """
        self._gpus = confinement.Gpus(gpus)
        self._instances = data / "instances"
        self._archives = data / "worker"
        self._bus_url = bus_url
        self._drain_timeout_s = drain_timeout_s
        self._supervisor = supervisor
        self._links = links
        self._starting: set[asyncio.Future[Running]] = set()

    def folder(self, instance: str) -> Path:
        return self._instances / instance

    def remove(self, instance: str) -> None:
        confinement.end(self.folder(instance))  # of one that ended while nobody looked
        remove_tree(self.folder(instance))

    async def start(self, launch: Launch) -> Running:
        # Shielded: a start that is called off halfway would leave a process nobody knows.
        gpus = self._gpus.take(launch.instance, launch.limits.gpus if launch.limits else 0)
        starting = asyncio.ensure_future(asyncio.to_thread(self._start, launch, gpus))
        self._starting.add(starting)
        starting.add_done_callback(lambda done: self._note_started(done, launch.instance))
        return await asyncio.shield(starting)

    def _note_started(self, started: asyncio.Future[Running], instance: str) -> None:
        self._starting.discard(started)
        if started.cancelled() or started.exception() is not None:
            self._gpus.give_back(instance)

    async def found(self) -> list[Running]:
        await asyncio.gather(*self._starting, return_exceptions=True)
        found = await asyncio.to_thread(self._found)
        for running in filter(_is, found):
            self._gpus.note(running.instance, confinement.of(self.folder(running.instance)).gpus)
        return found

    async def ended(self, running: Running) -> Exit:
        if _is(running):
            await procs.wait_ended(running.pid)
        # What the model started must not outlive it. This comes before reaping: as long as the
        # process is there as a zombie, its pid, and so its session, cannot be anybody else's.
        for member in await asyncio.to_thread(lambda: list(_session(running))):
            procs.send(member, signal.SIGKILL)
        folder = self.folder(running.instance)
        status = procs.reap(running.pid)
        memory = await asyncio.to_thread(confinement.end, folder)
        self._gpus.give_back(running.instance)
        return Exit(status, self._last_words(running.instance), out_of_memory=memory)

    async def stop(self, running: Running, *, drain_s: float) -> None:
        process = procs.stat(running.pid)
        if process is None or process.start != running.start:
            return
        if drain_s > 0:
            procs.send(process, signal.SIGTERM)
            if await procs.wait_ended(running.pid, timeout_s=drain_s + STOP_GRACE_S):
                return
        procs.send(process, signal.SIGABRT)  # its last act is to log where every thread was
        if not await procs.wait_ended(running.pid, timeout_s=ABORT_GRACE_S):
            procs.send(process, signal.SIGKILL)

    async def close(self, *, all_ended: bool) -> None:
        """Processes need no helpers."""

    def renew_token(self, instance: str, token: str) -> None:
        write_atomic(self.folder(instance) / TOKEN, token)

    def token_age_s(self, instance: str, now: float) -> float:
        try:
            return now - (self.folder(instance) / TOKEN).stat().st_mtime
        except FileNotFoundError:
            return 0.0

    def _start(self, launch: Launch, gpus: tuple[str, ...]) -> Running:
        assert isinstance(launch.base, Interpreter)
        folder = private_dir(self.folder(launch.instance))
        for place in (folder / "home", folder / "tmp", *filter(None, [self._links])):
            private_dir(place)
        write_atomic(folder / TOKEN, launch.token)
        confined = confinement.prepare(
            folder, launch.instance, launch.limits, gpus, is_low_priority=launch.is_low_priority
        )
        try:
            child = self._spawn(launch, launch.base.python, folder, confined.variables)
        except BaseException:
            confinement.end(folder)
            raise
        child.returncode = 0  # we reap through the pid, as for processes that are not our children
        try:
            _limit(child.pid)
            confined.enter(child.pid)
            process = procs.stat(child.pid)
            running = Running(
                launch.instance,
                launch.endpoint,
                launch.deployment,
                launch.spec,
                child.pid,
                process.start if process else 0,
            )
            write_atomic(folder / LABEL, json.dumps(asdict(running)))
        except BaseException:
            os.kill(child.pid, signal.SIGKILL)
            os.waitpid(child.pid, 0)
            confinement.end(folder)
            raise
        return running

    def _spawn(
        self, launch: Launch, python: Path, folder: Path, variables: Mapping[str, str]
    ) -> subprocess.Popen[bytes]:
        archive = worker_archive.build_here(self._archives)
        with (folder / LOG).open("ab") as log:
            return subprocess.Popen(
                [str(python), "-u", "-X", "faulthandler", str(archive)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=launch.code,
                env={**self._environment(launch, python, folder), **variables},
                start_new_session=True,
                umask=0o077,
            )

    def _environment(self, launch: Launch, python: Path, folder: Path) -> dict[str, str]:
        """All that a worker gets; nothing is inherited from us."""
        said = {
            "PATH": f"{python.parent}:{_PATH}",
            "HOME": str(folder / "home"),
            "LANG": "C.UTF-8",
            "TMPDIR": str(folder / "tmp"),
            **launch.variables,
            "HEADGATE_BUS_URL": self._bus_url,
            "HEADGATE_BUS_TOKEN_FILE": str(folder / TOKEN),
            "HEADGATE_ENDPOINT": launch.endpoint,
            "HEADGATE_DEPLOYMENT": launch.deployment,
            "HEADGATE_INSTANCE": launch.instance,
            "HEADGATE_SPEC": launch.spec,
            "HEADGATE_CAPACITY": str(launch.capacity),
            "HEADGATE_LAST_WORDS": str(folder / LAST_WORDS),
            "HEADGATE_DRAIN_TIMEOUT_S": f"{self._drain_timeout_s:g}",
        }
        if launch.collect:
            said["HEADGATE_COLLECT"] = launch.collect
            said["HEADGATE_COLLECT_DIR"] = str(launch.collect_folder)
        if launch.batch:
            said["HEADGATE_BATCH"] = launch.batch
        elif self._links:
            said["HEADGATE_LINK_DIR"] = str(self._links)
        if self._supervisor:
            said["HEADGATE_SUPERVISOR_PID"] = self._supervisor
        return said

    def _found(self) -> list[Running]:
        """By the environment that each process was started with, else by our label files."""
        by_instance = {running.instance: running for running in self._labelled()}
        for entry in _PROC.iterdir():
            if entry.name.isdecimal() and (running := self._recognised(int(entry.name))):
                by_instance[running.instance] = running
        return list(by_instance.values())

    def _labelled(self) -> Iterator[Running]:
        for label in self._instances.glob(f"*/{LABEL}"):
            with contextlib.suppress(OSError, ValueError, TypeError):
                running = Running(**json.loads(label.read_text()))
                if _is(running):
                    yield running

    def _recognised(self, pid: int) -> Running | None:
        """The instance that this process is, if it is the first process of one of ours."""
        try:
            environ = _parsed((_PROC / str(pid) / "environ").read_bytes())
            if not environ.get("HEADGATE_LAST_WORDS", "").startswith(f"{self._instances}/"):
                return None
            if os.getsid(pid) != pid:  # a lane, or something that the model started
                return None
        except OSError:  # it has ended, or it is not ours to look at
            return None
        process = procs.stat(pid)
        if process is None or process.ended:
            return None
        names = ("INSTANCE", "ENDPOINT", "DEPLOYMENT", "SPEC")
        instance, endpoint, deployment, spec = (environ.get(f"HEADGATE_{n}", "") for n in names)
        return Running(instance, endpoint, deployment, spec, pid, process.start)

    def _last_words(self, instance: str) -> LastWords | None:
        try:
            with (self.folder(instance) / LAST_WORDS).open("rb") as file:
                said = json.loads(file.read(LAST_WORDS_BYTES_MAX))
            return LastWords(str(said["code"]), str(said["message"]))
        except (OSError, ValueError, KeyError, TypeError):
            return None


def _parsed(environ: bytes) -> Mapping[str, str]:
    pairs = (item.partition("=") for item in environ.decode(errors="replace").split("\0"))
    return {name: value for name, _, value in pairs}


def _is(running: Running) -> bool:
    return procs.is_running(f"{running.pid}:{running.start}")


def _session(running: Running) -> Iterator[procs.Stat]:
    """What is left of the session that the process led, itself excepted."""
    leader = procs.stat(running.pid)
    if leader is not None and leader.start != running.start:
        return  # the pid belongs to somebody else by now, and so does the session
    for entry in _PROC.iterdir():
        if not entry.name.isdecimal() or int(entry.name) == running.pid:
            continue
        with contextlib.suppress(OSError):
            member = procs.stat(int(entry.name))
            if member is not None and os.getsid(member.pid) == running.pid:
                yield member


def _limit(pid: int) -> None:
    """Set from outside: code run between fork and exec in a process with threads can hang."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        _, hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
        soft = OPEN_FILES_MAX if hard == resource.RLIM_INFINITY else min(OPEN_FILES_MAX, hard)
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (soft, hard))
        _, hard = resource.prlimit(pid, resource.RLIMIT_CORE)
        resource.prlimit(pid, resource.RLIMIT_CORE, (0, hard))

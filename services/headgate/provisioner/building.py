"""Builds of environments: each definition once, with a log, an event and a clear failure."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from pydantic import ValidationError

from headgate.provisioner.drivers import Base
from headgate.provisioner.made import Made
from headgate.runtime.files import private_dir, write_atomic
from headgate_contracts import limits
from headgate_contracts.errors import ErrorCode, HeadgateError
from headgate_contracts.provisioning import (
    EnvironmentBuildFailed,
    EnvironmentBuilt,
    EnvironmentEvent,
)
from headgate_contracts.resources import EnvironmentSpec

Say = Callable[[str], None]
Build = Callable[["Journal"], Awaitable[Made]]
Kept = tuple[EnvironmentSpec | None, Made | None]
"""What a version runs on, by its definition and by the build of it."""
BUILD_TIMEOUT_S = 3_600.0
UNUSED_KEPT_S = 7 * 86_400.0
LOG_TAIL_LINES = 20
LOG_TAIL_CHARS = 4_000
_SHOWN_CHARS = 12


@dataclass(frozen=True, slots=True)
class Based:
    """What an instance runs on; ``made`` is None when nothing was made for it."""

    base: Base
    made: Made | None = None


class Journal:
    """A log file of our own lines, each with its time."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)

    def say(self, line: str) -> None:
        at = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        with self.path.open("a", encoding="utf-8") as file:
            file.writelines(f"{at} {part}\n" for part in line.splitlines() or [""])

    def tail(self) -> list[str]:
        with self.path.open("rb") as file:
            file.seek(max(0, self.path.stat().st_size - LOG_TAIL_CHARS))
            return file.read().decode(errors="replace").splitlines()[-LOG_TAIL_LINES:]


class Builds:
    """The folder of builds and their logs. A build is named by the hash of what it is made from."""

    def __init__(self, folder: Path, *, say: Callable[[EnvironmentEvent], Awaitable[None]]) -> None:
        """``say`` publishes what became of a build."""
        self.folder = folder
        self._say = say
        self._locks: dict[str, asyncio.Lock] = {}

    def log_of(self, digest: str) -> Path:
        return self.folder / f"{digest}.log"

    def current(self, key: str) -> Made | None:
        """The latest build of a definition: what a new version of a deployment gets."""
        try:
            return Made.model_validate_json(self._pointer(key).read_bytes())
        except (FileNotFoundError, ValidationError):
            return None

    def set_current(self, key: str, made: Made) -> None:
        write_atomic(self._pointer(key), made.model_dump_json())

    async def once(
        self,
        environment: EnvironmentSpec,
        digest: str,
        find: Callable[[], Awaitable[Made | None]],
        build: Build,
        say: Say,
    ) -> Made:
        """Build what is not here yet; whoever else wants the same waits for it.

        Raises HeadgateError(ImageBuildFailure), with the end of the build log where it helps.
        """
        shown = digest[:_SHOWN_CHARS]
        async with self._alone(digest, say):
            found = await find()
            if found is not None:
                say(f"environment {shown} is here already")
                return found
            say(f"environment {shown} is being built")
            return await self._told(environment, digest, build, say, before=None)

    async def again(
        self, environment: EnvironmentSpec, digest: str, before: Made, build: Build, say: Say
    ) -> Made:
        """Build once more, of what its parts are today; nothing new may come of it."""
        async with self._alone(digest, say):
            return await self._told(environment, digest, build, say, before=before)

    async def _told(
        self,
        environment: EnvironmentSpec,
        digest: str,
        build: Build,
        say: Say,
        *,
        before: Made | None,
    ) -> Made:
        named = {"name": environment.name, "version": environment.version}
        about = {**named, "sha256": digest}
        journal = Journal(self.log_of(digest))
        begun = asyncio.get_running_loop().time()
        try:
            made = await build(journal)
        except HeadgateError as error:
            journal.say(f"failed: {error}")
            reason = str(error)[: limits.ERROR_MESSAGE_CHARS_MAX]
            await self._say(EnvironmentBuildFailed(**about, reason=reason))
            raise
        if before is None or before.id != made.id:
            build_s = asyncio.get_running_loop().time() - begun
            say(f"environment {digest[:_SHOWN_CHARS]} was built in {build_s:.1f} s")
            await self._say(EnvironmentBuilt(**about, build_s=build_s))
        return made

    def _pointer(self, key: str) -> Path:
        return self.folder / f"{key}.json"

    @contextlib.asynccontextmanager
    async def _alone(self, digest: str, say: Say) -> AsyncIterator[None]:
        """One build of a definition at a time."""
        lock = self._locks.setdefault(digest, asyncio.Lock())
        if lock.locked():
            shown = digest[:_SHOWN_CHARS]
            say(f"environment {shown} is being built already, waiting for it")
        async with lock, self._other_processes(digest):
            yield

    @contextlib.asynccontextmanager
    async def _other_processes(self, digest: str) -> AsyncIterator[None]:
        """Another process on the same data folder waits, too."""
        private_dir(self.folder)
        descriptor = os.open(
            self.folder / f"{digest}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600
        )
        try:
            await asyncio.to_thread(fcntl.flock, descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)


def failure(what: str, journal: Journal, *, target: str) -> HeadgateError:
    """The error of a build, with the end of its log, where the tool names what is wrong."""
    said = f"the environment cannot be built: {what}. The end of its log:"
    return HeadgateError(
        ErrorCode.IMAGE_BUILD_FAILURE, "\n".join([said, *journal.tail()]), target=target
    )

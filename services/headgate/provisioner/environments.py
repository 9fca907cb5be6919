"""Python environments, each definition built once: a conda file becomes a venv made with uv.

This driver runs processes, not images: a definition that only names an image is refused.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import hashlib
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path

import uv

from headgate.provisioner import conda
from headgate.runtime import procs
from headgate.runtime.copies import remove_tree
from headgate.runtime.files import private_dir
from headgate_contracts import limits
from headgate_contracts.errors import ErrorCode, HeadgateError
from headgate_contracts.provisioning import (
    EnvironmentBuildFailed,
    EnvironmentBuilt,
    EnvironmentEvent,
)
from headgate_contracts.resources import EnvironmentSpec

Say = Callable[[str], None]
BUILD_TIMEOUT_S = 3_600.0
UNUSED_KEPT_S = 7 * 86_400.0
LOG_TAIL_LINES = 20
LOG_TAIL_CHARS = 4_000
_STOP_GRACE_S = 5.0


class Journal:
    """A log file of our own lines, each with its time."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)

    def say(self, line: str) -> None:
        at = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        with self.path.open("a", encoding="utf-8") as file:
            file.writelines(f"{at} {part}\n" for part in line.splitlines() or [""])


def definition_hash(environment: EnvironmentSpec) -> str:
    """Environments with the same hash are the same on this machine."""
    kept = {"conda_file": environment.conda_file, "python": sys.version_info[:2]}
    return hashlib.sha256(json.dumps(kept).encode()).hexdigest()


class Environments:
    """The folder of built environments."""

    def __init__(
        self,
        folder: Path,
        environ: Mapping[str, str],
        *,
        say: Callable[[EnvironmentEvent], Awaitable[None]],
    ) -> None:
        """``environ`` is what build tools see; ``say`` publishes what became of a build."""
        self._folder = folder
        self._environ = environ
        self._say = say
        self._builds: dict[str, asyncio.Lock] = {}

    def log_of(self, environment: EnvironmentSpec | None) -> Path | None:
        """Where the build of this environment is written down; None when nothing is built."""
        if environment is None or environment.conda_file is None:
            return None
        return self._folder / f"{definition_hash(environment)}.log"

    async def python_for(self, environment: EnvironmentSpec | None, say: Say) -> Path:
        """The interpreter of an environment, built if it is not there.

        Raises HeadgateError(ImageBuildFailure) with the end of the build log.
        """
        if environment is None or not (
            environment.image or environment.build or environment.conda_file is not None
        ):
            say(f"environment: none given, the one of Headgate itself is used ({sys.executable})")
            return Path(sys.executable)
        name = f"{environment.name}:{environment.version}"
        if environment.conda_file is None:
            raise HeadgateError(
                ErrorCode.IMAGE_BUILD_FAILURE,
                f"environment {name} names a container {'image' if environment.image else 'build'} "
                "and no conda file; instances are processes of this machine here, which cannot "
                "run images. Add a conda_file with the packages that the script needs",
                target="environment.image",
            )
        if environment.image:
            say(f"environment {name}: image {environment.image} is not used, its conda file is")
        return await self._venv(environment, say)

    async def sweep(self, kept: Iterable[EnvironmentSpec | None]) -> None:
        """Remove environments that no version names and nobody has used for long."""
        names = {path.stem for path in map(self.log_of, kept) if path is not None}

        def remove() -> None:
            if not self._folder.is_dir():
                return
            oldest = datetime.now(UTC).timestamp() - UNUSED_KEPT_S
            for place in self._folder.iterdir():
                if place.stem not in names and place.stat().st_mtime < oldest:
                    remove_tree(place)

        await asyncio.to_thread(remove)

    async def _venv(self, environment: EnvironmentSpec, say: Say) -> Path:
        digest = definition_hash(environment)
        place = self._folder / digest
        python = place / "bin" / "python"
        lock = self._builds.setdefault(digest, asyncio.Lock())
        if lock.locked():
            say(f"environment {digest[:12]} is being built already, waiting for it")
        async with lock, self._other_processes(digest):
            if await asyncio.to_thread(_is_usable, python):
                say(f"environment {digest[:12]} is here already")
                return python
            say(f"environment {digest[:12]} is being built")
            named = {"name": environment.name, "version": environment.version}
            about = {**named, "sha256": digest}
            begun = asyncio.get_running_loop().time()
            try:
                await self._build(environment, digest, place)
            except HeadgateError as error:
                reason = str(error)[: limits.ERROR_MESSAGE_CHARS_MAX]
                await self._say(EnvironmentBuildFailed(**about, reason=reason))
                raise
            build_s = asyncio.get_running_loop().time() - begun
            say(f"environment {digest[:12]} was built in {build_s:.1f} s")
            await self._say(EnvironmentBuilt(**about, build_s=build_s))
        return python

    @contextlib.asynccontextmanager
    async def _other_processes(self, digest: str) -> AsyncIterator[None]:
        """Another process on the same data folder waits, too."""
        private_dir(self._folder)
        descriptor = os.open(
            self._folder / f"{digest}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600
        )
        try:
            await asyncio.to_thread(fcntl.flock, descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    async def _build(self, environment: EnvironmentSpec, digest: str, place: Path) -> None:
        journal = Journal(self._folder / f"{digest}.log")
        draft = self._folder / f".{digest}.draft"
        try:
            await asyncio.to_thread(remove_tree, draft)  # of a build that was killed
            recipe = conda.parse(environment.conda_file or "")
            for note in recipe.notes:
                journal.say(note)
            base = await self._interpreter(recipe.python, journal)
            uv_bin = uv.find_uv_bin()
            make = [uv_bin, "venv", "--relocatable", "--no-project", "--python", base, str(draft)]
            await self._run(make, journal)
            if recipe.lines:
                requirements = draft / "requirements.txt"
                requirements.write_text("\n".join(recipe.lines) + "\n")
                await self._install(draft, ["-r", str(requirements)], journal)
            await self._add_uvloop(draft, journal)
            await asyncio.to_thread(draft.rename, place)
        except HeadgateError as error:
            journal.say(f"failed: {error}")
            raise
        finally:
            await asyncio.to_thread(remove_tree, draft)

    async def _interpreter(self, asked: str, journal: Journal) -> str:
        """The asked Python when the machine has it, else the nearest one, and a word about it."""
        if not asked:
            return sys.executable
        own = ".".join(map(str, sys.version_info[:3]))
        if own == asked or own.startswith(f"{asked}."):
            return sys.executable
        listing = await self._output(
            [uv.find_uv_bin(), "python", "list", "--only-installed", "--output-format", "json"]
        )
        paths = {own: sys.executable}
        for entry in listing:
            if entry.get("implementation") == "cpython" and entry.get("path"):
                paths.setdefault(str(entry["version"]), str(entry["path"]))
        for version, path in paths.items():
            if version == asked or version.startswith(f"{asked}."):
                return path
        chosen = conda.nearest(asked, list(paths)) or own
        journal.say(
            f"warning: Python {asked} is asked for and not on this machine; {chosen} is used. "
            f"Installed are {', '.join(sorted(paths))}"
        )
        return paths[chosen]

    async def _install(self, venv: Path, what: list[str], journal: Journal) -> None:
        python = str(venv / "bin" / "python")
        await self._run([uv.find_uv_bin(), "pip", "install", "--python", python, *what], journal)

    async def _add_uvloop(self, venv: Path, journal: Journal) -> None:
        """It makes the worker faster; an environment that cannot have it is as good."""
        try:
            await self._install(venv, ["--only-binary", "uvloop", "--no-deps", "uvloop"], journal)
        except HeadgateError:
            journal.say("uvloop cannot be added; the worker does without")

    async def _output(self, argv: list[str]) -> list[dict[str, object]]:
        """The JSON list that a short command prints; empty when it fails."""

        def call() -> list[dict[str, object]]:
            done = subprocess.run(
                argv, capture_output=True, env=dict(self._environ), timeout=60, check=False
            )
            try:
                found = json.loads(done.stdout or b"[]")
            except ValueError:
                return []
            return found if isinstance(found, list) else []

        return await asyncio.to_thread(call)

    async def _run(self, argv: list[str], journal: Journal) -> None:
        """A build step; what it prints goes straight into the journal."""
        journal.say(f"$ {' '.join([Path(argv[0]).name, *argv[1:]])}")
        with await asyncio.to_thread(journal.path.open, "ab") as output:
            child = procs.Process.start(argv, output=output, env=self._environ)
        try:
            async with asyncio.timeout(BUILD_TIMEOUT_S):
                status = await child.wait()
        except TimeoutError:
            raise _failure(f"not finished within {BUILD_TIMEOUT_S:g} s", journal) from None
        finally:
            if child.returncode is None:
                await child.stop(grace_s=_STOP_GRACE_S)
        if status != 0:
            raise _failure(f"`uv {argv[1]}` ended with {procs.describe_exit(status)}", journal)


def _is_usable(python: Path) -> bool:
    """Whether it is there and its base interpreter still is. Notes the use, for the sweep."""
    if not python.exists():
        return False
    os.utime(python.parent.parent)
    return True


def _failure(what: str, journal: Journal) -> HeadgateError:
    """The error of a build, with the end of its log, where uv names the package."""
    with journal.path.open("rb") as file:
        file.seek(max(0, journal.path.stat().st_size - LOG_TAIL_CHARS))
        lines = file.read().decode(errors="replace").splitlines()[-LOG_TAIL_LINES:]
    return HeadgateError(
        ErrorCode.IMAGE_BUILD_FAILURE,
        "\n".join([f"the environment cannot be built: {what}. The end of its log:", *lines]),
        target="environment.conda_file",
    )

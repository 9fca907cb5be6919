"""Environments of processes: a conda file becomes a venv made with uv.

Processes of this machine cannot run images: a definition that only names one is refused.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path

import uv

from headgate.provisioner import conda
from headgate.provisioner.building import (
    BUILD_TIMEOUT_S,
    UNUSED_KEPT_S,
    Builds,
    Journal,
    Say,
    failure,
)
from headgate.provisioner.drivers import Interpreter
from headgate.runtime import procs
from headgate.runtime.copies import remove_tree
from headgate_contracts.errors import ErrorCode, HeadgateError
from headgate_contracts.resources import EnvironmentSpec

_STOP_GRACE_S = 5.0
_TARGET = "environment.conda_file"


def definition_hash(environment: EnvironmentSpec) -> str:
    """Environments with the same hash are the same on this machine."""
    kept = {"conda_file": environment.conda_file, "python": sys.version_info[:2]}
    return hashlib.sha256(json.dumps(kept).encode()).hexdigest()


class Venvs:
    """The virtual environments of this machine."""

    def __init__(self, builds: Builds, environ: Mapping[str, str]) -> None:
        """``environ`` is what build tools see."""
        self._builds = builds
        self._folder = builds.folder
        self._environ = environ

    def log_of(self, environment: EnvironmentSpec | None) -> Path | None:
        """Where the build of this environment is written down; None when nothing is built."""
        if environment is None or environment.conda_file is None:
            return None
        return self._builds.log_of(definition_hash(environment))

    async def base_for(self, environment: EnvironmentSpec | None, say: Say) -> Interpreter:
        """The interpreter of an environment, built if it is not there.

        Raises HeadgateError(ImageBuildFailure) with the end of the build log.
        """
        if environment is None or not (
            environment.image or environment.build or environment.conda_file is not None
        ):
            say(f"environment: none given, the one of Headgate itself is used ({sys.executable})")
            return Interpreter(Path(sys.executable))
        name = f"{environment.name}:{environment.version}"
        if environment.inference_config is not None:
            raise HeadgateError(
                ErrorCode.IMAGE_BUILD_FAILURE,
                f"environment {name} has inference_config: its image brings a server of its own, "
                "and instances are processes of this machine here. Let Headgate use Docker "
                "(setting `driver`, and an engine that answers)",
                target="environment.inference_config",
            )
        if environment.conda_file is None:
            raise HeadgateError(
                ErrorCode.IMAGE_BUILD_FAILURE,
                f"environment {name} names a container {'image' if environment.image else 'build'} "
                "and no conda file; instances are processes of this machine here, which cannot "
                "run images. Add a conda_file with the packages that the script needs, or let "
                "Headgate use Docker (setting `driver`)",
                target="environment.image",
            )
        if environment.image:
            say(f"environment {name}: image {environment.image} is not used, its conda file is")
        return Interpreter(await self._venv(environment, say))

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

        async def is_here() -> bool:
            return await asyncio.to_thread(_is_usable, python)

        async def build(journal: Journal) -> None:
            await self._build(environment, place, journal)

        await self._builds.once(environment, digest, is_here, build, say)
        return python

    async def _build(self, environment: EnvironmentSpec, place: Path, journal: Journal) -> None:
        draft = place.with_name(f".{place.name}.draft")
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
        await run_tool(argv, journal, self._environ)


async def run_tool(argv: list[str], journal: Journal, environ: Mapping[str, str]) -> None:
    """A build step; what it prints goes straight into the journal."""
    journal.say(f"$ {' '.join([Path(argv[0]).name, *argv[1:]])}")
    with await asyncio.to_thread(journal.path.open, "ab") as output:
        child = procs.Process.start(argv, output=output, env=environ)
    try:
        async with asyncio.timeout(BUILD_TIMEOUT_S):
            status = await child.wait()
    except TimeoutError:
        late = f"not finished within {BUILD_TIMEOUT_S:g} s"
        raise failure(late, journal, target=_TARGET) from None
    finally:
        if child.returncode is None:
            await child.stop(grace_s=_STOP_GRACE_S)
    if status != 0:
        ended = f"`uv {argv[1]}` ended with {procs.describe_exit(status)}"
        raise failure(ended, journal, target=_TARGET)


def _is_usable(python: Path) -> bool:
    """Whether it is there and its base interpreter still is. Notes the use, for the sweep."""
    if not python.exists():
        return False
    os.utime(python.parent.parent)
    return True

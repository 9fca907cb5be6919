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
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import uv

from headgate.provisioner import conda
from headgate.provisioner.building import UNUSED_KEPT_S, Based, Builds, Journal, Kept, Say
from headgate.provisioner.drivers import Interpreter
from headgate.provisioner.made import Look, Made, Renewed, changes
from headgate.provisioner.packages import resolve, run_tool, write_requirements
from headgate.runtime.copies import remove_tree
from headgate_contracts.errors import ErrorCode, HeadgateError
from headgate_contracts.resources import EnvironmentSpec


def definition_hash(environment: EnvironmentSpec) -> str:
    """Environments with the same hash are the same on this machine."""
    kept = {"conda_file": environment.conda_file, "python": sys.version_info[:2]}
    return hashlib.sha256(json.dumps(kept).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class _Plan:
    """What a venv is made of: ``lines`` as they were asked for, ``packages`` as they are meant,
    the version of Python first."""

    base: str
    lines: tuple[str, ...]
    packages: tuple[str, ...]


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

    async def base_for(
        self, environment: EnvironmentSpec | None, made: Made | None, say: Say
    ) -> Based:
        """The interpreter of an environment, built if it is not there.

        Raises HeadgateError(ImageBuildFailure) with the end of the build log.
        """
        if environment is None or not (
            environment.image or environment.build or environment.conda_file is not None
        ):
            say(f"environment: none given, the one of Headgate itself is used ({sys.executable})")
            return Based(Interpreter(Path(sys.executable)))
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
        made = await self._venv(environment, made, say)
        return Based(Interpreter(self._python(made)), made)

    async def renew(self, environment: EnvironmentSpec | None, made: Made, say: Say) -> Renewed:
        """Resolve the packages again; a venv of its own when they are other ones today."""
        if environment is None or environment.conda_file is None:
            return Renewed(made)
        digest = definition_hash(environment)

        async def build(journal: Journal) -> Made:
            plan = await self._plan(environment, journal, fresh=True)
            return await self._make(digest, plan, journal)

        return Renewed(await self._builds.again(environment, digest, made, build, say))

    async def look(self, environment: EnvironmentSpec | None, made: Made, say: Say) -> Look:
        """What :meth:`renew` would find; nothing is built."""
        if environment is None or environment.conda_file is None:
            return Look()
        journal = Journal(self._builds.log_of(definition_hash(environment)))
        say("packages are resolved again")
        plan = await self._plan(environment, journal, fresh=True)
        return Look(changes(made, Made(id=made.id, packages=plan.packages)))

    async def sweep(self, kept: Sequence[Kept]) -> None:
        """Remove environments that no version names and nobody has used for long."""
        names = {made.id for _, made in kept if made is not None}
        for environment, _ in kept:
            if environment is not None and environment.conda_file is not None:
                digest = definition_hash(environment)
                current = self._builds.current(digest)
                names |= {digest, current.id if current else digest}

        def remove() -> None:
            if not self._folder.is_dir():
                return
            oldest = datetime.now(UTC).timestamp() - UNUSED_KEPT_S
            for place in self._folder.iterdir():
                if place.stem not in names and place.stat().st_mtime < oldest:
                    remove_tree(place)

        await asyncio.to_thread(remove)

    async def _venv(self, environment: EnvironmentSpec, pinned: Made | None, say: Say) -> Made:
        digest = definition_hash(environment)

        async def find() -> Made | None:
            for made in (pinned, self._builds.current(digest)):
                if made is not None and await asyncio.to_thread(_is_usable, self._python(made)):
                    return made
            return None

        async def build(journal: Journal) -> Made:
            plan = await self._plan(environment, journal, fresh=False)
            return await self._make(digest, plan, journal)

        return await self._builds.once(environment, digest, find, build, say)

    async def _plan(self, environment: EnvironmentSpec, journal: Journal, *, fresh: bool) -> _Plan:
        """What the environment is made of; ``fresh``: whatever the package index says today."""
        recipe = conda.parse(environment.conda_file or "")
        for note in recipe.notes:
            journal.say(note)
        version, base = await self._interpreter(recipe.python, journal)
        packages = await resolve(
            recipe.lines, ["--python", base], journal, self._environ, fresh=fresh
        )
        return _Plan(base, recipe.lines, (f"python=={version}", *packages))

    async def _make(self, digest: str, plan: _Plan, journal: Journal) -> Made:
        """The venv of a plan, built if it is not there; it is the current one from now on."""
        content = "\n".join([digest, *plan.packages])
        made = Made(id=hashlib.sha256(content.encode()).hexdigest(), packages=plan.packages)
        if not await asyncio.to_thread(_is_usable, self._python(made)):
            await self._build(plan, self._folder / made.id, journal)
        await asyncio.to_thread(self._builds.set_current, digest, made)
        return made

    def _python(self, made: Made) -> Path:
        return self._folder / made.id / "bin" / "python"

    async def _build(self, plan: _Plan, place: Path, journal: Journal) -> None:
        draft = place.with_name(f".{place.name}.draft")
        try:
            await asyncio.to_thread(remove_tree, draft)  # of a build that was killed
            uv_bin = uv.find_uv_bin()
            make = [uv_bin, "venv", "--relocatable", "--no-project", "--python", plan.base]
            await run_tool([*make, str(draft)], journal, self._environ)
            if plan.lines:
                wanted = await asyncio.to_thread(
                    write_requirements, draft, plan.lines, plan.packages[1:]
                )
                await self._install(draft, wanted, journal)
            await self._add_uvloop(draft, journal)
            await asyncio.to_thread(draft.rename, place)
        finally:
            await asyncio.to_thread(remove_tree, draft)

    async def _interpreter(self, asked: str, journal: Journal) -> tuple[str, str]:
        """Version and path of the asked Python when the machine has it, else of the nearest one,
        and a word about it."""
        own = ".".join(map(str, sys.version_info[:3]))
        if not asked or own == asked or own.startswith(f"{asked}."):
            return own, sys.executable
        listing = await self._output(
            [uv.find_uv_bin(), "python", "list", "--only-installed", "--output-format", "json"]
        )
        paths = {own: sys.executable}
        for entry in listing:
            if entry.get("implementation") == "cpython" and entry.get("path"):
                paths.setdefault(str(entry["version"]), str(entry["path"]))
        for version, path in paths.items():
            if version == asked or version.startswith(f"{asked}."):
                return version, path
        chosen = conda.nearest(asked, list(paths)) or own
        journal.say(
            f"warning: Python {asked} is asked for and not on this machine; {chosen} is used. "
            f"Installed are {', '.join(sorted(paths))}"
        )
        return chosen, paths[chosen]

    async def _install(self, venv: Path, what: list[str], journal: Journal) -> None:
        python = str(venv / "bin" / "python")
        argv = [uv.find_uv_bin(), "pip", "install", "--python", python, *what]
        await run_tool(argv, journal, self._environ)

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


def _is_usable(python: Path) -> bool:
    """Whether it is there and its base interpreter still is. Notes the use, for the sweep."""
    if not python.exists():
        return False
    os.utime(python.parent.parent)
    return True

"""How an image gets the packages of a conda file.

The packages are fetched on this machine, for the Python of the image, with the package index that
this machine uses; the build itself needs no network.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import uv

from headgate.provisioner import conda, packages
from headgate.provisioner.building import Journal
from headgate_contracts.errors import ErrorCode, HeadgateError

PYTHON_MIN = (3, 9)
INTERPRETERS = ("python", "python3")
VENV = "/opt/headgate/venv"
PYTHON = f"{VENV}/bin/python"
_MARK = "headgate-python"
PROBE = (
    "import platform, sys; "
    f"print({_MARK!r}, sys.executable, platform.python_version(), platform.machine(), "
    "platform.libc_ver()[1] or 'musl')"
)
# The builds of glibc that uv knows by name; an image runs those up to its own.
_GLIBC_MINORS = (17, 28, 31, 32, 33, 34, 35, 36, 37, 38, 39, 40)
_ARG = re.compile(r"\s*ARG\s+(\w+)(?:=[\"']?([^\s\"']*))?", re.IGNORECASE)
_FROM = re.compile(
    r"\s*FROM\s+(?:--\S+\s+)*(?P<image>\S+)(?:\s+AS\s+(?P<stage>\S+))?", re.IGNORECASE
)
_COPIED = re.compile(r"\s*COPY\s+(?:--\S+\s+)*?--from=(?P<image>\S+)", re.IGNORECASE)
_VARIABLE = re.compile(r"\$(?:(\w+)|\{(\w+)(?::-([^}]*))?\})")
_DOCKERFILE = """\
FROM {base}
USER root
RUN ["{python}", "-m", "venv", "--without-pip", "{venv}"]
COPY site {venv}/lib/python{version}/site-packages
COPY bin {venv}/bin
ENV VIRTUAL_ENV={venv} PATH={venv}/bin:$PATH
"""


@dataclass(frozen=True, slots=True)
class Facts:
    """The Python of an image; ``glibc_minor`` is None where its C library is musl."""

    python: str
    version: str
    machine: str
    glibc_minor: int | None

    @property
    def minor_version(self) -> str:
        return ".".join(self.version.split(".")[:2])

    @property
    def platform(self) -> str:
        """Which wheels fit, in uv's words."""
        if self.glibc_minor is None:
            return f"{self.machine}-unknown-linux-musl"
        fitting = [minor for minor in _GLIBC_MINORS if minor <= self.glibc_minor]
        return f"{self.machine}-manylinux_2_{max(fitting, default=_GLIBC_MINORS[0])}"

    @property
    def fitting(self) -> list[str]:
        """Arguments that let uv choose packages for it."""
        return ["--python-version", self.version, "--python-platform", self.platform]


@dataclass(frozen=True, slots=True)
class Recipe:
    """A build context in values: ``requirements`` for ``facts``, and notes for the log."""

    dockerfile: str
    requirements: tuple[str, ...]
    notes: tuple[str, ...]
    facts: Facts


def read_facts(output: str) -> Facts:
    """The newest Python among what the probe printed.

    Raises HeadgateError that says what the image lacks.
    """
    found = []
    for line in output.splitlines():
        words = line.split()
        if len(words) == 5 and words[0] == _MARK:
            libc = words[4].split(".")
            minor = int(libc[1]) if len(libc) > 1 and libc[1].isdecimal() else None
            found.append(Facts(words[1], words[2], words[3], minor))
    found.sort(key=lambda facts: _numbers(facts.version))
    if found and _numbers(found[-1].version) >= PYTHON_MIN:
        return found[-1]
    has = f"only Python {found[-1].version}" if found else "no Python"
    oldest = ".".join(map(str, PYTHON_MIN))
    raise HeadgateError(
        ErrorCode.IMAGE_BUILD_FAILURE,
        f"the image of the environment has {has}: scoring scripts need Python {oldest} or newer "
        f"in it, as `python` or `python3`. Choose another image; or, when it has an HTTP server "
        f"of its own, name its routes in inference_config.\n{output.strip()}",
        target="environment.image",
    )


def of_conda_file(text: str, base: str, facts: Facts) -> Recipe:
    """What to build. Raises HeadgateError that names what is wrong in the file."""
    recipe = conda.parse(text)
    notes = list(recipe.notes)
    asked = recipe.python
    if asked and facts.version != asked and not facts.version.startswith(f"{asked}."):
        notes.append(
            f"warning: Python {asked} is asked for, and the image has {facts.version}; "
            "that one is used"
        )
    dockerfile = _DOCKERFILE.format(
        base=base, python=facts.python, venv=VENV, version=facts.minor_version
    )
    return Recipe(dockerfile, recipe.lines, tuple(notes), facts)


def bases_of(dockerfile: str) -> tuple[str, ...]:
    """The images that a Dockerfile is built on, as far as its text alone tells."""
    arguments: dict[str, str] = {}
    inner = {"scratch"}
    found: list[str] = []
    for line in dockerfile.splitlines():
        if argument := _ARG.match(line):
            arguments.setdefault(argument[1], argument[2] or "")
        elif taken := _FROM.match(line) or _COPIED.match(line):
            name = _VARIABLE.sub(
                lambda found: arguments.get(found[1] or found[2]) or found[3] or found[0],
                taken["image"],
            )
            if name.lower() not in inner and not name.isdecimal() and "$" not in name:
                found.append(name)
            inner.add((taken.groupdict().get("stage") or "scratch").lower())
    return tuple(dict.fromkeys(found))


async def resolve(
    recipe: Recipe, journal: Journal, environ: Mapping[str, str], *, fresh: bool
) -> tuple[str, ...]:
    """The packages that the recipe means for its image. Raises HeadgateError(ImageBuildFailure)."""
    return await packages.resolve(
        recipe.requirements, recipe.facts.fitting, journal, environ, fresh=fresh
    )


async def write_context(
    recipe: Recipe,
    resolved: Sequence[str],
    context: Path,
    journal: Journal,
    environ: Mapping[str, str],
) -> None:
    """Fetch the packages and write the Dockerfile. Raises HeadgateError(ImageBuildFailure)."""
    site = context / "site"
    site.mkdir()
    (context / "Dockerfile").write_text(recipe.dockerfile)
    if recipe.requirements:
        wanted = packages.write_requirements(context, recipe.requirements, resolved)
        await _install(recipe.facts, site, wanted, journal, environ)
    try:
        extra = ["--only-binary", "uvloop", "--no-deps", "uvloop"]
        await _install(recipe.facts, site, extra, journal, environ)
    except HeadgateError:
        journal.say("uvloop cannot be added; the worker does without")
    await asyncio.to_thread(_move_programs, site / "bin", context / "bin")


async def _install(
    facts: Facts, site: Path, what: list[str], journal: Journal, environ: Mapping[str, str]
) -> None:
    argv = [uv.find_uv_bin(), "pip", "install", "--target", str(site), *facts.fitting, *what]
    await packages.run_tool(argv, journal, environ)


def _move_programs(source: Path, target: Path) -> None:
    """Programs of packages, made to start with the Python of the image."""
    target.mkdir()
    if not source.is_dir():
        return
    for program in source.iterdir():
        if not program.is_file():
            continue
        content = program.read_bytes()
        first, newline, rest = content.partition(b"\n")
        if first.startswith(b"#!") and b"python" in first:
            content = f"#!{PYTHON}".encode() + newline + rest
        moved = target / program.name
        moved.write_bytes(content)
        moved.chmod(0o755)
        program.unlink()


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".")[:2] if part.isdecimal())

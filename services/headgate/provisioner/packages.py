"""Python packages by ``uv``: what requirements mean today, and the tool itself as a build step."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import uv

from headgate.provisioner.building import BUILD_TIMEOUT_S, Journal, failure
from headgate.runtime import procs
from headgate.runtime.copies import remove_tree

_STOP_GRACE_S = 5.0
_TARGET = "environment.conda_file"


def write_requirements(folder: Path, lines: Sequence[str], packages: Sequence[str]) -> list[str]:
    """Files that ask for the lines, as they were resolved; the arguments that name them."""
    wanted, locked = folder / "requirements.txt", folder / "resolved.txt"
    wanted.write_text("\n".join(lines) + "\n")
    locked.write_text("\n".join(packages) + "\n")
    return ["--requirements", str(wanted), "--constraints", str(locked)]


async def resolve(
    lines: Sequence[str],
    fitting: list[str],
    journal: Journal,
    environ: Mapping[str, str],
    *,
    fresh: bool,
) -> tuple[str, ...]:
    """The packages that requirements mean for a Python, as ``name==version``, in order of names.

    ``fresh``: what the index said lately is not trusted. Raises HeadgateError(ImageBuildFailure).
    """
    if not lines:
        return ()
    folder = Path(await asyncio.to_thread(tempfile.mkdtemp, prefix="hg-resolve-"))
    try:
        wanted, found = folder / "requirements.txt", folder / "resolved.txt"
        wanted.write_text("\n".join(lines) + "\n")
        argv = [uv.find_uv_bin(), "pip", "compile", str(wanted), "--output-file", str(found)]
        argv += ["--no-header", "--no-annotate", "--quiet", *fitting]
        await run_tool([*argv, *(["--refresh"] if fresh else [])], journal, environ)
        return tuple(line for line in found.read_text().splitlines() if line.strip())
    finally:
        await asyncio.to_thread(remove_tree, folder)


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

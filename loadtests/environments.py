"""Virtual environments of the peers, one each, with every version pinned by a lock file."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from loadtests.processes import ServerError

LOCKS = Path(__file__).parent / "peers" / "locks"
ENVIRONMENTS = Path(__file__).parents[1] / ".cache" / "loadtests"


def ensure(name: str) -> Path:
    """The ``bin`` folder of an environment, made anew if its lock file has changed.

    ServerError with the installer's own words when it cannot be made on this machine.
    """
    lock = LOCKS / f"{name}.txt"
    folder = ENVIRONMENTS / name
    made_for = folder / "lock.txt"
    if made_for.exists() and made_for.read_text() == lock.read_text():
        return folder / "bin"
    uv = Path(sys.executable).with_name("uv")
    shutil.rmtree(folder, ignore_errors=True)
    python = folder / "bin" / "python"
    for command in (
        (uv, "venv", "--quiet", "--python", sys.executable, folder),
        (uv, "pip", "install", "--quiet", "--compile-bytecode", "--python", python, "-r", lock),
    ):
        done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)
        if done.returncode:
            raise ServerError(f"cannot be installed here: {done.stderr.strip()[-600:]}")
    shutil.copy(lock, made_for)
    return folder / "bin"


def version(name: str, distribution: str) -> str:
    """The pinned version of a distribution in a lock file."""
    for line in (LOCKS / f"{name}.txt").read_text().splitlines():
        found, _, pinned = line.partition("==")
        if found.strip() == distribution:
            return pinned.split()[0]
    return ""

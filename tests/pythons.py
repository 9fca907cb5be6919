"""Environments of their own for what Headgate is compared and used with; made on first use."""

from __future__ import annotations

import subprocess
import sys
import sysconfig
from collections.abc import Sequence
from pathlib import Path

import pytest

INSTALL_TIMEOUT_S = 400


def python_with(packages: Sequence[str], cache: Path) -> Path:
    """The Python of an environment with these packages; skips the test where there is none."""
    python, stamp = cache / "bin" / "python", cache / "packages.txt"
    wanted = "\n".join(packages)
    if stamp.exists() and stamp.read_text() == wanted:
        return python
    uv = str(Path(sysconfig.get_path("scripts")) / "uv")
    make = [uv, "venv", "--quiet", "--clear", "--python", sys.executable, str(cache)]
    fill = [uv, "pip", "install", "--quiet", "--python", str(python), *packages]
    for command in (make, fill):
        done = subprocess.run(command, capture_output=True, text=True, timeout=INSTALL_TIMEOUT_S)
        if done.returncode != 0:
            pytest.skip(f"{packages[0]} cannot be installed: {done.stderr.strip()}")
    stamp.write_text(wanted)
    return python

"""Runs the command line: inside this process for speed, as a program where that is the point."""

from __future__ import annotations

import contextlib
import io
import json
import os
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from headgate.cli.app import run

PROGRAM = Path(sysconfig.get_path("scripts")) / "headgate"


@dataclass(frozen=True, slots=True)
class Ran:
    """How a command ended and what it wrote."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        """The one JSON document on stdout."""
        return json.loads(self.out)


def headgate(*arguments: str | Path) -> Ran:
    """One command in this process, with its output into pipes."""
    out = io.TextIOWrapper(io.BytesIO(), encoding="utf-8", write_through=True)
    err = io.TextIOWrapper(io.BytesIO(), encoding="utf-8", write_through=True)
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = run([str(argument) for argument in arguments])
    return Ran(code, *(s.buffer.getvalue().decode() for s in (out, err)))  # type: ignore[attr-defined]


@contextlib.contextmanager
def started(*arguments: str | Path, **environment: str) -> Iterator[subprocess.Popen[bytes]]:
    """One command as a program of its own; it does not outlive the block."""
    process = subprocess.Popen(
        [str(PROGRAM), *map(str, arguments)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, **environment},
    )
    with process:
        try:
            yield process
        finally:
            process.kill()


def line_with(stream: IO[bytes] | None, part: bytes) -> bytes:
    """The first line with ``part``; the test's own time limit ends a wait that is too long."""
    assert stream is not None
    seen = []
    for line in iter(stream.readline, b""):
        seen.append(line)
        if part in line:
            return line
    raise AssertionError(f"no line with {part!r} in {seen}")


def python(code: str) -> subprocess.CompletedProcess[str]:
    """A fresh interpreter, so that its imports are those of ``code`` alone."""
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)

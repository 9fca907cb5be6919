"""``headgate up`` on a folder of the demonstration's own, and the command line against it."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import signal
import socket
import sys
import sysconfig
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

from headgate.client.target import read_running
from headgate.runtime import lock
from headgate.runtime.procs import die_with_parent

EXAMPLES = Path(__file__).parents[3] / "examples"
PROGRAM = Path(sysconfig.get_path("scripts")) / "headgate"
PORTS = (8900, 8901)
START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 60.0
_POLL_S = 0.1
_MARK = "made-by-the-headgate-demo"
_TAIL_LINES = 15
_LINE_BYTES_MAX = 1024 * 1024


class DemoError(Exception):
    """The demonstration cannot go on; the text says why."""


@dataclass(frozen=True, slots=True)
class Ran:
    """A command that succeeded."""

    output: str
    seconds: float


async def run(*command: str | Path) -> Ran:
    """Run a program; its standard output. Raises DemoError with what it said otherwise."""
    begun = time.monotonic()
    process = await asyncio.create_subprocess_exec(
        *map(str, command),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        out, err = await process.communicate()
    except asyncio.CancelledError:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        raise
    if process.returncode != 0:
        said = (err or out).decode(errors="replace").strip()
        shown = " ".join(map(str, command))
        raise DemoError(f"{shown}\nended with exit code {process.returncode}:\n{said}")
    return Ran(out.decode(), time.monotonic() - begun)


class System:
    """One running Headgate; everything it keeps is in ``data``, made anew at each start."""

    def __init__(self, data: Path) -> None:
        self.data = data
        self.log = data / "up.log"
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        """Clear the folder, start, and return when commands are answered."""
        self._clear()
        port, scoring_port = PORTS if all(map(_is_free, PORTS)) else (0, 0)
        with self.log.open("wb") as log:
            # A session of its own: Ctrl-C reaches us alone, and we stop it in order.
            self._process = await asyncio.create_subprocess_exec(
                *(str(PROGRAM), "up", "--data", str(self.data)),
                *("--port", str(port), "--scoring-port", str(scoring_port)),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                preexec_fn=die_with_parent(signal.SIGTERM),
            )
        try:
            async with asyncio.timeout(START_TIMEOUT_S):
                while not self._is_ready():  # noqa: ASYNC110 - another process sets the sign
                    await asyncio.sleep(_POLL_S)
        except TimeoutError:
            raise DemoError(f"headgate up does not answer:\n{self._last_words()}") from None

    async def stop(self) -> None:
        """End it as Ctrl-C would."""
        if self._process is None or self._process.returncode is not None:
            return
        self._process.send_signal(signal.SIGINT)
        try:
            async with asyncio.timeout(STOP_TIMEOUT_S):
                await self._process.wait()
        except TimeoutError:
            self._process.kill()
            await self._process.wait()

    async def wait(self) -> int:
        """Return its exit code when it has ended."""
        assert self._process is not None
        return await self._process.wait()

    async def cli(self, *arguments: str | Path) -> Ran:
        """Run one ``headgate`` command against this system."""
        return await run(PROGRAM, *arguments, "--data", self.data)

    async def follow(self, *arguments: str) -> AsyncIterator[bytes]:
        """The lines that a command without end prints, as JSON; it ends with the iteration."""
        process = await asyncio.create_subprocess_exec(
            *(str(PROGRAM), *arguments, "--output", "json", "--data", str(self.data)),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            limit=_LINE_BYTES_MAX,
        )
        assert process.stdout is not None
        try:
            async for line in process.stdout:
                yield line
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.terminate()
            await process.wait()

    def gateway_url(self) -> str:
        return str(read_running(self.data)["gateway"])

    def _is_ready(self) -> bool:
        """The file that tells local clients where we are exists as long as we are ready."""
        assert self._process is not None
        if self._process.returncode is not None:
            raise DemoError(f"headgate up has ended:\n{self._last_words()}")
        return (self.data / "run" / "headgate.json").exists()

    def _clear(self) -> None:
        held_by = lock.holder(self.data)
        if held_by is not None:
            raise DemoError(f"{self.data} is in use by {held_by}; stop that one first")
        if self.data.exists() and any(self.data.iterdir()):
            if not (self.data / _MARK).exists():
                raise DemoError(f"{self.data} holds something else; choose another --data folder")
            shutil.rmtree(self.data)
        self.data.mkdir(parents=True, exist_ok=True)
        (self.data / _MARK).touch()

    def _last_words(self) -> str:
        lines = self.log.read_text(errors="replace").splitlines()
        return "\n".join(lines[-_TAIL_LINES:]) or "it said nothing"


async def train(models: Path) -> Ran | None:
    """Train the two classifiers, unless that was done since the script last changed."""
    script = EXAMPLES / "digits" / "train.py"
    made = [models / name for name in ("blue/model.joblib", "green/model.joblib", "held_out.json")]
    trained_at = min((p.stat().st_mtime if p.exists() else 0.0) for p in made)
    if trained_at > script.stat().st_mtime:
        return None
    return await run(sys.executable, script, "--models", models)


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True

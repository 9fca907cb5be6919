"""The servers that are compared: each a context that starts one and tells where it listens."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent


@dataclass(frozen=True, slots=True)
class Target:
    """Where to send requests, and with which headers."""

    url: str
    headers: dict[str, str]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


async def _until_listening(port: int, process: subprocess.Popen[bytes]) -> None:
    while process.poll() is None:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            await asyncio.sleep(0.05)
            continue
        writer.close()
        return
    raise RuntimeError("a server ended before it listened")


@asynccontextmanager
async def _plain(what: str) -> AsyncIterator[Target]:
    port = _free_port()
    process = subprocess.Popen([sys.executable, str(HERE / "plain_server.py"), what, str(port)])
    try:
        await _until_listening(port, process)
        yield Target(f"http://127.0.0.1:{port}/score", {"Content-Type": "application/json"})
    finally:
        process.terminate()
        process.wait()


@asynccontextmanager
async def _headgate() -> AsyncIterator[Target]:
    """The whole system: key check, split, admission, a worker process behind the bus."""
    with tempfile.TemporaryDirectory(prefix="hg-bench-") as folder:
        environ = {**os.environ, "HEADGATE_DATA": folder}

        def headgate(*arguments: str) -> str:
            return subprocess.run(
                [sys.executable, "-m", "headgate", *arguments],
                env=environ, check=True, stdout=subprocess.PIPE, text=True,
            ).stdout  # fmt: skip

        up = [sys.executable, "-m", "headgate", "up", "--http", "--port", "0"]
        process = subprocess.Popen(
            [*up, "--scoring-port", "0"],
            env=environ, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            running = Path(folder) / "run" / "headgate.json"
            while not running.exists():
                if process.poll() is not None:
                    raise RuntimeError("headgate up ended")
                await asyncio.sleep(0.1)
            model = str(HERE / "model")
            headgate("online-endpoint", "create", "-f", f"{model}/endpoint.yml")
            headgate("online-deployment", "create", "-f", f"{model}/blue.yml", "--all-traffic")
            keys = json.loads(
                headgate("online-endpoint", "get-credentials", "-n", "bench", "-o", "json")
            )
            url = f"{json.loads(running.read_text())['scoring']}/api/v1/endpoint/bench/score"
            headers = {"Authorization": f"Bearer {keys['primaryKey']}"}
            yield Target(url, {**headers, "Content-Type": "application/json"})
        finally:
            process.terminate()
            process.wait()


ALL: dict[str, Callable[[], AbstractAsyncContextManager[Target]]] = {
    "HTTP echo": lambda: _plain("echo"),
    "plain": lambda: _plain("model"),
    "headgate": _headgate,
}

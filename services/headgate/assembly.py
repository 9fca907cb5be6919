"""Which services exist, and how one process runs some of them: ``headgate run <name>``.

``control`` stands for the control services in one process. The same ``build`` functions
serve ``headgate up``, containers and tests.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import importlib.util
import signal
import ssl
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING

from headgate.runtime import log
from headgate.runtime.clock import Clock, SystemClock
from headgate.runtime.log import Log
from headgate.runtime.settings import Settings
from headgate_contracts.errors import ErrorCode, HeadgateError

if TYPE_CHECKING:
    from headgate.runtime.bus import Bus
    from headgate.runtime.otlp import Otlp
    from headgate.runtime.service import Service

    Build = Callable[[Settings, Bus, Clock], Awaitable[Service]]

CONTROL = (
    "registry",
    "identity",
    "logs",
    "metering",
    "provisioner",
    "batch",
    "autoscaler",
    "gateway",
)
_log = Log("run")


async def _registry(settings: Settings, bus: Bus, clock: Clock) -> Service:
    from headgate.registry import app

    return await app.build(settings, bus, clock)


async def _identity(settings: Settings, bus: Bus, clock: Clock) -> Service:
    from headgate.identity import app

    return await app.build(settings, bus, clock)


async def _logs(settings: Settings, bus: Bus, clock: Clock) -> Service:
    from headgate.logs import app

    return await app.build(settings, bus, clock)


async def _metering(settings: Settings, bus: Bus, clock: Clock) -> Service:
    from headgate.metering import app

    return await app.build(settings, bus, clock)


async def _provisioner(settings: Settings, bus: Bus, clock: Clock) -> Service:
    from headgate.provisioner import app

    return await app.build(settings, bus, clock)


async def _autoscaler(settings: Settings, bus: Bus, clock: Clock) -> Service:
    from headgate.autoscaler import app

    return await app.build(settings, bus, clock)


async def _batch(settings: Settings, bus: Bus, clock: Clock) -> Service:
    from headgate.batch import app

    return await app.build(settings, bus, clock)


async def _gateway(settings: Settings, bus: Bus, clock: Clock) -> Service:
    from headgate.gateway import app

    tls_context = server_context(settings)
    return await app.build(
        settings, bus, clock, tls=tls_context, scoring_url=settings.scoring_url()
    )


async def _router(settings: Settings, bus: Bus, clock: Clock) -> Service:
    from headgate.router import app

    tls_context = server_context(settings)
    return await app.build(settings, bus, clock, tls=tls_context)


# Imports are inside the functions: a process loads only the services it runs, and the studio
# nothing of the bus, which would be a quarter of its memory.
BUILDS: dict[str, Build] = {
    "registry": _registry,
    "identity": _identity,
    "logs": _logs,
    "metering": _metering,
    "provisioner": _provisioner,
    "autoscaler": _autoscaler,
    "batch": _batch,
    "gateway": _gateway,
    "router": _router,
}
RUNNABLE = ("control", "bootstrap", "portal", *BUILDS)


def run(name: str, settings: Settings) -> int:
    """Run one service (or ``control``, or ``bootstrap`` once) until a signal; the exit code."""
    if name not in RUNNABLE:
        raise HeadgateError(
            ErrorCode.BAD_ARGUMENT, f"no service {name!r}; there are: {', '.join(RUNNABLE)}"
        )
    if name == "portal":
        return _portal(settings)
    if not settings.nats:
        raise HeadgateError(
            ErrorCode.BAD_ARGUMENT, "a service alone needs the URL of the bus: --nats nats://..."
        )
    log.configure(settings.log_level, settings.log_format)
    main = _bootstrap(settings) if name == "bootstrap" else _serve(_names(name), settings)
    try:
        import uvloop
    except ImportError:
        return asyncio.run(main)
    return uvloop.run(main)


def _portal(settings: Settings) -> int:
    """The studio: a web server in front of the gateway, and no part of the bus."""
    from headgate.portal import app

    log.configure(settings.log_level, settings.log_format)
    return asyncio.run(app.serve(settings))


def _names(name: str) -> tuple[str, ...]:
    return CONTROL if name == "control" else (name,)


def creds_of(name: str, settings: Settings) -> Path | None:
    """The credentials of a service, or None on a bus that wants none."""
    path = settings.keys_dir / f"{name}.creds"
    return path if path.exists() else None


def check_extras(settings: Settings) -> None:
    """Raises HeadgateError for a setting that needs a package which is not there."""
    if settings.otlp_url and not _has("opentelemetry.exporter.otlp.proto.http"):
        raise HeadgateError(
            ErrorCode.BAD_ARGUMENT,
            "setting 'otlp_url' needs the extra otel: pip install 'headgate[otel]'",
            target="otlp_url",
        )


def _has(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False


def _exporter(settings: Settings, names: tuple[str, ...]) -> Otlp | None:
    """Where spans of this process go. Routers say theirs on the bus, to the logs service."""
    if not settings.otlp_url or names == ("router",):
        return None
    check_extras(settings)
    from headgate.runtime import otlp

    return otlp.connect(settings.otlp_url)


async def _connect(name: str, settings: Settings, clock: Clock, sink: Otlp | None = None) -> Bus:
    from headgate.runtime import keyring
    from headgate.runtime.bus import Bus
    from headgate.runtime.tracing import Tracer

    creds = creds_of(name, settings)
    bus = await Bus.connect(name, settings.nats, creds, clock)
    if sink is not None:
        bus.tracer = Tracer(name, clock, sink, settings.trace_share)
    if creds is not None:
        await keyring.self_check(bus.ask_raw, name)
    return bus


async def _bootstrap(settings: Settings) -> int:
    from headgate.runtime.bootstrap import bootstrap

    bus = await _connect("bootstrap", settings, SystemClock())
    try:
        await bootstrap(bus)
    finally:
        await bus.close()
    return 0


async def _serve(names: tuple[str, ...], settings: Settings) -> int:
    clock = SystemClock()
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    services: list[Service] = []
    sink = _exporter(settings, names)
    try:
        for name in names:
            bus = await _connect(name, settings, clock, sink)
            service = await BUILDS[name](settings, bus, clock)
            services.append(service)
            await service.start()
        # What is loaded by now stays: a full collection that looks through all of it would hold
        # everything up for 200 ms now and then.
        gc.freeze()
        return await _until_stopped(services, stopping)
    finally:
        for service in reversed(services):
            await service.stop()
        if sink is not None:
            await asyncio.to_thread(sink.close)


async def _until_stopped(services: list[Service], stopping: asyncio.Event) -> int:
    """Wait for a signal (0), or for a bus connection that is closed for good (1)."""
    asked = asyncio.create_task(stopping.wait())
    lost = [asyncio.create_task(service.bus.closed.wait()) for service in services]
    await asyncio.wait((asked, *lost), return_when=asyncio.FIRST_COMPLETED)
    for task in (asked, *lost):
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
    if stopping.is_set():
        return 0
    _log.error("bus_closed_for_good")
    return 1


def server_context(settings: Settings) -> ssl.SSLContext | None:
    """TLS of the listeners with the certificates that ``headgate up`` made; None for plain HTTP."""
    from headgate.runtime import tls

    if settings.http:
        return None
    files = tls.Tls(ca=settings.tls_dir / "ca.pem", server=settings.tls_dir / "server.pem")
    return files.server_context()

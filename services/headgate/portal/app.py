"""The studio's process: a web server on a UNIX socket, from start to stop."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
from pathlib import Path

import uvicorn
from fastapi import FastAPI
from nicegui import app as studio
from nicegui import ui
from starlette.responses import HTMLResponse

from headgate.client.target import Target
from headgate.portal import laggards, pages
from headgate.portal.gate import PREFIX, Gate
from headgate.portal.sessions import Sessions, SignInCode
from headgate.portal.signing_in import SignIn
from headgate.runtime.clock import SystemClock
from headgate.runtime.settings import Settings

SWEEP_S = 60.0
RECONNECT_S = 10.0
# Longer than the gateway keeps an idle connection: it must not take one that ends just then.
KEEP_ALIVE_S = 60
# Pages are made with the processor that scoring leaves; a tenth of a core is theirs in any case.
NICENESS = 10


def socket_path(settings: Settings) -> Path:
    return settings.run_dir / "studio.sock"


def code_path(settings: Settings) -> Path:
    return settings.run_dir / "studio.code"


def build(settings: Settings) -> tuple[FastAPI, Sessions]:
    """The web application; the page library allows one in a process."""
    sessions = Sessions(SystemClock())
    ca = None if settings.http else settings.tls_dir / "ca.pem"

    def target(token: str, workspace: str, origin: str) -> Target:
        return Target(settings.gateway_url(), token, ca, workspace, origin)

    web = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    SignIn(
        sessions,
        SignInCode(code_path(settings)),
        target,
        settings.keys_dir / "admin.token",
        is_secure=not settings.http,
        default_workspace=settings.workspace,
    ).register(web)
    studio.add_exception_handler(404, _nothing_here)
    pages.register(sessions, scoring_ca=str(ca or ""))
    studio.on_shutdown(sessions.close)
    ui.run_with(
        web,
        mount_path=PREFIX,
        title="Headgate studio",
        favicon="🚪",
        dark=None,
        language="en-US",
        tailwind=False,
        binding_refresh_interval=None,
        reconnect_timeout=RECONNECT_S,
        show_welcome_message=False,
    )
    web.add_middleware(Gate, sessions=sessions)
    return web, sessions


async def _nothing_here(*_: object) -> HTMLResponse:
    """A page of the library would stay in memory for a minute each time."""
    return HTMLResponse(
        "<!doctype html><html lang=en><meta charset=utf-8><title>Headgate studio</title>"
        '<meta name=viewport content="width=device-width, initial-scale=1">'
        "<link rel=icon href='data:,'><style>:root { color-scheme: light dark }</style>"
        "<main style='font: 16px/1.5 system-ui; margin: 20vh auto; width: min(30rem, 90vw)'>"
        f"<h1>There is no such page</h1><p><a href='{PREFIX}/'>To the endpoints</a></p></main>",
        404,
    )


async def serve(settings: Settings) -> int:
    """Until a signal; the exit code."""
    os.nice(NICENESS)
    web, sessions = build(settings)
    # Collections weigh what may be garbage against all that is there: without what was imported,
    # pages that were left are freed soon.
    gc.collect()
    gc.freeze()
    path = socket_path(settings)
    path.unlink(missing_ok=True)
    config = uvicorn.Config(
        web,
        uds=str(path),
        log_level="warning",
        access_log=False,
        ws="websockets-sansio",
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=3,
        lifespan="on",
    )
    server = uvicorn.Server(config)

    async def sweep() -> None:
        while True:
            await asyncio.sleep(SWEEP_S)
            await sessions.sweep()

    chores = [asyncio.create_task(sweep()), asyncio.create_task(laggards.watch_over())]
    try:
        await server.serve()
    finally:
        for chore in chores:
            chore.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await chore
        path.unlink(missing_ok=True)
    return 0 if server.started else 1

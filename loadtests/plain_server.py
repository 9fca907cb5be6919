"""What the model costs without Headgate: an aiohttp server that calls it in process, or echoes."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

import uvloop
from aiohttp import web

sys.path.insert(0, str(Path(__file__).parent / "model" / "code"))
import score


async def call_model(request: web.BaseRequest) -> web.Response:
    body = json.dumps(score.run(await request.text()))
    return web.Response(text=body, content_type="application/json")


async def echo(request: web.BaseRequest) -> web.Response:
    return web.Response(body=await request.read(), content_type="application/json")


async def main(what: str, port: int) -> None:
    score.init()
    server = web.Server(call_model if what == "model" else echo)
    runner = web.ServerRunner(server)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(main(sys.argv[1], int(sys.argv[2])))

"""FastAPI with the model in process: uvicorn, uvloop, httptools, one worker, no access log."""

import asyncio
import os
import sys

sys.path.insert(0, os.environ["LOADTESTS_MODELS"])
import functions
from fastapi import FastAPI, Request

app = FastAPI()
turn = asyncio.Lock()


@app.post("/small")
async def small(request: Request):
    return functions.small(await request.json())


@app.post("/binary")
async def binary(request: Request):
    return functions.binary(await request.body())


@app.post("/slow")
async def slow(request: Request):
    async with turn:  # one model: one call at a time, off the event loop
        return await asyncio.to_thread(functions.slow, await request.json())

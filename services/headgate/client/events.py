"""The stream of events, as server-sent events carry it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

from headgate.client.http import RETRY_FIRST_S, RETRY_MAX_S, Http
from headgate_contracts.errors import ErrorCode, HeadgateError


@dataclass(slots=True)
class _Block:
    """The lines of one event so far."""

    id: str = ""
    data: list[str] = field(default_factory=list)


async def tail(
    http: Http, *, filter: str = "", since: str = "", follow: bool = True
) -> AsyncIterator[dict[str, Any]]:
    """Events as CloudEvents, as they happen; without ``follow`` only those there are.

    A broken stream is taken up after its last event.
    """
    query = {name: text for name, text in (("filter", filter), ("since", since)) if text}
    if not follow:
        query["follow"] = "false"
    last_id, wait_s = "", RETRY_FIRST_S
    while True:
        headers = {"Accept": "text/event-stream"}
        if last_id:
            headers["Last-Event-ID"] = last_id
        try:
            async with http.stream("/events", query, headers) as stream:
                block = _Block()
                async for raw in stream:
                    wait_s = RETRY_FIRST_S
                    line = raw.decode("utf-8", "replace").rstrip("\r\n")
                    if line:
                        _take(block, line)
                        continue
                    last_id = block.id or last_id
                    if block.data:
                        yield json.loads("\n".join(block.data))
                    block = _Block()
            if not follow:
                return
        except HeadgateError as error:
            # The server says something every few seconds, so silence is a lost connection.
            if error.error.code not in (ErrorCode.UNAVAILABLE, ErrorCode.TIMED_OUT):
                raise
            if not last_id and wait_s > RETRY_MAX_S:
                raise
        await asyncio.sleep(min(wait_s, RETRY_MAX_S))
        wait_s *= 2


def _take(block: _Block, line: str) -> None:
    name, _, value = line.partition(":")
    value = value.removeprefix(" ")
    if name == "id":
        block.id = value
    elif name == "data":
        block.data.append(value)

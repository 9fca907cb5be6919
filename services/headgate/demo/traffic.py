"""The client: sends held-out images of digits over HTTPS and notes every answer."""

from __future__ import annotations

import asyncio
import json
import ssl
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from types import TracebackType
from typing import Self

import aiohttp

from headgate.demo.core import Answer

CONNECTIONS = 12
ANSWER_TIMEOUT_S = 15.0
DEPLOYMENT_HEADER = "azureml-model-deployment"


@dataclass(frozen=True, slots=True)
class HeldOut:
    """Images that no model has seen in training, each as a request body, and what they show."""

    bodies: tuple[bytes, ...]
    digits: tuple[int, ...]

    @classmethod
    def load(cls, path: Path) -> HeldOut:
        known = json.loads(path.read_text())
        bodies = tuple(json.dumps({"data": [image]}).encode() for image in known["images"])
        return cls(bodies, tuple(known["digits"]))


class Scorer:
    """Sends images to one endpoint, each in a request of its own, on keep-alive connections."""

    def __init__(self, url: str, ca: Path, held_out: HeldOut) -> None:
        self._url = url
        self._held_out = held_out
        self._numbers = count()
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                limit=CONNECTIONS, ssl=ssl.create_default_context(cafile=str(ca))
            ),
            timeout=aiohttp.ClientTimeout(total=ANSWER_TIMEOUT_S),
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._session.close()

    async def send(
        self,
        images: int,
        key: str,
        *,
        deployment: str = "",
        on_answer: Callable[[], None] = lambda: None,
    ) -> list[Answer]:
        """Send so many images as fast as they are answered. ``deployment`` asks for that one."""
        headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
        if deployment:
            headers[DEPLOYMENT_HEADER] = deployment
        answers: list[Answer] = []
        turns = iter(range(images))

        async def drive() -> None:
            for _ in turns:
                answers.append(await self._score(headers))
                on_answer()

        async with asyncio.TaskGroup() as group:
            for _ in range(min(CONNECTIONS, images)):
                group.create_task(drive())
        return answers

    async def _score(self, headers: Mapping[str, str]) -> Answer:
        image = next(self._numbers) % len(self._held_out.bodies)
        begun = time.perf_counter()
        try:
            async with self._session.post(
                self._url, data=self._held_out.bodies[image], headers=headers
            ) as response:
                body = await response.read()
        except (aiohttp.ClientError, TimeoutError):
            return Answer(0, "", (time.perf_counter() - begun) * 1e3, right=False)
        return Answer(
            status=response.status,
            deployment=response.headers.get(DEPLOYMENT_HEADER, ""),
            latency_ms=(time.perf_counter() - begun) * 1e3,
            right=response.status == 200 and json.loads(body) == [self._held_out.digits[image]],
        )

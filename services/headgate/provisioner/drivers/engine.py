"""The Docker engine as this program talks to it: with a time limit, and errors in words.

Calls run on threads of their own, so that an engine that hangs holds up nothing else. The engine
is the one that ``DOCKER_HOST`` names, or the one of this machine.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Lock
from typing import TYPE_CHECKING, Any, TypeVar

from headgate_contracts.errors import ErrorCode, HeadgateError

if TYPE_CHECKING:
    from docker import DockerClient

T = TypeVar("T")
CALL_TIMEOUT_S = 30
PING_TIMEOUT_S = 5.0
CALLS_AT_ONCE = 8
_POLL_S = 0.5


class Engine:
    """One Docker engine. The library is loaded when it is needed first."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(CALLS_AT_ONCE, "docker")
        self._opening = Lock()
        self._client: DockerClient | None = None

    def client(self) -> DockerClient:
        """From a thread. Raises HeadgateError when no engine answers."""
        with self._opening:
            _knock()
            if self._client is None:
                self._client = in_words(_connect)
            return self._client

    async def call(self, work: Callable[[DockerClient], T]) -> T:
        """Run ``work`` with the client. Raises HeadgateError."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(
            self._threads, lambda: in_words(lambda: work(self.client()))
        )

    async def answers(self) -> bool:
        """Whether an engine is there now."""
        try:
            async with asyncio.timeout(PING_TIMEOUT_S):
                return bool(await self.call(lambda client: client.ping()))
        except (HeadgateError, TimeoutError):
            return False

    async def wait_answers(self, timeout_s: float) -> None:
        """Return when the engine answers; HeadgateError(ServiceUnavailable) when it does not."""
        try:
            async with asyncio.timeout(timeout_s):
                while not await self.answers():  # noqa: ASYNC110 (nothing else could tell)
                    await asyncio.sleep(_POLL_S)
        except TimeoutError:
            raise HeadgateError(
                ErrorCode.UNAVAILABLE,
                f"no Docker engine has answered for {timeout_s:g} s; start it, or correct "
                "DOCKER_HOST",
            ) from None

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)
        if self._client is not None:
            self._client.close()


def _library() -> Any:
    try:
        import docker
    except ImportError:
        raise HeadgateError(
            ErrorCode.UNAVAILABLE,
            "containers need the package `docker`: pip install 'headgate[docker]'",
        ) from None
    return docker


def _knock() -> None:
    """HeadgateError when nobody listens at the engine's socket, before the library tries: it would
    leave its own socket open each time."""
    docker = _library()
    url = docker.utils.kwargs_from_env().get("base_url", docker.constants.DEFAULT_UNIX_SOCKET)
    _, is_socket, path = str(url).partition("unix://")
    if not is_socket:
        return
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(PING_TIMEOUT_S)
        try:
            probe.connect(path)
        except OSError as error:
            raise HeadgateError(
                ErrorCode.UNAVAILABLE, f"no Docker engine listens at {path}: {error.strerror}"
            ) from None


def _connect() -> DockerClient:
    return _library().from_env(timeout=CALL_TIMEOUT_S)


def in_words(work: Callable[[], T]) -> T:
    """The result of ``work``; what Docker or the way to it says against it as a HeadgateError."""
    try:
        return work()
    except HeadgateError:
        raise
    except Exception as error:
        found = _translated(error)
        if found is None:
            raise
        raise found from error


def _translated(error: Exception) -> HeadgateError | None:
    from docker.errors import APIError, DockerException, NotFound
    from requests.exceptions import RequestException

    if isinstance(error, NotFound):
        return HeadgateError(ErrorCode.RESOURCE_NOT_FOUND, f"Docker: {error.explanation}")
    if isinstance(error, APIError):
        said = str(error.explanation or error)
        if "could not select device driver" in said:
            said += "; the engine has no driver for GPUs (NVIDIA container toolkit)"
        return HeadgateError(ErrorCode.RESOURCE_NOT_READY, f"Docker: {said}")
    if isinstance(error, (DockerException, RequestException)):
        return HeadgateError(ErrorCode.UNAVAILABLE, f"the Docker engine does not answer: {error}")
    return None

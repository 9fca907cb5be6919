"""Fixtures shared by all tests: a clean environment, short data folders, one real bus server."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from itertools import count
from pathlib import Path

import pytest
import pytest_asyncio

from headgate.runtime import natsd

_numbers = count(1)

# A shell that runs the tests in the background makes them, and all that they start, deaf to Ctrl-C.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def scrubbed_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No setting of whoever runs the tests reaches them."""
    for name in [name for name in os.environ if name.startswith("HEADGATE_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_CONFIG_HOME", "/nonexistent")  # nor any login


@pytest.fixture
def data_dir() -> Iterator[Path]:
    """A data folder of this test's own, with a path short enough for UNIX sockets."""
    folder = Path(tempfile.mkdtemp(prefix="hg-"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def nats() -> AsyncIterator[natsd.RunningServer]:
    """A real bus server in operator mode, shared by all tests: ``url``, ``creds(service)``.

    Tests that stop or restart it start their own: ``async with natsd.running(data_dir)``.
    """
    folder = Path(tempfile.mkdtemp(prefix="hg-nats-"))
    try:
        async with natsd.running(folder) as server:
            yield server
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def unique() -> Callable[[str], str]:
    """``unique("ep")`` is a resource name that no other test uses, also not on the shared bus."""
    return lambda prefix="x": f"{prefix}-{os.getpid():x}-{next(_numbers)}"

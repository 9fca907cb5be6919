"""The reference server in an environment of its own, made once and kept, and all servers started.

The reference pins old packages, so it never comes into the environment of the project.
"""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_asyncio

from headgate.runtime import natsd
from oracle.cases import CASES, ENVIRONMENTS, IDS_CASES, SCRIPTS
from oracle.servers import OnPort, Ours, ours, ours_on_port, reference
from pythons import python_with
from worker.harness import Router

CACHE = Path(__file__).parents[2] / ".cache" / "oracle-venv"
PACKAGES = ("azureml-inference-server-http==1.5.1", "inference-schema==1.8", "numpy", "pandas")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.oracle)


@pytest.fixture(scope="session")
def oracle_python() -> Path:
    """The Python in which the reference server is installed; made on first use."""
    return python_with(PACKAGES, CACHE)


@pytest.fixture(scope="session")
def folder() -> Iterator[Path]:
    made = Path(tempfile.mkdtemp(prefix="hg-oracle-"))
    yield made
    shutil.rmtree(made, ignore_errors=True)


@dataclass(frozen=True, slots=True)
class Stage:
    """Every script, served by both.

    ``bare`` is ours in an environment without Flask, ``alone`` ours without a router.
    """

    references: dict[str, OnPort]
    ours: dict[str, Ours]
    bare: Ours
    alone: dict[str, OnPort]


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def stage(
    oracle_python: Path, folder: Path, nats: natsd.RunningServer
) -> AsyncIterator[Stage]:
    """All servers at once: starting the reference takes seconds."""
    served = sorted({case.script for case in CASES})
    no_flask = folder / "no-flask"
    no_flask.mkdir()
    (no_flask / "flask.py").write_text("raise ImportError('there is no Flask here')\n")
    async with AsyncExitStack() as stack:
        router = await stack.enter_async_context(Router.connected(nats))

        async def start_reference(name: str) -> OnPort:
            context = reference(
                oracle_python, folder / name, SCRIPTS.get(name, name), ENVIRONMENTS.get(name, {})
            )
            return await stack.enter_async_context(context)

        async def start_ours(name: str, variables: dict[str, str]) -> Ours:
            script = SCRIPTS.get(name, name)
            context = ours(oracle_python, folder, script, variables, nats, router)
            return await stack.enter_async_context(context)

        async def start_alone(name: str) -> OnPort:
            context = ours_on_port(oracle_python, folder / f"{name}-alone", name, nats)
            return await stack.enter_async_context(context)

        asked_alone = sorted({case.script for case in IDS_CASES})
        references, workers, bare, alone = await asyncio.gather(
            asyncio.gather(*map(start_reference, served)),
            asyncio.gather(*(start_ours(name, ENVIRONMENTS.get(name, {})) for name in served)),
            start_ours("raw", {"PYTHONPATH": str(no_flask)}),
            asyncio.gather(*map(start_alone, asked_alone)),
        )
        yield Stage(
            dict(zip(served, references, strict=True)),
            dict(zip(served, workers, strict=True)),
            bare,
            dict(zip(asked_alone, alone, strict=True)),
        )

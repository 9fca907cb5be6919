"""One Headgate for all acceptance tests, and throw-away ones for those that end it."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import pytest

from acceptance.models import Journaled, endpoint_file
from acceptance.system import Headgate

_numbers = count(1)


@pytest.fixture(scope="session")
def headgate() -> Iterator[Headgate]:
    """A running Headgate, shared; tests use endpoints of their own and leave it well."""
    system = Headgate(Path(tempfile.mkdtemp(prefix="hg-acc-")))
    try:
        system.start()
        yield system
    finally:
        system.discard()


@pytest.fixture
def private_headgate() -> Iterator[Headgate]:
    """A Headgate that the test starts and ends itself."""
    system = Headgate(Path(tempfile.mkdtemp(prefix="hg-acc-")))
    try:
        yield system
    finally:
        system.discard()


@pytest.fixture
def files() -> Iterator[Path]:
    """A folder for YAML files and scoring scripts."""
    folder = Path(tempfile.mkdtemp(prefix="hg-files-"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def new_endpoint(headgate: Headgate, files: Path) -> Iterator[Callable[[], str]]:
    """Makes endpoints of this test's own, and deletes them afterwards."""
    made: list[str] = []

    def make() -> str:
        name = f"acc-{next(_numbers)}"
        headgate.cli("online-endpoint", "create", "-f", endpoint_file(files / name, name))
        made.append(name)
        return name

    yield make
    for name in made:
        headgate.cli("online-endpoint", "delete", "--name", name, "--yes", "--no-wait")


@pytest.fixture
def journaled(headgate: Headgate, new_endpoint: Callable[[], str], files: Path) -> Journaled:
    """A new endpoint for deployments that keep a journal."""
    return Journaled(headgate, new_endpoint(), files)

"""One Headgate and one real ``MLClient`` for the tests of this folder."""

from __future__ import annotations

import os
import shutil
import tempfile
import warnings
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest

from acceptance.system import Headgate

with warnings.catch_warnings():
    # Its import is full of warnings about its own dependencies; ours are errors.
    warnings.simplefilter("ignore")
    import azure.ai.ml

    from headgate.azure import ml_client

from azure_sdk.user import User

HERE = Path(__file__).parent
NOT_OURS = (r":::azure\.", "::marshmallow.warnings.Marshmallow4Warning")
_numbers = count(1)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What Azure's own modules warn of is their business."""
    for item in items:
        if HERE in item.path.parents:
            for warning in NOT_OURS:
                item.add_marker(pytest.mark.filterwarnings(f"ignore{warning}"))


@pytest.fixture(scope="package")
def headgate() -> Iterator[Headgate]:
    """A running Headgate, shared; tests use endpoints of their own."""
    system = Headgate(Path(tempfile.mkdtemp(prefix="hg-sdk-")))
    try:
        system.start()
        yield system
    finally:
        system.discard()


@pytest.fixture(scope="package")
def client(headgate: Headgate) -> Iterator[azure.ai.ml.MLClient]:
    """The client as ``headgate.azure.ml_client`` makes it, administrator of its Headgate."""
    with pytest.MonkeyPatch.context() as patch:
        # What the client writes into this process's environment ends with these tests.
        for name in ("REQUESTS_CA_BUNDLE", "AZUREML_CURRENT_CLOUD"):
            patch.setenv(name, "")
            patch.delenv(name)
        yield ml_client(data=headgate.data)


@pytest.fixture
def files() -> Iterator[Path]:
    """A folder for YAML files, scoring scripts and models."""
    folder = Path(tempfile.mkdtemp(prefix="hg-files-"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def user(client: azure.ai.ml.MLClient, headgate: Headgate, files: Path) -> Iterator[User]:
    """Somebody who deploys with files of their own; what they made is deleted afterwards."""
    someone = User(client, headgate, files, lambda: f"sdk-{next(_numbers)}")
    yield someone
    someone.leave()


@pytest.fixture
def private_headgate() -> Iterator[Headgate]:
    """A Headgate that the test starts and ends itself."""
    system = Headgate(Path(tempfile.mkdtemp(prefix="hg-sdk-")))
    with pytest.MonkeyPatch.context() as patch:
        # A client of it lets this process trust it; the shared one's is trusted again afterwards.
        patch.setenv("REQUESTS_CA_BUNDLE", os.environ.get("REQUESTS_CA_BUNDLE", ""))
        try:
            yield system
        finally:
            system.discard()

"""Content on this machine: each content once, and a version keeps what it was prepared with."""

from __future__ import annotations

from pathlib import Path

import pytest

from headgate.provisioner.artefacts import Artefacts
from headgate.runtime.store import Store
from headgate_contracts.errors import ErrorCode, HeadgateError
from headgate_contracts.resources import CodeSpec, ModelSpec

CODE = CodeSpec(name="code", version="1", path="workspaces/w/workspaceblobstore/code")
MODEL = ModelSpec(name="digits", version="3", path="workspaces/w/workspaceblobstore/m/model.pkl")


def quiet(_: str) -> None:
    """Nobody reads the journal here."""


@pytest.fixture
def store(data_dir: Path) -> Store:
    return Store(f"file://{data_dir}/store")


@pytest.fixture
def artefacts(store: Store, data_dir: Path) -> Artefacts:
    return Artefacts(store, data_dir / "artefacts")


async def test_new_content_under_an_old_key_is_for_new_versions_alone(
    store: Store, artefacts: Artefacts
) -> None:
    await store.put(f"{CODE.path}/score.py", b"old")
    old = await artefacts.code(CODE, "score.py", "", quiet)
    assert await artefacts.code(CODE, "score.py", "", quiet) == old
    await store.put(f"{CODE.path}/score.py", b"new")
    new = await artefacts.code(CODE, "score.py", "", quiet)
    assert (new / "score.py").read_bytes() == b"new"
    assert await artefacts.code(CODE, "score.py", old.name, quiet) == old
    assert (old / "score.py").read_bytes() == b"old"


async def test_a_version_whose_content_is_gone_here_gets_what_is_in_the_store(
    store: Store, artefacts: Artefacts
) -> None:
    await store.put(f"{CODE.path}/score.py", b"run")
    place = await artefacts.code(CODE, "score.py", "", quiet)
    await artefacts.sweep([])
    assert not place.exists()
    assert await artefacts.code(CODE, "score.py", place.name, quiet) == place
    await store.delete(f"{CODE.path}/score.py")
    assert await artefacts.code(CODE, "score.py", place.name, quiet) == place
    await artefacts.sweep([place.name])
    assert (place / "score.py").read_bytes() == b"run"


async def test_a_model_lies_where_scripts_look_for_it(store: Store, artefacts: Artefacts) -> None:
    await store.put(MODEL.path, b"weights")
    place = await artefacts.model(MODEL, "", quiet)
    directory = artefacts.model_directory(place, MODEL)
    assert directory == place / "azureml-models" / "digits" / "3"
    assert (directory / "model.pkl").read_bytes() == b"weights"


async def test_what_has_no_files_is_the_callers_fault(artefacts: Artefacts) -> None:
    with pytest.raises(HeadgateError, match="digits:3 has no files") as refused:
        await artefacts.model(MODEL, "", quiet)
    assert refused.value.error.code is ErrorCode.BAD_ARGUMENT

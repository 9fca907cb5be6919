"""Models, environments, data and datastores through the real ``azure-ai-ml``."""

from __future__ import annotations

from pathlib import Path

import pytest
from azure.ai.ml.constants import AssetTypes
from azure.ai.ml.entities import (
    AccountKeyConfiguration,
    AmlCompute,
    AzureBlobDatastore,
    Data,
    Environment,
    Model,
)
from azure.core.exceptions import ResourceNotFoundError

from azure_sdk.user import User


def a_folder(user: User) -> Path:
    folder = user.folder / "things"
    (folder / "sub").mkdir(parents=True)
    (folder / "one.bin").write_bytes(bytes(range(256)) * 300)
    (folder / "sub" / "two.txt").write_text("zwei ✓")
    (folder / "empty.txt").touch()
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_a_model_folder_is_registered_and_comes_back_the_same(user: User) -> None:
    models, folder = user.client.models, a_folder(user)
    name = f"model-{user.new_name()}"
    wanted = Model(name=name, path=str(folder), type=AssetTypes.CUSTOM_MODEL, tags={"a": "b"})
    made = models.create_or_update(wanted)
    assert (made.name, made.version, made.tags) == (name, "1", {"a": "b"})

    models.download(name, "1", download_path=str(user.folder / "back"))
    assert contents(user.folder / "back" / name / folder.name) == contents(folder)

    (folder / "sub" / "two.txt").write_text("drei")
    second = models.create_or_update(
        Model(name=name, path=str(folder), type=AssetTypes.CUSTOM_MODEL)
    )
    assert second.version == "2"
    assert models.get(name, label="latest").version == "2"
    assert [each.version for each in models.list(name)] == ["2", "1"]
    assert name in [each.name for each in models.list()]
    assert models.get(name, "1").creation_context.created_at is not None
    with pytest.raises(ResourceNotFoundError):
        models.get(name, "9")


def test_an_archived_version_is_listed_only_when_asked_for(user: User) -> None:
    models = user.client.models
    path = user.folder / "m.txt"
    path.write_text("m")
    name = f"model-{user.new_name()}"
    for version in ("1", "2"):
        models.create_or_update(Model(name=name, version=version, path=str(path)))
    models.archive(name, "1")
    assert [each.version for each in models.list(name)] == ["2"]
    models.restore(name, "1")
    assert [each.version for each in models.list(name)] == ["2", "1"]


def test_an_environment_is_registered(user: User) -> None:
    environments, name = user.client.environments, f"env-{user.new_name()}"
    conda = {"name": "x", "dependencies": ["python=3.11", {"pip": ["requests"]}]}
    wanted = Environment(name=name, version="4", image="python:3.11", conda_file=conda)
    environments.create_or_update(wanted)
    found = environments.get(name, "4")
    assert (found.image, found.conda_file) == ("python:3.11", conda)
    assert name in [each.name for each in environments.list()]


def test_data_is_registered(user: User) -> None:
    data, name, folder = user.client.data, f"data-{user.new_name()}", a_folder(user)
    made = data.create_or_update(Data(name=name, path=str(folder), type=AssetTypes.URI_FOLDER))
    assert (made.name, made.version, made.type) == (name, "1", AssetTypes.URI_FOLDER)
    found = data.get(name, label="latest")
    assert found.path.startswith("azureml://") and "workspaceblobstore" in found.path
    assert name in [each.name for each in data.list()]
    assert [each.version for each in data.list(name)] == ["1"]


def test_datastores_are_made_listed_and_deleted_and_keep_their_secrets(user: User) -> None:
    datastores, name = user.client.datastores, "mine_" + user.new_name().replace("-", "_")
    default = datastores.get_default()
    assert default.name == "workspaceblobstore"
    secret = "c2VjcmV0LWNhbmFyeQ=="
    datastores.create_or_update(
        AzureBlobDatastore(
            name=name,
            account_name="account",
            container_name="container",
            credentials=AccountKeyConfiguration(account_key=secret),
        )
    )
    shown = datastores.get(name)
    assert (shown.account_name, shown.container_name) == ("account", "container")
    assert secret not in str(shown)
    told = datastores.get(name, include_secrets=True)
    assert told.credentials.account_key == secret
    assert {name, "workspaceblobstore"} <= {each.name for each in datastores.list()}
    datastores.delete(name)
    with pytest.raises(ResourceNotFoundError):
        datastores.get(name)


def test_sizes_are_listed(user: User) -> None:
    sizes = {each.name: each for each in user.client.compute.list_sizes()}
    size = vars(sizes["Standard_DS3_v2"])  # Azure's class keeps the wire's names in there
    assert (size["vCPUs"], size["memoryGB"], size["gpus"]) == (4, 14, 0)
    assert vars(sizes["tiny"])["vCPUs"] == 1


def test_workspace_and_compute(user: User) -> None:
    workspaces, compute = user.client.workspaces, user.client.compute
    assert workspaces.get("local").name == "local"
    assert "local" in [each.name for each in workspaces.list()]
    name = "cpu" + user.new_name()
    made = compute.begin_create_or_update(
        AmlCompute(name=name, size="Standard_DS3_v2", max_instances=2)
    ).result()
    assert (made.name, made.max_instances) == (name, 2)
    assert name in [each.name for each in compute.list()]
    assert compute.get(name).provisioning_state == "Succeeded"
    compute.begin_delete(name).result()
    with pytest.raises(ResourceNotFoundError):
        compute.get(name)

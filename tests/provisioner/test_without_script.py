"""Deployments without a scoring script: which are possible, and what is said of the others."""

from __future__ import annotations

from textwrap import dedent

import pytest

from headgate_contracts.errors import ErrorCode, WireError
from headgate_contracts.resources import ProvisioningState
from provisioner.harness import World

MLMODEL = dedent("""
    flavors: {python_function: {loader_module: mlflow.sklearn}}
    mlflow_version: 2.14.1
""").encode()


async def failure(world: World) -> WireError:
    found = await world.outcome()
    assert found.provisioning_state is ProvisioningState.FAILED
    assert found.error is not None
    return found.error


@pytest.mark.parametrize("kind", ["custom_model", "triton_model"])
async def test_a_model_that_is_not_mlflows_needs_a_script(world: World, kind: str) -> None:
    model = await world.model("m", {"m/weights.bin": b"1"}, type=kind)
    await world.put(model=model)
    error = await failure(world)
    assert error.code is ErrorCode.BAD_ARGUMENT
    assert error.target == "code_configuration"
    assert f"a {kind} and no code_configuration; only an mlflow_model" in error.message


async def test_no_model_and_no_script_is_nothing_to_deploy(world: World) -> None:
    await world.put()
    assert "no model and no code_configuration" in (await failure(world)).message


async def test_a_folder_without_mlmodel_is_named_with_what_it_holds(world: World) -> None:
    model = await world.model("m", {"m/weights.bin": b"1"}, type="mlflow_model")
    await world.put(model=model)
    error = await failure(world)
    assert (error.code, error.target) == (ErrorCode.BAD_ARGUMENT, "model")
    assert "holds no file MLmodel" in error.message
    assert "m/weights.bin" in error.message


async def test_an_environment_that_is_given_wins_and_must_have_mlflow(world: World) -> None:
    """The packages that the model names are not even looked at."""
    files = {"m/MLmodel": MLMODEL, "m/requirements.txt": b"no-such-package==1"}
    model = await world.model("m", files, type="mlflow_model")
    environment = await world.environment(conda_file="dependencies: [python]")
    await world.put(model=model, environment=environment)
    error = await failure(world)
    assert error.code is ErrorCode.USER_SCRIPT_IMPORT_ERROR
    assert "No module named 'mlflow'" in error.message
    assert "leave the environment out" in error.message
    assert "scoring script" not in error.message


async def test_packages_that_cannot_be_had_fail_the_build_with_its_log(world: World) -> None:
    files = {"m/MLmodel": MLMODEL, "m/requirements.txt": b"mlflow==no.such.version"}
    model = await world.model("m", files, type="mlflow_model")
    await world.put(model=model)
    error = await failure(world)
    assert error.code is ErrorCode.IMAGE_BUILD_FAILURE
    journal = (await world.logs(container="storage-initializer")).content
    assert "environment: as the model's requirements.txt says" in journal
    assert "no.such.version" in journal

"""Which environments need a container, and what is said where there is no engine."""

from __future__ import annotations

from pathlib import Path

import pytest

from headgate.provisioner.building import Builds
from headgate.provisioner.environments import reason_for_container
from headgate.provisioner.venvs import Venvs
from headgate_contracts.errors import HeadgateError
from headgate_contracts.resources import (
    EnvironmentBuild,
    EnvironmentSpec,
    InferenceConfig,
    InferenceRoute,
)

SERVER = InferenceConfig(scoring_route=InferenceRoute(path="/score", port=80))
CONDA = "dependencies: []"


@pytest.mark.parametrize(
    ("fields", "egress", "needed"),
    [
        ({}, True, False),
        ({"conda_file": CONDA}, True, False),
        ({"image": "x:1", "conda_file": CONDA}, True, False),
        ({"image": "x:1"}, True, True),
        ({"build": EnvironmentBuild(path="uploads/x")}, True, True),
        ({"image": "x:1", "conda_file": CONDA, "inference_config": SERVER}, True, True),
        ({"conda_file": CONDA}, False, True),
    ],
)
def test_containers_are_for_what_a_process_cannot_do(
    fields: dict[str, object], egress: bool, needed: bool
) -> None:
    environment = EnvironmentSpec.model_validate({"name": "env", **fields})
    assert bool(reason_for_container(environment, egress)) is needed
    assert bool(reason_for_container(None, egress)) is not egress


@pytest.mark.parametrize("fields", [{}, {"conda_file": CONDA}])
async def test_a_server_of_its_own_is_refused_as_a_process(
    data_dir: Path, fields: dict[str, str]
) -> None:
    async def say(_: object) -> None:
        raise AssertionError("nothing is built")

    venvs = Venvs(Builds(data_dir, say=say), {})
    environment = EnvironmentSpec(name="env", image="x:1", inference_config=SERVER, **fields)
    with pytest.raises(HeadgateError, match="server of its own") as found:
        await venvs.base_for(environment, None, lambda _: None)
    assert found.value.error.target == "environment.inference_config"

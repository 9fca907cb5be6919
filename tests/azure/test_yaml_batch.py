"""YAML files of batch endpoints and batch deployments, in the shapes of Azure's examples."""

from __future__ import annotations

from pathlib import Path
from textwrap import dedent

import pytest

from headgate.azure.yaml_files import YamlFile, YamlFileError
from headgate.azure.yaml_values import LocalDeployment
from headgate_contracts.batch import BatchDeploymentSpec, BatchEndpointSpec

HEAD = """\
    endpoint_name: mnist-batch
    name: mnist-torch-dpl
    model: azureml:mnist@latest
    environment: azureml:torch:1
    code_configuration: {code: code, scoring_script: batch_driver.py}
    compute: azureml:batch-cluster
    resources: {instance_count: 2}
"""
SETTINGS = """\
    max_concurrency_per_instance: 2
    mini_batch_size: 5
    output_action: summary_only
    retry_settings: {max_retries: 1, timeout: 9999}
    error_threshold: 10
    logging_level: DEBUG
    environment_variables: {MODE: "no"}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "batch_driver.py").write_text("def init(): ...\n")
    (tmp_path / "conda.yaml").write_text("dependencies: [python]\n")
    (tmp_path / "model").mkdir()
    return tmp_path


def read(folder: Path, text: str) -> LocalDeployment[BatchDeploymentSpec]:
    file = folder / "deployment.yml"
    file.write_text(dedent(text))
    return YamlFile.open(file).batch_deployment()


def problems(folder: Path, text: str) -> list[str]:
    with pytest.raises(YamlFileError) as caught:
        read(folder, text)
    return [str(each) for each in caught.value.problems]


def below_settings(text: str) -> str:
    return "    settings:\n" + "".join(f"  {line}\n" for line in text.splitlines())


def test_both_layouts_mean_the_same(folder: Path) -> None:
    newer = read(folder, HEAD + "    type: model\n" + below_settings(SETTINGS))
    assert newer == read(folder, HEAD + SETTINGS)
    spec = newer.spec
    assert (spec.mini_batch_size, spec.max_concurrency_per_instance) == (5, 2)
    assert (spec.retry_settings.max_retries, spec.retry_settings.timeout) == (1, 9999)
    assert (spec.output_action, spec.logging_level) == ("summary_only", "debug")
    assert spec.environment_variables == {"MODE": "no"}
    assert spec.resources.instance_count == 2


def test_defaults_are_azures(folder: Path) -> None:
    spec = read(folder, HEAD).spec
    assert (spec.mini_batch_size, spec.max_concurrency_per_instance) == (10, 1)
    assert (spec.error_threshold, spec.logging_level) == (-1, "info")
    assert (spec.retry_settings.max_retries, spec.retry_settings.timeout) == (3, 30)
    assert (spec.output_action, spec.output_file_name) == ("append_row", "predictions.csv")


def test_instances_may_be_counted_among_the_settings(folder: Path) -> None:
    head = HEAD.replace("    resources: {instance_count: 2}\n", "")
    spec = read(folder, head + "    settings: {instance_count: 4}\n").spec
    assert spec.resources.instance_count == 4


def test_local_assets_are_found(folder: Path) -> None:
    local = read(
        folder,
        """\
        $schema: https://azuremlschemas.azureedge.net/latest/modelBatchDeployment.schema.json
        name: mnist-keras-dpl
        endpoint_name: mnist-batch
        type: model
        model:
          name: mnist-classifier-keras
          path: model
        code_configuration:
          code: code
          scoring_script: batch_driver.py
        environment:
          name: batch-tensorflow-py38
          image: mcr.microsoft.com/azureml/openmpi4.1.0-ubuntu22.04:latest
          conda_file: conda.yaml
        compute: azureml:batch-cluster
        tags:
          device_batching: 16
        settings:
          max_concurrency_per_instance: 2
        """,
    )
    assert local.code == folder / "code"
    assert local.model is not None and local.model.path == folder / "model"
    assert local.environment is not None and local.environment.conda_file is not None
    assert local.spec.tags == {"device_batching": "16"}


@pytest.mark.parametrize(
    ("field", "words"),
    [
        ("error_threshold: -2", ["error_threshold: must be at least -1, not -2"]),
        ("mini_batch_size: 0", ["mini_batch_size: must be at least 1"]),
        ("retry_settings: {timeout: 0}", ["retry_settings.timeout: must be at least 1"]),
        ("retry_settings: {timeout: 259201}", ["at most 259,200"]),
        ("output_action: append_rows", ["did you mean 'append_row'"]),
        ("output_file_name: a/b.csv", ["file name without a path"]),
        ("logging_level: loud", ["debug, info, warning"]),
        ("minibatch_size: 3", ["unknown field", "'mini_batch_size'"]),
    ],
)
def test_a_bad_setting_is_told_with_its_place(folder: Path, field: str, words: list[str]) -> None:
    (found,) = problems(folder, f"{HEAD}    settings:\n      {field}\n")
    assert "deployment.yml:9:" in found
    assert all(word in found for word in words), found


def test_settings_are_a_mapping(folder: Path) -> None:
    (found,) = problems(folder, f"{HEAD}    settings: 3\n")
    assert "settings: must be a mapping" in found
    assert read(folder, f"{HEAD}    settings:\n").spec.mini_batch_size == 10


@pytest.mark.parametrize(
    "rest",
    [
        "type: pipeline\n    component: pipeline.yml\n    settings: {default_compute: c}",
        "type: pipeline\n    job_definition: azureml:job_name_placeholder",
        "component: azureml:hello_batch@latest",
    ],
)
def test_a_pipeline_component_is_refused_once_and_clearly(folder: Path, rest: str) -> None:
    head = "    name: hello-batch-dpl\n    endpoint_name: hello\n"
    (found,) = problems(folder, f"{head}    {rest}\n")
    assert "pipeline components are not run here" in found
    assert "type: model" in found


def test_a_compute_is_named_not_described(folder: Path) -> None:
    head = HEAD.replace("azureml:batch-cluster", "two words")
    (found,) = problems(folder, head)
    assert "compute: 'two words' is no compute" in found


def test_an_online_file_is_no_batch_file(folder: Path) -> None:
    schema = "$schema: https://azuremlschemas.azureedge.net/latest/onlineDeployment.schema.json"
    (found,) = problems(folder, f"    {schema}\n{HEAD}")
    assert "online deployment" in found
    assert "expected here: batch deployment" in found


# --- endpoints ---------------------------------------------------------------------------------


def read_endpoint(folder: Path, text: str) -> BatchEndpointSpec:
    file = folder / "endpoint.yml"
    file.write_text(dedent(text))
    return YamlFile.open(file).batch_endpoint()


def test_an_endpoint(folder: Path) -> None:
    spec = read_endpoint(
        folder,
        """\
        $schema: https://azuremlschemas.azureedge.net/latest/batchEndpoint.schema.json
        name: mnist-batch
        description: A batch endpoint for scoring images.
        auth_mode: aad_token
        defaults: {deployment_name: blue}
        tags: {type: deep-learning}
        """,
    )
    assert spec.defaults.deployment_name == "blue"
    assert spec.tags == {"type": "deep-learning"}


def test_an_endpoint_knows_no_keys_and_no_traffic(folder: Path) -> None:
    with pytest.raises(YamlFileError) as caught:
        read_endpoint(folder, "name: mnist-batch\nauth_mode: key\ntraffic: {blue: 100}\n")
    told = str(caught.value)
    assert "auth_mode: must be aad_token" in told
    assert "traffic: unknown field" in told

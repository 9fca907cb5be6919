"""Batch endpoints and deployments through the real ``azure-ai-ml``. No batch job runs yet."""

from __future__ import annotations

import pytest
from azure.ai.ml import Input
from azure.ai.ml.entities import (
    AmlCompute,
    BatchEndpoint,
    CodeConfiguration,
    Environment,
    Model,
    ModelBatchDeployment,
    ModelBatchDeploymentSettings,
)
from azure.core.exceptions import HttpResponseError, ResourceNotFoundError

from azure_sdk.user import User


def test_a_batch_endpoint_and_its_deployment_are_made_listed_and_deleted(user: User) -> None:
    endpoints, deployments = user.client.batch_endpoints, user.client.batch_deployments
    name = f"batch-{user.new_name()}"
    made = endpoints.begin_create_or_update(
        BatchEndpoint(name=name, description="by night", tags={"a": "b"})
    ).result()
    assert (made.name, made.description, made.tags) == (name, "by night", {"a": "b"})

    compute = "cpu" + user.new_name()
    user.client.compute.begin_create_or_update(
        AmlCompute(name=compute, size="Standard_DS3_v2", max_instances=2)
    ).result()
    wanted = a_deployment(user, name, compute)
    deployments.begin_create_or_update(wanted).result()

    found = deployments.get("first", name)
    assert found.mini_batch_size == 3
    assert found.retry_settings.max_retries == 3  # the server's default
    assert found.output_file_name == "predictions.csv"
    assert found.provisioning_state == "Succeeded"
    assert [each.name for each in deployments.list(name)] == ["first"]

    shown = endpoints.get(name)
    shown.defaults.deployment_name = "first"
    endpoints.begin_create_or_update(shown).result()
    assert endpoints.get(name).defaults.deployment_name == "first"
    assert name in [each.name for each in endpoints.list()]
    assert list(endpoints.list_jobs(name)) == []
    assert list(deployments.list_jobs(name, name="first")) == []

    with pytest.raises(HttpResponseError) as refused:
        deployments.begin_delete("first", name)
    assert "default" in str(refused.value)
    shown.defaults.deployment_name = None
    endpoints.begin_create_or_update(shown).result()
    deployments.begin_delete("first", name).result()
    endpoints.begin_delete(name).result()
    with pytest.raises(ResourceNotFoundError):
        endpoints.get(name)


def a_deployment(user: User, endpoint: str, compute: str) -> ModelBatchDeployment:
    code, model = user.folder / "code", user.folder / "weights.txt"
    code.mkdir()
    (code / "batch.py").write_text("def init():\n    pass\n\ndef run(files):\n    return files\n")
    model.write_text("w")
    return ModelBatchDeployment(
        name="first",
        endpoint_name=endpoint,
        model=Model(path=str(model)),
        code_configuration=CodeConfiguration(code=str(code), scoring_script="batch.py"),
        environment=Environment(
            name=f"env-{endpoint}", image="python:3.11", conda_file={"dependencies": ["python"]}
        ),
        compute=compute,
        settings=ModelBatchDeploymentSettings(mini_batch_size=3, max_concurrency_per_instance=2),
    )


def test_an_invocation_says_that_no_batch_jobs_run_here(user: User) -> None:
    endpoints, name = user.client.batch_endpoints, f"batch-{user.new_name()}"
    endpoints.begin_create_or_update(BatchEndpoint(name=name)).result()
    with pytest.raises(HttpResponseError) as caught:
        endpoints.invoke(name, input=Input(type="uri_folder", path="https://example.com/data"))
    assert "batch" in str(caught.value)
    endpoints.begin_delete(name).result()

"""Batch endpoints and deployments and jobs through the real ``azure-ai-ml``."""

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


SCRIPT = "def init():\n    pass\n\ndef run(files):\n    return files\n"


def a_deployment(
    user: User, endpoint: str, compute: str, script: str = SCRIPT
) -> ModelBatchDeployment:
    code, model = user.folder / "code", user.folder / "weights.txt"
    code.mkdir()
    (code / "batch.py").write_text(script)
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


@pytest.mark.timeout(180)
def test_jobs_are_made_streamed_downloaded_listed_and_canceled(
    user: User, capsys: pytest.CaptureFixture[str]
) -> None:
    endpoints, deployments = user.client.batch_endpoints, user.client.batch_deployments
    name, compute = f"batch-{user.new_name()}", "cpu" + user.new_name()
    endpoints.begin_create_or_update(BatchEndpoint(name=name)).result()
    user.client.compute.begin_create_or_update(
        AmlCompute(name=compute, size="Standard_DS3_v2", max_instances=2)
    ).result()
    script = (
        "import os, time\n\ndef init():\n    print('loaded')\n\n"
        "def run(files):\n    time.sleep(float(open(files[0]).read()))\n"
        "    return [os.path.basename(file) for file in files]\n"
    )
    deployments.begin_create_or_update(a_deployment(user, name, compute, script)).result()
    endpoint = endpoints.get(name)
    endpoint.defaults.deployment_name = "first"
    endpoints.begin_create_or_update(endpoint).result()

    data = user.folder / "data"
    data.mkdir()
    for number in range(7):
        (data / f"{number}.txt").write_text("1.5")
    job = endpoints.invoke(name, input=Input(type="uri_folder", path=str(data)))
    assert job.name and job.status == "Queued"
    user.client.jobs.stream(job.name)
    assert "is Running" in capsys.readouterr().out
    found = user.client.jobs.get(job.name)
    assert found.status == "Completed"
    user.client.jobs.download(job.name, download_path=str(user.folder / "out"), output_name="score")
    (written,) = (user.folder / "out").rglob("predictions.csv")
    assert written.read_text().splitlines() == [f"{number}.txt" for number in range(7)]
    assert [each.name for each in endpoints.list_jobs(name)] == [job.name]
    assert [each.name for each in deployments.list_jobs(name, name="first")] == [job.name]

    for number in range(7):
        (data / f"{number}.txt").write_text("20")
    slow = endpoints.invoke(name, inputs={"numbers": Input(type="uri_folder", path=str(data))})
    user.client.jobs.begin_cancel(slow.name).result()
    assert user.client.jobs.get(slow.name).status == "Canceled"
    endpoints.begin_delete(name).result()
    assert user.client.jobs.get(job.name).status == "Completed"


def test_an_invocation_without_a_deployment_is_refused(user: User) -> None:
    endpoints, name = user.client.batch_endpoints, f"batch-{user.new_name()}"
    endpoints.begin_create_or_update(BatchEndpoint(name=name)).result()
    with pytest.raises(HttpResponseError) as caught:
        endpoints.invoke(name, input=Input(type="uri_folder", path="https://example.com/data"))
    assert "no valid deployment" in str(caught.value)
    endpoints.begin_delete(name).result()

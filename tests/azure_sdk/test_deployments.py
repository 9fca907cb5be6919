"""Online deployments through the real ``azure-ai-ml``: files, models, scoring, logs, failures."""

from __future__ import annotations

import time

import pytest
from azure.ai.ml import load_online_deployment, load_online_endpoint
from azure.ai.ml.entities import Model, OnlineRequestSettings, ProbeSettings
from azure.core.exceptions import HttpResponseError, ResourceNotFoundError

from acceptance.system import EXAMPLES, wait_for
from azure_sdk.user import User


@pytest.mark.slow
def test_a_deployment_of_code_and_model_serves_is_scaled_and_deleted(user: User) -> None:
    deployments = user.client.online_deployments
    endpoint = user.make_endpoint()
    model = user.folder / "weights"
    (model / "deep").mkdir(parents=True)
    (model / "a.txt").write_text("alpha")
    (model / "deep" / "b.txt").write_text("beta")

    made = user.deploy(endpoint, "blue", model={"path": str(model), "type": "custom_model"})
    assert (made.name, made.provisioning_state, made.instance_count) == ("blue", "Succeeded", 1)

    user.set_traffic(endpoint, blue=100)
    expected = {
        "name": "blue",
        "sent": {"question": [1, 2.5]},
        "files": {"weights/a.txt": "alpha", "weights/deep/b.txt": "beta"},
    }
    assert user.score(endpoint, {"question": [1, 2.5]}) == expected
    assert user.score_named(endpoint, "blue", {"question": [1, 2.5]}) == expected

    found = deployments.get("blue", endpoint)
    assert isinstance(found.request_settings, OnlineRequestSettings)
    assert found.request_settings.max_concurrent_requests_per_instance == 8
    assert found.request_settings.request_timeout_ms == 5_000  # the server's default
    assert isinstance(found.liveness_probe, ProbeSettings)
    assert found.liveness_probe.failure_threshold == 30
    assert found.code_configuration.scoring_script == "score.py"
    assert found.environment_variables["NAME"] == "blue"
    assert [each.name for each in deployments.list(endpoint)] == ["blue"]
    assert "ready: blue" in deployments.get_logs("blue", endpoint, lines=50)
    assert (
        deployments.get_logs("blue", endpoint, lines=5, container_type="storage-initializer")
        is not None
    )

    found.instance_count = 2
    assert deployments.begin_create_or_update(found).result().instance_count == 2
    assert deployments.get("blue", endpoint).instance_count == 2

    with pytest.raises(HttpResponseError) as caught:
        deployments.begin_delete("blue", endpoint).result()
    assert "traffic" in str(caught.value)
    user.set_traffic(endpoint, blue=0)
    deployments.begin_delete("blue", endpoint).result()
    with pytest.raises(ResourceNotFoundError):
        deployments.get("blue", endpoint)


def test_an_example_deploys_as_it_is_and_its_upload_is_not_repeated(user: User) -> None:
    """The files of ``examples/echo`` with the real client; nothing is built, nothing changed."""
    endpoint = load_online_endpoint(EXAMPLES / "echo" / "endpoint.yml")
    endpoint.name = user.new_name()
    user.endpoints.append(endpoint.name)
    user.client.online_endpoints.begin_create_or_update(endpoint).result()
    codes = []
    for name in ("blue", "green"):
        deployment = load_online_deployment(EXAMPLES / "echo" / f"{name}.yml")
        deployment.endpoint_name = endpoint.name
        user.client.online_deployments.begin_create_or_update(deployment).result()
        codes.append(user.client.online_deployments.get(name, endpoint.name).code_configuration)
    assert codes[0].code == codes[1].code
    user.set_traffic(endpoint.name, green=100)
    assert user.score(endpoint.name, {"n": 1}) == {
        "greeting": "hello from green",
        "you_sent": {"n": 1},
    }


def test_a_script_that_fails_to_start_is_told_with_its_traceback(user: User) -> None:
    endpoint = user.make_endpoint()
    script = """
    def init():
        raise ValueError("the weights are for another model")

    def run(raw_data):
        return 1
    """
    wanted = user.deployment(endpoint, "broken", script)
    poller = user.client.online_deployments.begin_create_or_update(wanted)
    with pytest.raises(HttpResponseError) as caught:
        poller.result()
    error = caught.value.error
    assert error.code == "UserScriptInitFailed" and error.message
    details = "\n".join(detail.message for detail in error.details)
    assert "ValueError: the weights are for another model" in details
    assert 'score.py", line 2, in init' in details
    assert user.client.online_deployments.get("broken", endpoint).provisioning_state == "Failed"
    assert "ValueError" in user.client.online_deployments.get_logs("broken", endpoint, lines=100)


def test_a_registered_model_is_deployed_by_its_name(user: User) -> None:
    weights = user.folder / "weights.txt"
    weights.write_text("gamma")
    name = f"model-{user.new_name()}"
    user.client.models.create_or_update(Model(name=name, version="3", path=str(weights)))
    endpoint = user.make_endpoint()
    user.deploy(endpoint, "blue", model=f"azureml:{name}@latest")
    user.set_traffic(endpoint, blue=100)
    assert user.score(endpoint)["files"] == {"weights.txt": "gamma"}


def test_an_old_key_is_refused_soon_and_the_other_one_goes_on(user: User) -> None:
    endpoints = user.client.online_endpoints
    endpoint = user.make_endpoint()
    user.deploy(endpoint, "blue")
    user.set_traffic(endpoint, blue=100)
    before = endpoints.get_keys(endpoint)
    assert user.status(endpoint, before.primary_key) == 200

    endpoints.begin_regenerate_keys(endpoint, key_type="primary").result()
    wait_for(
        lambda: user.status(endpoint, before.primary_key) == 401,
        "the old key is refused",
        timeout_s=5,
    )
    assert user.status(endpoint, before.secondary_key) == 200
    assert user.score(endpoint)["name"] == "blue"  # with the new key, which the client asks for


@pytest.mark.parametrize("mode", ["aml_token", "aad_token"])
def test_token_endpoints_take_the_tokens_that_the_client_gets(user: User, mode: str) -> None:
    endpoint = user.make_endpoint(auth_mode=mode)
    user.deploy(endpoint, "blue")
    user.set_traffic(endpoint, blue=100)
    assert user.score(endpoint, {"by": mode})["sent"] == {"by": mode}

    token = user.client.online_endpoints.get_keys(endpoint)
    assert user.status(endpoint, token.access_token) == 200
    assert user.status(endpoint, token.access_token[:-4] + "AAAA") == 401
    assert token.expiry_time_utc > time.time()

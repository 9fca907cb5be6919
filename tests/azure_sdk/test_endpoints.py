"""Online endpoints through the real ``azure-ai-ml``: resources, keys, tokens."""

from __future__ import annotations

import pytest
from azure.ai.ml import load_online_endpoint
from azure.core.exceptions import HttpResponseError, ResourceNotFoundError

from acceptance.system import EXAMPLES
from azure_sdk.user import User


def test_an_endpoint_is_made_from_yaml_read_listed_changed_and_deleted(user: User) -> None:
    endpoints = user.client.online_endpoints
    name = user.make_endpoint(description="first", tags={"team": "vision"})

    found = endpoints.get(name)
    assert (found.name, found.auth_mode, found.description) == (name, "key", "first")
    assert found.provisioning_state == "Succeeded"
    assert found.tags == {"team": "vision"} and found.traffic == {} and found.mirror_traffic == {}
    assert found.scoring_uri.startswith("https://") and name in found.scoring_uri
    assert found.openapi_uri.endswith("swagger.json")
    assert found.id.endswith(f"/workspaces/local/onlineEndpoints/{name}")
    assert found.location and found.kind == "Managed"
    assert found.identity.type == "system_assigned"
    assert found.properties["azureml.onlineendpointid"].endswith(name)

    found.tags["stage"] = "test"
    found.description = "second"
    changed = endpoints.begin_create_or_update(found).result()
    assert changed.tags == {"team": "vision", "stage": "test"}
    assert endpoints.get(name).description == "second"
    assert name in [each.name for each in endpoints.list()]

    endpoints.begin_delete(name).result()
    with pytest.raises(ResourceNotFoundError) as caught:
        endpoints.get(name)
    assert caught.value.error.code == "ResourceNotFound"
    assert name not in [each.name for each in endpoints.list()]


def test_what_is_wrong_with_an_endpoint_is_told_with_code_and_field(user: User) -> None:
    endpoint = load_online_endpoint(EXAMPLES / "echo" / "endpoint.yml")
    endpoint.name = user.new_name()
    endpoint.traffic = {"nobody": 100}
    with pytest.raises(HttpResponseError) as caught:
        user.client.online_endpoints.begin_create_or_update(endpoint).result()
    assert caught.value.status_code == 400
    assert caught.value.error.code and "nobody" in str(caught.value)


def test_a_new_key_is_new_and_the_other_one_stays(user: User) -> None:
    """The client sends the old key along as ``keyValue``; that must not keep it."""
    endpoints = user.client.online_endpoints
    name = user.make_endpoint()
    before = endpoints.get_keys(name)
    assert before.primary_key != before.secondary_key

    endpoints.begin_regenerate_keys(name, key_type="primary").result()
    between = endpoints.get_keys(name)
    assert between.primary_key != before.primary_key
    assert between.secondary_key == before.secondary_key

    endpoints.begin_regenerate_keys(name, key_type="secondary").result()
    after = endpoints.get_keys(name)
    assert after.primary_key == between.primary_key
    assert after.secondary_key not in (before.primary_key, before.secondary_key)

"""Data collection through the real ``azure-ai-ml``: its YAML, its data assets, its downloads."""

from __future__ import annotations

import json

import pytest
from azure.ai.ml._artifacts._artifact_utilities import download_artifact_from_aml_uri
from azure.ai.ml.entities import DataCollector, DeploymentCollection, RequestLogging

from acceptance.system import wait_for
from azure_sdk.user import User

SHIPPED_WITHIN_S = 30.0


@pytest.mark.slow
def test_what_was_collected_is_downloaded(user: User) -> None:
    endpoint = user.make_endpoint()
    user.deploy(
        endpoint,
        "blue",
        data_collector={
            "sampling_rate": 1.0,
            "rolling_rate": "day",
            "request_logging": {"capture_headers": ["X-Customer"]},
            "collections": {
                "request": {"enabled": "True"},
                "response": {
                    "enabled": "True",
                    "data": {
                        "name": f"{endpoint}-answers",
                        "path": f"azureml://datastores/workspaceblobstore/paths/{endpoint}/answers",
                        "version": "2",
                    },
                },
                "model_inputs": {"enabled": "False"},
            },
        },
    )
    found = user.client.online_deployments.get("blue", endpoint).data_collector
    assert found.rolling_rate.lower() == "day"
    assert found.request_logging.capture_headers == ["X-Customer"]
    enabled = {name: each.enabled for name, each in found.collections.items()}
    assert enabled == {"request": "true", "response": "true", "model_inputs": "false"}
    assert found.collections["response"].data.endswith(f"/data/{endpoint}-answers/versions/2")

    user.set_traffic(endpoint, blue=100)
    for number in range(3):
        user.score(endpoint, {"n": number})
    expected = [0, 1, 2]
    for name, version in ((f"{endpoint}-blue-request", "1"), (f"{endpoint}-answers", "2")):
        asset = user.client.data.get(name, version)
        assert [each["n"] for each in _data(user, asset.path, name)] == expected


def _data(user: User, uri: str, name: str) -> list[dict[str, int]]:
    """The data of all lines below an address, as a download brings them."""

    def look() -> list[dict[str, int]] | None:
        folder = user.folder / "downloads" / name
        try:
            download_artifact_from_aml_uri(uri, str(folder), user.client.datastores)
        except Exception:  # nothing is there yet
            return None
        lines = [
            json.loads(line)
            for path in sorted(folder.rglob("*.jsonl"))
            for line in path.read_text().splitlines()
        ]
        return (
            [line["data"].get("sent", line["data"]) for line in lines] if len(lines) == 3 else None
        )

    found: list[dict[str, int]] = wait_for(look, f"{name} is there", timeout_s=SHIPPED_WITHIN_S)
    return found


@pytest.mark.slow
def test_a_collector_made_in_python(user: User) -> None:
    endpoint = user.make_endpoint()
    wanted = user.deployment(endpoint, "blue")
    wanted.data_collector = DataCollector(
        collections={"request": DeploymentCollection(enabled="true")},
        sampling_rate=0.25,
        request_logging=RequestLogging(capture_headers=["X-Customer"]),
    )
    user.client.online_deployments.begin_create_or_update(wanted).result()
    found = user.client.online_deployments.get("blue", endpoint).data_collector
    assert found.sampling_rate == 0.25 and found.rolling_rate == "Hour"

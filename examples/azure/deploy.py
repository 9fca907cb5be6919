#!/usr/bin/env python3
"""Deploys and asks a model with Azure's own client, ``azure-ai-ml``.

Three lines differ from the same script for Azure; they are marked.
"""

import sys
from pathlib import Path

from azure.ai.ml import load_online_deployment, load_online_endpoint

# from azure.ai.ml import MLClient                                     # Azure
# from azure.identity import DefaultAzureCredential                    # Azure
from headgate.azure import ml_client  # Headgate

HERE = Path(__file__).parent


def main() -> None:
    # client = MLClient(DefaultAzureCredential(), SUBSCRIPTION, GROUP, WORKSPACE)  # Azure
    client = ml_client()  # Headgate: the local one, or where HEADGATE_URL and HEADGATE_TOKEN lead

    endpoint = load_online_endpoint(HERE / "endpoint.yml")
    client.online_endpoints.begin_create_or_update(endpoint).result()

    deployment = load_online_deployment(HERE / "blue.yml")
    client.online_deployments.begin_create_or_update(deployment).result()

    endpoint.traffic = {"blue": 100}
    client.online_endpoints.begin_create_or_update(endpoint).result()

    request = str(HERE / "sample_request.json")
    print("answer:", client.online_endpoints.invoke("flowers", request_file=request))

    found = client.online_endpoints.get("flowers")
    print("traffic:", found.traffic)
    print("scoring:", found.scoring_uri)

    if "--delete" in sys.argv[1:]:
        client.online_endpoints.begin_delete("flowers").result()
        print("deleted")


if __name__ == "__main__":
    main()

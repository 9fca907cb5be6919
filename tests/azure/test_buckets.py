"""Datastores in S3, in GCS and on web servers, types of our own, in YAML files and in REST."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from headgate.azure import arm_ids, arm_storage, yaml_storage
from headgate.azure.yaml_files import YamlFile, YamlFileError
from headgate_contracts.errors import HeadgateError
from headgate_contracts.storage import Datastore, DatastoreSpec

FILE = """
name: shelf
type: s3
bucket: pictures
endpoint: s3.example.org
credentials:
  access_key_id: id
  secret_access_key: very-secret
"""


def read(tmp_path: Path, text: str) -> YamlFile:
    return YamlFile.of_text(text.encode(), tmp_path / "store.yml")


def test_a_bucket_goes_from_its_file_through_rest_and_back(tmp_path: Path) -> None:
    spec, secret = yaml_storage.datastore(read(tmp_path, FILE))
    assert (spec.type, spec.container_name, spec.region) == ("s3", "pictures", "us-east-1")
    assert secret == "very-secret" and secret not in spec.model_dump_json()
    body = arm_storage.datastore_body(spec, secret)
    assert body["properties"]["datastoreType"] == "S3"
    assert arm_storage.datastore_spec("shelf", body) == spec
    assert arm_storage.datastore_secret(spec, body) == secret
    context = arm_ids.Context("local")
    shown = arm_storage.datastore_resource(Datastore(workspace="local", spec=spec), context, "x")
    assert secret not in str(shown) and "accountName" not in shown["properties"]
    assert shown["properties"]["credentials"] == {
        "credentialsType": "AccessKey",
        "accessKeyId": "id",
    }


def test_a_public_bucket_needs_no_credentials(tmp_path: Path) -> None:
    spec, secret = yaml_storage.datastore(read(tmp_path, FILE.partition("credentials")[0]))
    assert (spec.credentials.type, secret) == ("none", "")


@pytest.mark.parametrize(
    ("wrong", "word"),
    [("type: one_lake", "only azure_blob, s3, gcs and http"), ("colour: red", "colour")],
)
def test_what_a_file_cannot_say_is_named(tmp_path: Path, wrong: str, word: str) -> None:
    name, _, value = wrong.partition(": ")
    text = FILE.replace("type: s3", wrong) if name == "type" else f"{FILE}\n{name}: {value}\n"
    with pytest.raises((YamlFileError, HeadgateError), match=word):
        yaml_storage.datastore(read(tmp_path, text))


KEY = '{"type": "service_account", "client_email": "a@b", "private_key": "PEM", "n": "1"}'
GOOGLE = """
name: attic
type: gcs
bucket: pictures
"""


@pytest.mark.parametrize("written", [KEY, f"'{KEY}'"])  # the object as it is, or its text
def test_a_bucket_of_google_keeps_its_key_apart(tmp_path: Path, written: str) -> None:
    text = f"{GOOGLE}credentials:\n  service_account_key: {written}\n"
    spec, secret = yaml_storage.datastore(read(tmp_path, text))
    assert (spec.type, spec.container_name, spec.endpoint) == ("gcs", "pictures", "")
    assert json.loads(secret) == json.loads(KEY) and "PEM" not in spec.model_dump_json()
    body = arm_storage.datastore_body(spec, secret)
    assert body["properties"]["datastoreType"] == "Gcs"
    assert arm_storage.datastore_spec("attic", body) == spec
    assert arm_storage.datastore_secret(spec, body) == secret
    shown = resource(spec)
    assert "PEM" not in str(shown)
    assert shown["properties"]["credentials"] == {"credentialsType": "ServiceAccount"}


def resource(spec: DatastoreSpec) -> dict[str, Any]:
    stored = Datastore(workspace="local", spec=spec)
    return arm_storage.datastore_resource(stored, arm_ids.Context("local"), "x")


def test_a_public_bucket_of_google_needs_no_key(tmp_path: Path) -> None:
    spec, secret = yaml_storage.datastore(read(tmp_path, GOOGLE))
    assert (spec.credentials.type, secret) == ("none", "")


def test_a_web_server_goes_from_its_file_through_rest_and_back(tmp_path: Path) -> None:
    text = "name: reports\ntype: http\nurl: http://data.example.org:8080/open/2030\n"
    spec, secret = yaml_storage.datastore(read(tmp_path, text))
    assert (spec.protocol, spec.container_name) == ("http", "data.example.org:8080/open/2030")
    assert secret == ""
    body = arm_storage.datastore_body(spec)
    assert body["properties"]["datastoreType"] == "Http"
    assert arm_storage.datastore_spec("reports", body) == spec
    assert "accountName" not in resource(spec)["properties"]


@pytest.mark.parametrize(
    "url", ["ftp://a/b", "https://user:word@a.example/b", "https://a.example/b?sig=x", "a.example"]
)
def test_an_address_that_is_no_folder_is_named(tmp_path: Path, url: str) -> None:
    with pytest.raises((YamlFileError, HeadgateError), match="url"):
        yaml_storage.datastore(read(tmp_path, f"name: reports\ntype: http\nurl: {url}\n"))

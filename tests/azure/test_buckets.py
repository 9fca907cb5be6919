"""Datastores in S3, a type of our own, in YAML files and in REST."""

from __future__ import annotations

from pathlib import Path

import pytest

from headgate.azure import arm_ids, arm_storage, yaml_storage
from headgate.azure.yaml_files import YamlFile, YamlFileError
from headgate_contracts.errors import HeadgateError
from headgate_contracts.storage import Datastore

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
    ("wrong", "word"), [("type: one_lake", "only azure_blob and s3"), ("colour: red", "colour")]
)
def test_what_a_file_cannot_say_is_named(tmp_path: Path, wrong: str, word: str) -> None:
    name, _, value = wrong.partition(": ")
    text = FILE.replace("type: s3", wrong) if name == "type" else f"{FILE}\n{name}: {value}\n"
    with pytest.raises((YamlFileError, HeadgateError), match=word):
        yaml_storage.datastore(read(tmp_path, text))

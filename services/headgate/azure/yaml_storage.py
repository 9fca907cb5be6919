"""Azure's YAML files of data assets, datastores and computes."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from headgate.azure.yaml_files import Kind, YamlFile, YamlFileError
from headgate.azure.yaml_nodes import Scalar
from headgate.azure.yaml_shapes import Problem
from headgate_contracts import limits
from headgate_contracts.assets import DataSpec
from headgate_contracts.envelope import Value
from headgate_contracts.resources import AssetName, AssetVersion, Description, Tags
from headgate_contracts.storage import (
    ComputeSpec,
    DatastoreCredentials,
    DatastoreName,
    DatastoreSpec,
    HostPart,
    OptionalHostPart,
    ShortText,
)

_READ_ONLY = dict.fromkeys(("id", "creation_context"), "is set by Headgate; ignored")
_MEANINGLESS = "has no meaning here; ignored"
DATA = Kind("data asset", ("data",), _READ_ONLY)
DATASTORE = Kind("datastore", ("azureblob",), _READ_ONLY)
COMPUTE = Kind(
    "compute",
    ("amlcompute",),
    _READ_ONLY
    | dict.fromkeys(("provisioning_state",), "is set by Headgate; ignored")
    | dict.fromkeys(
        (
            "location",
            "identity",
            "ssh_public_access_enabled",
            "ssh_settings",
            "network_settings",
            "enable_node_public_ip",
        ),
        _MEANINGLESS,
    ),
)
_OTHER_STORES = ("azure_file", "azure_data_lake_gen1", "azure_data_lake_gen2", "one_lake")


class DataFile(Value):
    """A data asset as a file says it; ``path`` as written."""

    name: AssetName
    version: AssetVersion = ""
    path: str = Field(min_length=1)
    type: Literal["uri_file", "uri_folder", "mltable"] = "uri_folder"
    description: Description = ""
    tags: Tags = {}
    properties: Tags = {}


@dataclass(frozen=True, slots=True)
class LocalData:
    """A data asset; ``path`` is what is to be uploaded, when it is local."""

    spec: DataSpec
    path: Path | None = None


class Credentials(Value):
    """The secret and what belongs to it, as datastore files have them."""

    account_key: str = Field("", max_length=limits.SECRET_CHARS_MAX, repr=False)
    sas_token: str = Field("", max_length=limits.SECRET_CHARS_MAX, repr=False)
    client_secret: str = Field("", max_length=limits.SECRET_CHARS_MAX, repr=False)
    tenant_id: ShortText = ""
    client_id: ShortText = ""
    authority_url: ShortText = ""
    resource_url: ShortText = ""

    def divided(self) -> tuple[DatastoreCredentials, str]:
        """What may be shown, and the secret."""
        if self.client_secret or self.client_id or self.tenant_id:
            shown = DatastoreCredentials(
                type="service_principal",
                tenant_id=self.tenant_id,
                client_id=self.client_id,
                authority_url=self.authority_url,
                resource_url=self.resource_url,
            )
            return shown, self.client_secret
        if self.sas_token:
            return DatastoreCredentials(type="sas"), self.sas_token
        if self.account_key:
            return DatastoreCredentials(type="account_key"), self.account_key
        return DatastoreCredentials(), ""


class StoreFile(Value):
    """What files of every kind of datastore say."""

    name: DatastoreName
    description: Description = ""
    tags: Tags = {}
    properties: Tags = {}


class BucketFile(StoreFile):
    """A datastore in a bucket, as a file says it; the credentials are those of its kind."""

    bucket: HostPart
    endpoint: OptionalHostPart = ""
    protocol: Literal["https", "http"] = "https"

    def spec(self, shown: DatastoreCredentials) -> DatastoreSpec:
        values = self.model_dump(exclude={"credentials", "bucket"})
        return DatastoreSpec(**values, container_name=self.bucket, credentials=shown)


class DatastoreFile(StoreFile):
    """A datastore as a file says it."""

    type: Literal["azure_blob"] = "azure_blob"
    account_name: HostPart
    container_name: HostPart
    endpoint: HostPart = "core.windows.net"
    protocol: Literal["https", "http"] = "https"
    credentials: Credentials = Credentials()


class BucketCredentials(Value):
    """The two halves of an access key of S3."""

    access_key_id: ShortText = ""
    secret_access_key: str = Field("", max_length=limits.SECRET_CHARS_MAX, repr=False)


class S3File(BucketFile):
    """A datastore in S3, as a file says it: a type of our own."""

    type: Literal["s3"]
    region: ShortText = "us-east-1"
    credentials: BucketCredentials = BucketCredentials()


class GoogleCredentials(Value):
    """The key file of a service account: its text, or its object pasted as it is."""

    service_account_key: (
        Annotated[str, Field(max_length=limits.SECRET_CHARS_MAX)] | dict[str, str]
    ) = Field("", repr=False)

    def text(self) -> str:
        key = self.service_account_key
        return key if isinstance(key, str) else json.dumps(key)


class GoogleFile(BucketFile):
    """A datastore in Google's cloud storage, as a file says it: a type of our own."""

    type: Literal["gcs"]
    credentials: GoogleCredentials = GoogleCredentials()


class WebFile(StoreFile):
    """A web server as a datastore that is only read, as a file says it: a type of our own."""

    type: Literal["http"]
    url: Annotated[
        str,
        Field(
            pattern=r"^https?://[A-Za-z0-9][A-Za-z0-9.:/_-]{0,254}$",
            description="an address of a folder, without a query",
        ),
    ]


class ComputeFile(ComputeSpec):
    """A compute as a file says it."""

    type: Literal["amlcompute"] = "amlcompute"


def data(file: YamlFile) -> LocalData:
    """The file as a data asset. Raises YamlFileError."""
    fields = file.typed(DataFile, DATA)
    if fields.type == "mltable":
        raise _refusal(
            file,
            "type",
            "tables (mltable) are not supported here; register the folder as uri_folder and read "
            "the table in your code",
        )
    path = None if _is_address(fields.path) else file.local("path", fields.path)
    if path is not None and path.is_dir() != (fields.type == "uri_folder"):
        found = "a folder: write type: uri_folder" if path.is_dir() else "a file, not a folder"
        raise _refusal(file, "type", f"{fields.path!r} is {found}")
    return LocalData(DataSpec.model_validate(fields.model_dump()), path)


def datastore(file: YamlFile) -> tuple[DatastoreSpec, str]:
    """The file as a datastore, and its secret apart. Raises YamlFileError."""
    node = file.root.items.get("type")
    kind = node.text.lower() if isinstance(node, Scalar) else ""
    if kind in _OTHER_STORES:
        raise _refusal(
            file, "type", f"{kind} is not supported here, only azure_blob, s3, gcs and http: put "
            "the files into a container of blobs, or into a bucket"
        )  # fmt: skip
    match kind:
        case "s3":
            return _s3(file.typed(S3File, DATASTORE))
        case "gcs":
            return _google(file.typed(GoogleFile, DATASTORE))
        case "http":
            return _web(file.typed(WebFile, DATASTORE)), ""
    fields = file.typed(DatastoreFile, DATASTORE)
    shown, secret = fields.credentials.divided()
    values = fields.model_dump(exclude={"credentials"})
    return DatastoreSpec(**values, credentials=shown), secret


def _s3(fields: S3File) -> tuple[DatastoreSpec, str]:
    key = fields.credentials
    shown = DatastoreCredentials()
    if key.access_key_id or key.secret_access_key:
        shown = DatastoreCredentials(type="access_key", access_key_id=key.access_key_id)
    return fields.spec(shown), key.secret_access_key


def _google(fields: GoogleFile) -> tuple[DatastoreSpec, str]:
    secret = fields.credentials.text()
    shown = DatastoreCredentials(type="service_account" if secret else "none")
    return fields.spec(shown), secret


def _web(fields: WebFile) -> DatastoreSpec:
    protocol, _, folder = fields.url.partition("://")
    values = fields.model_dump(exclude={"url"})
    return DatastoreSpec(**values, protocol=protocol, container_name=folder)


def compute(file: YamlFile) -> ComputeSpec:
    """The file as a compute. Raises YamlFileError."""
    fields = file.typed(ComputeFile, COMPUTE)
    return ComputeSpec.model_validate(fields.model_dump(exclude={"type"}))


def _is_address(path: str) -> bool:
    return "://" in path or path.startswith("azureml:")


def _refusal(file: YamlFile, field: str, message: str) -> YamlFileError:
    node = file.root.items.get(field)
    return YamlFileError([Problem((node or file.root).place, field, message)])

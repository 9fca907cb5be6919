"""Data assets, and what all kinds of assets have in common: archived, deleted, told of.

The registry keeps them, beside models, environments and code (:mod:`headgate_contracts.registry`).
"""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from headgate_contracts import limits, subjects
from headgate_contracts.envelope import Command, Event, Value
from headgate_contracts.resources import (
    AssetName,
    AssetResource,
    AssetVersion,
    Description,
    Tags,
)

AssetKind = Literal["models", "environments", "codes", "data"]
View = Literal["active", "archived", "all"]

# --- data assets -------------------------------------------------------------------------------


class DataSpec(Value):
    """One version of a data asset. ``path`` is an address, or a key in the object store."""

    name: AssetName
    version: AssetVersion = ""
    path: str = Field(min_length=1, max_length=limits.DATA_PATH_CHARS_MAX)
    type: Literal["uri_file", "uri_folder"] = "uri_folder"
    description: Description = ""
    tags: Tags = {}
    properties: Tags = {}
    is_anonymous: bool = False


class Data(AssetResource):
    spec: DataSpec


class PutData(Command):
    """Register a data version. Versions never change: the same content again is accepted."""

    TYPE: ClassVar[str] = "headgate.registry.command.v1.put_data"

    workspace: str
    spec: DataSpec
    is_archived: bool | None = None


# --- all assets --------------------------------------------------------------------------------


class ArchiveAsset(Command):
    """Hide a version from lists, or show it again; all versions of the name without ``version``."""

    TYPE: ClassVar[str] = "headgate.registry.command.v1.archive_asset"

    workspace: str
    kind: AssetKind
    name: str
    version: str = ""
    is_archived: bool = True


class DeleteAsset(Command):
    """Delete a version, or all of the name without ``version``. Refused while one is in use."""

    TYPE: ClassVar[str] = "headgate.registry.command.v1.delete_asset"

    workspace: str
    kind: AssetKind
    name: str
    version: str = ""
    if_revision: int | None = None


class AssetEvent(Event):
    """Base of events about one version."""

    WHAT: ClassVar[str] = ""

    workspace: str
    kind: AssetKind
    name: str
    version: str

    def subject(self) -> str:
        name = subjects.tamed(self.name)
        return subjects.event(self.kind.removesuffix("s"), name, self.WHAT)


class AssetRegistered(AssetEvent):
    TYPE: ClassVar[str] = "headgate.registry.event.v1.asset_registered"
    WHAT: ClassVar[str] = "registered"


class AssetArchived(AssetEvent):
    TYPE: ClassVar[str] = "headgate.registry.event.v1.asset_archived"
    WHAT: ClassVar[str] = "archived"


class AssetRestored(AssetEvent):
    TYPE: ClassVar[str] = "headgate.registry.event.v1.asset_restored"
    WHAT: ClassVar[str] = "restored"


class AssetDeleted(AssetEvent):
    TYPE: ClassVar[str] = "headgate.registry.event.v1.asset_deleted"
    WHAT: ClassVar[str] = "deleted"

"""Routes of models, environments, code and data: versions, and the containers that hold them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar, get_args

from aiohttp import web

from headgate.azure import (
    arm,
    arm_answers,
    arm_data,
    arm_schema,
    arm_storage_answers,
    storage_uris,
)
from headgate.azure.arm_fields import Json
from headgate.azure.arm_resources import Asset, asset_resource, container_resource
from headgate.gateway import core
from headgate.gateway.backend import Backend, deletion_revision, resource_answer
from headgate.gateway.http import Call, Handle, answer
from headgate.gateway.routes import WORKSPACE, Route
from headgate.gateway.sas import container_sas
from headgate.gateway.things import REMOVALS, answer_list, is_chosen, removal_answer
from headgate_contracts import limits
from headgate_contracts.assets import ArchiveAsset, AssetKind, DeleteAsset, PutData, View
from headgate_contracts.envelope import Command, Done
from headgate_contracts.errors import ErrorCode, HeadgateError
from headgate_contracts.registry import (
    AssetReply,
    AssetsReply,
    GetAsset,
    ListAssets,
    PutCode,
    PutEnvironment,
    PutModel,
)
from headgate_contracts.resources import CodeSpec, EnvironmentBuild, ModelSpec
from headgate_contracts.storage import RemovedReply

KINDS: tuple[AssetKind, ...] = get_args(AssetKind)
_SHAPES = {
    "models": arm.MODEL,
    "environments": arm.ENVIRONMENT,
    "codes": arm.CODE,
    "data": arm_data.DATA,
}
_REPLIES = {**arm_answers.ASSETS, "data": arm_storage_answers.DATA}
_VIEWS: dict[str, View] = {"activeonly": "active", "archivedonly": "archived", "all": "all"}
UPLOAD_OPEN_S = 3_600.0
_FILTERS = ("tags", "$tags", "properties", "version")


def assets_of(reply: AssetsReply) -> list[Asset]:
    return [*reply.models, *reply.environments, *reply.codes, *reply.data]


def asset_of(reply: AssetReply) -> Asset:
    found = reply.model or reply.environment or reply.code or reply.data
    if found is None:
        raise HeadgateError(ErrorCode.INTERNAL, "the registry answered without the asset")
    return found


def read_view(query: Mapping[str, str]) -> View:
    """Which versions a list shows: without a word, those that are not archived."""
    text = query.get("listViewType", "ActiveOnly")
    view = _VIEWS.get(text.lower())
    if view is None:
        raise HeadgateError(
            ErrorCode.BAD_ARGUMENT,
            "listViewType is ActiveOnly, ArchivedOnly or All",
            target="listViewType",
        )
    return view


P = TypeVar("P", ModelSpec, CodeSpec, EnvironmentBuild)


def placed(spec: P, workspace: str) -> P:
    """The same with the store's key for where its files lie, which must be the workspace's own."""
    return spec.model_copy(update={"path": storage_uris.to_key(spec.path, workspace)})


class Assets:
    """Handlers of one kind of asset."""

    def __init__(self, backend: Backend, kind: AssetKind) -> None:
        self._backend = backend
        self._kind: AssetKind = kind

    async def _list(
        self,
        call: Call,
        name: str,
        describe: Callable[[Asset], Json],
        *,
        sha256: str = "",
        is_kept_so: bool,
    ) -> web.StreamResponse:
        view = read_view(call.query)

        async def part(after: str, limit: int) -> tuple[Sequence[Asset], str]:
            query = ListAssets(
                workspace=call.workspace,
                kind=self._kind,
                name=name,
                sha256=sha256,
                view=view,
                after=after,
                limit=limit,
            )
            reply = await self._backend.ask(query, AssetsReply)
            return assets_of(reply), reply.after

        def is_wanted(asset: Asset) -> bool:
            spec = asset.spec
            is_right = call.query.get("version", spec.version) == spec.version
            return is_right and is_chosen(call, spec.name, spec.tags, spec.properties)

        narrow = is_wanted if any(call.query.get(key) for key in _FILTERS) else None
        return await answer_list(call, part, describe, narrow, is_kept_so=is_kept_so)

    async def list_containers(self, call: Call) -> web.StreamResponse:
        return await self._list(
            call,
            "",
            lambda item: container_resource([item], call.context),
            is_kept_so=not core.has_order(call.query),
        )

    async def get_container(self, call: Call) -> web.StreamResponse:
        query = ListAssets(
            workspace=call.workspace,
            kind=self._kind,
            name=call.params["name"],
            view="all",
            limit=limits.PAGE_SIZE_DEFAULT,
        )
        versions = assets_of(await self._backend.ask(query, AssetsReply))
        if not versions:
            raise HeadgateError(
                ErrorCode.RESOURCE_NOT_FOUND,
                f"there is no {call.params['name'][:80]!r} among the {self._kind}",
                target="name",
            )
        return answer(container_resource(versions, call.context))

    async def put_container(self, call: Call) -> web.StreamResponse:
        """Archives or restores all versions; the rest of a container follows from its versions."""
        command = ArchiveAsset(
            workspace=call.workspace,
            kind=self._kind,
            name=call.params["name"],
            is_archived=arm_data.container_wish(await call.json()),
        )
        await self._backend.ask(command, Done)
        return await self.get_container(call)

    async def delete(self, call: Call) -> web.StreamResponse:
        """A version, or all of a name. What a deployment uses stays."""
        version = call.params.get("version", "")
        revision = await deletion_revision(self._read, call) if version else None
        command = DeleteAsset(
            workspace=call.workspace,
            kind=self._kind,
            name=call.params["name"],
            version=version,
            if_revision=revision,
        )
        return removal_answer((await self._backend.ask(command, RemovedReply)).existed)

    async def list_versions(self, call: Call) -> web.StreamResponse:
        """Newest first; of code also by content ``hash``, so that a client need not send it."""
        sha256 = call.query.get("hash", "")
        return await self._list(
            call,
            # Azure's client asks under a name that it has just made up: only the content counts.
            "" if sha256 else call.params["name"],
            lambda item: asset_resource(item, call.context),
            sha256=sha256,
            is_kept_so=not core.has_order(call.query) or core.is_newest_first(call.query),
        )

    async def _read(self, call: Call, version: str = "") -> Asset:
        query = GetAsset(
            workspace=call.workspace,
            kind=self._kind,
            name=call.params["name"],
            version=version or call.params["version"],
        )
        return asset_of(await self._backend.ask(query, AssetReply))

    async def get(self, call: Call) -> web.StreamResponse:
        found = await self._read(call)
        return resource_answer(call, asset_resource(found, call.context), found.revision)

    async def get_labelled(self, call: Call) -> web.StreamResponse:
        found = await self._read(call, f"@{call.params['label']}")
        return resource_answer(call, asset_resource(found, call.context), found.revision)

    async def put(self, call: Call) -> web.StreamResponse:
        command = self._read_command(call, await call.json())
        reply = await self._backend.ask(command, AssetReply, _SHAPES[self._kind])
        found = asset_of(reply)
        return resource_answer(
            call, asset_resource(found, call.context), found.revision, created=reply.created
        )

    def _read_command(self, call: Call, body: object) -> Command:
        workspace, name, version = call.workspace, call.params["name"], call.params["version"]
        archived = arm_data.is_archived(body)
        if self._kind == "models":
            model = placed(arm.model_spec(name, version, body), workspace)
            return PutModel(workspace=workspace, spec=model, is_archived=archived)
        if self._kind == "environments":
            environment = arm.environment_spec(name, version, body)
            if environment.build is not None:
                build = placed(environment.build, workspace)
                environment = environment.model_copy(update={"build": build})
            return PutEnvironment(workspace=workspace, spec=environment, is_archived=archived)
        if self._kind == "data":
            data = arm_data.data_spec(name, version, body)
            return PutData(workspace=workspace, spec=data, is_archived=archived)
        code = placed(arm.code_spec(name, version, body), workspace)
        return PutCode(workspace=workspace, spec=code, is_archived=archived)

    async def start_upload(self, call: Call) -> web.StreamResponse:
        """Tell where to send the files: a container for this version, open for an hour."""
        arm.pending_upload(await call.json())
        container = storage_uris.upload_container(
            self._kind, call.params["name"], call.params["version"]
        )
        signature = await container_sas(
            self._backend, call.principal, call.workspace, container, "rcwl", UPLOAD_OPEN_S
        )
        address = storage_uris.blob_address(call.origin, call.workspace, container)
        return answer(
            {
                "pendingUploadId": container,
                "pendingUploadType": "TemporaryBlobReference",
                "blobReferenceForConsumption": {
                    "blobUri": address,
                    "storageAccountArmId": f"{call.context.workspace_id}/datastores/{container}",
                    "credential": {
                        "credentialType": "SAS",
                        "sasUri": f"{address}?{signature}",
                    },
                },
            }
        )

    def routes(self) -> tuple[Route[Handle], ...]:
        one_word = self._kind.removesuffix("s")
        a_word = f"{'an' if one_word[0] in 'aeiou' else 'a'} {one_word}"
        names = f"{WORKSPACE}/{self._kind}"
        versions = f"{names}/{{name}}/versions"
        one = f"{versions}/{{version}}"
        page = ("$orderBy", "$top", "$skip", "count", "listViewType", *_FILTERS)
        shown = _REPLIES[self._kind]
        containers = arm_answers.list_of(arm_answers.CONTAINER)
        shown_page = arm_answers.list_of(shown)
        listing = (*page, "hash", "hashVersion") if self._kind == "codes" else page
        return (
            Route(
                "GET",
                names,
                self.list_containers,
                f"List {self._kind}",
                query=page,
                reply=containers,
            ),
            Route(
                "GET",
                f"{names}/{{name}}",
                self.get_container,
                f"Read {a_word}",
                reply=arm_answers.CONTAINER,
            ),
            Route(
                "PUT",
                f"{names}/{{name}}",
                self.put_container,
                f"Archive or restore all versions of {a_word}",
                body=arm_schema.CONTAINER,
                reply=arm_answers.CONTAINER,
            ),
            Route(
                "DELETE",
                f"{names}/{{name}}",
                self.delete,
                f"Delete all versions of {a_word}",
                answers=REMOVALS,
            ),
            Route(
                "DELETE",
                one,
                self.delete,
                f"Delete {a_word} version",
                answers=REMOVALS,
                conditional=True,
            ),
            Route(
                "GET",
                versions,
                self.list_versions,
                f"List {one_word} versions",
                query=listing,
                reply=shown_page,
            ),
            Route("GET", one, self.get, f"Read {a_word} version", reply=shown, tagged=True),
            Route(
                "GET",
                f"{names}/{{name}}/labels/{{label}}",
                self.get_labelled,
                f"Read the {one_word} version with a label such as latest",
                reply=shown,
                tagged=True,
            ),
            Route(
                "PUT",
                one,
                self.put,
                f"Register {a_word} version",
                body=arm_schema.ASSETS[self._kind],
                reply=shown,
                tagged=True,
                answers={200: "the same is registered already", 201: "registered"},
            ),
            Route(
                "POST",
                f"{one}/startPendingUpload",
                self.start_upload,
                f"Tell where to upload the files of {a_word} version",
                body=arm_schema.PENDING_UPLOAD,
                reply=arm_answers.PENDING_UPLOAD,
            ),
        )

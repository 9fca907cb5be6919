"""Routes of models, environments and code: versions, and the containers that hold them."""

from __future__ import annotations

from typing import Literal

from aiohttp import web

from headgate.azure import arm, arm_schema
from headgate.azure.arm_resources import Asset, asset_resource, container_resource
from headgate.azure.uploads import check_digest
from headgate.gateway import core
from headgate.gateway.backend import Backend, list_answer, resource_answer
from headgate.gateway.http import Call, Handle, answer
from headgate.gateway.routes import WORKSPACE, Route
from headgate_contracts import limits
from headgate_contracts.envelope import Command
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

Kind = Literal["models", "environments", "codes"]
KINDS: tuple[Kind, ...] = ("models", "environments", "codes")

_SHAPES = {"models": arm.MODEL, "environments": arm.ENVIRONMENT, "codes": arm.CODE}


def assets_of(reply: AssetsReply) -> list[Asset]:
    return [*reply.models, *reply.environments, *reply.codes]


def asset_of(reply: AssetReply) -> Asset:
    found = reply.model or reply.environment or reply.code
    if found is None:
        raise HeadgateError(ErrorCode.INTERNAL, "the registry answered without the asset")
    return found


def _wanted(call: Call, *, is_kept_so: bool) -> int:
    """How many to ask for: one more than is shown tells whether there is another page.

    Definitions are long and one answer of the bus is limited, so never all of them; unless they
    are wanted in another order than the one they are kept in.
    """
    page = core.read_page(call.query)
    return (
        min(page.skip + page.size + 1, limits.PAGE_SIZE_MAX)
        if is_kept_so
        else (limits.PAGE_SIZE_MAX)
    )


class Assets:
    """Handlers of one kind of asset."""

    def __init__(self, backend: Backend, kind: Kind) -> None:
        self._backend = backend
        self._kind: Kind = kind

    async def _newest(self, call: Call, limit: int, *, sha256: str = "") -> list[Asset]:
        """The newest versions of the name in the path, or the newest of each name."""
        query = ListAssets(
            workspace=call.workspace,
            kind=self._kind,
            name=call.params.get("name", ""),
            sha256=sha256,
            limit=limit,
        )
        return assets_of(await self._backend.ask(query, AssetsReply))

    async def list_containers(self, call: Call) -> web.StreamResponse:
        newest = await self._newest(call, _wanted(call, is_kept_so=not core.has_order(call.query)))
        return list_answer(call, newest, lambda item: container_resource([item], call.context))

    async def get_container(self, call: Call) -> web.StreamResponse:
        versions = await self._newest(call, limits.PAGE_SIZE_DEFAULT)
        if not versions:
            raise HeadgateError(
                ErrorCode.RESOURCE_NOT_FOUND,
                f"there is no {call.params['name'][:80]!r} among the {self._kind}",
                target="name",
            )
        return answer(container_resource(versions, call.context))

    async def list_versions(self, call: Call) -> web.StreamResponse:
        """Newest first; of code also by content ``hash``, so that a client need not send it."""
        sha256 = call.query.get("hash", "")
        if sha256:
            check_digest(sha256)
        is_kept_so = not core.has_order(call.query) or core.is_newest_first(call.query)
        found = await self._newest(call, _wanted(call, is_kept_so=is_kept_so), sha256=sha256)
        return list_answer(call, found, lambda item: asset_resource(item, call.context))

    async def get(self, call: Call) -> web.StreamResponse:
        return await self._get(call, call.params["version"])

    async def get_labelled(self, call: Call) -> web.StreamResponse:
        return await self._get(call, f"@{call.params['label']}")

    async def _get(self, call: Call, version: str) -> web.StreamResponse:
        query = GetAsset(
            workspace=call.workspace, kind=self._kind, name=call.params["name"], version=version
        )
        found = asset_of(await self._backend.ask(query, AssetReply))
        return resource_answer(call, asset_resource(found, call.context), found.revision)

    async def put(self, call: Call) -> web.StreamResponse:
        command = self._read_command(call, await call.json())
        reply = await self._backend.ask(command, AssetReply, _SHAPES[self._kind])
        found = asset_of(reply)
        return resource_answer(
            call, asset_resource(found, call.context), found.revision, created=reply.created
        )

    def _read_command(self, call: Call, body: object) -> Command:
        name, version = call.params["name"], call.params["version"]
        if self._kind == "models":
            model = arm.model_spec(name, version, body)
            return PutModel(workspace=call.workspace, spec=model)
        if self._kind == "environments":
            environment = arm.environment_spec(name, version, body)
            return PutEnvironment(workspace=call.workspace, spec=environment)
        code = arm.code_spec(name, version, body)
        return PutCode(workspace=call.workspace, spec=code)

    async def start_upload(self, call: Call) -> web.StreamResponse:
        """Tell where to send the files. Uploads are named by their content, so nothing is kept."""
        digest = check_digest(arm.pending_upload(await call.json()))
        return answer(
            {
                "pendingUploadId": digest,
                "pendingUploadType": "TemporaryBlobReference",
                "blobReferenceForConsumption": {
                    "blobUri": call.url(f"/blobs/uploads/{digest}"),
                    "credential": {"credentialType": "NoCredentials"},
                },
            }
        )

    def routes(self) -> tuple[Route[Handle], ...]:
        one_word = self._kind.removesuffix("s")
        names = f"{WORKSPACE}/{self._kind}"
        versions = f"{names}/{{name}}/versions"
        one = f"{versions}/{{version}}"
        page = ("$orderBy", "$top", "$skip")
        listing = (*page, "hash", "hashVersion") if self._kind == "codes" else page
        return (
            Route("GET", names, self.list_containers, f"List {self._kind}", query=page),
            Route("GET", f"{names}/{{name}}", self.get_container, f"Read a {one_word}"),
            Route("GET", versions, self.list_versions, f"List {one_word} versions", query=listing),
            Route("GET", one, self.get, f"Read a {one_word} version"),
            Route(
                "GET",
                f"{names}/{{name}}/labels/{{label}}",
                self.get_labelled,
                f"Read the {one_word} version with a label such as latest",
            ),
            Route(
                "PUT",
                one,
                self.put,
                f"Register a {one_word} version",
                body=arm_schema.ASSETS[self._kind],
                answers={200: "the same is registered already", 201: "registered"},
            ),
            Route(
                "POST",
                f"{one}/startPendingUpload",
                self.start_upload,
                f"Tell where to upload the files of a {one_word} version",
                body=arm_schema.PENDING_UPLOAD,
            ),
        )

"""Routes of uploads: folders by content digest, sent file by file, complete after a check."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections import OrderedDict

from aiohttp import web

from headgate.azure.arm_answers import COUNT, TEXT, plain
from headgate.azure.arm_fields import Field, Problems, Shape, checked
from headgate.azure.storage_uris import upload_folder
from headgate.azure.uploads import (
    Manifest,
    UploadedFile,
    check_digest,
    check_manifest,
    check_path,
)
from headgate.gateway.backend import Backend
from headgate.gateway.http import Call, Handle, answer
from headgate.gateway.incoming import Incoming
from headgate.gateway.routes import WORKSPACE, Route
from headgate.gateway.storage import send
from headgate.runtime.store import Blob
from headgate_contracts import limits
from headgate_contracts.errors import ErrorCode, ErrorDetail, HeadgateError

_FOLDER = f"{WORKSPACE}/uploads/{{digest}}"
_FILE = f"{_FOLDER}/{{path...}}"
_MANIFEST = Shape(Field("files", "files"))
_MANIFEST_SCHEMA = {**Manifest.model_json_schema(), "additionalProperties": False}
_HASHED_MAX = 2 * limits.UPLOAD_FILES_MAX


class Blobs:
    """Handlers of uploads."""

    def __init__(self, backend: Backend) -> None:
        self._store = backend.store
        # key -> (the store's tag of the object, SHA-256): what came through here is not read again
        self._hashed: OrderedDict[str, tuple[str, str]] = OrderedDict()

    async def put(self, call: Call) -> web.StreamResponse:
        """Store one file. The same content again is fine, other content is a conflict."""
        folder, path = _folder_of(call), check_path(call.params["path"])
        key = f"{folder}/{path}"
        incoming = Incoming(call.request)
        is_complete = await self._manifest(folder) is not None
        if is_complete or await self._store.exists(key):
            await self._compare(key, incoming)
            return answer({"path": path, "sha256": incoming.sha256})
        with incoming.told():
            await self._store.put(key, incoming.chunks())
        await self._remember(key, incoming.sha256)
        return answer({"path": path, "sha256": incoming.sha256}, 201)

    async def _compare(self, key: str, incoming: Incoming) -> None:
        async for _ in incoming.chunks():
            pass
        stored = await self._store.head(key)
        if stored is None or await self._sha256_of(stored) != incoming.sha256:
            raise HeadgateError(
                ErrorCode.RESOURCE_CONFLICT,
                "other content is stored under this path, or the folder is complete without it; "
                "a digest names one content only",
                target="path",
            )

    async def get(self, call: Call) -> web.StreamResponse:
        key = f"{_folder_of(call)}/{check_path(call.params['path'])}"
        opened = await self._store.open(key)
        if opened is None:
            raise _no_upload()
        response = web.StreamResponse(headers={"Content-Type": "application/octet-stream"})
        response.content_length = opened.blob.size_bytes
        await response.prepare(call.request)
        if call.request.method == "GET":
            await send(call.request, response, opened, opened.blob.size_bytes)
        return response

    async def head_folder(self, call: Call) -> web.StreamResponse:
        """200 when the folder is complete, so that it need not be sent again."""
        if await self._manifest(_folder_of(call)) is None:
            raise _no_upload()
        return web.Response(status=200)

    async def complete(self, call: Call) -> web.StreamResponse:
        """Check every file, then mark the folder as complete.

        Files whose content is not what the manifest says are removed, so that they can be sent
        again; so are files that it does not name.
        """
        folder, digest = _folder_of(call), call.params["digest"]
        manifest = _read_manifest(await call.json())
        if manifest.digest != digest:
            raise HeadgateError(
                ErrorCode.BAD_ARGUMENT,
                f"the files make the digest {manifest.digest}, not the one in the address",
                target="/files",
            )
        if await self._manifest(folder) is None:
            await self._check_files(folder, manifest)
            await self._store.put(_manifest_key(folder), manifest.model_dump_json().encode())
        total_bytes = sum(file.size for file in manifest.files)
        return answer({"digest": digest, "files": len(manifest.files), "bytes": total_bytes})

    async def _check_files(self, folder: str, manifest: Manifest) -> None:
        wanted = {f"{folder}/{file.path}": file for file in manifest.files}
        stored = {blob.key: blob for blob in await self._store.list(folder)}
        problems: list[ErrorDetail] = []
        for key in stored.keys() - wanted.keys():
            await self._store.delete(key)
        for key, file in wanted.items():
            blob = stored.get(key)
            if blob is None:
                problems.append(_problem(file, "is missing"))
            elif blob.size_bytes != file.size or await self._sha256_of(blob) != file.sha256:
                await self._store.delete(key)
                problems.append(_problem(file, "had other content and was removed"))
        if problems:
            more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
            raise HeadgateError(
                ErrorCode.RESOURCE_CONFLICT,
                f"the folder is not complete: {problems[0].message}{more}; send what is missing",
                target="/files",
                details=tuple(problems[:20]),
            )

    async def _manifest(self, folder: str) -> Blob | None:
        return await self._store.head(_manifest_key(folder))

    async def _remember(self, key: str, sha256: str) -> None:
        blob = await self._store.head(key)
        if blob is not None and blob.etag:
            self._hashed[key] = (blob.etag, sha256)
            if len(self._hashed) > _HASHED_MAX:
                self._hashed.popitem(last=False)

    async def _sha256_of(self, blob: Blob) -> str:
        tag, sha256 = self._hashed.get(blob.key, ("", ""))
        if tag and tag == blob.etag:
            return sha256
        total = hashlib.sha256()
        async for chunk in self._store.get(blob.key):
            await asyncio.to_thread(total.update, chunk)
        return total.hexdigest()

    def routes(self) -> tuple[Route[Handle], ...]:
        return (
            Route("HEAD", _FOLDER, self.head_folder, "Ask whether a folder is complete"),
            Route(
                "POST",
                f"{_FOLDER}/complete",
                self.complete,
                "Check an uploaded folder and mark it complete",
                audited=False,
                body=_MANIFEST_SCHEMA,
                reply=plain(digest=TEXT, files=COUNT, bytes=COUNT),
            ),
            Route(
                "PUT",
                _FILE,
                self.put,
                "Upload one file of a folder",
                audited=False,
                body={"type": "string", "format": "binary"},
                body_optional=True,
                reply=plain(path=TEXT, sha256=TEXT),
                answers={200: "it was there already", 201: "stored"},
            ),
            Route(
                "GET",
                _FILE,
                self.get,
                "Download one file of a folder",
                reply={"type": "string", "format": "binary"},
                media="application/octet-stream",
            ),
            Route("HEAD", _FILE, self.get, "Ask for the size of one file of a folder"),
        )


def _folder_of(call: Call) -> str:
    return upload_folder(call.workspace, check_digest(call.params["digest"]))


def _manifest_key(folder: str) -> str:
    # Not inside the folder: whoever copies the folder gets what was uploaded and nothing else.
    return f"manifests/{folder.partition('/')[2]}.json"


def _read_manifest(body: object) -> Manifest:
    problems = Problems()
    manifest = checked(Manifest, _MANIFEST.load(body, problems), _MANIFEST, problems)
    check_manifest(manifest.files)
    return manifest


def _problem(file: UploadedFile, text: str) -> ErrorDetail:
    shown = json.dumps(file.path, ensure_ascii=False)
    return ErrorDetail(code=ErrorCode.RESOURCE_CONFLICT, message=f"{shown} {text}", target="/files")


def _no_upload() -> HeadgateError:
    return HeadgateError(ErrorCode.RESOURCE_NOT_FOUND, "there is no such upload")

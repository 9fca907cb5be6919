"""Batch jobs: made, looked at, steered, and their outputs fetched."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from urllib.parse import quote
from xml.etree import ElementTree

from headgate.azure import arm_jobs, storage_uris
from headgate.azure.arm_fields import Json
from headgate.client.api import Client
from headgate.client.http import API_VERSION, Answer, not_understood
from headgate_contracts.errors import ErrorCode, HeadgateError
from headgate_contracts.jobs import SubmitJob

_QUERY = {"api-version": API_VERSION}


@dataclass(frozen=True, slots=True)
class Jobs:
    """The jobs of a client's workspace."""

    client: Client

    async def invoke(self, command: SubmitJob) -> Json:
        """Make a job. A lost answer is asked for again and makes no second one."""
        path = f"/batchEndpoints/{quote(command.endpoint, safe='')}/jobs"
        headers = {"repeatability_request-id": command.repeat_id or str(uuid.uuid4())}
        if command.deployment:
            headers["azureml-model-deployment"] = command.deployment
        answer = await self.client.http.send(
            "POST",
            f"{self.client.context.workspace_id}{path}",
            query=_QUERY,
            body=arm_jobs.invocation_body(command),
            headers=headers,
            repeatable=True,
        )
        return answer.object

    async def get(self, name: str) -> Json:
        return (await self._send("GET", name)).object

    async def cancel(self, name: str) -> None:
        await self._send("POST", name, "/cancel")

    async def order(self, name: str, what: str) -> Json:
        """``pause`` or ``resume``; the job after it."""
        return (await self._send("POST", name, f"/{what}")).object

    async def list_all(self) -> list[Json]:
        """All jobs, newest first."""
        return [body async for body in self.client.pages("/jobs")]

    async def dead_letters(self, name: str, most: int | None = None) -> list[Json]:
        """What was given up: all, or the first ``most``."""
        found: list[Json] = []
        async for body in self.client.pages(f"/jobs/{quote(name, safe='')}/deadLetters"):
            found.append(body)
            if len(found) == most:
                break
        return found

    async def mini_batches(self, name: str, first: int = 0, number: int = 0) -> Json:
        """How many mini-batches are in which state, in groups of neighbours; of some, or all."""
        path = f"{self.client.context.workspace_id}/jobs/{quote(name, safe='')}/miniBatches"
        query = {**_QUERY, "first": str(first), "number": str(number)}
        return (await self.client.http.send("GET", path, query=query)).object

    async def redrive(self, name: str, numbers: list[int]) -> Json:
        body = {"numbers": numbers} if numbers else {}
        return (await self._send("POST", name, "/deadLetters/redrive", body)).object

    async def logs(self, name: str) -> dict[str, str]:
        """The names of a job's log files, and the address of each."""
        place = f"/history/v1.0{self.client.context.workspace_id}/runs/{quote(name, safe='')}"
        answer = await self.client.http.send("GET", f"{place}/details", query=_QUERY)
        found = answer.object.get("logFiles")
        return dict(found) if isinstance(found, dict) else {}

    async def log(self, address: str) -> str:
        chunks = [chunk async for chunk in self._bytes(address, {})]
        return b"".join(chunks).decode(errors="replace")

    async def _bytes(self, path: str, query: dict[str, str]) -> AsyncIterator[bytes]:
        async with self.client.http.stream(path, query, {}) as stream:
            async for chunk in stream.iter_any():
                yield chunk

    async def _send(self, verb: str, name: str, what: str = "", body: Json | None = None) -> Answer:
        path = f"{self.client.context.workspace_id}/jobs/{quote(name, safe='')}{what}"
        return await self.client.http.send(verb, path, query=_QUERY, body=body, repeatable=True)

    # --- outputs -------------------------------------------------------------------------------

    async def download(self, uri: str, folder: Path, bytes_max: int | None = None) -> list[Path]:
        """Fetch all files of a place in the workspace's datastores into a folder.

        Ends with PayloadTooLarge when they are more than ``bytes_max``.
        """
        left = bytes_max
        workspace = self.client.context.workspace
        try:
            key = storage_uris.to_key(uri, workspace)
        except HeadgateError:
            raise HeadgateError(
                ErrorCode.BAD_ARGUMENT,
                f"the output is at {uri}, which is no datastore of this workspace; fetch it there",
            ) from None
        _, _, container, prefix = [*key.strip("/").split("/", 3), ""][:4]
        base = f"/{workspace}{storage_uris.HOST_SUFFIX}/{container}"
        written = []
        async for name in self._names(base, f"{prefix}/" if prefix else ""):
            relative = PurePosixPath(name[len(prefix) :].lstrip("/"))
            if relative.is_absolute() or ".." in relative.parts:
                raise not_understood()
            target = folder / relative
            target.parent.mkdir(parents=True, exist_ok=True)
            with target.open("wb") as file:
                async for chunk in self._bytes(f"{base}/{quote(name)}", {}):
                    file.write(chunk)
                    if left is not None and (left := left - len(chunk)) < 0:
                        raise HeadgateError(
                            ErrorCode.PAYLOAD_TOO_LARGE,
                            f"the output has more than {bytes_max:,} bytes; "
                            "'headgate job download' fetches it",
                        )
            written.append(target)
        return written

    async def _names(self, base: str, prefix: str) -> AsyncIterator[str]:
        marker = ""
        while True:
            query = {"restype": "container", "comp": "list", "prefix": prefix}
            if marker:
                query["marker"] = marker
            text = b"".join([part async for part in self._bytes(base, query)])
            tree = ElementTree.fromstring(text)  # noqa: S314 (of the gateway that we trust)
            for each in tree.iter("Blob"):
                if name := each.findtext("Name"):
                    yield name
            marker = tree.findtext("NextMarker") or ""
            if not marker:
                return

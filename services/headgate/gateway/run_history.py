"""The part of Azure's run history with which its client streams and downloads jobs."""

from __future__ import annotations

from aiohttp import web

from headgate.azure import arm_jobs, storage_uris
from headgate.azure.arm_fields import Json
from headgate.gateway.access import Action
from headgate.gateway.backend import Backend
from headgate.gateway.http import Call, Handle, answer
from headgate.gateway.jobs import read_job
from headgate.gateway.routes import WORKSPACE, Route
from headgate.gateway.sas import container_sas
from headgate_contracts.errors import ErrorCode, HeadgateError
from headgate_contracts.jobs import GetJob, JobReply

_HISTORY = f"/history/v1.0{WORKSPACE}"
_DATA = f"/data/v1.0{WORKSPACE}"
_LOGS = "workspaceartifactstore"
_SAS_LIFETIME_S = 3_600.0
_LOG_FILES_MAX = 500
# The name under which Azure's client looks for the log of a pipeline, and prints it.
_STREAMED = "logs/azureml/executionlogs.txt"
_PROGRESS = "logs/sys/master_role.txt"
_OBJECT: Json = {"type": "object"}


class RunHistory:
    """Handlers of runs, which are jobs."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    async def details(self, call: Call) -> web.StreamResponse:
        """Status and log files, each with an address that opens it for an hour."""
        job = await read_job(self._backend, call)
        prefix = f"ExperimentRun/dcid.{job.name}/"
        folder = storage_uris.folder_of(call.workspace, _LOGS)
        names = []
        async for blob in self._backend.store.walk(f"{folder}/{prefix}logs"):
            names.append(blob.key.removeprefix(f"{folder}/{prefix}"))
            if len(names) >= _LOG_FILES_MAX:
                break
        sas = ""
        if names:
            sas = await container_sas(
                self._backend, call.principal, call.workspace, _LOGS, "r", _SAS_LIFETIME_S
            )
        base = storage_uris.blob_address(call.origin, call.workspace, _LOGS)
        files = {name: f"{base}/{prefix}{name}?{sas}" for name in sorted(names)}
        if _PROGRESS in files:
            files[_STREAMED] = files[_PROGRESS]
        return answer(arm_jobs.run_details(job, files))

    async def run(self, call: Call) -> web.StreamResponse:
        return answer(arm_jobs.run(await read_job(self._backend, call)))

    async def children(self, call: Call) -> web.StreamResponse:
        """The only step of the pipeline."""
        return answer({"value": [arm_jobs.run(await read_job(self._backend, call))]})

    async def data(self, call: Call) -> web.StreamResponse:
        """What a run has put out."""
        body = await call.json()
        name = body.get("runId") if isinstance(body, dict) else None
        if not isinstance(name, str):
            raise HeadgateError(ErrorCode.BAD_ARGUMENT, "/runId: a name is expected")
        query = GetJob(workspace=call.workspace, name=name)
        job = (await self._backend.ask(query, JobReply)).job
        return answer({"runMetadata": arm_jobs.run(job)})

    async def resolved(self, call: Call) -> web.StreamResponse:
        """Where outputs are. What is unknown is left out, as in Azure."""
        body = await call.json()
        values = body.get("values") if isinstance(body, dict) else None
        if not isinstance(values, list) or not all(isinstance(each, str) for each in values):
            raise HeadgateError(ErrorCode.BAD_ARGUMENT, "/values: a list of ids is expected")
        found: Json = {}
        for asset in values[:_LOG_FILES_MAX]:
            name = arm_jobs.job_of_asset(asset)
            if name is None:
                continue
            query = GetJob(workspace=call.workspace, name=name)
            uri = (await self._backend.ask(query, JobReply)).job.output.uri
            found[asset] = {"uri": _long(uri, call), "type": "UriFolder"}
        return answer({"values": found})

    def routes(self) -> tuple[Route[Handle], ...]:
        run = f"{_HISTORY}/runs/{{job}}"
        return (
            Route(
                "GET",
                f"{run}/details",
                self.details,
                "Read status and log files of a run",
                reply=_OBJECT,
            ),
            Route("GET", run, self.run, "Read a run", reply=_OBJECT),
            Route("GET", f"{run}/children", self.children, "List steps of a run", reply=_OBJECT),
            Route(
                "POST",
                f"{_HISTORY}/rundata",
                self.data,
                "Read what a run has put out",
                body=_OBJECT,
                reply=_OBJECT,
                action=Action.READ,
            ),
            Route(
                "POST",
                f"{_DATA}/dataversion/batchGetResolvedUris",
                self.resolved,
                "Tell where outputs are",
                body=_OBJECT,
                reply=_OBJECT,
                action=Action.READ,
            ),
        )


def _long(uri: str, call: Call) -> str:
    """Azure's client takes addresses of datastores in their long form alone."""
    try:
        key = storage_uris.to_key(uri, call.workspace)
    except HeadgateError:
        return uri
    return storage_uris.to_uri(key, call.context.workspace_id)

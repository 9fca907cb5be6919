"""Takes a job in: everything it needs is looked up now, checked, and kept with it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from headgate.azure import storage_uris
from headgate.batch import core, state, uris
from headgate.batch.records import JobDocument, JobRecord
from headgate.runtime import remote
from headgate.runtime.bus import Bus
from headgate.runtime.clock import Clock, new_id, short_id
from headgate.runtime.datastores import only_read, web_address
from headgate.runtime.places import Places, joined
from headgate.runtime.store import checked_key
from headgate.runtime.tables import Database
from headgate_contracts import limits
from headgate_contracts.batch import (
    BatchDeployment,
    BatchDeploymentReply,
    BatchEndpointReply,
    GetBatchDeployment,
    GetBatchEndpoint,
)
from headgate_contracts.errors import ErrorCode, HeadgateError
from headgate_contracts.jobs import JobInput, JobOutput, JobStatus, SubmitJob
from headgate_contracts.nodes import Place
from headgate_contracts.registry import AssetReply, GetAsset
from headgate_contracts.storage import (
    BUILT_IN_DATASTORES,
    DEFAULT_DATASTORE,
    ComputeReply,
    DatastoreReply,
    DatastoreSpec,
    GetCompute,
    GetDatastore,
)

T = TypeVar("T")
_REFERENCE = "azureml:"


@dataclass(frozen=True, slots=True)
class Allowed:
    """Prefixes of addresses outside the workspace that jobs may read and write."""

    inputs: Sequence[str]
    outputs: Sequence[str]


@dataclass(frozen=True, slots=True)
class Intake:
    """Makes jobs of commands; nothing is stored here."""

    bus: Bus
    clock: Clock
    database: Database
    places: Places
    allowed: Allowed

    async def job(self, command: SubmitJob) -> JobRecord:
        """The job, ready to be stored. Raises HeadgateError that says what is wrong."""
        deployment = await self._deployment(command)
        spec = deployment.spec
        name = command.name or f"batchjob-{short_id()}"
        settings = core.settings_of(spec, command.overrides)
        given = _single(command.inputs, "inputs")
        if given is None:
            raise HeadgateError(
                ErrorCode.BAD_ARGUMENT,
                "a job of a model deployment reads exactly one input, and there is none",
                target="inputs",
            )
        default = f"azureml://datastores/{DEFAULT_DATASTORE}/paths/azureml/{name}/score/"
        output = _single(command.outputs, "outputs") or JobOutput(uri=default)
        source, file_name = await self._input(command.workspace, given)
        to = await self._output(command.workspace, output.uri)
        if uris.overlap(source, to):
            raise HeadgateError(
                ErrorCode.BAD_ARGUMENT,
                "the output would lie within the input, or the input within it; choose another "
                "place for the output",
                target="outputs.uri",
            )
        document = JobDocument(
            input=given,
            output=output,
            settings=settings,
            deployment=spec,
            from_place=source,
            file_name=file_name,
            to_place=to,
            display_name=command.display_name,
            experiment_name=command.experiment_name or command.endpoint,
            description=command.description,
            tags=command.tags,
            properties=command.properties,
            created_by=command.by,
        )
        document = await self._resolved(command.workspace, document)
        job = JobRecord(
            id=new_id(),
            workspace=command.workspace,
            name=name,
            endpoint=command.endpoint,
            deployment=spec.name,
            status=JobStatus.QUEUED,
            document=document,
            repeat_id=command.repeat_id,
            created_at=self.clock.now(),
        )
        await self._check_output(job)
        return job

    async def _deployment(self, command: SubmitJob) -> BatchDeployment:
        endpoint = await self.bus.ask(
            GetBatchEndpoint(workspace=command.workspace, name=command.endpoint),
            BatchEndpointReply,
        )
        name = command.deployment or endpoint.endpoint.spec.defaults.deployment_name
        if name is None:
            raise HeadgateError(
                ErrorCode.BAD_ARGUMENT,
                f"no valid deployment: the batch endpoint {command.endpoint!r} has no default "
                "deployment and the invocation names none. Name one, or set the default: "
                f"headgate batch-endpoint update -n {command.endpoint} "
                "--defaults deployment_name=<deployment>",
                target="deployment",
            )
        query = GetBatchDeployment(
            workspace=command.workspace, endpoint=command.endpoint, name=name
        )
        return (await self.bus.ask(query, BatchDeploymentReply)).deployment

    async def _input(self, workspace: str, given: JobInput) -> tuple[Place, str]:
        """The folder of the input, and the name of the file in it if it is a single one."""
        uri, kind = given.uri, given.type
        asset = uris.asset_reference(uri, workspace)
        if asset is not None:
            query = GetAsset(workspace=workspace, kind="data", name=asset[0], version=asset[1])
            found = (await self.bus.ask(query, AssetReply)).data
            if found is not None:
                uri, kind = found.spec.path, found.spec.type
        store, path = await self._datastore(uri, workspace)
        if store is not None and store.type == "http":
            uri = web_address(store, path)
        if uris.is_web(uri):
            return await self._web_file(uri, kind)
        if store is not None:
            place = Place(workspace=workspace, datastore=store.name, path=path)
        else:
            place = uris.place_of(uri, workspace, self.allowed.inputs, target="inputs.uri")
        if kind == "uri_folder":
            return place, ""
        folder, _, name = place.path.strip("/").rpartition("/")
        return place.model_copy(update={"path": folder}), name

    async def _web_file(self, uri: str, kind: str) -> tuple[Place, str]:
        """A file of a web server, and the name of its copies."""
        await self.places.web.look_up(uri)
        name = checked_key(remote.file_name(uri) or "file")
        if kind == "uri_folder":
            raise HeadgateError(
                ErrorCode.BAD_ARGUMENT,
                "a web server's address is one file: say uri_file (--input-type uri_file). Folders "
                "are read from datastores",
                target="inputs.type",
            )
        return Place(url=uri), name

    async def _output(self, workspace: str, uri: str) -> Place:
        store, path = await self._datastore(uri, workspace)
        if store is None:
            return uris.place_of(uri, workspace, self.allowed.outputs, target="outputs.uri")
        if store.type == "http":
            raise only_read(store)
        return Place(workspace=workspace, datastore=store.name, path=path)

    async def _datastore(self, uri: str, workspace: str) -> tuple[DatastoreSpec | None, str]:
        """The datastore of the workspace's own making that an address is in, and the path there."""
        name, path = storage_uris.in_datastore(uri, workspace)
        if name and name not in BUILT_IN_DATASTORES:
            try:
                query = GetDatastore(workspace=workspace, name=name)
                return (await self.bus.ask(query, DatastoreReply)).datastore.spec, path
            except HeadgateError as error:
                # It may be a container of our own store, which uploads are put into.
                is_unknown = error.error.code is ErrorCode.RESOURCE_NOT_FOUND
                if not is_unknown or not await self._has_files(workspace, name):
                    raise
        return None, path

    async def _has_files(self, workspace: str, container: str) -> bool:
        own = await self.places.store_of(Place())
        async for _ in own.walk(storage_uris.folder_of(workspace, container)):
            return True
        return False

    async def _resolved(self, workspace: str, document: JobDocument) -> JobDocument:
        """The document with code, model, environment and compute as they are now."""
        spec = document.deployment
        found: dict[str, object] = {}
        if spec.code_configuration is not None:
            reply = await self._asset(workspace, "codes", spec.code_configuration.code)
            found["code"] = reply.code.spec if reply.code else None
        if spec.model is not None:
            reply = await self._asset(workspace, "models", spec.model)
            found["model"] = reply.model.spec if reply.model else None
        if spec.environment is not None:
            reply = await self._asset(workspace, "environments", spec.environment)
            found["environment"] = reply.environment.spec if reply.environment else None
        about = {**found, "is_low_priority": document.settings.priority < 0}
        if spec.compute is not None:
            name = spec.compute.removeprefix(_REFERENCE)
            query = GetCompute(workspace=workspace, name=name)
            compute = (await self.bus.ask(query, ComputeReply)).compute.spec
            about |= {
                "compute": compute.name,
                "instance_type": compute.size,
                "instances_max": compute.max_instances,
                "is_low_priority": about["is_low_priority"] or compute.tier == "low_priority",
            }
        return document.model_copy(update=about)

    async def _asset(self, workspace: str, kind: str, reference: str) -> AssetReply:
        name, _, version = reference.removeprefix(_REFERENCE).partition(":")
        query = GetAsset.model_validate(
            {"workspace": workspace, "kind": kind, "name": name, "version": version}
        )
        return await self.bus.ask(query, AssetReply)

    async def _check_output(self, job: JobRecord) -> None:
        settings, to = job.settings, job.document.to_place
        if settings.output_action != "append_row":
            return
        key = joined(to.path, settings.output_file_name)
        if await (await self.places.store_of(to)).exists(key):
            raise HeadgateError(
                ErrorCode.OUTPUT_EXISTS,
                f"{job.document.output.uri.rstrip('/')}/{settings.output_file_name} exists "
                "already, and outputs never replace a file; choose another output_file_name or "
                "output path",
                target="outputs.uri",
            )


def _single(given: dict[str, T], what: str) -> T | None:
    """The only entry, whatever it is called."""
    if len(given) > 1:
        raise HeadgateError(
            ErrorCode.BAD_ARGUMENT,
            f"a job of a model deployment has one of {what}, not {len(given)}: "
            f"{', '.join(sorted(given))[:200]}",
            target=what,
        )
    return next(iter(given.values()), None)


async def check_new(database: Database, workspace: str, name: str | None = None) -> None:
    """Refuse a name that is taken, and more jobs at once than a workspace may have."""
    async with database.reading() as session:
        if name and await state.named(session, workspace, name) is not None:
            raise HeadgateError(
                ErrorCode.RESOURCE_EXISTS,
                f"there is a job {name!r} in this workspace already; leave the name out, and "
                "a new one is made",
                target="name",
            )
        if await state.count_active(session, workspace) >= limits.JOBS_ACTIVE_MAX:
            raise HeadgateError(
                ErrorCode.QUOTA_EXCEEDED,
                f"{limits.JOBS_ACTIVE_MAX} jobs of this workspace have not ended, the most at "
                "once; wait for one or cancel it",
            )

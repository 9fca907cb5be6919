"""Routes of datastores. Their secrets are answered by ``listSecrets`` and nowhere else."""

from __future__ import annotations

from collections.abc import Sequence

from aiohttp import web

from headgate.azure import arm_schema, arm_storage
from headgate.azure import arm_storage_answers as answers
from headgate.azure.arm_answers import list_of
from headgate.azure.arm_fields import Json
from headgate.gateway import core
from headgate.gateway.access import Action
from headgate.gateway.backend import (
    Backend,
    deletion_revision,
    require_existing,
    resource_answer,
)
from headgate.gateway.http import Call, Handle, answer
from headgate.gateway.routes import WORKSPACE, Route
from headgate.gateway.sas import container_sas
from headgate.gateway.things import (
    FILTERS,
    REMOVALS,
    answer_list,
    is_chosen,
    is_filtered,
    removal_answer,
)
from headgate_contracts.storage import (
    Datastore,
    DatastoreReply,
    DatastoreSecretReply,
    DatastoresReply,
    DeleteDatastore,
    GetDatastore,
    GetDatastoreSecret,
    ListDatastores,
    PutDatastore,
    RemovedReply,
)

_LIST = f"{WORKSPACE}/datastores"
_ONE = f"{_LIST}/{{name}}"
_SAS_LIFETIME_S = 3_600.0
_SAS_PERMISSIONS = "racwdl"


class Datastores:
    """Handlers of datastores."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    async def _read(self, call: Call) -> Datastore:
        query = GetDatastore(workspace=call.workspace, name=call.params["name"])
        return (await self._backend.ask(query, DatastoreReply)).datastore

    @staticmethod
    def _resource(datastore: Datastore, call: Call) -> Json:
        authority = call.origin.partition("://")[2]
        return arm_storage.datastore_resource(datastore, call.context, authority)

    async def list_all(self, call: Call) -> web.StreamResponse:
        only_default = core.read_flag(call.query, "isDefault")

        async def part(after: str, limit: int) -> tuple[Sequence[Datastore], str]:
            query = ListDatastores(workspace=call.workspace, after=after, limit=limit)
            reply = await self._backend.ask(query, DatastoresReply)
            return reply.datastores, reply.after

        def is_wanted(item: Datastore) -> bool:
            spec = item.spec
            is_right = only_default in (None, item.is_default)
            return is_right and is_chosen(call, spec.name, spec.tags, spec.properties)

        narrow = is_wanted if only_default is not None or is_filtered(call) else None
        return await answer_list(
            call,
            part,
            lambda item: self._resource(item, call),
            narrow,
            is_kept_so=not core.has_order(call.query),
        )

    async def get(self, call: Call) -> web.StreamResponse:
        found = await self._read(call)
        return resource_answer(call, self._resource(found, call), found.revision)

    async def put(self, call: Call) -> web.StreamResponse:
        body, condition = await call.json(), call.condition
        spec = arm_storage.datastore_spec(call.params["name"], body)
        command = PutDatastore(
            workspace=call.workspace,
            spec=spec,
            secret=arm_storage.datastore_secret(spec, body),
            create_only=condition.create_only,
            if_revision=condition.if_revision,
        )
        if condition.must_exist and condition.if_revision is None:
            await require_existing(self._read, call)
        reply = await self._backend.ask(command, DatastoreReply, arm_storage.DATASTORE)
        stored = reply.datastore
        return resource_answer(
            call, self._resource(stored, call), stored.revision, created=reply.created
        )

    async def delete(self, call: Call) -> web.StreamResponse:
        revision = await deletion_revision(self._read, call)
        command = DeleteDatastore(
            workspace=call.workspace, name=call.params["name"], if_revision=revision
        )
        return removal_answer((await self._backend.ask(command, RemovedReply)).existed)

    async def list_secrets(self, call: Call) -> web.StreamResponse:
        """The stored secret; for a built-in datastore a signature that lives for an hour."""
        query = GetDatastoreSecret(workspace=call.workspace, name=call.params["name"])
        reply = await self._backend.ask(query, DatastoreSecretReply)
        spec = reply.datastore.spec
        if not reply.datastore.is_built_in:
            return answer(arm_storage.secrets_body(spec.credentials.type, reply.secret))
        signature = await container_sas(
            self._backend,
            call.principal,
            call.workspace,
            spec.container_name,
            _SAS_PERMISSIONS,
            _SAS_LIFETIME_S,
        )
        return answer(arm_storage.secrets_body("sas", signature))

    def routes(self) -> tuple[Route[Handle], ...]:
        page = ("$skip", "$top", "count", "isDefault", "orderBy", "orderByAsc", *FILTERS)
        return (
            Route(
                "GET",
                _LIST,
                self.list_all,
                "List datastores",
                query=page,
                reply=list_of(answers.DATASTORE),
            ),
            Route(
                "GET",
                _ONE,
                self.get,
                "Read a datastore, without its secret",
                reply=answers.DATASTORE,
                tagged=True,
            ),
            Route(
                "PUT",
                _ONE,
                self.put,
                "Create or replace a datastore",
                query=("skipValidation",),
                body=arm_schema.DATASTORE,
                reply=answers.DATASTORE,
                tagged=True,
                conditional=True,
                answers={200: "updated", 201: "created"},
            ),
            Route(
                "DELETE",
                _ONE,
                self.delete,
                "Forget a datastore; what lies in it stays",
                conditional=True,
                answers=REMOVALS,
            ),
            Route(
                "POST",
                f"{_ONE}/listSecrets",
                self.list_secrets,
                "Read a datastore's secret",
                reply=answers.SECRETS,
                action=Action.WRITE,
            ),
        )

"""Opens datastores: somebody's bucket or container, with the credentials that the registry keeps.

A secret is asked for when a datastore is opened, and again after a while; it is never written down.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from headgate.runtime import remote
from headgate.runtime.bus import Bus
from headgate.runtime.networks import Network
from headgate.runtime.store import Store
from headgate_contracts import limits
from headgate_contracts.errors import ErrorCode, HeadgateError
from headgate_contracts.storage import DatastoreSecretReply, DatastoreSpec, GetDatastoreSecret

AGAIN_AFTER_S = 30.0
_SERVICE_PRINCIPAL = ("tenant_id", "client_id")


@dataclass(frozen=True, slots=True)
class Opening:
    """What an object store is opened with: a URL, its options, and where it connects to."""

    url: str
    options: Mapping[str, Any]
    endpoint: str


def opening(spec: DatastoreSpec, secret: str) -> Opening:
    """How a datastore is opened. Raises HeadgateError for a web server, which is no store."""
    match spec.type:
        case "s3":
            return _of_s3(spec, secret)
        case "gcs":
            return _of_gcs(spec, secret)
        case "azure_blob":
            return _of_azure(spec, secret)
    raise only_read(spec)


def only_read(spec: DatastoreSpec) -> HeadgateError:
    """What is said when a web server is taken for a store."""
    return HeadgateError(
        ErrorCode.BAD_ARGUMENT,
        f"the datastore {spec.name!r} is a web server: jobs read single files of it (uri_file), "
        "and write nothing there; choose another place for the output",
        target="outputs.uri",
    )


def web_address(spec: DatastoreSpec, path: str) -> str:
    """The address of a file of a datastore that is a web server."""
    return f"{spec.protocol}://{spec.container_name.rstrip('/')}/{quote(path)}"


def _of_s3(spec: DatastoreSpec, secret: str) -> Opening:
    host = spec.endpoint or f"s3.{spec.region}.amazonaws.com"
    options: dict[str, Any] = {"endpoint": f"{spec.protocol}://{host}", "region": spec.region}
    if spec.credentials.type == "access_key":
        options |= {
            "access_key_id": spec.credentials.access_key_id,
            "secret_access_key": secret,
        }
    else:
        options["skip_signature"] = True
    return Opening(f"s3://{spec.container_name}", options, options["endpoint"])


def _of_gcs(spec: DatastoreSpec, secret: str) -> Opening:
    # Said even where it is the default: a key file may name another server.
    base = f"{spec.protocol}://{spec.endpoint or 'storage.googleapis.com'}"
    options: dict[str, Any] = {"base_url": base}
    if spec.credentials.type == "service_account":
        options["service_account_key"] = secret
    else:
        options["skip_signature"] = True
    return Opening(f"gs://{spec.container_name}", options, base)


def _of_azure(spec: DatastoreSpec, secret: str) -> Opening:
    account, credentials = spec.account_name, spec.credentials
    # A server of one's own has the account in the path, as Azure's emulator has it.
    is_own = ":" in spec.endpoint
    host = f"{spec.endpoint}/{account}" if is_own else f"{account}.blob.{spec.endpoint}"
    options: dict[str, Any] = {"endpoint": f"{spec.protocol}://{host}", "account_name": account}
    match credentials.type:
        case "account_key":
            options["account_key"] = secret
        case "sas":
            options["sas_key"] = secret.removeprefix("?")
        case "service_principal":
            options |= {name: getattr(credentials, name) for name in _SERVICE_PRINCIPAL}
            options["client_secret"] = secret
            if credentials.authority_url:
                options["authority_host"] = credentials.authority_url
        case _:
            options["skip_signature"] = True
    return Opening(f"az://{spec.container_name}", options, options["endpoint"])


@dataclass(frozen=True, slots=True)
class _Open:
    reply: DatastoreSecretReply
    store: Store
    at: float


class Datastores:
    """Datastores by workspace and name; each stays open, and is looked at again now and then."""

    def __init__(self, bus: Bus, networks: Sequence[Network] = ()) -> None:
        """``networks`` may be connected to although they are not public."""
        self._bus = bus
        self._networks = networks
        self._open: dict[tuple[str, str], _Open] = {}

    async def open(self, workspace: str, name: str) -> Store:
        """The store behind a datastore.

        Raises HeadgateError: ResourceNotFound, or UriNotAllowed for a server that is not public.
        """
        now, key = self._bus.clock.monotonic(), (workspace, name)
        known = self._open.get(key)
        if known is not None and now - known.at < AGAIN_AFTER_S:
            return known.store
        query = GetDatastoreSecret(workspace=workspace, name=name)
        reply = await self._bus.ask(query, DatastoreSecretReply)
        if known is not None and known.reply == reply:
            store = known.store
        else:
            found = opening(reply.datastore.spec, reply.secret)
            await self._check(name, found)
            store = Store(found.url, **found.options)
        if len(self._open) >= limits.DATASTORES_OPEN_MAX:
            self._open.clear()
        self._open[key] = _Open(reply, store, now)
        return store

    async def _check(self, name: str, found: Opening) -> None:
        if not await remote.leads_out(found.endpoint, self._networks):
            raise HeadgateError(
                ErrorCode.URI_NOT_ALLOWED,
                f"the server of the datastore {name!r} has an address that is not public; jobs "
                "reach it once the administrator lists its network in batch_networks",
                target="endpoint",
            )

"""The client's calls about access: who am I, tokens, identities, credentials of endpoints."""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import quote

from headgate.azure.arm_fields import Json
from headgate.client.api import Client, Found
from headgate.client.http import API_VERSION, Answer, not_understood
from headgate.runtime.clock import new_id
from headgate_contracts.errors import ErrorCode, HeadgateError
from headgate_contracts.identity import DATA_AUDIENCE
from headgate_contracts.resources import AuthMode, EndpointSpec


class Access:
    """What a session with a Headgate can be asked about access. Methods raise HeadgateError."""

    def __init__(self, client: Client) -> None:
        self._http = client.http
        self._context = client.context
        self._identities = (
            f"/subscriptions/{self._context.subscription}"
            f"/resourceGroups/{self._context.resource_group}"
            "/providers/Microsoft.ManagedIdentity/userAssignedIdentities"
        )

    async def whoami(self) -> Json:
        """Who the token of this session speaks for."""
        return (await self._http.send("GET", "/whoami")).object

    # --- tokens --------------------------------------------------------------------------------

    async def create_token(self, name: str, grants: Sequence[str], lifetime: str = "") -> Json:
        """``grants`` as ``<workspace>/<role>``, ``lifetime`` as ISO 8601 writes it."""
        body: Json = {"name": name, "grants": list(grants)}
        if lifetime:
            body["lifetime"] = lifetime
        # With the key it is safe to ask again: a second token is never made.
        headers = {"Idempotency-Key": new_id()}
        return (
            await self._http.send(
                "POST", "/access/tokens", body=body, headers=headers, repeatable=True
            )
        ).object

    async def list_tokens(self) -> list[Json]:
        return _items((await self._http.send("GET", "/access/tokens")).object)

    async def rotate_signing_key(self, *, drop_old: bool) -> None:
        """New tokens are signed with a new key; with ``drop_old`` all others end."""
        await self._http.send("POST", "/access/rotateSigningKey", body={"dropOld": drop_old})

    async def revoke_token(self, token_id: str) -> None:
        await self._http.send("DELETE", f"/access/tokens/{quote(token_id, safe='')}")

    # --- managed identities --------------------------------------------------------------------

    async def put_identity(self, name: str, grants: Sequence[str]) -> Json:
        body = {"location": self._context.location, "properties": {"grants": list(grants)}}
        return (await self._identity("PUT", name, body)).object

    async def get_identity(self, name: str) -> Json:
        return (await self._identity("GET", name)).object

    async def list_identities(self) -> list[Json]:
        return _items((await self._identity("GET")).object)

    async def delete_identity(self, name: str) -> bool:
        """Whether there was one."""
        return (await self._identity("DELETE", name)).is_removal

    async def _identity(self, method: str, name: str = "", body: Json | None = None) -> Answer:
        path = f"{self._identities}/{quote(name, safe='')}" if name else self._identities
        query = {"api-version": API_VERSION, "workspace": self._context.workspace}
        return await self._http.send(method, path, query=query, body=body)

    # --- endpoints -----------------------------------------------------------------------------

    async def credentials(self, endpoint: Found[EndpointSpec]) -> Json:
        """What opens an endpoint, as ``az`` prints it: keys or a token, as its auth_mode says."""
        spec = endpoint.spec
        path = f"{self._context.endpoint_id(spec.name)}/"
        query = {"api-version": API_VERSION}
        if spec.auth_mode is AuthMode.AAD_TOKEN:
            body = {"resource": DATA_AUDIENCE}
            answer = await self._http.send("POST", "/oauth2/token", body=body, repeatable=True)
            return {
                "accessToken": answer.object.get("access_token"),
                "expiryTimeUtc": answer.object.get("expires_on"),
                "tokenType": "Bearer",
            }
        action = "listKeys" if spec.auth_mode is AuthMode.KEY else "token"
        try:
            answer = await self._http.send("POST", path + action, query=query, repeatable=True)
        except HeadgateError as error:
            if error.error.code is ErrorCode.FORBIDDEN and spec.auth_mode is AuthMode.KEY:
                raise _keys_withheld(spec.name, error) from None
            raise
        return answer.object

    async def scoring_secret(self, endpoint: Found[EndpointSpec]) -> str:
        """The key or token that a request to the endpoint shows."""
        found = await self.credentials(endpoint)
        secret = found.get("primaryKey") or found.get("accessToken")
        if not isinstance(secret, str):
            raise not_understood()
        return secret


def _keys_withheld(endpoint: str, error: HeadgateError) -> HeadgateError:
    return HeadgateError(
        ErrorCode.FORBIDDEN,
        f"{error.error.message}: the endpoint {endpoint!r} is opened by its keys (auth_mode key), "
        "which are for owners; with auth_mode aml_token or aad_token the role operator is enough",
    )


def _items(body: Json) -> list[Json]:
    items = body.get("value")
    if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
        raise not_understood()
    return items

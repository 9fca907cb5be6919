"""The identity service's answers about tokens and managed identities."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from headgate.identity import core, state
from headgate.identity.relay import Relay
from headgate.identity.signer import Signer
from headgate.runtime.answers import Request
from headgate.runtime.bus import Handler
from headgate.runtime.clock import Clock, new_id
from headgate.runtime.outbox import Outbox
from headgate.runtime.tables import Database
from headgate_contracts import identity, limits
from headgate_contracts.envelope import Done
from headgate_contracts.errors import ErrorCode, HeadgateError


@dataclass(frozen=True, slots=True)
class Handlers:
    """Everything the answers need, and one method per message."""

    database: Database
    outbox: Outbox
    relay: Relay
    signer: Signer
    clock: Clock

    def table(self) -> Mapping[Request, Handler]:
        """Which message is answered by which method."""
        return {
            identity.CreateToken: self.create_token,
            identity.RevokeToken: self.revoke_token,
            identity.ListTokens: self.list_tokens,
            identity.IssueToken: self.issue_token,
            identity.RotateSigningKey: self.rotate_signing_key,
            identity.PutIdentity: self.put_identity,
            identity.DeleteIdentity: self.delete_identity,
            identity.GetIdentity: self.get_identity,
            identity.ListIdentities: self.list_identities,
        }

    # --- tokens ---

    async def create_token(self, command: identity.CreateToken) -> identity.TokenReply:
        core.check_token_name(command.name)
        now = self.clock.now()
        token = core.access_token(
            new_id(), command.name, command.grants, command.by, now, command.lifetime_s
        )
        created = identity.TokenCreated(
            token_id=token.id,
            name=token.name,
            by=command.by,
            grants=token.grants,
            expires_at=token.expires_at,
        )
        async with self.database.transaction() as session:
            core.check_room(await state.count_living_tokens(session, now))
            await state.save_token(session, token)
            self.outbox.add(session, (created,), cause=command.id)
        self.outbox.wake()
        secret, _ = self.signer.sign(
            subject=token.subject,
            name=token.name,
            audiences=identity.AUDIENCES,
            grants=token.grants,
            token_id=token.id,
            now=now,
            lifetime_s=command.lifetime_s,
        )
        return identity.TokenReply(token=token, secret=secret)

    async def revoke_token(self, command: identity.RevokeToken) -> identity.TokenReply:
        async with self.database.transaction() as session:
            token = await state.token(session, command.token_id)
            if token is None or not core.is_within(token.grants, command.workspaces):
                raise core.no_token(command.token_id)
            after = core.revoked(token, self.clock.now())
            if after != token:
                await state.save_token(session, after)
                event = identity.TokenRevoked(token_id=token.id, name=token.name, by=command.by)
                self.outbox.add(session, (event,), cause=command.id)
        self.outbox.wake()
        self.relay.wake()
        return identity.TokenReply(token=after)

    async def list_tokens(self, query: identity.ListTokens) -> identity.TokensReply:
        async with self.database.reading() as session:
            found = await state.tokens(session)
        shown = (token for token in found if core.is_within(token.grants, query.workspaces))
        return identity.TokensReply(tokens=tuple(shown))

    async def issue_token(self, command: identity.IssueToken) -> identity.IssuedTokenReply:
        core.check_issue(command)
        now = self.clock.now()
        token, expires_at = self.signer.sign(
            subject=command.subject,
            name=command.subject,
            audiences=command.audiences,
            grants=command.grants,
            token_id=new_id(),
            now=now,
            lifetime_s=command.lifetime_s,
            via=command.via,
            storage=command.storage,
        )
        refresh_after = core.refresh_after(now, command.lifetime_s)
        return identity.IssuedTokenReply(
            token=token, expires_at=expires_at, refresh_after=refresh_after
        )

    async def rotate_signing_key(self, command: identity.RotateSigningKey) -> Done:
        async with self.database.transaction() as session:
            key = await self.signer.replace(session, drop_old=command.drop_old)
            event = identity.SigningKeyRotated(
                key_id=key.kid, dropped_old=command.drop_old, by=command.by
            )
            self.outbox.add(session, (event,), cause=command.id)
        await self.signer.rotate()
        self.outbox.wake()
        self.relay.wake()
        return Done()

    # --- managed identities ---

    async def put_identity(self, command: identity.PutIdentity) -> identity.IdentityReply:
        now = self.clock.now()
        place = (command.workspace, command.kind, command.name)
        async with self.database.transaction() as session:
            stored = await state.managed(session, *place)
            if stored is None:
                await self._check_room(command.workspace)
            value = identity.ManagedIdentity(
                workspace=command.workspace,
                name=command.name,
                kind=command.kind,
                grants=command.grants,
                tags=command.tags,
                created_at=stored.created_at if stored else now,
                updated_at=now,
            )
            await state.save_managed(session, value)
            what = "updated" if stored else "created"
            event = identity.IdentityChanged(
                workspace=command.workspace,
                name=command.name,
                what="updated" if stored else "created",
                grants=command.grants,
                by=command.by,
            )
            self.outbox.add(session, (event,), cause=command.id)
        self.outbox.wake()
        return identity.IdentityReply(identity=self._complete(value), created=what == "created")

    async def _check_room(self, workspace: str) -> None:
        async with self.database.reading() as session:
            count = len(await state.all_managed(session, workspace))
        if count >= limits.IDENTITIES_PER_WORKSPACE_MAX:
            raise HeadgateError(
                ErrorCode.QUOTA_EXCEEDED,
                f"a workspace has at most {limits.IDENTITIES_PER_WORKSPACE_MAX} identities",
            )

    async def delete_identity(self, command: identity.DeleteIdentity) -> Done:
        async with self.database.transaction() as session:
            if await state.managed(session, command.workspace, "user", command.name) is None:
                raise core.no_identity(command.name)
            await state.forget_managed(session, command.workspace, "user", command.name)
            event = identity.IdentityChanged(
                workspace=command.workspace, name=command.name, what="deleted", by=command.by
            )
            self.outbox.add(session, (event,), cause=command.id)
        self.outbox.wake()
        return Done()

    async def get_identity(self, query: identity.GetIdentity) -> identity.IdentityReply:
        async with self.database.reading() as session:
            stored = await state.managed(session, query.workspace, query.kind, query.name)
        found = core.managed(
            self.signer.installation, query.workspace, query.name, query.kind, stored
        )
        if found is None:
            raise core.no_identity(query.name)
        return identity.IdentityReply(identity=found)

    async def list_identities(self, query: identity.ListIdentities) -> identity.IdentitiesReply:
        async with self.database.reading() as session:
            found = await state.all_managed(session, query.workspace)
        return identity.IdentitiesReply(identities=tuple(map(self._complete, found)))

    def _complete(self, stored: identity.ManagedIdentity) -> identity.ManagedIdentity:
        found = core.managed(
            self.signer.installation, stored.workspace, stored.name, stored.kind, stored
        )
        assert found is not None
        return found

"""The identity service over the bus: tokens that count, count no longer, and survive restarts."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest
from nats.js.errors import KeyNotFoundError
from sqlalchemy import text

from headgate.runtime import keyring
from headgate.runtime.clock import new_id
from headgate.runtime.tables import open_database
from headgate_contracts import identity, registry, streams, subjects
from headgate_contracts.envelope import Done
from headgate_contracts.errors import ErrorCode, HeadgateError
from headgate_contracts.identity import Grant, Role
from headgate_contracts.resources import EndpointSpec, Identity
from identity.conftest import World
from rawnats import raw_nats

OPERATOR = (Grant(workspace="local", role=Role.OPERATOR),)


async def create(world: World, name: str = "ci", **fields: object) -> identity.TokenReply:
    command = identity.CreateToken(name=name, grants=OPERATOR, by="tester", **fields)
    return await world.ask(command, identity.TokenReply)


async def refused(code: ErrorCode, asked: object, *words: str) -> None:
    with pytest.raises(HeadgateError) as caught:
        await asked  # type: ignore[misc]
    assert caught.value.error.code is code, caught.value
    for word in words:
        assert word in str(caught.value)


async def test_a_created_token_speaks_for_its_name_with_its_roles(world: World) -> None:
    reply = await create(world)
    found = world.check(reply.secret)
    assert (found.subject, found.token_id, found.grants) == ("ci", reply.token.id, OPERATOR)
    assert found.expires_at == reply.token.expires_at
    assert world.check(reply.secret, identity.DATA_AUDIENCE).subject == "ci"
    assert (await world.ask(identity.ListTokens(), identity.TokensReply)).tokens == (reply.token,)


async def test_a_revoked_token_and_all_that_came_of_it_count_no_longer(world: World) -> None:
    reply = await create(world)
    issue = identity.IssueToken(
        subject="ci", audiences=(identity.CONTROL_AUDIENCE,), grants=OPERATOR, via=reply.token.id
    )
    derived = (await world.ask(issue, identity.IssuedTokenReply)).token
    other = (await create(world, "other")).secret
    assert world.check(derived).via == reply.token.id
    await world.ask(identity.RevokeToken(token_id=reply.token.id), identity.TokenReply)
    await world.until(lambda: bool(world.trust.revoked))
    for secret in (reply.secret, derived):
        with pytest.raises(HeadgateError, match="revoked"):
            world.check(secret)
    assert world.check(other).subject == "other"
    again = await world.ask(identity.RevokeToken(token_id=reply.token.id), identity.TokenReply)
    assert again.token.revoked_at is not None


async def test_whoever_owns_one_workspace_deals_with_its_tokens_only(world: World) -> None:
    mine = await create(world)
    grants = (*OPERATOR, Grant(workspace="other", role=Role.READER))
    both = await world.ask(identity.CreateToken(name="both", grants=grants), identity.TokenReply)
    listed = await world.ask(identity.ListTokens(workspaces=("local",)), identity.TokensReply)
    assert listed.tokens == (mine.token,)
    revoke = identity.RevokeToken(token_id=both.token.id, workspaces=("local",))
    await refused(ErrorCode.RESOURCE_NOT_FOUND, world.ask(revoke, identity.TokenReply))


async def test_tokens_and_revocations_outlive_a_restart(world: World) -> None:
    kept, gone = await create(world), await create(world, "gone")
    await world.ask(identity.RevokeToken(token_id=gone.token.id), identity.TokenReply)
    issuer = world.trust.issuers[0].issuer
    await world.stop()
    await world.start()
    await world.until(lambda: bool(world.trust.revoked))
    assert world.trust.issuers[0].issuer == issuer
    assert world.check(kept.secret).subject == "ci"
    with pytest.raises(HeadgateError, match="revoked"):
        world.check(gone.secret)


async def test_a_new_signing_key_leaves_old_tokens_alone_or_ends_them(world: World) -> None:
    before = (await create(world, "before")).secret
    await world.ask(identity.RotateSigningKey(), Done)
    await world.until(lambda: len(world.trust.issuers[0].keys) == 2)
    between = (await create(world, "between")).secret
    assert world.check(before).subject == "before"
    assert world.check(between).subject == "between"
    await world.ask(identity.RotateSigningKey(drop_old=True), Done)
    await world.until(lambda: len(world.trust.issuers[0].keys) == 1)
    for secret in (before, between):
        with pytest.raises(HeadgateError, match="retired"):
            world.check(secret)
    assert world.check((await create(world, "after")).secret).subject == "after"


async def test_an_emptied_trust_bucket_is_filled_again(world: World) -> None:
    secret = (await create(world)).secret
    await world.stop()
    bus = await world.connect("bootstrap")
    await bus.js.purge_stream(f"KV_{streams.TRUST.name}")
    await bus.close()
    await world.start()

    async def is_back() -> bool:
        bucket = await world.probe.js.key_value(streams.TRUST.name)
        try:
            return bool((await bucket.get(streams.TRUST_KEY)).value)
        except KeyNotFoundError:
            return False

    await world.until(is_back)
    assert world.check(secret).subject == "ci"


async def test_the_secret_is_shown_once_and_stands_nowhere(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    secret = (await create(world)).secret
    js = world.probe.js

    async def is_told() -> bool:
        return (await js.stream_info(streams.EVENTS.name)).state.messages > 0

    await world.until(is_told)
    last = (await js.stream_info(streams.EVENTS.name)).state.last_seq
    events = [
        (await js.get_msg(streams.EVENTS.name, number)).data or b"" for number in range(1, last + 1)
    ]
    database = await open_database(
        world.settings.database_url("identity"),
        Path(__file__).parents[2] / "services/headgate/identity/migrations",
        "identity_version",
    )
    rows = []
    async with database.reading() as session:
        for table in ("signing_key", "token", "managed", "fact", "outbox"):
            connection = await session.connection()
            found = await connection.execute(text(f"SELECT * FROM identity_{table}"))
            rows += [str(tuple(row)) for row in found]
    await database.close()
    signature = secret.rpartition(".")[2]
    places = [*(event.decode() for event in events), *rows, caplog.text]
    assert rows
    assert [place[:80] for place in places if signature in place] == []


async def test_a_name_for_a_token_must_be_one(world: World) -> None:
    answer = await world.probe.nc.request(
        subjects.rpc("identity", "create_token"),
        json.dumps({"name": "No Name!", "grants": [{"workspace": "w", "role": "reader"}]}).encode(),
        timeout=5,
    )
    assert answer.headers and "Nats-Service-Error-Code" in answer.headers


async def test_no_token_bears_the_name_of_the_one_that_came_with_the_installation(
    world: World,
) -> None:
    grants = (Grant(workspace="w", role=Role.READER),)
    command = identity.CreateToken(name="admin", grants=grants)
    await refused(ErrorCode.INVALID_NAME, world.ask(command, identity.TokenReply))


# --- managed identities ------------------------------------------------------------------------


async def test_an_endpoint_has_an_identity_that_reads_its_workspace(world: World) -> None:
    query = identity.GetIdentity(workspace="local", name="shop", kind="system")
    found = (await world.ask(query, identity.IdentityReply)).identity
    assert found.grants == (Grant(workspace="local", role=Role.READER),)
    assert found.principal_id != found.client_id
    assert (await world.ask(query, identity.IdentityReply)).identity == found
    await refused(
        ErrorCode.RESOURCE_NOT_FOUND,
        world.ask(identity.GetIdentity(workspace="local", name="shop"), identity.IdentityReply),
    )


async def test_named_identities_come_change_and_go(world: World) -> None:
    put = identity.PutIdentity(workspace="local", name="trainer", grants=OPERATOR)
    assert (await world.ask(put, identity.IdentityReply)).created
    assert not (await world.ask(put, identity.IdentityReply)).created
    listed = await world.ask(identity.ListIdentities(workspace="local"), identity.IdentitiesReply)
    assert [each.name for each in listed.identities] == ["trainer"]
    await world.ask(identity.DeleteIdentity(workspace="local", name="trainer"), Done)
    await refused(
        ErrorCode.RESOURCE_NOT_FOUND,
        world.ask(identity.DeleteIdentity(workspace="local", name="trainer"), Done),
    )


async def deployed(world: World, endpoint: str, identities: Identity | None = None) -> None:
    spec = EndpointSpec(name=endpoint, identity=identities)
    await world.ask(registry.PutEndpoint(workspace="local", spec=spec), registry.EndpointReply)
    code = registry.CodeSpec(name="c", version="1", path="uploads/c", sha256="0" * 64)
    await world.ask(registry.PutCode(workspace="local", spec=code), registry.AssetReply)
    deployment = registry.DeploymentSpec(
        name="blue",
        endpoint_name=endpoint,
        code_configuration={"code": "azureml:c:1", "scoring_script": "score.py"},
    )
    await world.ask(
        registry.PutDeployment(workspace="local", spec=deployment), registry.DeploymentReply
    )


async def request(world: World, endpoint: str, deployment: str = "blue", **wanted: str) -> dict:
    """What an instance is answered, asking with its own credentials."""
    token = keyring.mint_worker_token(
        world.server.creds("identity").parent,
        endpoint,
        deployment,
        "i1",
        expires_at=world.clock.now() + 60,
    )
    subject, inbox = subjects.identity(endpoint, deployment, "i1"), subjects.worker_inbox("i1")
    async with raw_nats(world.server.url, token=token) as connection:
        assert await connection.subscribe_allowed(f"{inbox}.>")
        question = json.dumps(wanted).encode()
        # The server counts the answers to one reply subject and stops at eight, so each is new.
        reply = f"{inbox}.{new_id()}"
        assert await connection.publish_allowed(subject, question, reply=reply)
        return json.loads((await connection.receive())[2])


async def test_an_instance_gets_a_token_of_its_endpoints_identity(world: World) -> None:
    await deployed(world, "shop")
    said = await request(world, "shop", resource="https://management.azure.com/")
    found = world.check(said["access_token"])
    assert found.subject == "endpoint:local/shop"
    assert found.grants == (Grant(workspace="local", role=Role.READER),)
    assert said["expires_on"] == int(found.expires_at)
    with pytest.raises(HeadgateError, match="audience"):
        world.check(said["access_token"], identity.STORAGE_AUDIENCE)


async def test_only_what_the_endpoint_lists_and_what_exists_is_answered(world: World) -> None:
    put = identity.PutIdentity(workspace="local", name="trainer", grants=OPERATOR)
    named = (await world.ask(put, identity.IdentityReply)).identity
    await deployed(world, "shop")
    await deployed(
        world,
        "mall",
        Identity(
            type="user_assigned", user_assigned_identities=("/x/userAssignedIdentities/trainer",)
        ),
    )
    wanted = {"resource": identity.CONTROL_AUDIENCE, "client_id": named.client_id}
    assert (await request(world, "shop", **wanted))["error"]["code"] == "ResourceNotFound"
    found = world.check((await request(world, "mall", **wanted))["access_token"])
    assert (found.subject, found.grants) == ("identity:local/trainer", OPERATOR)
    only = await request(world, "mall", resource=identity.CONTROL_AUDIENCE)
    assert only["client_id"] == named.client_id
    assert "error" in await request(world, "shop", resource="https://elsewhere.example")
    assert "error" in await request(world, "shop", "green", resource=identity.CONTROL_AUDIENCE)
    assert "error" in await request(world, "nobody", resource=identity.CONTROL_AUDIENCE)

"""Two workspaces, one of everything in each: a crawler as the one finds nothing of the other.

Whatever it asks for by an id of the other workspace is answered as an id that does not exist.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import pytest
import pytest_asyncio

from gateway.harness import Reply, publish
from gateway.house import House, open_house, workspace_path
from headgate.azure.uploads import folder_digest
from headgate.gateway import events
from headgate.gateway.routes import Route
from headgate_contracts.errors import ErrorCode, WireError
from headgate_contracts.nodes import IDLE, Node
from headgate_contracts.provisioning import InstanceLost

pytestmark = pytest.mark.asyncio(loop_scope="module")

API = "api-version=2025-09-01"
CANARY = "canary-of-the-other-tenant"
_KIND = re.compile(r"/(models|environments|codes)/\{name\}")
HASHES = {"alpha": "a1" * 32, "beta": "b2" * 32}


@dataclass
class Tenant:
    """A workspace with one of everything, and its owner's token."""

    name: str
    token: str
    ids: dict[str, str]

    @property
    def path(self) -> str:
        return workspace_path(self.name)


@dataclass
class Street:
    """Both tenants of one house."""

    house: House
    alpha: Tenant
    beta: Tenant

    async def send(self, verb: str, path: str, body: Any = None, **more: Any) -> Reply:
        """A request of alpha's owner."""
        return await self.house.api.send(verb, path, body, token=self.alpha.token, **more)


async def settle(house: House, name: str) -> Tenant:
    """Fill a workspace."""
    api, token, path = house.api, await house.mint(f"{name}/owner"), workspace_path(name)
    ids = {
        "endpoint": f"{name}-endpoint",
        "deployment": f"{name}-blue",
        "version": f"{name}-1",
        "label": "latest",
        "instance": f"i{name}",
    }
    hashed = HASHES[name]
    about = {"description": f"{CANARY} {name}", "tags": {"note": f"{CANARY} {name}"}}
    ids["digest"], ids["path"] = await send_folder(house, path, name, token)
    bodies: dict[str, Any] = {
        "models": {"modelUri": f"uploads/{hashed}/m.pkl", **about},
        "environments": {"image": f"image-{CANARY}", **about},
        "codes": {"codeUri": f"uploads/{hashed}", "properties": {"hash_sha256": hashed}, **about},
    }
    for kind, properties in bodies.items():
        ids[kind] = f"{name}-{kind}"
        put = f"{path}/{kind}/{ids[kind]}/versions/{ids['version']}"
        reply = await api.put(put, {"properties": properties}, token=token)
        assert reply.status == 201, reply.body
    endpoint = f"{path}/onlineEndpoints/{ids['endpoint']}"
    body = {"tags": about["tags"], "properties": {"description": about["description"]}}
    assert (await api.put(endpoint, body, token=token)).status == 201
    ids["batch"] = f"{name}-batch"
    batch = f"{path}/batchEndpoints/{ids['batch']}"
    assert (await api.put(batch, {"tags": about["tags"]}, token=token)).status == 201
    reply = await api.put(
        f"{endpoint}/deployments/{ids['deployment']}",
        deployment_body(ids["models"], ids["environments"], ids["codes"], ids["version"]),
        token=token,
    )
    assert reply.status == 201, reply.body
    ids["operation"] = reply.headers["Azure-AsyncOperation"].rpartition("/")[2]
    secret = await api.post(
        "/access/tokens", {"name": f"{name}-token", "grants": [f"{name}/reader"]}, token=token
    )
    ids["token"] = secret.body["id"]
    identity = {"location": "x", "tags": about["tags"], "properties": {"grants": []}}
    ids["identity"] = f"{name}-identity"
    made = await api.put(
        f"{identity_path(ids['identity'])}?workspace={name}", identity, token=token
    )
    assert made.status == 201, made.body
    place = f"{ids['endpoint']}/{ids['deployment']}/inference-server"
    house.world.logs[place] = [f"{CANARY} {name}"]
    await publish(
        house.world.provisioner,
        InstanceLost(
            workspace=name,
            endpoint=ids["endpoint"],
            deployment=ids["deployment"],
            instance=ids["instance"],
            reason=f"{CANARY} {name}",
        ),
    )
    return Tenant(name, token, ids)


async def send_folder(house: House, workspace: str, name: str, token: str) -> tuple[str, str]:
    """Upload a folder of one file as our own client does; its digest, and the file's path."""
    content, path = f"{CANARY} {name}".encode(), f"{name}.txt"
    sha256 = hashlib.sha256(content).hexdigest()
    digest = folder_digest([(path, sha256)])
    folder = f"{workspace}/uploads/{digest}"
    sent = await house.api.put(f"{folder}/{path}", data=content, token=token)
    assert sent.status == 201, sent.body
    files = [{"path": path, "sha256": sha256, "size": len(content)}]
    done = await house.api.post(f"{folder}/complete", {"files": files}, token=token)
    assert done.status == 200, done.body
    return digest, path


def identity_path(name: str) -> str:
    provider = "Microsoft.ManagedIdentity/userAssignedIdentities"
    return f"/subscriptions/s/resourceGroups/g/providers/{provider}/{name}"


def deployment_body(model: str, environment: str, code: str, version: str) -> dict[str, Any]:
    """A deployment with references to assets; a reference with a slash is a whole resource id."""

    def reference(kind: str, name: str) -> str:
        full = f"{name}/versions/{version}"
        return full if "/" in name else f"azureml:{name}:{version}"

    return {
        "properties": {
            "endpointComputeType": "Managed",
            "model": reference("models", model),
            "environmentId": reference("environments", environment),
            "codeConfiguration": {
                "codeId": reference("codes", code),
                "scoringScript": "score.py",
            },
        }
    }


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def street() -> AsyncIterator[Street]:
    async with open_house() as house:
        yield Street(house, await settle(house, "alpha"), await settle(house, "beta"))


def routes(house: House) -> list[Route[Any]]:
    return [r for r in house.gateway.table.routes if "{workspace}" in r.path]


def filled(route: Route[Any], workspace: str, ids: dict[str, str]) -> str:
    """The path with ids of one tenant, as far as there are any for its names."""
    kind = _KIND.search(route.path)
    given = {**ids, "workspace": workspace, "subscription": "s", "resourceGroup": "g"}
    if kind:
        given["name"] = ids[kind[1]]
    if "/batchEndpoints/" in route.path:
        given["endpoint"] = ids["batch"]
    path = re.sub(r"\{(\w+)(?:\.\.\.)?\}", lambda m: given.get(m[1], "x"), route.path)
    return (
        f"{path}?timespan={SPAN}"
        if path.endswith("/metrics") and "timespan" in route.query
        else path
    )


def _is_filled(route: Route[Any], ids: dict[str, str]) -> bool:
    """Whether there is something at this path: not each kind of thing has been made."""
    if "batchEndpoints/{endpoint}/deployments/" in route.path:
        return False
    if "{name}" in route.path and not _KIND.search(route.path):
        return False
    names = set(re.findall(r"\{(\w+)\}", route.path))
    return names <= {*ids, "workspace", "subscription", "resourceGroup", "name"}


def absent(ids: dict[str, str]) -> dict[str, str]:
    """Ids of the same length that nobody has."""
    other = {name: re.sub(r"[a-z0-9]", "z", value) for name, value in ids.items()}
    return {**other, "digest": "0" * 64}


def body_for(route: Route[Any], ids: dict[str, str]) -> Any:
    if route.verb not in ("PUT", "PATCH", "POST"):
        return None
    return {"tags": {"x": "y"}} if route.verb == "PATCH" else {}


def neutral(reply: Reply, ids: dict[str, str]) -> tuple[int, str]:
    """An answer without the ids that it was asked with."""
    text = reply.raw.decode("utf-8", "replace")
    for value in sorted(ids.values(), key=len, reverse=True):
        text = text.replace(value, "*")
    return reply.status, text


def id_bearing(house: House) -> Iterator[Route[Any]]:
    for route in routes(house):
        if re.search(r"\{(?!workspace|subscription|resourceGroup)", route.path):
            yield route


SPAN = "2026-01-01T00:00:00Z/2026-01-01T01:00:00Z"  # not "the last hour", which moves


async def snapshot(street: Street) -> list[tuple[int, Any]]:
    """Everything of beta, as beta sees it."""
    found = []
    for route in routes(street.house):
        if route.verb == "GET":
            path = filled(route, "beta", street.beta.ids)
            reply = await street.house.api.get(path, token=street.beta.token)
            found.append((reply.status, reply.body))
    return found


async def test_each_sees_its_own(street: Street) -> None:
    for route in routes(street.house):
        if route.verb == "GET" and _is_filled(route, street.beta.ids):
            path = filled(route, "beta", street.beta.ids)
            reply = await street.house.api.get(path, token=street.beta.token)
            assert reply.status in (200, 202, 204), path
    assert CANARY in json.dumps(await snapshot(street))


async def test_a_foreign_workspace_looks_like_none(street: Street) -> None:
    before = await snapshot(street)
    for route in routes(street.house):
        body = body_for(route, street.beta.ids)
        reply = await street.send(route.verb, filled(route, "beta", street.beta.ids), body)
        none = await street.send(route.verb, filled(route, "zeta", absent(street.beta.ids)), body)
        assert (reply.status, reply.raw) == (none.status, none.raw), (route.verb, route.path)
        assert reply.status == 404
    assert await snapshot(street) == before


async def test_foreign_ids_in_the_own_workspace_look_like_none(street: Street) -> None:
    """Names of endpoints are the exception: like host names they are unique, and say "taken"."""
    before, gone = await snapshot(street), absent(street.beta.ids)
    checked = 0
    for route in id_bearing(street.house):
        creates = route.verb == "PUT" and route.path.endswith(
            ("{endpoint}", "{version}", "{path...}")
        )
        if creates or route.path.endswith("/startPendingUpload"):
            continue
        body = body_for(route, street.beta.ids)
        reply = await street.send(route.verb, filled(route, "alpha", street.beta.ids), body)
        none = await street.send(route.verb, filled(route, "alpha", gone), body)
        what = (route.verb, route.path)
        assert neutral(reply, street.beta.ids) == neutral(none, gone), what
        # Metrics outlive what they tell of, so those of nobody are answered too: without any value.
        is_empty = reply.body == {"value": []} or "/Microsoft.Insights/" in route.path
        assert reply.status in (204, 400, 404) or is_empty, what
        checked += 1
    assert checked > 15
    taken = await street.send(
        "PUT", f"{street.alpha.path}/onlineEndpoints/{street.beta.ids['endpoint']}", {}
    )
    assert (taken.status, taken.error["code"]) == (409, "ResourceAlreadyExists")
    assert CANARY not in taken.raw.decode()
    assert await snapshot(street) == before


@pytest.mark.parametrize("is_full", [False, True], ids=["short", "resource id"])
@pytest.mark.parametrize("kind", ["models", "environments", "codes"])
async def test_foreign_references_in_a_body_look_like_none(
    street: Street, kind: str, is_full: bool
) -> None:
    own = {k: street.alpha.ids[k] for k in ("models", "environments", "codes")}
    answers = []
    for tenant, ids in (("beta", street.beta.ids), ("beta", absent(street.beta.ids))):
        name = f"{workspace_path(tenant)}/{kind}/{ids[kind]}" if is_full else ids[kind]
        names = {**own, kind: name}
        body = deployment_body(
            names["models"], names["environments"], names["codes"], ids["version"]
        )
        path = f"{street.alpha.path}/onlineEndpoints/{street.alpha.ids['endpoint']}"
        reply = await street.send("PUT", f"{path}/deployments/probe", body)
        assert reply.status in (400, 404), reply.body
        answers.append(neutral(reply, ids))
    assert answers[0] == answers[1]


async def test_lists_searches_and_cursors_show_the_own_only(street: Street) -> None:
    ids = street.beta.ids
    queries = (
        "",
        f"?name={ids['endpoint']}",
        f"?tags=note={quote(CANARY + ' beta')}",
        "?$skip=0&$top=1000",
        f"?hash={HASHES['beta']}&hashVersion=202208",
        "?orderBy=CreatedAtDesc&count=1",
    )
    for route in routes(street.house):
        if route.verb != "GET":
            continue
        for query in queries:
            path = filled(route, "alpha", street.alpha.ids) + query
            text = (await street.send("GET", path)).raw.decode()
            assert f"{CANARY} beta" not in text, path
            assert not any(ids[name] in text for name in ("models", "operation")), path


async def test_logs_are_the_own_ones(street: Street) -> None:
    path = "onlineEndpoints/{endpoint}/deployments/{deployment}/getLogs"
    own = await street.send("POST", f"{street.alpha.path}/{path.format(**street.alpha.ids)}", {})
    assert f"{CANARY} alpha" in own.body["content"]
    for cursor in ("", "0", "1"):
        body = {"cursor": cursor} if cursor else {}
        foreign = f"{street.alpha.path}/{path.format(**street.beta.ids)}"
        reply = await street.send("POST", foreign, body)
        assert reply.status == 404
        assert f"{CANARY} beta" not in reply.raw.decode()


async def test_tokens_and_identities_are_the_own_ones(street: Street) -> None:
    text = (await street.send("GET", "/access/tokens")).raw.decode()
    assert street.alpha.ids["token"] in text and street.beta.ids["token"] not in text
    for verb in ("GET", "PUT", "DELETE"):
        body = {"properties": {"grants": []}} if verb == "PUT" else None
        path = identity_path(street.beta.ids["identity"])
        foreign = await street.send(verb, f"{path}?workspace=beta", body)
        none = await street.send(verb, f"{identity_path('zzz')}?workspace=zeta", body)
        assert (foreign.status, foreign.raw) == (none.status, none.raw)
        assert foreign.status == 404
    tagged = await street.send("PUT", identity_path("zzz"), {"tags": {"workspace": "beta"}})
    assert tagged.status == 404
    listed = await street.send("GET", f"{identity_path('')[:-1]}?workspace=alpha")
    assert [each["name"] for each in listed.body["value"]] == [street.alpha.ids["identity"]]


async def test_status_counts_the_own_only(street: Street) -> None:
    assert (await street.send("GET", "/status")).body["endpoints"] == 1
    token = await street.house.mint("alpha/reader", "beta/reader")
    assert (await street.house.api.get("/status", token=token)).body["endpoints"] == 2


def without_own_attempts(text: str) -> str:
    """The audit repeats the names that a caller has tried in the own workspace."""
    lines = text.splitlines()
    return "\n".join(line for line in lines if "evt.audit.alpha." not in line)


@pytest.mark.parametrize(
    "query", ["", "&filter=instance", "&filter=>", "&workspace=beta", "&filter=endpoint.*.*"]
)
async def test_events_are_the_own_ones(street: Street, query: str) -> None:
    path = f"/events?since=1h&follow=false{query}"
    theirs = await street.house.api.get(path, token=street.beta.token)
    assert "beta-endpoint" in theirs.raw.decode()
    own = without_own_attempts((await street.send("GET", path)).raw.decode())
    assert "beta" not in own
    assert ("alpha-endpoint" in own) == ("workspace=beta" not in query)
    resumed = await street.send("GET", path, headers={"Last-Event-ID": "0"})
    assert "beta" not in without_own_attempts(resumed.raw.decode())


async def test_a_stream_of_events_ends_with_its_token(street: Street) -> None:
    made = await street.send("POST", "/access/tokens", {"name": "eve", "grants": ["alpha/reader"]})
    api, bearer = street.house.api, {"Authorization": f"Bearer {made.body['token']}"}
    async with api.session.get(f"{api.base}/events", headers=bearer) as stream:
        assert stream.status == 200
        assert await stream.content.readline() == b"retry: 1000\n"
        await street.send("DELETE", f"/access/tokens/{made.body['id']}")
        async with asyncio.timeout(15):
            await stream.content.read()


async def test_a_caller_who_follows_the_events_too_often_takes_no_place_of_others(
    street: Street, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "READERS_OF_CALLER_MAX", 2)
    monkeypatch.setattr(events, "KEEP_ALIVE_S", 1e9)  # it is no write that finds readers gone
    monkeypatch.setattr(events, "LOOK_S", 0.05)
    api, path = street.house.api, "/events?follow=false"

    def following() -> Any:
        headers = {"Authorization": f"Bearer {street.alpha.token}"}
        return api.session.get(f"{api.base}/events", headers=headers)

    async with following() as first, following() as second:
        assert (first.status, second.status) == (200, 200)
        refused = await street.send("GET", path)
        assert (refused.status, refused.error["code"]) == (429, "TooManyRequests")
        assert "2 times already" in refused.error["message"]
        assert refused.headers["Retry-After"] == "5"
        other = await api.send("GET", path, token=street.beta.token)
        assert other.status == 200
    async with asyncio.timeout(20):
        while (await street.send("GET", path)).status == 429:  # until the gateway has noticed
            await asyncio.sleep(0.05)


async def test_nodes_are_those_of_the_workspace_and_of_the_compute(street: Street) -> None:
    house = street.house
    scale = {"minNodeCount": 0, "maxNodeCount": 2}
    about = {"vmSize": "Standard_DS3_v2", "scaleSettings": scale}
    compute = {"properties": {"computeType": "AmlCompute", "properties": about}}
    path = f"{street.alpha.path}/computes/pool"
    assert (await street.send("PUT", f"{path}?{API}", compute)).status == 201
    own = {"workspace": street.alpha.name, "job": "j1", "job_name": "nightly", "endpoint": "e",
           "deployment": "d", "started_at": 1.0}  # fmt: skip
    lost = WireError(code=ErrorCode.OUT_OF_MEMORY, message="the node took too much")
    house.world.nodes = [
        Node(id="n1", state="running", processes=2, compute="pool", **own),
        Node(id="n2", state="starting", compute="other", **own),
        Node(id="n3", state="idle", compute="pool", **{**own, "job": IDLE, "job_name": ""}),
        Node(id="n4", state="ended", compute="pool", error=lost, **own),
        Node(id="n5", state="running", compute="pool", **{**own, "workspace": street.beta.name}),
    ]
    listed = await street.send("POST", f"{path}/listNodes?{API}")
    assert listed.body == {"nodes": [
        {"nodeId": "n1", "nodeState": "running", "runId": "nightly"},
        {"nodeId": "n3", "nodeState": "idle", "runId": ""},
    ]}  # fmt: skip
    found = (await street.send("GET", f"{street.alpha.path}/nodes?{API}")).body["value"]
    assert [(each["id"], each["state"], each["compute"], each["job"]) for each in found] == [
        ("n1", "running", "pool", "nightly"), ("n2", "starting", "other", "nightly"),
        ("n3", "idle", "pool", ""), ("n4", "ended", "pool", "nightly"),
    ]  # fmt: skip
    assert found[3]["error"]["message"] == lost.message
    house.world.nodes = []

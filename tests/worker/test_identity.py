"""The identity endpoint of a worker, asked by Azure's own client library."""

from __future__ import annotations

import asyncio
import json
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from azure.identity import ManagedIdentityCredential

from headgate.runtime import keyring, natsd
from headgate_contracts import subjects
from headgate_worker import core, identity
from headgate_worker.identity import IdentityEndpoint
from router.stage import connected

RESOURCE = "https://management.azure.com"


def test_subjects_are_those_of_the_contracts() -> None:
    assert core.identity_subject("e", "d", "i") == subjects.identity("e", "d", "i")
    assert core.identity_inbox("i") == subjects.worker_inbox("i")


class Answering:
    """The identity service's side."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, dict[str, Any]]] = []
        self.lifetime_s = 3_600

    async def hear(self, message: Any) -> None:
        wanted = json.loads(message.data)
        self.asked.append((message.subject, wanted))
        said: dict[str, Any] = {"error": {"code": "BadArgument", "message": "no such resource"}}
        if wanted.get("resource") == RESOURCE:
            said = {
                "access_token": f"token-{len(self.asked)}",
                "expires_on": int(time.time()) + self.lifetime_s,
                "resource": RESOURCE,
                "token_type": "Bearer",
            }
        await message.respond(json.dumps(said).encode())


@contextmanager
def listening(
    nats: natsd.RunningServer, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[dict[str, str]]:
    token = folder / "bus.token"
    token.write_text(
        keyring.mint_worker_token(
            nats.creds("identity").parent, "shop", "blue", "i1", expires_at=time.time() + 60
        )
    )
    chosen: Any = SimpleNamespace(
        bus_urls=(nats.url,),
        token_file=str(token),
        endpoint="shop",
        deployment="blue",
        instance="i1",
    )
    environ: dict[str, str] = {}
    IdentityEndpoint(chosen).start(environ)
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    yield environ


def get(environ: dict[str, str], query: str, **headers: str) -> tuple[int, dict[str, Any]]:
    told = {"X-IDENTITY-HEADER": environ["IDENTITY_HEADER"]} | {
        name.replace("_", "-"): value for name, value in headers.items()
    }
    request = urllib.request.Request(f"{environ['IDENTITY_ENDPOINT']}?{query}", headers=told)
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return answer.status, json.loads(answer.read())
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.loads(error.read())


async def test_azures_client_gets_a_token_and_it_is_asked_for_once(
    nats: natsd.RunningServer, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answering = Answering()
    async with connected(nats, "identity") as nc:
        await nc.subscribe(subjects.IDENTITY_ALL, cb=answering.hear)
        await asyncio.sleep(0)  # a flush alone may overtake what was sent
        await nc.flush()
        with listening(nats, data_dir, monkeypatch) as environ:

            def token(**how: Any) -> str:
                with ManagedIdentityCredential(**how) as credential:
                    return credential.get_token(f"{RESOURCE}/.default").token

            first = await asyncio.to_thread(token)
            again = await asyncio.to_thread(token)
            assert first == again == "token-1"
            assert answering.asked == [("hg.v1.idt.shop.blue.i1", {"resource": RESOURCE})]
            named = await asyncio.to_thread(token, client_id="c-1")
            assert named == "token-2"
            assert answering.asked[1][1] == {"resource": RESOURCE, "client_id": "c-1"}
            monkeypatch.delenv("IDENTITY_ENDPOINT")
            monkeypatch.delenv("IDENTITY_HEADER")
            assert await asyncio.to_thread(token) == "token-1"
            refused = await asyncio.to_thread(get, environ, "resource=https://elsewhere.example")
            assert refused == (400, {"statusCode": 400, "message": "no such resource"})


async def test_a_token_that_is_about_to_expire_is_replaced(
    nats: natsd.RunningServer, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answering = Answering()
    answering.lifetime_s = int(identity.KEEP_UNTIL_BEFORE_S) - 10
    async with connected(nats, "identity") as nc:
        await nc.subscribe(subjects.IDENTITY_ALL, cb=answering.hear)
        await asyncio.sleep(0)  # a flush alone may overtake what was sent
        await nc.flush()
        with listening(nats, data_dir, monkeypatch) as environ:
            for number in (1, 2):
                status, body = await asyncio.to_thread(get, environ, f"resource={RESOURCE}")
                assert (status, body["access_token"]) == (200, f"token-{number}")


async def test_only_who_knows_the_secret_is_answered_and_an_absent_service_is_told(
    nats: natsd.RunningServer, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with listening(nats, data_dir, monkeypatch) as environ:
        query = f"resource={RESOURCE}"
        status, _ = await asyncio.to_thread(get, environ, query, X_IDENTITY_HEADER="wrong")
        assert status == 401
        status, body = await asyncio.to_thread(get, environ, query)
        assert status == 503
        assert "try again" in body["message"]
        elsewhere = environ | {"IDENTITY_ENDPOINT": environ["IDENTITY_ENDPOINT"] + "/x"}
        assert (await asyncio.to_thread(get, elsewhere, query))[0] == 404


def test_what_the_user_has_set_stays(data_dir: Path) -> None:
    chosen: Any = SimpleNamespace(bus_urls=(), token_file="")
    environ = {"IDENTITY_ENDPOINT": "http://mine", "MSI_ENDPOINT": "http://mine"}
    IdentityEndpoint(chosen).start(environ)
    assert environ == {"IDENTITY_ENDPOINT": "http://mine", "MSI_ENDPOINT": "http://mine"}

"""Canaries: known secrets go through the whole system, and then are looked for where none belongs.

A secret may be in the answer that is made to tell it, and sealed in a database; nowhere else.
"""

from __future__ import annotations

import json
import sqlite3
import tempfile
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from nats.js.errors import NotFoundError

from acceptance.models import deployment_file
from acceptance.system import Headgate
from headgate.runtime.bus import Bus
from headgate.runtime.clock import SystemClock
from headgate_contracts.streams import LAYOUT

ENDPOINT = "canary"
WORKSPACE = (
    "/subscriptions/s/resourceGroups/g/providers/Microsoft.MachineLearningServices/workspaces/local"
)
SCORE = """
    import os

    def init():
        assert os.environ["CANARY"]

    def run(raw_data):
        return len(raw_data)
"""
# Files that exist to hold secrets; they are private (0600).
SECRET_FILES = ("keys", "tls")


def canary() -> str:
    """A secret that occurs once in the world."""
    return f"canary{uuid.uuid4().hex}{uuid.uuid4().hex}"


class Rest:
    """Plain requests to the gateway."""

    def __init__(self, headgate: Headgate) -> None:
        self._headgate = headgate
        self._base = headgate.running()["gateway"]
        self.token = (headgate.data / "keys" / "admin.token").read_text().strip()

    def send(self, verb: str, path: str, body: Any = None, *, token: str = "") -> tuple[int, str]:
        url = self._base + (WORKSPACE + path[1:] if path.startswith("~") else path)
        headers = {
            "Authorization": f"Bearer {token or self.token}",
            "Content-Type": "application/json",
            "Idempotency-Key": uuid.uuid4().hex,
        }
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(url, data=data, headers=headers, method=verb)
        try:
            with urllib.request.urlopen(request, context=self._headgate.tls, timeout=20) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()

    def need(self, verb: str, path: str, body: Any = None) -> str:
        status, text = self.send(verb, path, body)
        assert status < 300, text
        return text


@pytest.fixture(scope="module")
def story(headgate: Headgate) -> Iterator[tuple[Rest, dict[str, str]]]:
    """Everything that takes a secret has been given one, and each was used well and badly."""
    rest = Rest(headgate)
    secrets = {"admin token": rest.token, **made_things(headgate, rest)}
    use(headgate, rest, secrets)
    yield rest, secrets
    rest.send("DELETE", f"~/onlineEndpoints/{ENDPOINT}")


def made_things(headgate: Headgate, rest: Rest) -> dict[str, str]:
    keys = {"primaryKey": canary(), "secondaryKey": canary()}
    rest.need("PUT", f"~/onlineEndpoints/{ENDPOINT}", {"properties": {"keys": keys}})
    variable, account_key = canary(), canary()
    with tempfile.TemporaryDirectory() as folder:
        path = deployment_file(
            Path(folder), ENDPOINT, "blue", SCORE, variables={"CANARY": variable}
        )
        headgate.cli("online-deployment", "create", "-f", path, "--all-traffic")
    rest.need("PUT", "~/datastores/canary", datastore(account_key))
    new = {"name": "canary", "grants": ["local/operator"]}
    token = json.loads(rest.need("POST", "/access/tokens", new))["token"]
    short = json.loads(rest.need("POST", "/oauth2/token", {}))["access_token"]
    return {
        "primary key": keys["primaryKey"],
        "secondary key": keys["secondaryKey"],
        "variable": variable,
        "account key": account_key,
        "access token": token,
        "short token": short,
    }


def datastore(account_key: str) -> dict[str, Any]:
    secrets = {"secretsType": "AccountKey", "key": account_key}
    return {
        "properties": {
            "datastoreType": "AzureBlob",
            "accountName": "acct",
            "containerName": "things",
            "credentials": {"credentialsType": "AccountKey", "secrets": secrets},
        }
    }


def use(headgate: Headgate, rest: Rest, secrets: Mapping[str, str]) -> None:
    """Good and bad requests that hold secrets; none of them may come back in a refusal."""
    target = headgate.target(ENDPOINT, secrets["primary key"])
    scoring = f"https://{target.host}:{target.port}{target.path}"
    for key in (secrets["primary key"], secrets["access token"], secrets["account key"]):
        request = urllib.request.Request(
            scoring, data=b"{}", headers={"Authorization": f"Bearer {key}"}
        )
        try:
            with urllib.request.urlopen(request, context=headgate.tls, timeout=10) as answer:
                assert answer.status == 200
        except urllib.error.HTTPError as error:
            with error:
                assert_clean(error.read().decode(), secrets, "a refused request to score")
    for secret in secrets.values():
        for keys in (
            {"primaryKey": secret, "secondaryKey": [secret]},
            {"primaryKey": [secret]},
            secret,
        ):
            body = {"properties": {"keys": keys}}
            status, text = rest.send("PUT", f"~/onlineEndpoints/{ENDPOINT}", body)
            assert status >= 400
            assert_clean(text, secrets, "a refused change of keys")
        status, text = rest.send("GET", "/whoami", token=f"{secret}x")
        assert status == 401
        assert_clean(text, secrets, "a refused token")
    rest.need("POST", f"~/onlineEndpoints/{ENDPOINT}/listKeys")
    rest.need("POST", f"~/onlineEndpoints/{ENDPOINT}/deployments/blue/getLogs", {})


def assert_clean(text: str, secrets: Mapping[str, str], place: str) -> None:
    found = [name for name, secret in secrets.items() if secret in text]
    assert not found, f"{place} shows: {', '.join(found)}"


def test_answers_that_are_not_made_for_it_show_no_secret(
    story: tuple[Rest, dict[str, str]],
) -> None:
    rest, secrets = story
    kept = {name: secret for name, secret in secrets.items() if name != "variable"}
    for path in (
        "/status",
        "/openapi.json",
        "/whoami",
        "/access/tokens",
        "/events?since=1d&follow=false",
        "~/onlineEndpoints",
        f"~/onlineEndpoints/{ENDPOINT}",
        f"~/onlineEndpoints/{ENDPOINT}/traffic",
        f"~/onlineEndpoints/{ENDPOINT}/instances",
        f"~/onlineEndpoints/{ENDPOINT}/deployments",
        "~/datastores",
        "~/datastores/canary",
    ):
        assert_clean(rest.need("GET", path), kept, path)


def test_logs_show_no_secret(headgate: Headgate, story: tuple[Rest, dict[str, str]]) -> None:
    """Of services, of the bus server, of model processes, and what 'headgate up' writes."""
    _, secrets = story
    files = [path for path in headgate.data.rglob("*") if "log" in path.name and path.is_file()]
    assert any(path.parent.name == "logs" for path in files)
    for path in [*files, headgate.output]:
        assert_clean(path.read_text(errors="replace"), secrets, path.name)


async def test_nothing_that_the_bus_keeps_shows_a_secret(
    headgate: Headgate, story: tuple[Rest, dict[str, str]]
) -> None:
    _, secrets = story
    creds = headgate.data / "keys" / "bootstrap.creds"
    bus = await Bus.connect("bootstrap", headgate.running()["nats"], creds, SystemClock())
    names = [stream.name for stream in LAYOUT.streams]
    names += [f"KV_{bucket.name}" for bucket in LAYOUT.buckets]
    try:
        for name in names:
            state = (await bus.js.stream_info(name)).state
            for sequence in range(max(1, state.first_seq), state.last_seq + 1):
                try:
                    message = await bus.js.get_msg(name, seq=sequence)
                except NotFoundError:  # replaced by a newer one
                    continue
                text = f"{message.subject} {message.headers} {(message.data or b'').decode()}"
                assert_clean(text, secrets, f"{name} at {sequence}")
    finally:
        await bus.close()


def test_databases_hold_no_secret_that_can_be_read(
    headgate: Headgate, story: tuple[Rest, dict[str, str]]
) -> None:
    """A variable of a deployment is part of what the registry was told; keys and tokens are not."""
    _, secrets = story
    kept = {name: secret for name, secret in secrets.items() if name != "variable"}
    files = list((headgate.data / "db").glob("*.sqlite"))
    assert len(files) >= 2
    for path in files:
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as database:
            assert_clean("\n".join(database.iterdump()), kept, path.name)


def test_files_hold_no_secret_but_those_made_for_it(
    headgate: Headgate, story: tuple[Rest, dict[str, str]]
) -> None:
    """The bytes of everything in the data folder, whatever wrote it."""
    _, secrets = story
    kept = {name: secret.encode() for name, secret in secrets.items() if name != "variable"}
    for path in headgate.data.rglob("*"):
        if not path.is_file() or path.is_symlink():
            continue
        if path.relative_to(headgate.data).parts[0] in SECRET_FILES:
            assert path.suffix in (".crt", ".pem", ".pub") or not path.stat().st_mode & 0o077, path
            continue
        raw = path.read_bytes()
        assert not [name for name, secret in kept.items() if secret in raw], path


def test_no_process_shows_a_secret_in_its_arguments(
    headgate: Headgate, story: tuple[Rest, dict[str, str]]
) -> None:
    """Everybody on a machine can read them."""
    _, secrets = story
    processes = headgate.processes().values()
    assert len(processes) >= 4
    for process in processes:
        assert_clean(process.command, secrets, f"process {process.pid}")

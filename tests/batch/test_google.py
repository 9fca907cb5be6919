"""Datastores in Google's cloud storage: the real client against a server that checks signatures."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import unquote
from xml.sax.saxutils import escape

import jwt
import pytest
from aiohttp import web
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from batch.house import WORKSPACE, doubled, house
from headgate.runtime.datastores import opening
from headgate.runtime.store import Store
from headgate_contracts import storage
from headgate_contracts.errors import ErrorCode, HeadgateError
from headgate_contracts.jobs import JobStatus
from headgate_contracts.storage import DatastoreCredentials, DatastoreSpec

BUCKET = "numbers"
_FORM = "%a, %d %b %Y %H:%M:%S GMT"


class Google:
    """The part of the XML API that reads, lists and writes small objects, for one account."""

    def __init__(self) -> None:
        key = rsa.generate_private_key(65537, 2048)
        self._public = key.public_key()
        self.pem = key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        ).decode()
        self.objects: dict[str, bytes] = {}
        self.is_public = False
        self.port = 0

    def key_file(self, **more: Any) -> str:
        """As Google gives it; it names another server, which must never be asked."""
        about = {"type": "service_account", "client_email": "a@b.example", "private_key_id": "k"}
        return json.dumps(
            {**about, "private_key": self.pem, "gcs_base_url": "http://169.254.169.254", **more}
        )

    def spec(self, kind: Any = "service_account") -> DatastoreSpec:
        return DatastoreSpec(
            name="attic",
            type="gcs",
            container_name=BUCKET,
            endpoint=f"127.0.0.1:{self.port}",
            protocol="http",
            credentials=DatastoreCredentials(type=kind),
        )

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        token = request.headers.get("Authorization", "").removeprefix("Bearer ")
        try:
            if token or not self.is_public:
                claims = jwt.decode(
                    token, self._public, algorithms=["RS256"], options={"verify_aud": False}
                )
                assert claims["iss"] == "a@b.example"
        except jwt.InvalidTokenError:
            return web.Response(status=401)
        key = unquote(request.url.raw_path.removeprefix(f"/{BUCKET}")).strip("/")
        if not key:
            return self._listed(request)
        if request.method == "PUT":
            self.objects[key] = await request.read()
        body = self.objects.get(key)
        if body is None:
            return web.Response(status=404)
        now = datetime.now(UTC).strftime(_FORM)
        return web.Response(body=body, headers={"ETag": '"1"', "Last-Modified": now})

    def _listed(self, request: web.BaseRequest) -> web.StreamResponse:
        prefix, after = request.query.get("prefix", ""), request.query.get("start-after", "")
        found = "".join(
            f"<Contents><Key>{escape(key)}</Key><Size>{len(body)}</Size><ETag>1</ETag>"
            "<LastModified>2030-01-01T00:00:00.000Z</LastModified></Contents>"
            for key, body in sorted(self.objects.items())
            if key.startswith(prefix) and key > after
        )
        return web.Response(text=f"<ListBucketResult>{found}</ListBucketResult>")


@pytest.fixture
async def google() -> AsyncIterator[Google]:
    found = await asyncio.to_thread(Google)
    runner = web.ServerRunner(web.Server(found.handle), shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    found.port = runner.addresses[0][1]
    yield found
    await runner.cleanup()


def opened(spec: DatastoreSpec, secret: str) -> Store:
    found = opening(spec, secret)
    assert found.endpoint == f"http://{spec.endpoint}"  # what is checked is what is connected to
    return Store(found.url, **found.options)


async def test_a_bucket_is_read_and_written_with_the_key_of_a_service_account(
    google: Google,
) -> None:
    store = opened(google.spec(), google.key_file())
    await store.put("in/a b.txt", b"7")
    await store.put("out/x", b"8")
    assert [blob.key async for blob in store.walk_ordered("in")] == ["in/a b.txt"]
    assert await store.read("in/a b.txt", bytes_max=10) == b"7"
    assert not await store.exists("in/b")
    google.is_public = True
    public = opened(google.spec("none"), "")
    assert await public.read("out/x", bytes_max=10) == b"8"
    google.is_public = False
    stranger = opened(google.spec(), (await asyncio.to_thread(Google)).key_file())
    with pytest.raises(HeadgateError, match="credentials") as caught:
        await stranger.read("out/x", bytes_max=10)
    assert caught.value.error.code is ErrorCode.FORBIDDEN


def test_without_a_server_of_its_own_it_is_googles() -> None:
    found = opening(DatastoreSpec(name="a", type="gcs", container_name="box"), "")
    assert found.endpoint == "https://storage.googleapis.com"
    assert found.options == {"base_url": found.endpoint, "skip_signature": True}


async def test_a_job_reads_a_bucket_and_its_key_stays_sealed(
    google: Google, tmp_path: Path
) -> None:
    google.objects = {f"in/{n:05}.txt": str(n).encode() for n in range(4)}
    async with house(tmp_path, batch_networks="127.0.0.0/8") as home:
        put = storage.PutDatastore(
            workspace=WORKSPACE, spec=google.spec(), secret=google.key_file()
        )
        await home.ask(put)
        await home.deploy(mini_batch_size=3)
        job = await home.submit("azureml://datastores/attic/paths/in/")
        job = await home.until(job.name)
        assert (job.status, job.error) == (JobStatus.COMPLETED, None)
        assert await home.output(job) == doubled(4)
        everywhere = b"".join(path.read_bytes() for path in home.settings.data.rglob("*.db*"))
        assert google.pem[60:120].encode() not in everywhere

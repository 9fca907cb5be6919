"""Jobs that read from and write to where other people keep their data."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

import s3 as s3_server
from batch.house import WORKSPACE, House, doubled, house
from headgate.runtime.datastores import opening
from headgate.runtime.store import Store
from headgate_contracts import storage
from headgate_contracts.errors import ErrorCode, HeadgateError
from headgate_contracts.jobs import JobStatus, ResumeJob
from headgate_contracts.storage import DatastoreCredentials, DatastoreSpec

# --- web servers -------------------------------------------------------------------------------


class Site:
    """A web server, and what it was asked for."""

    def __init__(self) -> None:
        self.files = {"/7.txt": b"7"}
        self.paths: list[str] = []
        self.broken = 0
        self.port = 0

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        self.paths.append(request.path_qs)
        if self.broken:
            self.broken -= 1
            return web.Response(status=503)
        if request.path == "/moved":
            raise web.HTTPFound("http://169.254.169.254/latest")
        body = self.files.get(request.path)
        return web.Response(status=404) if body is None else web.Response(body=body)

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.port}{path}"


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    found = Site()
    runner = web.ServerRunner(web.Server(found.handle), shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    found.port = runner.addresses[0][1]
    yield found
    await runner.cleanup()


@pytest.fixture
async def web_home(site: Site, tmp_path: Path) -> AsyncIterator[House]:
    """Services that may read this one server."""
    fields = {"batch_inputs": site.url(""), "batch_networks": "127.0.0.0/8"}
    async with house(tmp_path, **fields) as found:
        await found.deploy()
        yield found


async def test_a_file_of_a_web_server_is_an_input(web_home: House, site: Site) -> None:
    site.broken = 1  # the first answer is that it is busy
    job = await web_home.submit(site.url("/7.txt?sig=secret"), type="uri_file")
    assert job.input.uri == site.url("/7.txt")  # a signature is nobody else's business
    job = await web_home.until(job.name)
    assert (job.status, await web_home.output(job)) == (JobStatus.COMPLETED, "7.txt,14\n")
    assert set(site.paths) == {"/7.txt?sig=secret"}
    assert not any(b"secret" in data for _, data in web_home.events)


async def test_a_file_that_is_not_there_or_leads_inside_fails_its_job(
    web_home: House, site: Site
) -> None:
    for path, code in (
        ("/nothing", ErrorCode.RESOURCE_NOT_FOUND),
        ("/moved", ErrorCode.URI_NOT_ALLOWED),
    ):
        job = await web_home.until((await web_home.submit(site.url(path), type="uri_file")).name)
        assert job.status is JobStatus.FAILED and job.error is not None
        assert job.error.code is code


async def test_other_addresses_are_refused_before_there_is_a_job(
    web_home: House, site: Site
) -> None:
    for uri, kind, code in (
        ("https://example.org/x", "uri_file", ErrorCode.URI_NOT_ALLOWED),
        ("http://169.254.169.254/latest", "uri_file", ErrorCode.URI_NOT_ALLOWED),
        ("gopher://example.org/x", "uri_file", ErrorCode.URI_NOT_ALLOWED),
        (site.url("/7.txt"), "uri_folder", ErrorCode.BAD_ARGUMENT),
    ):
        with pytest.raises(HeadgateError) as caught:
            await web_home.submit(uri, type=kind)
        assert caught.value.error.code is code, uri
    with pytest.raises(HeadgateError, match="not allowed"):
        await web_home.submit(site.url("/7.txt"), type="uri_file", output=site.url("/out"))
    assert not site.paths


async def test_a_web_server_can_be_a_datastore(web_home: House, site: Site) -> None:
    site.files["/open/a b.txt"] = b"8"
    for name, address in (("Site", f"127.0.0.1:{site.port}/open/"), ("other", "127.0.0.1:1")):
        spec = DatastoreSpec(name=name, type="http", protocol="http", container_name=address)
        await web_home.ask(storage.PutDatastore(workspace=WORKSPACE, spec=spec))
    inside = "azureml://datastores/Site/paths"
    uri = f"{inside}/a b.txt"
    job = await web_home.until((await web_home.submit(uri, type="uri_file")).name)
    assert (job.status, await web_home.output(job)) == (JobStatus.COMPLETED, "a b.txt,16\n")
    assert job.input.uri == uri and set(site.paths) == {"/open/a%20b.txt"}
    site.paths.clear()
    for uri, kind, code, word in (
        (f"{inside}/7.txt", "uri_folder", ErrorCode.BAD_ARGUMENT, "uri_file"),
        (f"{inside}/../7.txt", "uri_file", ErrorCode.URI_NOT_ALLOWED, "path"),
        ("azureml://datastores/other/paths/7", "uri_file", ErrorCode.URI_NOT_ALLOWED, "listed"),
    ):
        with pytest.raises(HeadgateError, match=word) as caught:
            await web_home.submit(uri, type=kind)
        assert caught.value.error.code is code
    with pytest.raises(HeadgateError, match="write nothing"):
        await web_home.submit(await web_home.numbers(1), output=f"{inside}/out")
    assert not site.paths


# --- datastores --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def s3() -> Iterator[s3_server.S3]:
    with s3_server.serving() as server:
        yield server


def a_bucket(server: s3_server.S3, **more: Any) -> DatastoreSpec:
    return DatastoreSpec(
        name="Shelf_1",
        type="s3",
        container_name="numbers",
        endpoint=server.endpoint,
        protocol="http",
        credentials=DatastoreCredentials(type="access_key", access_key_id=s3_server.KEY),
        **more,
    )


async def answering(store: Store) -> Store:
    """The store, once its server answers."""
    async with asyncio.timeout(45):
        while True:
            with contextlib.suppress(HeadgateError):
                await store.put("probe", b"")
                return store
            await asyncio.sleep(0.1)


async def test_jobs_read_from_and_write_to_a_bucket_of_s3(s3: s3_server.S3, tmp_path: Path) -> None:
    found = opening(a_bucket(s3), s3_server.SECRET)
    bucket = await answering(Store(found.url, **found.options))
    for n in range(12):
        await bucket.put(f"in/{n:05}.txt", str(n).encode())
    async with house(tmp_path, batch_networks="127.0.0.0/8") as home:
        put = storage.PutDatastore(workspace=WORKSPACE, spec=a_bucket(s3), secret=s3_server.SECRET)
        await home.ask(put)
        await home.deploy(mini_batch_size=5)
        paths = "azureml://datastores/Shelf_1/paths"
        job = await home.submit(f"{paths}/in/", output=f"{paths}/out/first")
        job = await home.until(job.name)
        assert (job.status, job.error) == (JobStatus.COMPLETED, None)
        written = await bucket.read("out/first/predictions.csv", bytes_max=10_000)
        assert written.decode() == doubled(12)
        with pytest.raises(HeadgateError, match="exists already"):
            await home.submit(f"{paths}/in/", output=f"{paths}/out/first")
        with pytest.raises(HeadgateError, match="within"):
            await home.submit(f"{paths}/in/", output=f"{paths}/in/below")
        one = await home.submit(f"{paths}/in/00003.txt", type="uri_file")
        assert await home.output(await home.until(one.name)) == "00003.txt,6\n"
        everywhere = b"".join(path.read_bytes() for path in home.settings.data.rglob("*.db*"))
        everywhere += b"".join(data for _, data in home.events)
        assert s3_server.SECRET.encode() not in everywhere


async def test_a_wrong_secret_is_told_and_a_right_one_goes_on(
    s3: s3_server.S3, tmp_path: Path
) -> None:
    found = opening(a_bucket(s3), s3_server.SECRET)
    await (await answering(Store(found.url, **found.options))).put("one/1.txt", b"1")
    async with house(tmp_path, batch_networks="127.0.0.0/8") as home:
        put = storage.PutDatastore(workspace=WORKSPACE, spec=a_bucket(s3), secret="wrong")
        await home.ask(put)
        await home.deploy()
        uri = "azureml://datastores/Shelf_1/paths/one/"
        job = await home.until((await home.submit(uri)).name)
        assert job.status is JobStatus.FAILED and job.error is not None
        assert job.error.code is ErrorCode.FORBIDDEN and "credentials" in job.error.message
        right = storage.PutDatastore(
            workspace=WORKSPACE, spec=a_bucket(s3), secret=s3_server.SECRET
        )
        await home.ask(right)
        await home.stop("batch")  # what is open is looked at again after a while, or now
        await home.start("batch")
        await home.ask(ResumeJob(workspace=WORKSPACE, name=job.name))
        job = await home.until(job.name)
        assert (job.status, await home.output(job)) == (JobStatus.COMPLETED, "1.txt,2\n")


async def test_a_datastore_that_is_not_public_needs_its_network_listed(home: House) -> None:
    spec = a_bucket(s3_server.S3(9))
    await home.ask(storage.PutDatastore(workspace=WORKSPACE, spec=spec, secret="x"))
    await home.deploy()
    uri = "azureml://datastores/Shelf_1/paths"
    with pytest.raises(HeadgateError, match="batch_networks") as caught:
        await home.submit(await home.numbers(1), output=f"{uri}/out/")
    assert caught.value.error.code is ErrorCode.URI_NOT_ALLOWED
    job = await home.until((await home.submit(f"{uri}/in/")).name)
    assert job.error is not None and job.error.code is ErrorCode.URI_NOT_ALLOWED


def test_how_containers_of_azure_are_opened() -> None:
    def of(kind: Any = "none", secret: str = "", **more: Any) -> tuple[str, dict[str, Any]]:
        credentials = DatastoreCredentials(
            type=kind, tenant_id=more.pop("tenant_id", ""), client_id=more.pop("client_id", "")
        )
        spec = DatastoreSpec(
            name="a", account_name="acc", container_name="box", credentials=credentials, **more
        )
        found = opening(spec, secret)
        assert Store(found.url, **found.options)
        return found.url, {k: v for k, v in found.options.items() if k != "account_name"}

    endpoint = {"endpoint": "https://acc.blob.core.windows.net"}
    key = "a2V5"
    assert of("account_key", key) == ("az://box", {**endpoint, "account_key": key})
    assert of("sas", "?sv=1&sig=x") == ("az://box", {**endpoint, "sas_key": "sv=1&sig=x"})
    assert of() == ("az://box", {**endpoint, "skip_signature": True})
    principal = {"tenant_id": "t", "client_id": "c"}
    assert of("service_principal", "s", **principal) == (
        "az://box",
        {**endpoint, **principal, "client_secret": "s"},
    )
    _, own = of("account_key", key, endpoint="127.0.0.1:10000", protocol="http")
    assert own["endpoint"] == "http://127.0.0.1:10000/acc"

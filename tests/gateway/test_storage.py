"""Blobs through Azure's own client, on a local folder and on a real S3 server."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import io
import json
import re
import urllib.request
import xml.etree.ElementTree as ET
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import aiohttp
import psutil
import pytest
import pytest_asyncio
from aiohttp import web
from aiohttp.test_utils import RawTestServer
from azure.core import MatchConditions
from azure.core.exceptions import (
    ClientAuthenticationError,
    HttpResponseError,
    ResourceExistsError,
    ResourceModifiedError,
    ResourceNotFoundError,
)
from azure.storage.blob import BlobBlock, ContentSettings
from azure.storage.blob import BlobClient as SyncClient
from azure.storage.blob.aio import ContainerClient
from yarl import URL

from acceptance.system import Headgate
from gateway.harness import TOKEN, WORKSPACE
from gateway.house import House, open_house
from headgate.gateway import storage_lists
from headgate.gateway.storage import send
from headgate.gateway.storage_core import BLOCKS_FOLDER, Place
from headgate.gateway.storage_objects import BLOCKS_KEPT_S, Objects
from headgate.runtime.clock import SystemClock
from headgate.runtime.store import Blob, Opened, Store
from headgate_contracts import limits
from headgate_contracts.errors import ErrorCode, HeadgateError
from headgate_contracts.identity import STORAGE_AUDIENCE, StorageScope
from s3 import serving

pytestmark = pytest.mark.asyncio(loop_scope="module")

ALL = "racwdl"
BUCKET = "shelf"
MIB = 1024 * 1024
ODD_NAMES = (
    "with space.txt",
    "über/größe/模型.bin",
    "100%.txt",
    "%41.txt",
    "a%2Fb.txt",
    "a+b.txt",
    "q?x=1&y=2.txt",
    "hash#tag.txt",
    "'quoted' \"twice\" <&>.txt",
    " leading and trailing ",
    "semi;colon:comma,[x]{y}~$!@^`|=*",
    "/".join(f"level-{depth}" for depth in range(30)) + "/leaf",
    "n" * 250,
    "\N{ROCKET}.bin",
)
DRAFT = re.compile(r"#\d+$")
_numbers = count(1)


class MovedClock(SystemClock):
    """The machine's clock, put forward as far as a test wants."""

    ahead_s = 0.0

    def now(self) -> float:
        return super().now() + self.ahead_s


@dataclass
class Shelf:
    """A gateway over one kind of store."""

    kind: str
    house: House
    base: str
    store: Store
    clock: MovedClock

    def new_container(self) -> str:
        return f"box-{next(_numbers)}"

    def url(self, container: str, blob: str = "", **query: str) -> URL:
        path = f"/local.blob.core.windows.net/{container}"
        path += f"/{quote(blob, safe='/')}" if blob else ""
        return URL(f"{self.base}{path}?{urlencode(query)}", encoded=True)

    async def sas(self, container: str, letters: str = ALL, **more: Any) -> str:
        """A signature for a container."""
        lifetime = {"lifetime_s": more.pop("lifetime_s")} if "lifetime_s" in more else {}
        scope = {"workspace": "local", "permissions": letters, **more}
        token = await self.house.mint(
            audience=STORAGE_AUDIENCE,
            storage=StorageScope(container=container, **scope),
            **lifetime,
        )
        return urlencode({"sv": "2023-11-03", "sr": "c", "sp": letters, "sig": token})

    async def container(self, name: str = "", letters: str = ALL, **more: Any) -> ContainerClient:
        """A client with a signature; closed when the house is."""
        name = name or self.new_container()
        return await self.client(name, await self.sas(name, letters), **more)

    async def client(self, name: str, credential: Any, **more: Any) -> ContainerClient:
        options = {"retry_total": 0, "max_single_put_size": MIB, "max_block_size": MIB, **more}
        address = f"{self.base}/local.blob.core.windows.net"
        client = ContainerClient(address, name, credential=credential, **options)
        return await self.house.stack.enter_async_context(client)

    async def send(
        self, verb: str, url: URL, data: Any = None, *, token: str | None = TOKEN, **headers: str
    ) -> tuple[int, Any, bytes]:
        """A request as no client of Azure's would send it."""
        given = {name.replace("_", "-"): text for name, text in headers.items()}
        data = io.BytesIO(data) if isinstance(data, bytes) else data
        if token:
            given["Authorization"] = f"Bearer {token}"
        session = self.house.session
        async with session.request(verb, url, data=data, headers=given) as response:
            return response.status, response.headers, await response.read()

    async def keys(self, folder: str) -> set[str]:
        return {blob.key async for blob in self.store.walk(folder)}


def code_of(raw: bytes) -> str:
    """The code of a refusal, which must be the protocol's XML."""
    root = ET.fromstring(raw)
    assert root.tag == "Error"
    assert root.findtext("Message")
    return root.findtext("Code") or ""


@pytest.fixture(scope="module")
def s3() -> Iterator[str]:
    """The URL of a bucket on a real S3 server; the environment says how it is reached."""
    with serving() as server, pytest.MonkeyPatch.context() as patch:
        for name, value in server.environment().items():
            patch.setenv(name, value)
        yield f"s3://{BUCKET}"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def house() -> AsyncIterator[House]:
    async with open_house() as house:
        house.clock = MovedClock()
        yield house


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=["folder", "s3"])
async def shelf(request: pytest.FixtureRequest, house: House) -> Shelf:
    url = request.getfixturevalue("s3") if request.param == "s3" else house.settings.store_url()
    store = Store(url)
    async with asyncio.timeout(45):
        while True:
            with contextlib.suppress(Exception):
                await store.put("probe", b"", create_only=False)
                break
            await asyncio.sleep(0.2)
    service, _ = await house.open_gateway(store=url)
    return Shelf(request.param, house, service.listener.url, store, house.clock)


def content_of(size: int, seed: str = "") -> bytes:
    """Bytes without a pattern, the same for the same seed."""
    return hashlib.shake_128(seed.encode()).digest(size)


def md5_of(content: bytes) -> str:
    return base64.b64encode(hashlib.md5(content).digest()).decode()


def block_id(number: int | str) -> str:
    return base64.b64encode(f"{number:>08}".encode()).decode()


def block_list(*ids: str) -> bytes:
    return f"<BlockList>{''.join(f'<Latest>{each}</Latest>' for each in ids)}</BlockList>".encode()


async def read(client: ContainerClient, name: str, **more: Any) -> bytes:
    return await (await client.download_blob(name, **more)).readall()


async def names_of(client: ContainerClient, **more: Any) -> list[str]:
    return [name async for name in client.list_blob_names(**more)]


async def refused(attempt: Awaitable[Any], status: int, code: str) -> HttpResponseError:
    """The attempt fails with this status and code of the protocol."""
    with pytest.raises(HttpResponseError) as caught:
        await attempt
    error: Any = caught.value
    # Codes that the client knows are members of an enumeration.
    assert (error.status_code, str(getattr(error.error_code, "value", error.error_code))) == (
        status,
        code,
    )
    return caught.value


# --- blobs ------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 1, 1_000, MIB, MIB + 1])
async def test_a_blob_comes_back_as_it_was_sent(shelf: Shelf, size: int) -> None:
    client, content = await shelf.container(), content_of(size)
    written = await client.get_blob_client("a/b.bin").upload_blob(content)
    assert await read(client, "a/b.bin") == content
    found = await client.get_blob_client("a/b.bin").get_blob_properties()
    assert (found.size, found.etag, found.name) == (size, written["etag"], "a/b.bin")
    assert found.last_modified == written["last_modified"]
    assert found.content_settings.content_md5 == hashlib.md5(content).digest()
    assert await client.get_blob_client("a/b.bin").exists()


async def test_a_large_blob_goes_and_comes_in_parts(shelf: Shelf) -> None:
    client = await shelf.container(max_single_get_size=MIB, max_chunk_get_size=MIB)
    content = content_of(20 * MIB + 17)
    blob = client.get_blob_client("large.bin")
    await blob.upload_blob(content, max_concurrency=4, validate_content=True)
    assert await read(client, "large.bin", max_concurrency=4) == content
    assert await read(client, "large.bin", max_concurrency=4, validate_content=True) == content
    assert (await blob.get_blob_properties()).content_settings.content_md5 == (
        hashlib.md5(content).digest()
    )
    place = Place("local", client.container_name, "large.bin")
    assert not await shelf.keys(place.blocks_folder), "blocks stay behind"


async def test_headers_and_metadata_are_kept(shelf: Shelf) -> None:
    client = await shelf.container()
    for size in (10, 3 * MIB):
        blob = client.get_blob_client(f"m-{size}")
        about = {"name": "iris", "version": "1", "Upload_Status": "a b; c=d"}
        settings = ContentSettings(content_type="text/x-python; charset=utf-8")
        await blob.upload_blob(content_of(size), metadata=about, content_settings=settings)
        found = await blob.get_blob_properties()
        assert found.metadata == {name.lower(): text for name, text in about.items()}
        assert found.content_settings.content_type == settings.content_type
        assert found.blob_type == "BlockBlob"
        created = found.creation_time

        changed = await blob.set_blob_metadata({"stage": "done"})
        again = await blob.get_blob_properties()
        assert (again.metadata, again.etag) == ({"stage": "done"}, changed["etag"])
        assert again.etag != found.etag
        assert again.content_settings.content_type == settings.content_type
        assert again.content_settings.content_md5 == found.content_settings.content_md5

        await blob.set_http_headers(ContentSettings(content_type="image/png"))
        last = await blob.get_blob_properties()
        assert (last.content_settings.content_type, last.metadata) == (
            "image/png",
            {"stage": "done"},
        )
        assert last.creation_time == created
        assert await read(client, f"m-{size}") == content_of(size)


async def test_what_a_blob_is_said_to_be_is_said_again(shelf: Shelf) -> None:
    client = await shelf.container()
    for size in (10, 3 * MIB):
        blob = client.get_blob_client("x")
        about = {"content_language": "de", "cache_control": "max-age=5"}
        settings = ContentSettings(content_type="a/b", content_encoding="br", **about)
        await blob.upload_blob(content_of(size), content_settings=settings, overwrite=True)
        (listed,) = [each async for each in client.list_blobs()]
        for found in ((await blob.get_blob_properties()), listed):
            assert found.content_settings.content_encoding == "br"
            assert found.content_settings.content_language == "de"
            assert found.content_settings.cache_control == "max-age=5"
        await blob.set_http_headers(ContentSettings(content_language="fr"))
        last = (await blob.get_blob_properties()).content_settings
        assert (last.content_language, last.content_encoding) == ("fr", None)
        await refused(
            blob.set_http_headers(ContentSettings(content_language="f" * 257)),
            400,
            "InvalidHeaderValue",
        )


async def test_metadata_is_the_clients_own(shelf: Shelf) -> None:
    """Our other uploads have a digest of this name, which is compared with the body."""
    client = await shelf.container()
    for size in (10, 3 * MIB):
        blob = client.get_blob_client(f"m-{size}")
        await blob.upload_blob(content_of(size), metadata={"sha256": "of something else"})
        found = await blob.get_blob_properties()
        assert found.metadata == {"sha256": "of something else"}


async def test_metadata_that_cannot_be_kept_is_refused(shelf: Shelf) -> None:
    blob = (await shelf.container()).get_blob_client("x")
    await refused(blob.upload_blob(b"", metadata={"a-b": "1"}), 400, "InvalidHeaderValue")
    await refused(
        blob.upload_blob(b"", metadata={"a": "x" * 5_000, "b": "x" * 5_000}),
        400,
        "MetadataTooLarge",
    )
    assert not await blob.exists()


async def test_metadata_alone_is_an_answer_without_a_body(shelf: Shelf) -> None:
    name = shelf.new_container()
    url = shelf.url(name, "m")
    await shelf.send("PUT", url, b"content", x_ms_meta_a="1")
    async with asyncio.timeout(5):
        status, headers, raw = await shelf.send("GET", shelf.url(name, "m", comp="metadata"))
    assert (status, headers["x-ms-meta-a"], raw) == (200, "1", b"")


@pytest.mark.parametrize("name", ODD_NAMES)
async def test_odd_names_are_names(shelf: Shelf, name: str) -> None:
    client = await shelf.container()
    content = name.encode()
    await client.upload_blob(name, content, metadata={"odd": "yes"})
    await client.upload_blob(f"{name[:248]}.b", content_of(2 * MIB), metadata={"odd": "very"})
    assert await read(client, name) == content
    found = {blob.name: blob async for blob in client.list_blobs()}
    assert set(found) == {name, f"{name[:248]}.b"}
    assert found[name].metadata == {"odd": "yes"}
    assert (await client.get_blob_client(name).get_blob_properties()).metadata == {"odd": "yes"}
    assert await names_of(client, name_starts_with=name) != []
    await client.delete_blob(name)
    assert await names_of(client) == [f"{name[:248]}.b"]


async def test_names_of_any_allowed_length_are_kept_whole(shelf: Shelf) -> None:
    """What lies beside a blob must not need a longer name than the blob itself has."""
    client = await shelf.container()
    room = 1_024 - len(Place("local", client.container_name, "x").key) + 1
    name = "/".join(["d" * 200] * 5)[: room - 1] + "e"
    assert len(Place("local", client.container_name, name).key) == 1_024
    await client.upload_blob(name, b"deep", metadata={"a": "1"})
    assert await read(client, name) == b"deep"
    assert (await client.get_blob_client(name).get_blob_properties()).metadata == {"a": "1"}
    await refused(client.upload_blob(f"{name}f", b""), 400, "InvalidResourceName")
    assert await names_of(client) == [name]


# --- lists ------------------------------------------------------------------------------------


async def test_lists_come_in_order_and_in_pages(shelf: Shelf) -> None:
    client = await shelf.container()
    names = sorted(
        [f"a/{number:02}" for number in range(7)] + [f"b/c/{n}" for n in range(4)] + ["a-b", "ab"]
    )
    await asyncio.gather(*(client.upload_blob(name, name.encode()) for name in names))
    for size in (1, 3, 13, 14):
        pages = client.list_blobs(results_per_page=size).by_page()
        found = [[blob.name async for blob in page] async for page in pages]
        assert [name for page in found for name in page] == names
        assert all(len(page) <= size for page in found)
    assert await names_of(client, name_starts_with="a/0") == [n for n in names if n[:3] == "a/0"]
    assert await names_of(client, name_starts_with="a") == [n for n in names if n[0] == "a"]
    assert await names_of(client, name_starts_with="nobody/") == []
    assert await names_of(client, name_starts_with="ab/") == []
    assert await names_of(client, name_starts_with="../") == []

    pages = client.list_blobs(results_per_page=5).by_page()
    first = [blob.name async for blob in await anext(pages)]
    again = client.list_blobs(results_per_page=5).by_page(pages.continuation_token)
    assert first + [blob.name async for blob in await anext(again)] == names[:10]


async def test_a_list_by_folder_shows_one_level(shelf: Shelf) -> None:
    client = await shelf.container()
    for name in ("top.txt", "a/1", "a/2", "a/deep/3", "b/4", "a-file"):
        await client.upload_blob(name, b"x", metadata={"k": "v"})

    async def walked(prefix: str = "", **more: Any) -> list[str]:
        return [item.name async for item in client.walk_blobs(name_starts_with=prefix, **more)]

    assert sorted(await walked()) == ["a-file", "a/", "b/", "top.txt"]
    assert sorted(await walked(results_per_page=1)) == ["a-file", "a/", "b/", "top.txt"]
    assert sorted(await walked("a/")) == ["a/1", "a/2", "a/deep/"]
    assert sorted(await walked("a")) == ["a-file", "a/"]
    assert await walked("a/deep/") == ["a/deep/3"]
    assert await walked("nobody/") == []
    assert await walked("top.txt/") == []
    assert await walked("../") == []


async def test_lists_tell_what_properties_tell(shelf: Shelf) -> None:
    client = await shelf.container()
    await client.upload_blob("x", b"12345", metadata={"k": "<&>"})
    (listed,) = [blob async for blob in client.list_blobs(include=["metadata"])]
    known = await client.get_blob_client("x").get_blob_properties()
    assert (listed.size, listed.metadata, listed.etag.strip('"')) == (
        5,
        {"k": "<&>"},
        known.etag.strip('"'),
    )
    assert listed.last_modified == known.last_modified
    assert bytes(listed.content_settings.content_md5) == known.content_settings.content_md5


async def test_long_lists_are_cut_into_pages(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage_lists, "PAGE_MAX", 2)
    client = await shelf.container()
    names = [f"n{number:02}" for number in range(12)]
    await asyncio.gather(*(client.upload_blob(name, b"") for name in names))
    assert await names_of(client) == names
    status, _, raw = await shelf.send(
        "GET", shelf.url(client.container_name, restype="container", comp="list")
    )
    assert status == 200
    assert ET.fromstring(raw).findtext("NextMarker")


@pytest.mark.parametrize(
    "query",
    [
        {"maxresults": "0"},
        {"maxresults": "-1"},
        {"maxresults": "many"},
        {"delimiter": "-"},
        {"marker": "ä"},
        {"marker": "/w=="},
        {"prefix": "\x01"},
    ],
)
async def test_odd_lists_are_refused(shelf: Shelf, query: dict[str, str]) -> None:
    url = shelf.url("some-box", restype="container", comp="list", **query)
    status, _, raw = await shelf.send("GET", url)
    assert status == 400
    assert code_of(raw).endswith("QueryParameterValue")


# --- ranges and conditions --------------------------------------------------------------------


async def test_parts_of_a_blob(shelf: Shelf) -> None:
    client, content = await shelf.container(), content_of(100_000)
    await client.upload_blob("x", content)
    assert await read(client, "x", offset=10, length=20) == content[10:30]
    assert await read(client, "x", offset=99_990, length=500) == content[99_990:]
    url = shelf.url(client.container_name, "x")
    for header, first, last in (
        ("bytes=0-0", 0, 0),
        ("bytes=5-", 5, 99_999),
        ("bytes=99999-99999999", 99_999, 99_999),
    ):
        status, headers, raw = await shelf.send("GET", url, x_ms_range=header)
        assert (status, raw) == (206, content[first : last + 1])
        assert headers["Content-Range"] == f"bytes {first}-{last}/100000"
        assert headers["Content-Length"] == str(len(raw))
        assert headers["x-ms-blob-content-md5"] == md5_of(content)
        assert "Content-MD5" not in headers
    status, headers, raw = await shelf.send(
        "GET", url, Range="bytes=1-9", x_ms_range_get_content_md5="true"
    )
    assert (status, headers["Content-MD5"]) == (206, md5_of(content[1:10]))


async def test_parts_that_are_not_there(shelf: Shelf) -> None:
    client = await shelf.container()
    await client.upload_blob("x", b"12345")
    await client.upload_blob("empty", b"")
    await refused(read(client, "x", offset=5, length=1), 416, "InvalidRange")
    url = shelf.url(client.container_name, "x")
    for header, wanted in (("bytes=9-8", 416), ("bytes=-2", 400), ("lines=1-2", 400)):
        status, _, raw = await shelf.send("GET", url, Range=header)
        assert status == wanted, header
        assert code_of(raw) in ("InvalidRange", "InvalidHeaderValue")
    assert await read(client, "empty") == b""


async def test_conditions_of_reads(shelf: Shelf) -> None:
    client = await shelf.container()
    blob = client.get_blob_client("x")
    await blob.upload_blob(b"one")
    found = await blob.get_blob_properties()
    same, other = MatchConditions.IfNotModified, MatchConditions.IfModified
    assert (await blob.get_blob_properties(etag=found.etag, match_condition=same)).size == 3
    await refused(
        blob.get_blob_properties(etag=found.etag, match_condition=other), 304, "ConditionNotMet"
    )
    with pytest.raises(ResourceModifiedError):
        await blob.download_blob(etag='"0x1"', match_condition=same)
    await refused(
        blob.get_blob_properties(if_modified_since=found.last_modified), 304, "ConditionNotMet"
    )
    with pytest.raises(ResourceModifiedError):
        earlier = datetime(2020, 1, 1, tzinfo=UTC)
        await blob.get_blob_properties(if_unmodified_since=earlier)
    assert await (await blob.download_blob(etag='"0x1"', match_condition=other)).readall() == b"one"


@pytest.mark.parametrize("size", [5, 3 * MIB])
async def test_conditions_of_writes(shelf: Shelf, size: int) -> None:
    """Of small blobs and of those that come in blocks."""
    client = await shelf.container()
    blob, content = client.get_blob_client("x"), content_of(size)
    match = MatchConditions.IfNotModified
    await refused(
        blob.upload_blob(content, overwrite=True, etag='"0x1"', match_condition=match),
        412,
        "ConditionNotMet",
    )
    first = await blob.upload_blob(content)
    with pytest.raises(ResourceExistsError) as caught:
        await blob.upload_blob(b"other" * size)
    assert caught.value.status_code == 409
    await refused(
        blob.upload_blob(b"o" * size, overwrite=True, etag='"0x1"', match_condition=match),
        412,
        "ConditionNotMet",
    )
    assert await read(client, "x") == content
    newer = await blob.upload_blob(
        content_of(size, "new"), overwrite=True, etag=first["etag"], match_condition=match
    )
    assert newer["etag"] != first["etag"]
    assert await read(client, "x") == content_of(size, "new")
    with pytest.raises(ResourceModifiedError):
        await blob.delete_blob(etag=first["etag"], match_condition=match)
    with pytest.raises(ResourceModifiedError):
        await blob.set_blob_metadata({}, etag=first["etag"], match_condition=match)
    await blob.delete_blob(etag=newer["etag"], match_condition=match)
    assert not await blob.exists()


async def test_one_of_many_creators_wins(shelf: Shelf) -> None:
    client = await shelf.container()

    async def create(number: int) -> bool:
        try:
            await client.upload_blob("x", f"{number}".encode())
        except ResourceExistsError:
            return False
        return True

    created = await asyncio.gather(*map(create, range(8)))
    assert created.count(True) == 1
    assert await read(client, "x") == f"{created.index(True)}".encode()


async def test_one_of_many_writers_of_a_version_wins(shelf: Shelf) -> None:
    """``If-Match`` is for writers who must not undo what another has done."""
    blob = (await shelf.container()).get_blob_client("x")
    etag = (await blob.upload_blob(b"0"))["etag"]

    async def write(number: int) -> bool:
        try:
            await blob.upload_blob(
                f"{number}".encode(),
                overwrite=True,
                etag=etag,
                match_condition=MatchConditions.IfNotModified,
            )
        except ResourceModifiedError:
            return False
        return True

    assert (await asyncio.gather(*map(write, range(1, 9)))).count(True) == 1


# --- what is checked on the way ---------------------------------------------------------------


async def test_other_content_than_announced_is_refused(shelf: Shelf) -> None:
    client = await shelf.container()
    name = client.container_name
    small, large = b"content", content_of(3 * MIB)
    for content in (small, large):
        status, headers, raw = await shelf.send(
            "PUT", shelf.url(name, "x"), content, Content_MD5=md5_of(b"other")
        )
        assert (status, code_of(raw)) == (400, "Md5Mismatch")
        assert headers["x-ms-error-code"] == "Md5Mismatch"
        assert await names_of(client) == []
        status, _, raw = await shelf.send(
            "PUT", shelf.url(name, "x"), content, x_ms_blob_content_md5=md5_of(b"other")
        )
        assert (status, code_of(raw)) == (400, "Md5Mismatch")
        assert await names_of(client) == []
    block = shelf.url(name, "x", comp="block", blockid=block_id(1))
    status, _, raw = await shelf.send("PUT", block, large, Content_MD5=md5_of(b"other"))
    assert (status, code_of(raw)) == (400, "Md5Mismatch")
    assert not await shelf.keys(Place("local", name, "x").blocks_folder)
    status, _, raw = await shelf.send("PUT", shelf.url(name, "x"), b"", Content_MD5="no base64")
    assert (status, code_of(raw)) == (400, "InvalidMd5")
    await client.upload_blob("x", small, validate_content=True)
    assert await read(client, "x", validate_content=True) == small


async def test_sizes_are_bounded(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "UPLOAD_FILE_BYTES_MAX", 2 * MIB)
    client = await shelf.container()
    name, large = client.container_name, content_of(2 * MIB + 1)
    assert (await shelf.send("PUT", shelf.url(name, "fits"), large[:-1]))[0] == 201
    status, _, raw = await shelf.send("PUT", shelf.url(name, "x"), large)
    assert (status, code_of(raw)) == (413, "RequestBodyTooLarge")

    async def pieces() -> AsyncIterator[bytes]:
        for start in range(0, len(large), 65_536):
            yield large[start : start + 65_536]

    status, _, raw = await shelf.send("PUT", shelf.url(name, "x"), pieces())
    assert (status, code_of(raw)) == (413, "RequestBodyTooLarge")
    blob = client.get_blob_client("x")
    for number in range(3):
        await blob.stage_block(block_id(number), large[: MIB - 1])
    blocks = [BlobBlock(block_id(number)) for number in range(3)]
    await refused(blob.commit_block_list(blocks), 413, "RequestBodyTooLarge")
    assert await names_of(client) == ["fits"]


@pytest.mark.parametrize("is_block", [False, True])
async def test_an_upload_that_breaks_off_leaves_nothing(shelf: Shelf, is_block: bool) -> None:
    client = await shelf.container()
    await client.upload_blob("x", b"before")
    query = {"comp": "block", "blockid": block_id(1)} if is_block else {}
    for announced in (True, False):
        await broken_off(shelf, shelf.url(client.container_name, "x", **query), announced)
    assert await read(client, "x") == b"before"
    assert await names_of(client) == ["x"]
    place = Place("local", client.container_name, "x")
    assert not await shelf.keys(place.blocks_folder)
    if shelf.kind == "folder":
        store = shelf.house.settings.data / "store"
        assert not [path for path in store.rglob("*#*") if DRAFT.search(path.name)], (
            "drafts stay behind"
        )


async def broken_off(shelf: Shelf, url: URL, announced: bool) -> None:
    """A large upload whose client goes away in the middle; returns when the gateway has seen it."""
    reader, writer = await asyncio.open_connection(url.host, url.port)
    length = f"Content-Length: {20 * MIB}" if announced else "Transfer-Encoding: chunked"
    writer.write(
        f"PUT {url.raw_path_qs} HTTP/1.1\r\nHost: {url.authority}\r\n"
        f"Authorization: Bearer {TOKEN}\r\n{length}\r\n\r\n".encode()
    )
    piece = content_of(MIB)
    for _ in range(12):
        writer.write(piece if announced else b"%x\r\n%b\r\n" % (len(piece), piece))
        await writer.drain()
    writer.write_eof()
    async with asyncio.timeout(20):
        await reader.read()
    writer.close()


# --- blocks -----------------------------------------------------------------------------------


async def test_blocks_are_nothing_until_they_are_listed(shelf: Shelf) -> None:
    client = await shelf.container()
    blob = client.get_blob_client("x")
    await blob.stage_block(block_id(1), b"one")
    await blob.stage_block(block_id(2), b"two")
    await blob.stage_block(block_id(9), b"not listed")
    assert await names_of(client) == []
    await refused(blob.get_blob_properties(), 404, "BlobNotFound")
    await blob.commit_block_list([BlobBlock(block_id(2)), BlobBlock(block_id(1))] * 2)
    assert await read(client, "x") == b"twoonetwoone"
    assert not await shelf.keys(Place("local", client.container_name, "x").blocks_folder)


async def test_a_list_with_a_block_that_is_missing_changes_nothing(shelf: Shelf) -> None:
    client = await shelf.container()
    blob = client.get_blob_client("x")
    await blob.upload_blob(b"before")
    await blob.stage_block(block_id(1), b"one")
    listed = [BlobBlock(block_id(1)), BlobBlock(block_id(2))]
    await refused(blob.commit_block_list(listed), 400, "InvalidBlockList")
    assert await read(client, "x") == b"before"
    await blob.stage_block(block_id(2), b"two")
    await blob.commit_block_list(listed)
    assert await read(client, "x") == b"onetwo"


async def test_a_list_whose_answer_was_lost_is_sent_again(shelf: Shelf) -> None:
    name = shelf.new_container()
    for number in (1, 2):
        url = shelf.url(name, "x", comp="block", blockid=block_id(number))
        assert (await shelf.send("PUT", url, b"%d" % number))[0] == 201
    url, listed = shelf.url(name, "x", comp="blocklist"), block_list(block_id(1), block_id(2))
    first = await shelf.send("PUT", url, listed, x_ms_meta_a="1")
    again = await shelf.send("PUT", url, listed, x_ms_meta_a="1")
    assert (first[0], again[0]) == (201, 201)
    assert first[1]["ETag"] == again[1]["ETag"]
    status, headers, raw = await shelf.send("GET", shelf.url(name, "x"))
    assert (status, raw, headers["x-ms-meta-a"]) == (200, b"12", "1")


async def test_a_new_block_is_not_taken_for_a_list_sent_again(shelf: Shelf) -> None:
    """The client would believe that its block is part of the blob."""
    client = await shelf.container()
    blob = client.get_blob_client("x")
    listed = [BlobBlock(block_id(1)), BlobBlock(block_id(2))]
    for number in (1, 2):
        await blob.stage_block(block_id(number), b"old")
    await blob.commit_block_list(listed)
    await blob.stage_block(block_id(2), b"new")
    await refused(blob.commit_block_list(listed), 400, "InvalidBlockList")
    await blob.stage_block(block_id(1), b"NEW")
    await blob.commit_block_list(listed)
    assert await read(client, "x") == b"NEWnew"


async def test_odd_block_lists_are_refused(shelf: Shelf) -> None:
    name = shelf.new_container()
    url = shelf.url(name, "x", comp="blocklist")
    for body, code in (
        (b"", "InvalidXmlDocument"),
        (b"\xff\xfe", "InvalidXmlDocument"),
        (b"<BlockList><Latest>AAAA</Latest>", "InvalidXmlDocument"),
        (b"<BlockList><Committed>AAAA</Committed></BlockList>", "InvalidBlockList"),
        (b"<BlockList><Newest>AAAA</Newest></BlockList>", "InvalidXmlDocument"),
        (b"<BlockList><Latest>!!!</Latest></BlockList>", "InvalidBlockId"),
        (b"<BlockList><Latest>AAAA</Latest></BlockList>", "InvalidBlockList"),
    ):
        status, _, raw = await shelf.send("PUT", url, body)
        assert (status, code_of(raw)) == (400, code), body
    for wrong in ("", "!", "A" * 92):
        status, _, raw = await shelf.send(
            "PUT", shelf.url(name, "x", comp="block", blockid=wrong), b"1"
        )
        assert (status, code_of(raw)) == (400, "InvalidBlockId")


async def test_an_empty_list_makes_an_empty_blob(shelf: Shelf) -> None:
    client = await shelf.container()
    await client.get_blob_client("x").commit_block_list([])
    assert await read(client, "x") == b""


async def test_abandoned_blocks_are_swept(shelf: Shelf) -> None:
    client = await shelf.container()
    blob = client.get_blob_client("x")
    await blob.stage_block(block_id(1), b"one")
    place = Place("local", client.container_name, "x")
    await client.upload_blob("kept", b"kept")
    clock = MovedClock()
    objects = Objects(shelf.store, clock)
    clock.ahead_s = BLOCKS_KEPT_S - 3_600
    await objects.sweep()
    assert len(await shelf.keys(place.blocks_folder)) == 1
    clock.ahead_s = BLOCKS_KEPT_S + 3_600
    await objects.sweep()
    assert not await shelf.keys(BLOCKS_FOLDER)
    await refused(blob.commit_block_list([BlobBlock(block_id(1))]), 400, "InvalidBlockList")
    assert await read(client, "kept") == b"kept"


# --- several at once --------------------------------------------------------------------------


async def test_blobs_are_replaced_as_a_whole(shelf: Shelf) -> None:
    """Whoever reads while others write gets one version, with what belongs to it."""
    client = await shelf.container(retry_total=0)
    name = client.container_name
    sizes = [3, 70_000, MIB + 5, 2 * MIB]
    contents = {f"{n}": content_of(size, f"{n}") for n, size in enumerate(sizes)}
    await client.upload_blob("x", contents["0"], metadata={"number": "0"})
    is_done = False

    async def write(number: str) -> None:
        for _ in range(5):
            status, _, raw = await shelf.send(
                "PUT", shelf.url(name, "x"), contents[number], x_ms_meta_number=number
            )
            assert status == 201, raw

    async def look() -> int:
        looked = 0
        while not is_done:
            status, headers, raw = await shelf.send("GET", shelf.url(name, "x"))
            assert status == 200, raw
            assert raw in contents.values()
            if number := headers.get("x-ms-meta-number"):
                assert raw == contents[number]
                assert headers["Content-MD5"] == md5_of(raw)
            looked += 1
        return looked

    readers = [asyncio.create_task(look()) for _ in range(2)]
    try:
        await asyncio.gather(*map(write, contents))
    finally:
        is_done = True
    assert all(await asyncio.gather(*readers))
    _, headers, raw = await shelf.send("GET", shelf.url(name, "x"))
    assert raw == contents[headers["x-ms-meta-number"]]
    await client.delete_blob("x")
    assert not [key for key in await shelf.keys("notes") if name in key]


async def test_lists_of_blocks_at_once_make_one_of_the_blobs(shelf: Shelf) -> None:
    client = await shelf.container()
    blob = client.get_blob_client("x")
    parts = {
        f"{writer}{number}": content_of(MIB, f"{writer}{number}")
        for writer in "abc"
        for number in range(3)
    }
    await asyncio.gather(*(blob.stage_block(block_id(i), part) for i, part in parts.items()))

    async def commit(writer: str) -> bool:
        listed = [BlobBlock(block_id(f"{writer}{number}")) for number in range(3)]
        try:
            await blob.commit_block_list(listed, metadata={"writer": writer})
        except HttpResponseError as error:
            assert error.error_code == "InvalidBlockList"
            return False
        return True

    done = await asyncio.gather(*map(commit, "abc"))
    found = await blob.get_blob_properties()
    writer = found.metadata["writer"]
    assert done["abc".index(writer)]
    assert await read(client, "x") == b"".join(parts[f"{writer}{n}"] for n in range(3))


async def test_the_same_list_at_once_is_one_blob(shelf: Shelf) -> None:
    client = await shelf.container()
    blob = client.get_blob_client("x")
    parts = [content_of(MIB, f"{number}") for number in range(4)]
    for number, part in enumerate(parts):
        await blob.stage_block(block_id(number), part)
    listed = [BlobBlock(block_id(number)) for number in range(4)]
    done = await asyncio.gather(*(blob.commit_block_list(listed) for _ in range(4)))
    assert len({each["etag"] for each in done}) == 1
    assert await read(client, "x") == b"".join(parts)


async def test_blocks_that_come_during_a_commit_stay(shelf: Shelf) -> None:
    """They belong to the next list, of which their client knows that they were taken."""
    client = await shelf.container()
    blob = client.get_blob_client("x")
    for number in range(8):
        await blob.stage_block(block_id(number), content_of(MIB, f"{number}"))
    listed = [BlobBlock(block_id(number)) for number in range(8)]
    commit = asyncio.create_task(blob.commit_block_list(listed))
    late = {f"late-{number}": b"late %d" % number for number in range(4)}
    while not commit.done():
        for name, part in late.items():
            await blob.stage_block(block_id(name), part)
    for name, part in late.items():
        await blob.stage_block(block_id(name), part)
    await commit
    await blob.commit_block_list([BlobBlock(block_id(name)) for name in late])
    assert await read(client, "x") == b"".join(late.values())


async def test_overwriting_and_deleting(shelf: Shelf) -> None:
    client = await shelf.container()
    blob = client.get_blob_client("x")
    await blob.upload_blob(b"first", metadata={"a": "1"})
    await blob.upload_blob(content_of(3 * MIB), overwrite=True)
    assert await read(client, "x") == content_of(3 * MIB)
    assert (await blob.get_blob_properties()).metadata == {}
    await blob.upload_blob(b"third", overwrite=True)
    assert await read(client, "x") == b"third"
    await blob.delete_blob()
    with pytest.raises(ResourceNotFoundError):
        await blob.delete_blob()
    await refused(read(client, "x"), 404, "BlobNotFound")
    await blob.upload_blob(b"fourth")
    assert (await blob.get_blob_properties()).metadata == {}


async def test_a_file_and_a_folder_of_one_name_are_told_apart(shelf: Shelf) -> None:
    client = await shelf.container()
    await client.upload_blob("a", b"file")
    if shelf.kind == "folder":
        await refused(client.upload_blob("a/b", b""), 409, "ResourceTypeMismatch")
        await refused(client.upload_blob("a/b", content_of(3 * MIB)), 409, "ResourceTypeMismatch")
    await refused(read(client, "a/b"), 404, "BlobNotFound")
    assert await names_of(client) == ["a"]
    await client.upload_blob("folder/b", b"")
    await refused(read(client, "folder"), 404, "BlobNotFound")
    await refused(read(client, "folder/"), 404, "BlobNotFound")


@pytest.mark.parametrize("is_told", [True, False])
async def test_a_read_that_fails_on_the_way_is_not_taken_for_the_blob(is_told: bool) -> None:
    """An answer has begun by then; no other one may be written into it."""
    content = content_of(MIB)

    async def chunks() -> AsyncIterator[bytes]:
        yield content
        if is_told:
            raise HeadgateError(ErrorCode.UNAVAILABLE, "the object store failed")

    async def serve(request: web.BaseRequest) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": str(2 * MIB)})
        await response.prepare(request)
        blob = Blob("workspaces/local/box/x", 2 * MIB, 0.0)
        await send(request, response, Opened(blob, chunks()), 2 * MIB)
        return response

    server = RawTestServer(serve)
    async with server, aiohttp.ClientSession() as session:
        with pytest.raises(aiohttp.ClientError):
            async with asyncio.timeout(20), session.get(server.make_url("/")) as response:
                assert await response.content.readexactly(MIB) == content
                await response.read()


# --- who may what -----------------------------------------------------------------------------


async def test_signatures_open_what_they_say(shelf: Shelf) -> None:
    whole = await shelf.container()
    name = whole.container_name
    await whole.upload_blob("x", b"x")
    readers = await shelf.container(name, "r")
    assert await read(readers, "x") == b"x"
    mismatch = "AuthorizationPermissionMismatch"
    blob = readers.get_blob_client("x")
    await refused(readers.upload_blob("y", b""), 403, mismatch)
    await refused(readers.upload_blob("y", content_of(3 * MIB)), 403, mismatch)
    await refused(readers.delete_blob("x"), 403, mismatch)
    await refused(names_of(readers), 403, mismatch)
    await refused(blob.set_blob_metadata({"a": "b"}), 403, mismatch)
    await refused(blob.stage_block(block_id(1), b"1"), 403, mismatch)
    await refused(blob.commit_block_list([]), 403, mismatch)

    lister = await shelf.container(name, "l")
    assert await names_of(lister) == ["x"]
    await refused(read(lister, "x"), 403, mismatch)
    await refused(lister.upload_blob("x", b"", overwrite=True), 403, mismatch)

    creator = await shelf.container(name, "c")
    await creator.upload_blob("new", b"new")
    await creator.upload_blob("new-large", content_of(3 * MIB))
    for content in (b"other", content_of(3 * MIB)):
        with pytest.raises(HttpResponseError):
            await creator.upload_blob("x", content, overwrite=True)
    await refused(creator.delete_blob("new"), 403, mismatch)
    assert await read(whole, "x") == b"x"
    assert await names_of(whole) == ["new", "new-large", "x"]


async def test_a_signature_for_a_prefix_ends_there(shelf: Shelf) -> None:
    whole = await shelf.container()
    name = whole.container_name
    await whole.upload_blob("mine/x", b"x")
    await whole.upload_blob("other/y", b"y")
    client = await shelf.client(name, await shelf.sas(name, prefix="mine/"))
    assert await read(client, "mine/x") == b"x"
    await client.upload_blob("mine/z", b"z")
    await refused(read(client, "other/y"), 404, "BlobNotFound")
    await refused(client.upload_blob("other/z", b""), 404, "BlobNotFound")
    for path in ("mine/../other/y", "mine/%2e%2e/other/y", "mine/..%2Fother%2Fy"):
        query = await shelf.sas(name, prefix="mine/")
        target = f"{shelf.base}/local.blob.core.windows.net/{name}/{path}?{query}"
        url = URL(target, encoded=True)
        status, _, raw = await shelf.send("GET", url, token=None)
        assert (status, code_of(raw)) in ((400, "InvalidResourceName"), (404, "BlobNotFound"))
    assert await names_of(client, name_starts_with="mine/") == ["mine/x", "mine/z"]
    await refused(names_of(client), 403, "AuthorizationFailure")
    await refused(names_of(client, name_starts_with="min"), 403, "AuthorizationFailure")


async def test_a_signature_of_another_container_or_workspace_finds_nothing(shelf: Shelf) -> None:
    whole = await shelf.container()
    name = whole.container_name
    await whole.upload_blob("x", b"x")
    elsewhere = await shelf.client(name, await shelf.sas(shelf.new_container()))
    await refused(read(elsewhere, "x"), 404, "ContainerNotFound")
    await refused(names_of(elsewhere), 404, "ContainerNotFound")
    await refused(elsewhere.upload_blob("x", b"", overwrite=True), 404, "ContainerNotFound")
    foreign = await shelf.client(name, await shelf.sas(name, workspace="other"))
    await refused(read(foreign, "x"), 404, "ContainerNotFound")
    token = await shelf.house.mint("other/owner")
    status, _, raw = await shelf.send("GET", shelf.url(name, "x"), token=token)
    assert (status, code_of(raw)) == (404, "ContainerNotFound")


async def test_roles_open_what_their_signatures_would(shelf: Shelf) -> None:
    name = shelf.new_container()
    url = shelf.url(name, "x")
    reader, owner = await shelf.house.mint("local/reader"), await shelf.house.mint("local/owner")
    assert (await shelf.send("PUT", url, b"x", token=owner))[0] == 201
    assert (await shelf.send("GET", url, token=reader))[2] == b"x"
    status, _, raw = await shelf.send("PUT", url, b"y", token=reader)
    assert (status, code_of(raw)) == (403, "AuthorizationPermissionMismatch")
    status, _, raw = await shelf.send("DELETE", url, token=reader)
    assert (status, code_of(raw)) == (403, "AuthorizationPermissionMismatch")


async def test_nobody_comes_in_without_a_credential_that_counts(shelf: Shelf) -> None:
    name = shelf.new_container()
    sas = await shelf.sas(name, lifetime_s=60)
    client = await shelf.client(name, sas)
    await client.upload_blob("x", b"x")
    anonymous = await shelf.client(name, None)
    await refused(read(anonymous, "x"), 403, "AuthenticationFailed")
    await refused(names_of(anonymous), 403, "AuthenticationFailed")
    await refused(anonymous.upload_blob("x", b"", overwrite=True), 403, "AuthenticationFailed")
    for wrong in ("sig=x", f"{sas}x", "sig=a.b.c", f"sig={TOKEN}x", f"sig={TOKEN}"):
        with pytest.raises(ClientAuthenticationError):
            await read(await shelf.client(name, wrong), "x")
    shelf.clock.ahead_s = 86_400
    try:
        with pytest.raises(ClientAuthenticationError) as caught:
            await read(client, "x")
    finally:
        shelf.clock.ahead_s = 0
    assert caught.value.status_code == 403
    assert await read(client, "x") == b"x"


@pytest.mark.parametrize(
    "path",
    [
        "../x",
        "..%2fx",
        "%2e%2e/%2e%2e/other/x",
        "a/../../x",
        "a//b",
        "a/./b",
        "a%00b",
        "a%0ab",
        "a%5c..%5cb",
        "%ff",
        "n" * 251,
        "draft%231",
    ],
)
async def test_names_that_mean_something_else_are_refused(shelf: Shelf, path: str) -> None:
    name = shelf.new_container()
    base = f"{shelf.base}/local.blob.core.windows.net/{name}/{path}"
    for query in ("", f"?comp=block&blockid={quote(block_id(1))}", "?comp=blocklist"):
        status, headers, raw = await shelf.send("PUT", URL(base + query, encoded=True), b"x")
        assert (status, code_of(raw)) == (400, "InvalidResourceName"), query
        assert headers["x-ms-error-code"] == "InvalidResourceName"
    status, _, raw = await shelf.send("GET", URL(base, encoded=True))
    assert (status, code_of(raw)) == (400, "InvalidResourceName")


async def test_containers_are_there_and_odd_ones_are_not(shelf: Shelf) -> None:
    client = await shelf.container()
    assert await client.exists()
    assert (await client.get_container_properties()).name == client.container_name
    for wrong in ("UPPER", "a", "x" * 64, "-a-", "a_b", "..", "%2e%2e"):
        url = URL(f"{shelf.base}/local.blob.core.windows.net/{wrong}/x", encoded=True)
        status, _, raw = await shelf.send("GET", url)
        assert (status, code_of(raw)) == (404, "ContainerNotFound"), wrong


async def test_what_is_not_done_is_said(shelf: Shelf) -> None:
    name = shelf.new_container()
    url = shelf.url(name, "x")
    for header in ("x-ms-copy-source", "x-ms-lease-id", "x-ms-if-tags"):
        status, _, raw = await shelf.send("PUT", url, b"", **{header: "1"})
        assert (status, code_of(raw)) == (400, "UnsupportedHeader")
    status, _, raw = await shelf.send("PUT", url, b"", x_ms_blob_type="PageBlob")
    assert (status, code_of(raw)) == (400, "InvalidHeaderValue")
    status, _, raw = await shelf.send("POST", url, b"")
    assert (status, code_of(raw)) == (405, "UnsupportedHttpVerb")
    for query in ({"comp": "lease"}, {"restype": "container"}, {"comp": "appendblock"}):
        status, _, raw = await shelf.send("PUT", shelf.url(name, "x", **query), b"")
        assert (status, code_of(raw)) == (400, "InvalidUri")
    status, _, raw = await shelf.send("GET", shelf.url(name, "x", snapshot="2020"))
    assert (status, code_of(raw)) == (400, "InvalidQueryParameterValue")
    status, _, raw = await shelf.send("PUT", url, b"", Content_Encoding="gzip")
    assert (status, code_of(raw)) == (415, "UnsupportedHeader")


# --- memory -----------------------------------------------------------------------------------

LARGE_BYTES = 300 * MIB
GROWTH_BYTES_MAX = 200 * MIB


def memory_of(pid: int, field: str) -> int:
    """A field of ``/proc/<pid>/status`` in bytes."""
    found = re.search(rf"{field}:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert found
    return int(found[1]) * 1_024


def pid_behind(port: int) -> int:
    """The process that listens on a port of this machine."""
    listening = psutil.net_connections("tcp")
    return next(
        each.pid
        for each in listening
        if each.pid and each.status == psutil.CONN_LISTEN and each.laddr.port == port
    )


def signed_container(gateway: str, token: str) -> tuple[str, str, str]:
    """A container to send a model to, as the client asks for it: address, name, signature."""
    request = urllib.request.Request(
        f"{gateway}{WORKSPACE}/models/large/versions/1/startPendingUpload",
        data=b'{"pendingUploadType": "TemporaryBlobReference"}',
        headers={"Authorization": f"Bearer {token}", "Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=20) as answer:
        given = json.loads(answer.read())
    place, _, sas = given["blobReferenceForConsumption"]["credential"]["sasUri"].partition("?")
    address, _, container = place.rpartition("/")
    return address, container, sas


def there_and_back(
    address: str, container: str, sas: str, folder: Path, sizes: dict[str, int]
) -> None:
    """A large file goes to the gateway and comes back."""
    original, copy = folder / "original", folder / "copy"
    with original.open("wb") as file:
        for number in range(LARGE_BYTES // MIB):
            file.write(content_of(MIB, f"{number}"))
    with SyncClient(address, container, "large.bin", credential=sas, **sizes) as client:
        with original.open("rb") as file:
            client.upload_blob(file, length=LARGE_BYTES, max_concurrency=4, overwrite=True)
        with copy.open("wb") as file:
            client.download_blob(max_concurrency=4).readinto(file)
    with original.open("rb") as one, copy.open("rb") as other:
        assert hashlib.file_digest(one, "sha256").digest() == (
            hashlib.file_digest(other, "sha256").digest()
        )


@pytest.mark.slow
@pytest.mark.timeout(240)
@pytest.mark.parametrize(
    "sizes",
    [{}, {"max_single_put_size": 2 * LARGE_BYTES, "max_single_get_size": 2 * LARGE_BYTES}],
    ids=["in blocks", "at once"],
)
async def test_a_large_blob_is_never_held_as_a_whole(
    data_dir: Path, sizes: dict[str, int], record_property: Callable[[str, object], None]
) -> None:
    system = Headgate(data_dir / "data")
    try:
        await asyncio.to_thread(system.start, "--http")
        url = system.running()["gateway"]
        token = (system.data / "keys" / "admin.token").read_text().strip()
        pid = pid_behind(URL(url).port or 0)
        place = await asyncio.to_thread(signed_container, url, token)
        before = memory_of(pid, "VmRSS")
        await asyncio.to_thread(there_and_back, *place, data_dir, sizes)
        peak = memory_of(pid, "VmHWM")
    finally:
        system.discard()
    record_property("rss_before_mib", before / MIB)
    record_property("peak_mib", peak / MIB)
    print(f"{before / MIB:.0f} MiB before, {peak / MIB:.0f} MiB at the peak")
    assert peak - before < GROWTH_BYTES_MAX

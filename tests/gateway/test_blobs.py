"""Uploads: named by content, checked at every step, never outside their folder."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import io
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from yarl import URL

from gateway.harness import TOKEN, Api, Reply
from headgate.azure import uploads
from headgate.azure.uploads import UploadedFile, folder_digest
from headgate.runtime.settings import Settings
from headgate.runtime.store import Store
from headgate_contracts.errors import HeadgateError

FILES = {"model.pkl": b"weights" * 1_000, "sub/deep/score.py": b"def run(x): ...", "empty": b""}


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def digest_of(files: dict[str, bytes]) -> str:
    return folder_digest((path, sha256(content)) for path, content in files.items())


def manifest(files: dict[str, bytes]) -> dict[str, Any]:
    return {
        "files": [
            {"path": path, "sha256": sha256(content), "size": len(content)}
            for path, content in files.items()
        ]
    }


async def send(api: Api, digest: str, path: str, content: bytes, **headers: str) -> Reply:
    url = f"~/uploads/{digest}/{path}"
    named = {name.replace("_", "-"): text for name, text in headers.items()}
    return await api.put(url, data=io.BytesIO(content), headers=named)


async def upload(api: Api, files: dict[str, bytes]) -> str:
    digest = digest_of(files)
    for path, content in files.items():
        reply = await send(api, digest, path, content, x_ms_meta_sha256=sha256(content))
        assert reply.status == 201, reply.body
    return digest


async def complete(api: Api, digest: str, files: dict[str, bytes]) -> Reply:
    return await api.post(f"~/uploads/{digest}/complete", manifest(files))


async def head(api: Api, path: str) -> int:
    return (await api.send("HEAD", f"~/uploads/{path}")).status


async def test_a_folder_is_sent_checked_and_read_back(api: Api, settings: Settings) -> None:
    digest = await upload(api, FILES)
    assert await head(api, digest) == 404
    done = await complete(api, digest, FILES)
    assert done.status == 200, done.body
    assert done.body == {"digest": digest, "files": 3, "bytes": sum(map(len, FILES.values()))}
    assert await head(api, digest) == 200
    assert (await complete(api, digest, FILES)).status == 200
    for path, content in FILES.items():
        read = await api.get(f"~/uploads/{digest}/{path}")
        assert (read.status, read.raw) == (200, content)
        size = await api.send("HEAD", f"~/uploads/{digest}/{path}")
        assert (size.headers["Content-Length"], size.raw) == (str(len(content)), b"")
    stored = await Store(settings.store_url()).list(f"uploads/local/{digest}")
    assert {blob.key.removeprefix(f"uploads/local/{digest}/") for blob in stored} == set(FILES)


async def test_the_same_again_is_fine_and_other_content_a_conflict(api: Api) -> None:
    digest = digest_of(FILES)
    assert (await send(api, digest, "model.pkl", FILES["model.pkl"])).status == 201
    assert (await send(api, digest, "model.pkl", FILES["model.pkl"])).status == 200
    other = await send(api, digest, "model.pkl", b"other")
    assert (other.status, other.error["code"]) == (409, "ResourceConflict")
    assert (await api.get(f"~/uploads/{digest}/model.pkl")).raw == FILES["model.pkl"]


async def test_a_complete_folder_takes_no_more_files(api: Api) -> None:
    digest = await upload(api, FILES)
    await complete(api, digest, FILES)
    assert (await send(api, digest, "intruder.py", b"import os")).status == 409
    assert (await api.get(f"~/uploads/{digest}/intruder.py")).status == 404


async def test_wrong_content_is_found_removed_and_can_be_sent_again(api: Api) -> None:
    """Otherwise one bad upload would block its digest for ever."""
    digest = digest_of(FILES)
    for path in FILES:
        await send(api, digest, path, b"wrong")
    await send(api, digest, "unnamed", b"not in the manifest")
    refused = await complete(api, digest, FILES)
    assert (refused.status, len(refused.error["details"])) == (409, 3)
    assert await head(api, digest) == 404
    await upload(api, FILES)
    assert (await complete(api, digest, FILES)).status == 200
    assert await head(api, f"{digest}/unnamed") == 404


async def test_a_missing_file_is_named(api: Api) -> None:
    digest = digest_of(FILES)
    await send(api, digest, "model.pkl", FILES["model.pkl"])
    refused = await complete(api, digest, FILES)
    assert refused.status == 409
    assert {"sub/deep/score.py", "empty"} == {
        detail["message"].split('"')[1] for detail in refused.error["details"]
    }


async def test_a_manifest_must_make_the_digest(api: Api) -> None:
    refused = await complete(api, "0" * 64, FILES)
    assert (refused.status, refused.error["target"]) == (400, "/files")


@pytest.mark.parametrize(
    ("file", "target"),
    [
        ({"path": "a", "sha256": "x", "size": 1}, "/files/0/sha256"),
        ({"path": "a", "sha256": "0" * 64, "size": -1}, "/files/0/size"),
        ({"path": "a", "sha256": "0" * 64, "size": "1"}, "/files/0/size"),
        ({"path": "a", "sha256": "0" * 64}, "/files/0/size"),
        ({"path": "../a", "sha256": "0" * 64, "size": 1}, "path"),
    ],
)
async def test_a_bad_manifest_is_refused(api: Api, file: Any, target: str) -> None:
    refused = await api.post(f"~/uploads/{'0' * 64}/complete", {"files": [file]})
    assert (refused.status, refused.error["target"]) == (400, target)


async def test_announced_digests_are_checked_and_nothing_is_left(api: Api) -> None:
    digest, content = digest_of(FILES), FILES["model.pkl"]
    md5 = base64.b64encode(hashlib.md5(content).digest()).decode()
    wrong_md5 = base64.b64encode(b"\0" * 16).decode()
    for headers in (
        {"x_ms_meta_sha256": sha256(b"other")},
        {"Content_MD5": wrong_md5},
        {"Content_MD5": "not base64!"},
    ):
        refused = await send(api, digest, "model.pkl", content, **headers)
        assert refused.status == 400, headers
        assert await head(api, f"{digest}/model.pkl") == 404
    assert (await send(api, digest, "model.pkl", content, Content_MD5=md5)).status == 201


async def test_an_upload_that_breaks_off_leaves_nothing(api: Api) -> None:
    digest = digest_of(FILES)
    broken = asyncio.Event()

    async def half() -> AsyncIterator[bytes]:
        yield b"x" * 3_000_000
        broken.set()
        raise RuntimeError("the client dies")

    with pytest.raises(Exception):  # noqa: B017 - whatever the client library makes of it
        await api.put(f"~/uploads/{digest}/model.pkl", data=half())
    assert broken.is_set()
    assert await head(api, f"{digest}/model.pkl") == 404
    assert (await send(api, digest, "model.pkl", FILES["model.pkl"])).status == 201


@pytest.mark.parametrize(
    "path",
    [
        "../x",
        "a/../../x",
        "%2e%2e/x",
        "a%2f..%2fx",
        "a%5cb",
        "a%00b",
        "a%0ab",
        "/etc/passwd",
        "a//b",
        "./a",
        "C:/a",
        "a" * 256,
        "%ff",
        "a/",
        "/".join(["abcdefgh"] * 120),
    ],
)
async def test_no_path_leads_out_of_its_folder(
    api: Api, settings: Settings, data_dir: Path, path: str
) -> None:
    before = {file for file in data_dir.rglob("*") if file.is_file()}
    url = URL(api.url(f"~/uploads/{'0' * 64}/{path}"), encoded=True)
    headers = {"Authorization": f"Bearer {TOKEN}"}
    async with api.session.put(url, data=b"x", headers=headers) as reply:
        assert reply.status in (400, 404)
    assert {file for file in data_dir.rglob("*") if file.is_file()} == before


@pytest.mark.parametrize("digest", ["x", "0" * 63, "A" * 64, "0" * 65, "..", "%2e%2e"])
async def test_a_digest_is_a_digest(api: Api, digest: str) -> None:
    url = URL(api.url(f"~/uploads/{digest}/a"), encoded=True)
    async with api.session.put(
        url, data=b"x", headers={"Authorization": f"Bearer {TOKEN}"}
    ) as reply:
        assert reply.status in (400, 404)


async def test_an_announced_size_beyond_the_limit_is_refused_unread(api: Api) -> None:
    headers = {"Content-Length": str(17 * 1024**3), "Authorization": f"Bearer {TOKEN}"}
    reader, writer = await asyncio.open_connection("127.0.0.1", URL(api.base).port)
    path = URL(api.url(f"~/uploads/{'0' * 64}/a")).path
    lines = [f"PUT {path} HTTP/1.1", "Host: localhost"]
    lines += [f"{name}: {text}" for name, text in headers.items()]
    writer.write("\r\n".join([*lines, "", ""]).encode())
    answer = await reader.readuntil(b"\r\n")
    writer.close()
    assert b" 413 " in answer


def test_a_digest_can_be_made_with_standard_tools(tmp_path: Path) -> None:
    for path, content in FILES.items():
        file = tmp_path / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
    command = "sha256sum $(find . -type f -printf '%P\\n' | LC_ALL=C sort) | sha256sum"
    said = subprocess.run(
        command, shell=True, cwd=tmp_path, check=True, capture_output=True, text=True
    )
    assert said.stdout.split()[0] == digest_of(FILES)


@given(st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), st.text()))
def test_a_digest_does_not_depend_on_the_order(files: dict[str, str]) -> None:
    assert folder_digest(files.items()) == folder_digest(reversed(files.items()))


@given(st.text())
def test_a_path_that_passes_stays_inside(path: str) -> None:
    try:
        uploads.check_path(path)
    except HeadgateError:
        return
    root = Path("/store/uploads/x")
    inside = Path(f"{root}/{path}")
    assert inside.is_relative_to(root)
    assert ".." not in inside.parts
    assert inside != root


@pytest.mark.parametrize(
    "paths",
    [
        ["a", "a"],
        ["Model.pkl", "model.pkl"],
        ["caf\u00e9", "cafe\u0301"],
        ["a", "a/b"],
        ["A", "a/b"],
    ],
)
def test_files_that_fall_together_somewhere_are_refused(paths: list[str]) -> None:
    files = [UploadedFile(path=path, sha256="0" * 64, size=0) for path in paths]
    with pytest.raises(HeadgateError):
        uploads.check_manifest(files)

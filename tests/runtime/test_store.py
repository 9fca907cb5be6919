"""The object store: keys that cannot leave it, whole objects only, folders copied to disk."""

from __future__ import annotations

import os
import stat
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from headgate.runtime import copies
from headgate.runtime.copies import contents_of, remove_tree
from headgate.runtime.store import Store
from headgate_contracts.errors import ErrorCode, HeadgateError

BAD_KEYS = (
    "",
    "/etc/passwd",
    "../x",
    "a/../b",
    "a//b",
    "a/",
    "./a",
    "a\\b",
    "a\0b",
    "a\nb",
    "a/" + "x" * 300,
    "x" * 2000,
    "a#1",
)
ODD_KEYS = ("plain.txt", "sp ace", "ünï.txt", "a#b", "a%20b", "[1]", "q?", ".hidden", "a:b", "{y}")


async def materialise(store: Store, prefix: str, place: Path, **options: int) -> int:
    return await copies.materialise(store, await contents_of(store, prefix, **options), place)


@pytest.fixture(params=["folder", "memory"])
def store(request: pytest.FixtureRequest, data_dir: Path) -> Store:
    """The same behaviour whatever is behind the URL."""
    return Store(f"file://{data_dir}/a b#c/store" if request.param == "folder" else "memory:///")


@pytest.mark.parametrize("key", BAD_KEYS)
async def test_a_key_that_could_lead_elsewhere_is_refused_by_every_call(
    store: Store, key: str
) -> None:
    for call in (
        store.put(key, b"x"),
        store.head(key),
        store.list(key),
        store.delete(key),
        contents_of(store, key),
        store.level(key),
        store.open(key),
    ):
        with pytest.raises(HeadgateError) as refused:
            await call
        assert refused.value.error.code is ErrorCode.BAD_ARGUMENT


@pytest.mark.parametrize("name", ODD_KEYS)
async def test_odd_names_come_back_as_they_were(store: Store, name: str) -> None:
    await store.put(f"uploads/h/{name}", b"content")
    assert [blob.key for blob in await store.list("uploads/h")] == [f"uploads/h/{name}"]
    assert await store.read(f"uploads/h/{name}", bytes_max=100) == b"content"


async def test_an_object_whose_sender_fails_does_not_exist(store: Store) -> None:
    async def breaking_off() -> AsyncIterator[bytes]:
        yield b"first half"
        raise ConnectionError("gone")

    with pytest.raises(HeadgateError):
        await store.put("a/b", breaking_off())
    assert not await store.exists("a/b")
    assert await store.list("a") == []


async def test_a_range_is_cut_out(store: Store) -> None:
    await store.put("a", b"0123456789")
    assert b"".join([chunk async for chunk in store.get("a", start=2, end=5)]) == b"234"
    assert b"".join([chunk async for chunk in store.get("a", start=7)]) == b"789"


async def test_what_is_not_there_is_said_and_may_be_deleted(store: Store) -> None:
    assert await store.head("none") is None
    await store.delete("none")
    with pytest.raises(HeadgateError) as refused:
        await store.read("none", bytes_max=10)
    assert refused.value.error.code is ErrorCode.RESOURCE_NOT_FOUND


async def test_bounds_are_kept(store: Store) -> None:
    for number in range(3):
        await store.put(f"many/{number}", b"xx")
    with pytest.raises(HeadgateError) as refused:
        await store.list("many", limit=2)
    assert refused.value.error.code is ErrorCode.QUOTA_EXCEEDED
    with pytest.raises(HeadgateError) as refused:
        await store.read("many/1", bytes_max=1)
    assert refused.value.error.code is ErrorCode.PAYLOAD_TOO_LARGE


async def test_a_folder_is_copied_whole_and_read_only(store: Store, data_dir: Path) -> None:
    await store.put("uploads/h/code/score.py", b"run")
    await store.put("uploads/h/code/sub/deep.py", b"deep")
    await store.put("uploads/h/code2/other.py", b"other")
    place = data_dir / "out" / "code"
    assert await materialise(store, "uploads/h/code", place) == 2
    assert (place / "score.py").read_bytes() == b"run"
    assert (place / "sub" / "deep.py").read_bytes() == b"deep"
    for path in (place, place / "sub", place / "score.py"):
        assert not path.stat().st_mode & (stat.S_IWUSR | stat.S_IWGRP | stat.S_IWOTH)
    assert await materialise(store, "uploads/h/code", place) == 0
    assert os.listdir(place.parent) == ["code"], "nothing is left beside it"
    remove_tree(place)
    assert not place.exists()


async def test_a_single_object_becomes_a_file(store: Store, data_dir: Path) -> None:
    await store.put("uploads/h/model.joblib", b"weights")
    place = data_dir / "out" / "model.joblib"
    assert await materialise(store, "uploads/h/model.joblib", place) == 1
    assert place.read_bytes() == b"weights"


async def test_a_copy_that_cannot_be_completed_leaves_nothing(store: Store, data_dir: Path) -> None:
    with pytest.raises(HeadgateError) as refused:
        await materialise(store, "uploads/none", data_dir / "out" / "x")
    assert refused.value.error.code is ErrorCode.RESOURCE_NOT_FOUND
    for number in range(3):
        await store.put(f"uploads/h/{number}", b"x")
    with pytest.raises(HeadgateError):
        await materialise(store, "uploads/h", data_dir / "out" / "x", files_max=2)
    assert not (data_dir / "out").exists() or os.listdir(data_dir / "out") == []


async def test_what_changes_while_it_is_copied_is_refused(store: Store, data_dir: Path) -> None:
    await store.put("uploads/h/a", b"one")
    before = await contents_of(store, "uploads/h")
    await store.put("uploads/h/a", b"two!")
    assert (await contents_of(store, "uploads/h")).digest != before.digest
    with pytest.raises(HeadgateError, match="changed"):
        await copies.materialise(store, before, data_dir / "out" / "x")
    assert os.listdir(data_dir / "out") == []


async def test_what_is_created_once_stays(store: Store) -> None:
    async def streamed() -> AsyncIterator[bytes]:
        yield b"x" * 100

    async def overtaken() -> AsyncIterator[bytes]:
        yield b"x"
        await store.put("c", b"first")

    await store.put("a", b"1", create_only=True)
    await store.put("b", streamed(), create_only=True)
    for key, data in (("a", b"2"), ("b", b"2"), ("a", streamed()), ("c", overtaken())):
        with pytest.raises(HeadgateError) as refused:
            await store.put(key, data, create_only=True)
        assert refused.value.error.code is ErrorCode.RESOURCE_EXISTS
    assert await store.read("a", bytes_max=9) == b"1"
    assert await store.read("c", bytes_max=9) == b"first"


async def test_one_level_of_a_folder(store: Store) -> None:
    for key in ("f/b/x", "f/a", "f/b/y/z", "f/c", "fa/x"):
        await store.put(key, b"x")
    level = await store.level("f")
    assert level.folders == ("f/b",)
    assert [blob.key for blob in level.blobs] == ["f/a", "f/c"]
    assert {blob.key async for blob in store.walk("f")} == {"f/b/x", "f/a", "f/b/y/z", "f/c"}


async def test_what_is_opened_is_of_one_version(store: Store) -> None:
    etag = await store.put("a", b"0123456789")
    opened = await store.open("a", start=2, end=5)
    assert opened is not None
    assert (opened.blob.size_bytes, opened.blob.etag) == (10, etag)
    await store.put("a", b"new")
    assert b"".join([chunk async for chunk in opened.chunks]) == b"234"
    assert await store.open("none") is None


async def test_a_file_is_no_folder(data_dir: Path) -> None:
    store = Store(f"file://{data_dir}")
    await store.put("a/b", b"x")
    assert await store.head("a/b/c") is None
    for key in ("a", "a/b/c"):
        with pytest.raises(HeadgateError) as refused:
            await store.put(key, b"x")
        assert refused.value.error.code is ErrorCode.RESOURCE_CONFLICT


@pytest.mark.parametrize("url", ["nope://x", "s3://", "not a url"])
def test_a_url_that_is_no_store_is_refused_at_once(url: str) -> None:
    with pytest.raises(HeadgateError) as refused:
        Store(url)
    assert refused.value.error.code is ErrorCode.BAD_ARGUMENT

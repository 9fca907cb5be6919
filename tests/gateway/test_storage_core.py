"""The blob protocol's decisions, without any server."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headgate.gateway import storage_core as core
from headgate.gateway.storage_core import Note, Place, Rights, Stored
from headgate.gateway.storage_errors import StorageError
from headgate.gateway.storage_lists import PAGE_MAX, Wanted, page_of, read_wanted
from headgate.runtime.store import Blob, checked_key
from headgate.runtime.tokens import Principal
from headgate_contracts.errors import HeadgateError
from headgate_contracts.identity import Grant, Role, StorageScope

PLACE = Place("local", "box", "a/b")
ETAG = '"1-2-3"'


def stored(etag: str = ETAG, modified_at: float = 1_000.5, **note: object) -> Stored:
    return Stored(PLACE, Blob(PLACE.key, 10, modified_at, etag), Note.model_validate(note))


def refusal(call: object, *arguments: object, **options: object) -> tuple[int, str]:
    """Status and code with which a decision refuses."""
    assert callable(call)
    with pytest.raises(StorageError) as caught:
        call(*arguments, **options)
    return caught.value.status, caught.value.code


# --- places -----------------------------------------------------------------------------------


@given(st.text(max_size=80))
def test_any_target_is_a_safe_place_or_refused(path: str) -> None:
    target = f"/local.blob.core.windows.net/box/{path}".encode("utf-8", "surrogatepass")
    try:
        place = core.read_place(target.decode("latin-1"))
    except StorageError as error:
        assert error.status in (400, 404)
        return
    assert place.key == checked_key(place.key)
    assert place.key == "workspaces/local/box" or place.key.startswith("workspaces/local/box/")


@pytest.mark.parametrize("name", ["a", "n" * 250, "/".join(["d" * 200] * 4), "ü" * 125])
def test_what_lies_beside_a_blob_has_a_possible_key(name: str) -> None:
    place = core.read_place(f"/local.blob.core.windows.net/box/{name}")
    assert place.blob == name
    checked_key(place.note_key(ETAG))
    checked_key(place.block_key("A" * core.BLOCK_ID_CHARS_MAX, "0" * 30))


def test_names_are_decoded_once() -> None:
    place = core.read_place("/LOCAL.blob.core.windows.net/box/a%2520+b/%C3%BC?comp=block")
    assert place == Place("local", "box", "a%20+b/ü")


def test_versions_and_blobs_have_notes_of_their_own() -> None:
    other = Place("local", "box", "a")
    keys = {PLACE.note_key("1"), PLACE.note_key("2"), other.note_key("1"), other.note_key("2")}
    assert len(keys) == 4


# --- rights -----------------------------------------------------------------------------------


def scoped(**scope: str) -> Principal:
    given = {"workspace": "local", "container": "box", **scope}
    return Principal("s", storage=StorageScope.model_validate(given))


def test_a_signature_opens_its_own_place() -> None:
    assert core.rights_of(scoped(permissions="rl"), PLACE) == Rights("rl")
    assert core.rights_of(scoped(prefix="a/"), PLACE) == Rights("r", "a/")
    assert refusal(core.rights_of, scoped(prefix="b"), PLACE) == (404, "BlobNotFound")
    for other in ({"workspace": "other"}, {"container": "other"}):
        assert refusal(core.rights_of, scoped(**other), PLACE) == (404, "ContainerNotFound")


def test_a_signature_has_nothing_of_its_callers_roles() -> None:
    grants = (Grant(workspace="local", role=Role.OWNER),)
    scope = StorageScope(workspace="local", container="box", permissions="l")
    rights = core.rights_of(Principal("s", grants, storage=scope), PLACE)
    assert refusal(rights.require, "r") == (403, "AuthorizationPermissionMismatch")


@pytest.mark.parametrize(("role", "may_write"), [(role, role != Role.READER) for role in Role])
def test_roles_read_and_the_higher_ones_write(role: Role, may_write: bool) -> None:
    rights = core.rights_of(Principal("s", (Grant(workspace="local", role=role),)), PLACE)
    rights.require("r")
    rights.require("l")
    assert ("w" in rights.letters) == ("d" in rights.letters) == may_write
    elsewhere = Place("other", "box", "a")
    principal = Principal("s", (Grant(workspace="local", role=role),))
    assert refusal(core.rights_of, principal, elsewhere) == (404, "ContainerNotFound")


# --- conditions -------------------------------------------------------------------------------

OLD, AT, NEW = (core.http_date(at) for at in (500, 1_000, 2_000))


@pytest.mark.parametrize(
    ("headers", "reading", "writing"),
    [
        ({}, 0, 0),
        ({"If-Match": "*"}, 0, 0),
        ({"If-Match": '"other", {etag}'}, 0, 0),
        ({"If-Match": '"other"'}, 412, 412),
        ({"If-None-Match": '"other"'}, 0, 0),
        ({"If-None-Match": "{etag}"}, 304, 412),
        ({"If-None-Match": "W/{etag}"}, 304, 412),
        ({"If-None-Match": "*"}, 304, 409),
        ({"If-Modified-Since": OLD}, 0, 0),
        ({"If-Modified-Since": AT}, 304, 412),
        ({"If-Modified-Since": NEW}, 304, 412),
        ({"If-Unmodified-Since": OLD}, 412, 412),
        ({"If-Unmodified-Since": AT}, 0, 0),
        ({"If-Unmodified-Since": NEW}, 0, 0),
        ({"If-Unmodified-Since": "yesterday"}, 400, 400),
        ({"If-Modified-Since": "99999999999"}, 400, 400),
        ({"If-Match": "{etag}", "If-Unmodified-Since": OLD}, 0, 0),
        ({"If-None-Match": '"other"', "If-Modified-Since": NEW}, 0, 0),
    ],
)
def test_conditions(headers: dict[str, str], reading: int, writing: int) -> None:
    present = stored()
    given = {name: text.replace("{etag}", present.etag) for name, text in headers.items()}
    for is_read, wanted in ((True, reading), (False, writing)):
        status = 0
        try:
            core.check_conditions(given, present, reading=is_read)
        except StorageError as error:
            status = error.status
        assert status == wanted


def test_conditions_where_there_is_nothing() -> None:
    core.check_conditions({"If-None-Match": "*"}, None)
    core.check_conditions({"If-None-Match": ETAG}, None)
    assert refusal(core.check_conditions, {"If-Match": "*"}, None) == (412, "ConditionNotMet")


def test_an_etag_changes_with_content_and_note() -> None:
    tags = {stored().etag, stored('"2"').etag, stored(metadata={"a": "1"}).etag}
    assert len(tags) == 3


# --- ranges and headers -----------------------------------------------------------------------


@given(st.integers(0, 50), st.integers(0, 60), st.one_of(st.none(), st.integers(0, 60)))
def test_a_range_lies_inside_the_blob(size: int, first: int, last: int | None) -> None:
    text = f"bytes={first}-{'' if last is None else last}"
    wanted = range(size)[first : None if last is None else last + 1]
    if not wanted:
        assert refusal(core.read_range, text, size) == (416, "InvalidRange")
    else:
        assert core.read_range(text, size) == (wanted[0], wanted[-1] + 1)


@pytest.mark.parametrize("text", ["bytes=-5", "bytes=1-2,4-5", "1-2", "bytes=a-b", "bytes=٣-"])
def test_other_ranges_are_refused(text: str) -> None:
    assert refusal(core.read_range, text, 10) == (400, "InvalidHeaderValue")


def test_a_content_type_is_one_line_of_ascii() -> None:
    for headers, wanted in (
        ({}, core.PLAIN_TYPE),
        ({"Content-Type": "text/plain"}, "text/plain"),
        ({"Content-Type": "text/plain", "x-ms-blob-content-type": "image/png"}, "image/png"),
        ({"Content-Type": "text/plain\r\nX: y"}, core.PLAIN_TYPE),
        ({"Content-Type": "ü"}, core.PLAIN_TYPE),
        ({"Content-Type": "t" * 257}, core.PLAIN_TYPE),
    ):
        assert core.read_content_type(headers) == wanted


# --- blocks -----------------------------------------------------------------------------------

IDS = st.binary(min_size=1, max_size=64).map(lambda raw: base64.b64encode(raw).decode())


@given(st.lists(IDS, max_size=20), st.booleans())
def test_a_block_list_is_read_as_it_was_written(ids: list[str], is_latest: bool) -> None:
    word = "Latest" if is_latest else "Uncommitted"
    blocks = "\n".join(f"<{word}>{each}</{word}>" for each in ids)
    text = f"<?xml version='1.0' encoding='utf-8'?>\n<BlockList>{blocks}</BlockList>\n"
    assert core.read_block_list(text) == ids


@pytest.mark.parametrize("text", ["<BlockList/>", "<BlockList />", "\ufeff<BlockList></BlockList>"])
def test_a_list_may_be_empty(text: str) -> None:
    assert core.read_block_list(text) == []


@pytest.mark.parametrize(
    "inner",
    [
        "<Latest>QQ==",
        "<latest>QQ==</latest>",
        "<Latest>QQ==</Uncommitted>",
        "<Latest></Latest>",
        "<Latest a='b'>QQ==</Latest>",
        f"<Latest>{'QQ==' * 60}</Latest>",
        "QQ==",
        "<!-- <Latest>QQ==</Latest>",
    ],
)
def test_no_part_of_a_block_list_is_left_out(inner: str) -> None:
    """A blob without it would be damaged."""
    text = f"<BlockList><Latest>QUE=</Latest>{inner}</BlockList>"
    assert refusal(core.read_block_list, text) == (400, "InvalidXmlDocument")


def test_block_lists_are_bounded() -> None:
    def text(count: int) -> str:
        return f"<BlockList>{'<Latest>QQ==</Latest>' * count}</BlockList>"

    assert len(core.read_block_list(text(core.BLOCKS_MAX))) == core.BLOCKS_MAX
    assert refusal(core.read_block_list, text(core.BLOCKS_MAX + 1)) == (400, "InvalidBlockList")


def test_of_blocks_with_one_id_the_newest_counts() -> None:
    def block(block_id: str, stamp: str) -> Blob:
        return Blob(PLACE.block_key(block_id, stamp), 1, 0.0)

    waiting = [block("QQ==", "02-x"), block("QQ==", "01-y"), block("QUE=", "00-z")]
    newest = core.newest_blocks(PLACE, waiting)
    assert newest == {"QQ==": waiting[0], "QUE=": waiting[2]}


# --- lists ------------------------------------------------------------------------------------


@given(st.lists(st.text("abc/", min_size=1, max_size=4), unique=True), st.integers(1, 5))
def test_pages_show_every_name_once_and_in_order(names: list[str], size: int) -> None:
    shown: list[str] = []
    marker = ""
    while True:
        wanted = read_wanted({"maxresults": str(size), "marker": marker})
        page = page_of(iter(names), wanted)
        shown += page.names
        marker = page.marker
        if not marker:
            break
        assert len(page.names) == size
    assert shown == sorted(names)


def test_a_page_is_bounded_whatever_is_asked_for() -> None:
    assert read_wanted({"maxresults": "99999999"}).size == PAGE_MAX
    assert read_wanted({}) == Wanted()


def test_a_key_is_measured_in_bytes() -> None:
    """Clouds count them, not characters."""
    part = "ü" * 100
    checked_key("/".join([part] * 5))
    with pytest.raises(HeadgateError, match="1024 bytes"):
        checked_key("/".join([part] * 6))

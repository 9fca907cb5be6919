"""The wire cannot change unnoticed, nor break."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from headgate import schemas
from headgate_contracts import catalogue, registry, rpc, streams, subjects
from headgate_contracts.envelope import Event
from headgate_contracts.errors import ErrorCode, blame_of, http_status_of, number_of


def test_generated_files_are_committed() -> None:
    """What lies in contracts/ is what the code says; `make schemas` mends a difference."""
    for name, content in schemas.files().items():
        assert (schemas.CONTRACTS / name).read_text() == content, f"run `make schemas` ({name})"
    names = {path.name for path in (schemas.CONTRACTS / "schemas").iterdir()}
    assert names == set(catalogue.schemas())


def test_no_committed_schema_is_broken() -> None:
    assert schemas.breaks() == []


def _endpoint_schema() -> dict[str, Any]:
    return copy.deepcopy(catalogue.schemas()[f"{registry.PutEndpoint.TYPE}.json"])


def _break_field_gone(schema: dict[str, Any]) -> None:
    del schema["properties"]["workspace"]


def _break_required(schema: dict[str, Any]) -> None:
    schema["required"].append("create_only")


def _break_type(schema: dict[str, Any]) -> None:
    schema["properties"]["workspace"]["type"] = "integer"


def _break_enum(schema: dict[str, Any]) -> None:
    schema["$defs"]["AuthMode"]["enum"].remove("key")


def _break_nested(schema: dict[str, Any]) -> None:
    del schema["$defs"]["EndpointSpec"]["properties"]["traffic"]


def _break_limit(schema: dict[str, Any]) -> None:
    schema["$defs"]["EndpointSpec"]["properties"]["name"]["maxLength"] = 8


@pytest.mark.parametrize(
    "change",
    [
        _break_field_gone,
        _break_required,
        _break_type,
        _break_enum,
        _break_nested,
        _break_limit,
    ],
)
def test_breaking_changes_are_found(change: Any) -> None:
    new = _endpoint_schema()
    change(new)
    assert catalogue.breaking_changes(_endpoint_schema(), new)


def test_a_new_optional_field_breaks_nothing() -> None:
    new = _endpoint_schema()
    new["properties"]["colour"] = {"type": "string", "default": "blue"}
    new["$defs"]["EndpointSpec"]["properties"]["colour"] = {"type": "string", "default": ""}
    assert catalogue.breaking_changes(_endpoint_schema(), new) == []


def test_a_constant_may_become_one_of_several_and_not_another() -> None:
    old = {"properties": {"type": {"type": "string", "const": "a"}}}
    wider = {"properties": {"type": {"type": "string", "enum": ["a", "b"]}}}
    assert catalogue.breaking_changes(old, wider) == []
    assert catalogue.breaking_changes(wider, old)
    assert catalogue.breaking_changes(
        old, {"properties": {"type": {"type": "string", "const": "b"}}}
    )


def test_type_tags_and_subjects_are_unique() -> None:
    tags = [message.TYPE for message in catalogue.message_types()]
    assert len(tags) == len(set(tags))
    asked = [rpc.subject_of(request) for table in rpc.ANSWERS.values() for request in table]
    assert len(asked) == len(set(asked))


def test_every_event_has_a_subject_below_its_stream() -> None:
    for message in catalogue.message_types():
        if issubclass(message, Event):
            (kept,) = catalogue.stream_of(message).subjects
            places = (kept.rstrip(">*"), "hg.v1.hb.", "hg.v1.load.")
            assert catalogue.event_subject(message).startswith(places)


def test_every_stream_and_bucket_is_bounded() -> None:
    for stream in streams.LAYOUT.streams:
        assert stream.max_bytes > 0 and stream.max_msg_bytes > 0
        assert stream.max_age_s > 0 or stream.is_queue  # what waits in a queue is not forgotten
    for bucket in streams.LAYOUT.buckets:
        assert bucket.max_bytes > 0


def test_error_numbers_are_unique_and_in_their_ranges() -> None:
    numbers = [number_of(code) for code in ErrorCode]
    assert len(numbers) == len(set(numbers))
    for code in ErrorCode:
        assert 1000 <= number_of(code) < 1800
        assert 400 <= http_status_of(code) < 600
        assert blame_of(code)


@pytest.mark.parametrize("bad", ["", "a.b", "a*", ">", "a b", "ü", "a\n", "x" * 65])
def test_only_safe_tokens_become_subjects(bad: str) -> None:
    """nats-py would let some of these pass, and a wildcard would reach everybody."""
    with pytest.raises(ValueError, match="not a subject token"):
        subjects.score(bad)


@pytest.mark.parametrize("name", ["my.model", "résumé", "a" * 200, "UPPER_case-1"])
def test_asset_names_are_tamed_to_tokens(name: str) -> None:
    assert subjects.token(subjects.tamed(name))

"""The catalogue of instance types: what comes along, the user's file on top, look-ups by name."""

from __future__ import annotations

from pathlib import Path

import pytest

from headgate.azure import instance_types
from headgate_contracts.errors import ErrorCode, HeadgateError
from headgate_contracts.instance_types import InstanceTypes, in_gib


@pytest.fixture(scope="module")
def shipped() -> InstanceTypes:
    return instance_types.load()


@pytest.mark.parametrize(
    ("name", "cores", "memory_gib", "gpus"),
    [
        ("Standard_DS1_v2", 1, 3.5, 0),
        ("Standard_DS3_v2", 4, 14, 0),
        ("Standard_DS5_v2", 16, 56, 0),
        ("Standard_D2as_v4", 2, 8, 0),
        ("Standard_F2s_v2", 2, 4, 0),
        ("Standard_F4s_v2", 4, 8, 0),  # what the REST API takes when none is named
        ("Standard_F72s_v2", 72, 144, 0),
        ("Standard_E2s_v3", 2, 16, 0),
        ("Standard_E64s_v3", 64, 432, 0),
        ("Standard_NC6s_v3", 6, 112, 1),
        ("Standard_NC64as_T4_v3", 64, 440, 4),
        ("Standard_ND96isr_H100_v5", 96, 1900, 8),
    ],
)
def test_azures_sizes_have_azures_figures(
    shipped: InstanceTypes, name: str, cores: float, memory_gib: float, gpus: int
) -> None:
    found = shipped.find(name)
    assert (found.cores, found.memory_gib, found.gpus) == (cores, memory_gib, gpus)
    assert found.elastic
    assert found.price_per_hour > 0


def test_own_sizes_grow_and_are_promises(shipped: InstanceTypes) -> None:
    own = [shipped.find(name) for name in ("tiny", "small", "medium", "large", "xlarge")]
    assert not any(each.elastic for each in own)
    assert own == sorted(own, key=lambda each: (each.cores, each.memory_gib, each.price_per_hour))


def test_names_are_found_whatever_their_case(shipped: InstanceTypes) -> None:
    assert shipped.find("STANDARD_ds3_V2").name == "Standard_DS3_v2"
    assert shipped.get("nothing") is None


@pytest.mark.parametrize(
    ("name", "near"), [("Standard_DS3v2", "Standard_DS3_v2"), ("meduim", "medium")]
)
def test_an_unknown_name_is_answered_with_similar_ones(
    shipped: InstanceTypes, name: str, near: str
) -> None:
    with pytest.raises(HeadgateError) as caught:
        shipped.find(name)
    error = caught.value.error
    assert (error.code, error.target) == (ErrorCode.BAD_ARGUMENT, "instance_type")
    assert repr(name) in error.message
    assert near in error.message
    assert "headgate instance-type list" in error.message


def test_a_file_adds_sizes_and_changes_fields_of_those_that_are_there(tmp_path: Path) -> None:
    file = tmp_path / "sizes.yaml"
    file.write_text(
        "currency: EUR\n"
        "instance_types:\n"
        "  TINY: {price_per_hour: 0.5}\n"
        "  Standard_DS3_v2: {elastic: false}\n"
        "  desk: {cores: 1.5, memory_gib: 3, gpus: 1, description: under my desk}\n"
    )
    found = instance_types.load(file)
    assert found.currency == "EUR"
    assert len(found) == len(instance_types.load()) + 1
    tiny = found.find("tiny")
    assert (tiny.name, tiny.cores, tiny.price_per_hour) == ("tiny", 0.25, 0.5)
    assert (found.find("standard_ds3_v2").memory_gib, found.find("standard_ds3_v2").elastic) == (
        14,
        False,
    )
    assert found.find("desk").memory_bytes == 3 * 1024**3


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("instance_types:\n  a: {cores: 1}", "sizes.yaml:2:6: instance_types.a.memory_gib: is req"),
        ("instance_types:\n  a: {cores: 0, memory_gib: 1}", ":2:14: instance_types.a.cores: must"),
        ("instance_types:\n  a: {core: 1, memory_gib: 1}", "did you mean 'cores'?"),
        ("instance_types:\n  a: {cores: two, memory_gib: 1}", "must be a number, not 'two'"),
        ("instance_types:\n  a b: {cores: 1, memory_gib: 1}", "'a b' is no valid name"),
        ("instance_types:\n  a: {cores: 1, memory_gib: 1, name: b}", "a.name: unknown field"),
        ("instance_types: [a]", "must be a mapping of names to sizes"),
        ("types: {}", "types: unknown field"),
        ("currency: euro", "currency: must be the three letters"),
        ("- a", "must be a mapping with the key instance_types"),
        ("a: b: c", "sizes.yaml:1:5: not valid YAML"),
    ],
)
def test_a_bad_file_is_refused_with_line_and_field(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "sizes.yaml"
    file.write_text(text)
    with pytest.raises(HeadgateError) as caught:
        instance_types.load(file)
    assert caught.value.error.code is ErrorCode.BAD_ARGUMENT
    assert caught.value.error.target == "instance_types"
    assert said in str(caught.value)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(HeadgateError, match=r"none\.yaml cannot be read: No such file"):
        instance_types.load(tmp_path / "none.yaml")


@pytest.mark.parametrize(
    ("memory_bytes", "text"),
    [(14 * 1024**3, "14 GiB"), (3584 * 1024**2, "3.5 GiB"), (512 * 1024**2, "512 MiB")],
)
def test_memory_is_written_as_people_read_it(memory_bytes: int, text: str) -> None:
    assert in_gib(memory_bytes) == text

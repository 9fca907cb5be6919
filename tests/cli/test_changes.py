"""``--set``, ``--add``, ``--remove`` and files over what is stored, as ``az`` means them."""

from __future__ import annotations

from typing import Any

import pytest

from headgate.azure.yaml_changes import ChangeError, add, from_value, overlay, remove, set_value
from headgate.azure.yaml_nodes import Mapping, Place, read
from headgate.azure.yaml_shapes import Findings, plain, shaped
from headgate_contracts.resources import DeploymentSpec

STORED = {
    "name": "blue",
    "endpoint_name": "digits",
    "instance_count": 1,
    "tags": {"team": "vision"},
    "environment_variables": {"A": "null", "B": "1"},
}


def tree(value: Any = STORED) -> Mapping:
    root = from_value(value, Place("stored"))
    assert isinstance(root, Mapping)
    return root


def given(text: str) -> Mapping:
    root = read(text.encode(), "f.yml")
    assert isinstance(root, Mapping)
    return root


@pytest.mark.parametrize(
    ("assignment", "path", "value"),
    [
        ("instance_count=2", ["instance_count"], "2"),
        ("tags.team=", ["tags", "team"], None),
        ("tags.cost=a=b", ["tags", "cost"], "a=b"),
        ("tags['a.b']=c", ["tags", "a.b"], "c"),
        ("request_settings.max_queue=30", ["request_settings", "max_queue"], "30"),
        ('tags={"x": "1e3", "y": "no"}', ["tags"], {"x": "1e3", "y": "no"}),
        ("list[0].name=x", ["list"], [{"name": "x"}]),
    ],
)
def test_set_puts_a_value_at_a_path(assignment: str, path: list[str], value: Any) -> None:
    root = tree()
    set_value(root, assignment)
    found = plain(root)
    for step in path:
        found = found[step]
    assert found == value


def test_forced_text_is_no_json_and_no_null() -> None:
    root = tree()
    set_value(root, "tags.a={}", force_string=True)
    set_value(root, "description=null", force_string=True)
    assert plain(root)["tags"]["a"] == "{}"
    assert plain(root)["description"] == "null"


def test_add_appends_to_lists_and_puts_keys_into_mappings() -> None:
    root = tree({"identity": {"ids": ["a"]}, "tags": {}})
    add(root, "identity.ids=b")
    add(root, "tags=team=vision")
    add(root, "fresh=x")
    assert plain(root) == {
        "identity": {"ids": ["a", "b"]},
        "tags": {"team": "vision"},
        "fresh": ["x"],
    }


def test_remove_takes_fields_keys_and_items_away() -> None:
    root = tree({"tags": {"a": "1", "b": "2"}, "ids": ["x", "y"], "description": "d"})
    for path in ("tags.a", "ids[0]", "description"):
        remove(root, path)
    assert plain(root) == {"tags": {"b": "2"}, "ids": ["y"]}


@pytest.mark.parametrize(
    "change",
    [
        lambda root: set_value(root, "no-equals-sign"),
        lambda root: set_value(root, "=x"),
        lambda root: set_value(root, "a[=x"),
        lambda root: set_value(root, "[0]=x"),
        lambda root: set_value(root, "name.first=x"),
        lambda root: set_value(root, "tags={broken"),
        lambda root: set_value(root, "list[3]=x"),
        lambda root: add(root, "name=x"),
        lambda root: add(root, "tags"),
        lambda root: remove(root, "tags.nobody"),
        lambda root: remove(root, "tags.team.deeper"),
    ],
)
def test_a_change_that_makes_no_sense_is_refused(change: Any) -> None:
    with pytest.raises(ChangeError):
        change(tree())


def test_what_is_stored_comes_through_unchanged() -> None:
    """A variable whose text is ``null`` stays that text, whatever YAML would say."""
    spec = DeploymentSpec(**STORED)
    again = shaped(
        tree(spec.model_dump(mode="json", exclude_none=True)), DeploymentSpec, "", Findings()
    )
    assert again == spec


def test_a_file_over_what_is_stored_merges_maps_and_replaces_the_rest() -> None:
    root = tree()
    overlay(root, given("tags: {cost: a}\ninstance_count: 3\nenvironment_variables: {B: 2}\n"))
    assert plain(root) == {
        "name": "blue",
        "endpoint_name": "digits",
        "instance_count": "3",
        "tags": {"team": "vision", "cost": "a"},
        "environment_variables": {"A": "null", "B": "2"},
    }


def test_a_problem_of_a_flag_names_the_flag() -> None:
    root = tree()
    set_value(root, "instance_count=many")
    findings = Findings()
    assert shaped(root, DeploymentSpec, "", findings) is None
    assert str(findings.problems[0]).startswith("--set instance_count: instance_count: must be")

"""What a request gives an MLflow model: forms, names and types, without MLflow itself."""

from __future__ import annotations

import json
from typing import Any

import pytest

from headgate_worker.inputs import InputError
from headgate_worker.pyfunc import given, schemas, signature
from headgate_worker.pyfunc.given import Plain, Table, Tensors

COLUMNS = [
    {"name": "age", "type": "long", "required": True},
    {"name": "weight", "type": "double", "required": True},
    {"name": "city", "type": "string", "required": False},
]
ROWS = [{"age": 4, "weight": 1.5, "city": "Bonn"}, {"age": 5, "weight": 2, "city": "Rome"}]
TENSOR = {"type": "tensor", "tensor-spec": {"dtype": "float32", "shape": [-1, 2]}}
NAMED = [
    {"name": "ids", "type": "tensor", "tensor-spec": {"dtype": "int64", "shape": [-1, 3]}},
    {"name": "mask", "type": "tensor", "tensor-spec": {"dtype": "bool", "shape": [-1]}},
]


def signed(inputs: list[dict[str, Any]], **more: Any) -> signature.Signature:
    """A signature with these inputs, as the file MLmodel holds it."""
    found = signature.read({"inputs": json.dumps(inputs), **more})
    assert found is not None
    return found


def columns(*types: str) -> signature.Signature:
    """Columns without names."""
    return signed([{"type": kind} for kind in types])


def refused(data: Any, wanted: signature.Signature) -> str:
    with pytest.raises(InputError) as caught:
        given.shaped(data, wanted)
    assert caught.value.status == 400
    return caught.value.message


def table(data: Any, wanted: signature.Signature) -> Table:
    found = given.shaped(data, wanted)
    assert isinstance(found, Table)
    return found


# -- forms -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "data",
    [
        ROWS,
        [list(row.values()) for row in ROWS],
        {"columns": ["age", "weight", "city"], "data": [list(row.values()) for row in ROWS]},
        {"columns": ["city", "age", "weight"], "data": [["Bonn", 4, 1.5], ["Rome", 5, 2]]},
        {name: [row[name] for row in ROWS] for name in ROWS[0]},
        {"instances": ROWS},
        {"inputs": {name: [row[name] for row in ROWS] for name in ROWS[0]}},
    ],
    ids=["records", "rows", "split", "split-other-order", "columns", "instances", "inputs"],
)
def test_all_forms_of_a_table_are_the_same(data: Any) -> None:
    found = table(data, signed(COLUMNS))
    assert found.names == ["age", "weight", "city"]
    assert found.columns == [[4, 5], [1.5, 2], ["Bonn", "Rome"]]
    assert found.types == ["long", "double", "string"]


def test_a_single_row_may_come_as_an_object() -> None:
    assert table(ROWS[0], signed(COLUMNS)).columns == [[4], [1.5], ["Bonn"]]


def test_the_index_of_the_split_form_is_kept() -> None:
    data = {"columns": ["age", "weight"], "index": [7, 9], "data": [[1, 1], [2, 2]]}
    assert table(data, signed(COLUMNS)).labels == [7, 9]


def test_columns_without_names_are_counted() -> None:
    assert table([[1, 2], [3, 4]], columns("long", "long")).columns == [[1, 3], [2, 4]]
    assert table(["a", "b"], columns("string")).columns == [["a", "b"]]
    assert table("a", columns("string")).columns == [["a"]]
    assert "row 0 has 1 value" not in refused([[1]], columns("long", "long"))
    assert "it has too few columns (1)" in refused([[1]], columns("long", "long"))


def test_a_column_called_data_is_no_split_form() -> None:
    wanted = signed([{"name": "data", "type": "string"}])
    assert table({"data": ["a", "b"]}, wanted).columns == [["a", "b"]]


def test_a_nested_column_takes_its_objects_and_lists_as_they_are() -> None:
    wanted = signed(
        [{"name": "messages", "type": "array", "items": {"type": "string"}, "required": True}]
    )
    assert table({"messages": ["a", "b"]}, wanted).columns == [[["a", "b"]]]
    assert table([{"messages": ["a"]}, {"messages": []}], wanted).columns == [[["a"], []]]


def test_without_a_signature_the_form_decides() -> None:
    assert given.shaped({"columns": ["a"], "data": [[1]]}, None) == Table(["a"], [[1]], [None])
    assert given.shaped([{"a": 1}, {"b": 2}], None) == Table(
        ["a", "b"], [[1, None], [None, 2]], [None, None]
    )
    tensors = given.shaped({"x": [[1]]}, None)
    assert isinstance(tensors, Tensors)
    assert tensors.values == {"x": [[1]]}
    single = given.shaped([[1, 2]], None)
    assert isinstance(single, Tensors)
    assert single.values == {None: [[1, 2]]}
    assert given.shaped("text", None) == Plain("text")


def test_a_model_that_checks_its_input_itself_gets_it_as_it_is() -> None:
    wanted = signature.read({"inputs": json.dumps(COLUMNS)}, free=True)
    assert given.shaped([{"other": 1}], wanted) == Plain([{"other": 1}])
    assert given.shaped({"inputs": [1]}, wanted) == Plain({"inputs": [1]})


def test_an_input_may_be_called_as_tensorflow_serving_calls_all_of_them() -> None:
    wanted = signed([{"name": "inputs", "type": "double"}])
    assert table({"inputs": [1, 2]}, wanted).columns == [[1, 2]]


# -- tensors -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "data",
    [
        {"ids": [[1, 2, 3], [4, 5, 6]], "mask": [True, False]},
        {"inputs": {"ids": [[1, 2, 3], [4, 5, 6]], "mask": [True, False]}},
        [{"ids": [1, 2, 3], "mask": True}, {"ids": [4, 5, 6], "mask": False}],
        {"instances": [{"ids": [1, 2, 3], "mask": True}, {"ids": [4, 5, 6], "mask": False}]},
        {"columns": ["mask", "ids"], "data": [[True, [1, 2, 3]], [False, [4, 5, 6]]]},
    ],
    ids=["object", "inputs", "rows", "instances", "split"],
)
def test_all_forms_of_named_tensors_are_the_same(data: Any) -> None:
    found = given.shaped(data, signed(NAMED))
    assert isinstance(found, Tensors)
    assert found.values == {"ids": [[1, 2, 3], [4, 5, 6]], "mask": [True, False]}


def test_a_single_tensor_needs_no_name() -> None:
    for data in ([[1, 2]], {"instances": [[1, 2]]}, {"data": [[1, 2]]}):
        found = given.shaped(data, signed([TENSOR]))
        assert isinstance(found, Tensors)
        assert found.values == {None: [[1, 2]]}
    one = given.shaped([[1, 2, 3]], signed(NAMED[:1]))
    assert isinstance(one, Tensors)
    assert one.values == {"ids": [[1, 2, 3]]}


def test_tensors_that_do_not_fit_are_named() -> None:
    assert "it lacks 'mask', and has 'masc'" in refused({"ids": [], "masc": []}, signed(NAMED))
    assert "row 1 has no 'mask'" in refused(
        [{"ids": [1], "mask": True}, {"ids": [1]}], signed(NAMED)
    )
    said = refused([[1, 2, 3]], signed(NAMED))
    assert "tensors 'ids' (tensor of int64, shape (any, 3)), 'mask' (tensor of bool" in said
    said = refused({"x": [[1, 2]]}, signed([TENSOR]))
    assert said.endswith("the model wants one tensor of float32, shape (any, 2)")


# -- names and types ---------------------------------------------------------------------------


def test_missing_and_unknown_columns_are_named_and_all_that_is_wanted() -> None:
    said = refused({"columns": ["age", "wieght"], "data": [[1, 2]]}, signed(COLUMNS))
    assert "it lacks 'weight', and has 'wieght', which the model does not know" in said
    assert said.endswith("columns 'age' (long), 'weight' (double), 'city' (string, optional)")


def test_columns_that_are_too_many_are_ignored_and_optional_ones_may_be_missing() -> None:
    found = table([{"age": 1, "weight": 2.0, "colour": "red"}], signed(COLUMNS))
    assert found.names == ["age", "weight"]


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ([{"age": 1, "weight": 1}, {"age": 1}], "row 1 has no 'weight'"),
        ([[1, 2.0, "x"], [1]], "row 1 has 1 value, not 3"),
        ([1, 2.0, "x"], "put each row into a list of its own"),
        ([], "it has no rows"),
        ({"columns": ["age", "weight"], "data": []}, "it has no rows"),
        ({}, "it lacks 'age', 'weight'"),
        (None, "it is null"),
        (3, "it is a number"),
        ({"columns": ["age", "age"], "data": [[1, 2]]}, "has 'age' more than once"),
        ({"columns": [["age"], "weight"], "data": [[1, 2]]}, "`columns` must be a list of names"),
        ({"columns": ["age", "weight"], "data": [1, 2]}, "`data` must be a list of rows"),
        ({"columns": ["age"], "index": [1, 2], "data": [[1]]}, "`index` must be a list"),
        ({"columns": ["age"], "index": [[1]], "data": [[1]]}, "`index` must be a list"),
        ({"age": [1, 2], "weight": [1]}, "different lengths ('age': 2, 'weight': 1)"),
        ({"age": [1, 2], "weight": 1}, "'age' is a list, and 'weight' is none"),
    ],
)
def test_a_form_that_does_not_fit_is_explained(data: Any, words: str) -> None:
    said = refused(data, signed(COLUMNS))
    assert words in said
    assert said.startswith("input_data does not fit the model: ")
    assert "the model wants columns 'age' (long)" in said


@pytest.mark.parametrize(
    ("kind", "values", "typed"),
    [
        ("long", [1, 2.0], [1, 2]),
        ("integer", [-(2**31), 2**31 - 1], [-(2**31), 2**31 - 1]),
        ("string", ["a", None], ["a", None]),
        ("boolean", [True, None], [True, None]),
        ("binary", ["aGk=", None], [b"hi", None]),
        (
            "datetime",
            ["2026-01-31", 1_700_000_000_000, None],
            ["2026-01-31", 1_700_000_000_000, None],
        ),
    ],
)
def test_values_take_the_type_of_their_column(kind: str, values: Any, typed: Any) -> None:
    assert table([[value] for value in values], columns(kind)).columns == [typed]


def test_a_missing_number_is_not_a_number() -> None:
    found = table([[1], [None]], columns("double")).columns[0]
    assert found[0] == 1
    assert found[1] != found[1]


@pytest.mark.parametrize(
    ("kind", "value", "words"),
    [
        ("long", 1.5, "wants long, and row 1 has 1.5"),
        ("long", None, "has null, and a whole number cannot be missing"),
        ("long", True, "has True"),
        ("long", 2**63, "which is too large"),
        ("integer", 2**31, "which is too large"),
        ("double", "1", "has '1'"),
        ("double", False, "has False"),
        ("double", [1], "has [1]"),
        ("string", 5, "wants string, and row 1 has 5"),
        ("boolean", 1, "has 1"),
        ("binary", "no base 64", "which is not base64"),
        ("datetime", 1.5, "wants datetime, and row 1 has 1.5"),
        ("string", {"a" * 100: 1}, "..."),
    ],
)
def test_a_value_of_another_type_is_shown_with_its_place(kind: str, value: Any, words: str) -> None:
    good = {"string": "a", "boolean": True, "binary": "", "datetime": "2026-01-31"}.get(kind, 1)
    wanted = signed([{"name": "x", "type": kind}])
    said = refused({"x": [good, value]}, wanted)
    assert "column 'x' wants" in said
    assert words in said


def test_every_wrong_column_is_told_but_not_without_end() -> None:
    wanted = signed([{"name": f"x{number}", "type": "double"} for number in range(40)])
    said = refused([["bad"] * 40], wanted)
    assert said.count("row 0 has 'bad'") == given.ERRORS_MAX
    assert "'x19' (double) and 20 more" in said


# -- signatures and their description ----------------------------------------------------------


def test_old_and_new_signatures_are_read() -> None:
    old = signed([{"name": "a", "type": "double", "optional": True}])
    assert not old.inputs[0].required
    assert signature.read(None) is None
    assert signature.read({"inputs": None, "params": "[]"}) is None


def test_nested_types_have_words() -> None:
    wanted = signed(
        [
            {"name": "tags", "type": "array", "items": {"type": "string"}},
            {"name": "who", "type": "object", "properties": {"age": {"type": "long"}}},
            {"name": "more", "type": "map", "values": {"type": "array", "items": {"type": "any"}}},
        ]
    )
    assert wanted.wants() == (
        "the model wants columns 'tags' (array of string), 'who' (object of age: long), "
        "'more' (map of array of any)"
    )


def test_the_description_says_names_types_and_parameters() -> None:
    params = [{"name": "top", "type": "long", "default": 3, "shape": None}]
    outputs = [{"type": "tensor", "tensor-spec": {"dtype": "int64", "shape": [-1]}}]
    wanted = signed(COLUMNS, outputs=json.dumps(outputs), params=json.dumps(params))
    said = schemas.request(wanted, None)
    row = said["properties"]["input_data"]["items"]
    assert row["required"] == ["age", "weight"]
    assert row["properties"]["weight"] == {"type": "number", "format": "double"}
    assert said["properties"]["params"]["properties"]["top"]["default"] == 3
    assert said["example"]["params"] == {"top": 3}
    table(said["example"]["input_data"], wanted)  # the example made up is one that fits
    assert schemas.answer(wanted) == {"type": "array", "items": {"type": "integer"}}


def test_tensors_are_described_with_their_shape() -> None:
    said = schemas.request(signed([TENSOR]), None)
    inner = {"type": "array", "items": {"type": "number"}, "minItems": 2, "maxItems": 2}
    assert said["properties"]["input_data"] == {"type": "array", "items": inner}
    assert said["example"]["input_data"] == [[0.5, 0.5]]

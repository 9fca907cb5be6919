"""MLflow models are deployed from their folder alone and answer as they do on Azure."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from typing import Any

import pytest

from acceptance.system import EXAMPLES, environment, wait_for
from mlflow_models.conftest import SERVING_TIMEOUT_S, Served

IRIS = ["sepal length (cm)", "sepal width (cm)", "petal length (cm)", "petal width (cm)"]
FLOWERS = [[5.1, 3.5, 1.4, 0.2], [6, 3, 5, 2]]  # setosa, virginica; whole numbers are doubles too
PERSON = {
    "age": 41,
    "weight": 80.5,
    "adult": True,
    "when": "2026-01-31T12:00:00+02:00",
    "photo": base64.b64encode(b"a photo").decode(),
}


def records(rows: list[list[float]]) -> list[dict[str, float]]:
    return [dict(zip(IRIS, row, strict=True)) for row in rows]


@pytest.mark.parametrize(
    "data",
    [
        {"columns": IRIS, "index": [0, 1], "data": FLOWERS},
        {"columns": IRIS[::-1], "data": [row[::-1] for row in FLOWERS]},
        records(FLOWERS),
        FLOWERS,
        {name: [row[number] for row in FLOWERS] for number, name in enumerate(IRIS)},
        {"instances": records(FLOWERS)},
    ],
    ids=["split", "split-other-order", "records", "rows", "columns", "instances"],
)
def test_a_table_is_scored_in_every_form(served: Served, data: Any) -> None:
    """The answer is Azure's: the bare list of predictions."""
    assert served.ask("iris", {"input_data": data}) == (200, [0, 2])


def test_the_request_of_the_example_is_answered_as_its_readme_says(served: Served) -> None:
    request = json.loads((EXAMPLES / "mlflow" / "sample_request.json").read_text())
    assert served.ask("iris", request) == (200, [0, 2])


def test_the_example_that_the_model_was_logged_with_is_scored(served: Served) -> None:
    """Also: the description of the API has it, and the types of the signature."""
    document = served.swagger("iris")
    given = document["definitions"]["ServiceInput"]
    row = given["properties"]["input_data"]["items"]
    assert row["required"] == IRIS
    assert row["properties"][IRIS[0]]["type"] == "number"
    assert served.ask("iris", given["example"]) == (200, [0, 0])
    assert document["definitions"]["ServiceOutput"]["items"] == {"type": "integer"}


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"input_data": [[1, 2, 3]]}, "row 0 has 3 values, not 4"),
        (
            {"input_data": {"columns": ["sepal", *IRIS[1:]], "data": FLOWERS}},
            "it lacks 'sepal length (cm)', and has 'sepal', which the model does not know",
        ),
        (
            {"input_data": [["long", 1, 2, 3]]},
            "column 'sepal length (cm)' wants double, and row 0 has 'long'",
        ),
        ({"data": FLOWERS}, "the request has no `input_data`"),
    ],
)
def test_a_wrong_shape_is_told_what_the_signature_wants(
    served: Served, body: Any, words: str
) -> None:
    said = served.refusal("iris", body)
    assert words in said
    assert "the model wants columns 'sepal length (cm)' (double)" in said
    assert served.ask("iris", {"input_data": FLOWERS})[0] == 200  # and nothing is broken by it


def test_every_type_goes_in_and_what_json_lacks_comes_out_as_null(served: Served) -> None:
    other = {**PERSON, "weight": None, "when": 1_769_860_800_000, "city": "Bonn"}
    status, rows = served.ask("table", {"input_data": [PERSON, other]})
    assert status == 200
    assert rows[0] == {
        "age": 42,
        "seen": "datetime64[ns]",
        "photo_bytes": 7,
        "when": "2026-02-01T10:00:00",
        "ratio": None,  # an infinity
        "weight": 80.5,
        "photo": PERSON["photo"],
        "adult": True,
    }
    assert rows[1]["weight"] is None  # not a number
    assert rows[1]["when"] == "2026-02-01T12:00:00"


def test_parameters_reach_the_model(served: Served) -> None:
    body = {"input_data": [PERSON], "params": {"years": 10}}
    assert served.ask("table", body)[1][0]["age"] == 51
    said = served.refusal("table", {**body, "params": {"years": "ten"}})
    assert said.startswith("params do not fit the model")
    assert "'years' (long, default 1)" in said
    assert "`params` must be an object" in served.refusal("table", {**body, "params": [1]})


def test_an_error_of_the_model_is_not_the_callers_and_stays_in_the_log(served: Served) -> None:
    status, said = served.ask("table", {"input_data": [{**PERSON, "age": -1}]})
    assert status == 500
    assert "secret" not in said
    wait_for(lambda: "a secret of the model" in served.logs("table"), "the log has it")


@pytest.mark.parametrize(
    "data",
    [
        {"ids": [[1, 2, 3], [4, 5, 6]], "mask": [True, False]},
        {"inputs": {"ids": [[1, 2, 3], [4, 5, 6]], "mask": [True, False]}},
        {"instances": [{"ids": [1, 2, 3], "mask": True}, {"ids": [4, 5, 6], "mask": False}]},
    ],
    ids=["object", "inputs", "instances"],
)
def test_named_tensors_go_in_and_come_out(served: Served, data: Any) -> None:
    answer = {"sum": [6, 0], "dtypes": ["int32", "bool"]}
    assert served.ask("named", {"input_data": data}) == (200, answer)


def test_a_tensor_is_scored_as_nested_lists(served: Served) -> None:
    data = [[[1, 2], [3, 4]], [[0, 0], [0, 1]]]
    assert served.ask("grid", {"input_data": data}) == (200, [2.5, 0.25])
    assert served.ask("grid", {"input_data": {"instances": data}}) == (200, [2.5, 0.25])


def test_tensors_of_another_shape_are_refused(served: Served) -> None:
    said = served.refusal("grid", {"input_data": [[1, 2], [3, 4]]})
    assert "the tensor wants shape (any, 2, 2), and has (2, 2)" in said
    said = served.refusal("named", {"input_data": {"ids": [[1, 2, 3]]}})
    assert "it lacks 'mask'" in said
    said = served.refusal("named", {"input_data": {"ids": [[1, 2, 3.5]], "mask": [True]}})
    assert "tensor 'ids' wants elements of int32, and has numbers that are not whole" in said


def test_models_with_the_same_packages_share_one_environment(served: Served) -> None:
    built = [path for path in (served.headgate.data / "environments").iterdir() if path.is_dir()]
    assert len(built) == 1
    journal = served.logs("grid", "--container", "storage-initializer")
    assert "environment: as the model's conda.yaml says" in journal


def test_a_folder_above_the_model_does_not_matter(served: Served) -> None:
    assert served.ask("outer", {"input_data": FLOWERS}) == (200, [0, 2])


def test_what_goes_in_and_comes_out_is_collected_without_code(served: Served) -> None:
    assert served.ask("outer", {"input_data": FLOWERS})[0] == 200
    folder = served.headgate.data / "store"

    def lines(collection: str) -> list[Any]:
        found = folder.rglob(f"modelDataCollector/outer/blue/{collection}/**/*.jsonl")
        return [json.loads(line) for path in found for line in path.read_text().splitlines()]

    wait_for(lambda: lines("model_inputs") and lines("model_outputs"), "both are in the store")
    given, returned = lines("model_inputs")[-1], lines("model_outputs")[-1]
    assert given["data"] == records(FLOWERS)
    assert returned["data"] == [{"0": 0}, {"0": 2}]
    assert given["correlationid"] == returned["correlationid"]


CLIENT = """
import json, sys, warnings
warnings.simplefilter("ignore")
from azure.ai.ml.entities import ManagedOnlineDeployment, ManagedOnlineEndpoint, Model
from headgate.azure import ml_client

folder, request = sys.argv[1:]
client = ml_client()
endpoint = ManagedOnlineEndpoint(name="by-azure", auth_mode="key")
client.online_endpoints.begin_create_or_update(endpoint).result()
deployment = ManagedOnlineDeployment(
    name="blue", endpoint_name="by-azure", model=Model(path=folder, type="mlflow_model"),
    instance_type="Standard_DS3_v2", instance_count=1,
)
made = client.online_deployments.begin_create_or_update(deployment).result()
assert made.provisioning_state == "Succeeded" and made.code_configuration is None
answer = client.online_endpoints.invoke(
    "by-azure", deployment_name="blue", request_file=request
)
print()
print(json.dumps(json.loads(answer)))
"""


def test_azures_own_client_deploys_it(served: Served) -> None:
    request = served.files / "request.json"
    request.write_text(json.dumps({"input_data": {"columns": IRIS, "data": FLOWERS}}))
    done = subprocess.run(
        [sys.executable, "-c", CLIENT, str(served.files / "iris"), str(request)],
        env=environment(HEADGATE_DATA=str(served.headgate.data)),
        capture_output=True,
        text=True,
        timeout=SERVING_TIMEOUT_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == [0, 2]

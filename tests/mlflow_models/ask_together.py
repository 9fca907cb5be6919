"""Models asked in batches and by the V2 protocol, in this process; their folder is the argument."""

from __future__ import annotations

import json
import sys

from headgate_worker.inputs import InputError
from headgate_worker.pyfunc import script
from headgate_worker.request import Request
from headgate_worker.settings import load
from headgate_worker.v2_service import Service

TOLD = {f"HEADGATE_{key}": "e" for key in ("BUS_URL", "ENDPOINT", "DEPLOYMENT", "INSTANCE")}
PERSON = {"age": 3, "weight": 1.5, "adult": True, "when": "2026-01-31T12:00:00Z", "photo": "AAE="}


def served(name):
    variables = {"AZUREML_MODEL_DIR": sys.argv[1], "MLFLOW_MODEL_FOLDER": name}
    settings = load({**variables, **TOLD, "BATCH_MAX_ROWS": "8"}, version="0")
    found = script.load(settings)
    found.init()
    return found, settings


def together(name, *bodies):
    """Each request gets what it would get alone; all of them share one prediction."""
    found, _ = served(name)
    items = [found.batched.item(body) for body in bodies]
    assert len({found.batched.key(item) for item in items}) == 1, name
    assert found.batched.many(items) == [found.run(**body) for body in bodies], name
    return [found.batched.rows(item) for item in items]


def batches():
    rows = [{**PERSON, "age": age} for age in range(3)]
    assert together("table", {"input_data": rows[:1]}, {"input_data": rows}) == [1, 3]
    flowers = [[5.1, 3.5, 1.4, 0.2], [6.0, 3.0, 4.8, 1.8]]
    assert together("iris", {"input_data": flowers}, {"input_data": flowers[1:]}) == [2, 1]
    grid = [[[1, 2], [3, 4]]]
    assert together("grid", {"input_data": grid * 2}, {"input_data": grid}) == [2, 1]
    table, _ = served("table")
    one = table.batched.item({"input_data": rows})
    with_params = table.batched.item({"input_data": rows, "params": {"years": 5}})
    own_index = {"columns": list(PERSON), "index": [7], "data": [list(PERSON.values())]}
    indexed = table.batched.item({"input_data": own_index})
    assert len({table.batched.key(each) for each in (one, with_params, indexed)}) == 3
    named, _ = served("named")
    items = [named.batched.item({"input_data": {"ids": [[1, 2, 3]], "mask": [True]}})] * 3
    try:
        named.batched.many(items)
    except Exception as error:
        assert "2 rows for 3" in str(error), error  # one of its outputs is not row by row
    else:
        raise AssertionError("answers that cannot be told apart")


def infer(name, inputs, **more):
    found, settings = served(name)
    service = Service(found.tensors(), settings)
    meta = {"id": 1, "p": "/v2/models/e/infer"}
    asked = service.begin(Request("", meta, json.dumps({"inputs": inputs, **more}).encode(), 0))
    answer = service.answer(asked.asked, service.model.infer(**asked.inputs))
    about = service.begin(Request("", {**meta, "m": "GET", "p": "/v2/models/e"}, b"", 0))
    return json.loads(about.body), {
        each["name"]: each for each in json.loads(answer.body)["outputs"]
    }


def tensor(name, datatype, data, *shape):
    return {"name": name, "datatype": datatype, "shape": list(shape or (len(data),)), "data": data}


def by_v2():
    columns = [
        tensor("age", "INT64", [1, 2]),
        tensor("weight", "FP32", [1.5, 2], 2, 1),
        tensor("adult", "BOOL", [True, False]),
        tensor("when", "BYTES", ["2026-01-31T12:00:00Z"] * 2),
        tensor("photo", "BYTES", ["ab", "c"]),
    ]
    about, found = infer("table", columns, parameters={"years": 5, "unknown": 1})
    assert about["platform"] == "mlflow"
    assert about["inputs"][0] == {"name": "age", "datatype": "INT64", "shape": [-1]}
    assert about["inputs"][4]["datatype"] == "BYTES"
    assert found["age"]["data"] == [6, 7] and found["age"]["datatype"] == "INT64"
    assert found["photo_bytes"]["data"] == [2, 1]
    assert found["when"]["data"][0].startswith("2026-02-01T12:00:00")
    assert found["adult"]["data"] == [True, False]
    about, found = infer("grid", [tensor("input", "FP64", [1, 2, 3, 4], 1, 2, 2)])
    assert about["inputs"] == [{"name": "input", "datatype": "FP32", "shape": [-1, 2, 2]}]
    assert found["output"]["data"] == [2.5]
    ids, mask = tensor("ids", "INT32", [1, 2, 3], 1, 3), tensor("mask", "BOOL", [True])
    _, found = infer("named", [ids, mask])
    assert found["sum"]["data"] == [6] and found["dtypes"]["data"] == ["int32", "bool"]
    try:
        infer("grid", [tensor("input", "FP32", [1, 2], 1, 2)])
    except InputError as error:
        assert error.status == 400 and "shape [1, 2]" in error.message
    else:
        raise AssertionError("a wrong shape was taken")
    assert served("unsigned")[0].tensors() is None and served("hints")[0].tensors() is None


batches()
by_v2()
print("all is well")

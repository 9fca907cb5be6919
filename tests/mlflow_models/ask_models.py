"""Asks models as the worker does, in this process: a JSON line of [model, body] in, of
[status, answer] out. The folder of the models is the argument."""

from __future__ import annotations

import json
import sys

from headgate_worker.inputs import InputError
from headgate_worker.pyfunc import script
from headgate_worker.settings import load

loaded = {}
for line in sys.stdin:
    name, body = json.loads(line)
    if name not in loaded:
        variables = {"AZUREML_MODEL_DIR": sys.argv[1], "MLFLOW_MODEL_FOLDER": name}
        told = {f"HEADGATE_{key}": "x" for key in ("BUS_URL", "ENDPOINT", "DEPLOYMENT", "INSTANCE")}
        loaded[name] = script.load(load({**variables, **told}, version="0"))
        loaded[name].init()
    try:
        answer = [200, loaded[name].run(**body)]
    except InputError as error:
        answer = [error.status, error.message]
    except Exception as error:
        answer = [500, repr(error)]
    print("ANSWER", json.dumps(answer, allow_nan=False))

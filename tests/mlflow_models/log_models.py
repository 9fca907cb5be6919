"""Logs models of these tests, with the real MLflow, into the folder that is its argument.

Runs in an environment of its own. Every model names the same packages as the model ``iris`` that is
there already, so that one environment serves them all.
"""

from __future__ import annotations

import sys
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pydantic
from mlflow.models import ModelSignature
from mlflow.types import ColSpec, ParamSchema, ParamSpec, Schema, TensorSpec


class Table(mlflow.pyfunc.PythonModel):
    """Tells of every row what it got, and returns what JSON has no words for."""

    def predict(self, context, model_input, params=None):
        if (model_input["age"] < 0).any():
            raise ValueError("a secret of the model")
        return pd.DataFrame(
            {
                "age": model_input["age"] + params["years"],
                "seen": [str(model_input["when"].dtype)] * len(model_input),
                "photo_bytes": [len(photo) for photo in model_input["photo"]],
                "when": model_input["when"] + pd.Timedelta(days=1),
                "ratio": model_input["weight"] / 0.0,
                "weight": model_input["weight"],
                "photo": model_input["photo"],
                "adult": model_input["adult"],
            }
        )


class Word(pydantic.BaseModel):
    word: str
    times: int = 1


class Hints(mlflow.pyfunc.PythonModel):
    """Says by type hints what it takes."""

    def predict(self, model_input: list[Word]) -> list[str]:
        return [each.word * each.times for each in model_input]


class Unsigned(mlflow.pyfunc.PythonModel):
    """Returns what it gets."""

    def predict(self, context, model_input, params=None):
        return model_input


class Nested(mlflow.pyfunc.PythonModel):
    """Asks another model, but wrongly."""

    def load_context(self, context):
        self.inner = mlflow.pyfunc.load_model(context.artifacts["inner"])

    def predict(self, context, model_input, params=None):
        return self.inner.predict(pd.DataFrame({"wrong": [1]}))


class Named(mlflow.pyfunc.PythonModel):
    """Named tensors in, named tensors out."""

    def predict(self, context, model_input, params=None):
        ids, mask = model_input["ids"], model_input["mask"]
        return {
            "sum": (ids * mask[:, None]).sum(axis=1),
            "dtypes": [str(ids.dtype), str(mask.dtype)],
        }


class Grid(mlflow.pyfunc.PythonModel):
    """One tensor without a name."""

    def predict(self, context, model_input, params=None):
        return model_input.mean(axis=(1, 2))


class Brightness(mlflow.pyfunc.PythonModel):
    """How bright each picture is."""

    def predict(self, context, model_input, params=None):
        return model_input.mean(axis=(1, 2, 3))


def main(folder: Path) -> None:
    requirements = (folder / "iris" / "requirements.txt").read_text().splitlines()

    def save(name: str, model: object, signature: ModelSignature | None = None, **more) -> None:
        mlflow.pyfunc.save_model(
            folder / name,
            python_model=model,
            signature=signature,
            pip_requirements=requirements,
            **more,
        )

    columns = Schema(
        [
            ColSpec("long", "age"),
            ColSpec("float", "weight"),
            ColSpec("boolean", "adult"),
            ColSpec("datetime", "when"),
            ColSpec("binary", "photo"),
            ColSpec("string", "city", required=False),
        ]
    )
    params = ParamSchema([ParamSpec("years", "long", 1)])
    save("table", Table(), ModelSignature(inputs=columns, params=params))
    ids, mask = (
        TensorSpec(np.dtype("int32"), (-1, 3), "ids"),
        TensorSpec(np.dtype(bool), (-1,), "mask"),
    )
    save("named", Named(), ModelSignature(inputs=Schema([ids, mask])))
    grid = TensorSpec(np.dtype("float32"), (-1, 2, 2))
    save("grid", Grid(), ModelSignature(inputs=Schema([grid])))
    pixels = TensorSpec(np.dtype("uint8"), (-1, -1, -1, 3))
    save("brightness", Brightness(), ModelSignature(inputs=Schema([pixels])))
    save("hints", Hints())
    save("unsigned", Unsigned())
    save("nested", Nested(), artifacts={"inner": str(folder / "iris")})


if __name__ == "__main__":
    main(Path(sys.argv[1]))

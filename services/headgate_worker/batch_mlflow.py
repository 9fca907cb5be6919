"""An MLflow model in a batch job, without a script: one file after the other is predicted.

As in Azure, tables become DataFrames and images arrays, each chosen by the file's suffix; a row of
the output has the row's number (of tables), the prediction and the name of the file.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from headgate_worker.pyfunc import script as pyfunc
from headgate_worker.settings import Settings

TABLES = (".csv", ".parquet", ".pqt")
IMAGES = (".png", ".jpg", ".jpeg", ".tiff", ".bmp", ".gif")


class UnknownFileError(Exception):
    """A file that nobody knows how to read."""


def load(settings: Settings) -> Callable[[list[str]], Any]:
    """The run() of the model. Raises ScriptError."""
    model = pyfunc.loaded(os.path.join(settings.model_dir, settings.mlflow_folder))

    def run(mini_batch: list[str]) -> Any:
        import pandas

        return pandas.concat([_predicted(model, path) for path in mini_batch])

    return run


def _predicted(model: Any, path: str) -> Any:
    """One file's predictions as a DataFrame."""
    import pandas

    suffix = os.path.splitext(path)[1].lower()
    name = os.path.basename(path)
    if suffix in IMAGES:
        found = pandas.DataFrame({"prediction": [_first(model.predict(_image(path)))]})
    elif suffix in TABLES:
        table = pandas.read_csv(path) if suffix == ".csv" else pandas.read_parquet(path)
        found = _framed(model.predict(table))
        found.insert(0, "row", range(len(found)))
    else:
        raise UnknownFileError(
            f"{name} is neither a table ({', '.join(TABLES)}) nor an image ({', '.join(IMAGES)}); "
            "give the deployment a scoring script that reads it"
        )
    return found.assign(file=name)


def _framed(result: Any) -> Any:
    """A column for each value that is predicted of a row."""
    import pandas

    if hasattr(result, "columns"):
        return result.reset_index(drop=True)
    if getattr(result, "ndim", 1) > 1:
        result = result.tolist()
    return pandas.DataFrame({"prediction": list(result)})


def _first(result: Any) -> Any:
    """The prediction for the only image of a batch."""
    values = result.to_numpy() if hasattr(result, "to_numpy") else result
    found = values[0] if len(values) == 1 else values
    return found.tolist() if hasattr(found, "tolist") else found


def _image(path: str) -> Any:
    """Height, width and channels, as the only one of a batch."""
    import numpy
    from PIL import Image

    with Image.open(path) as image:
        return numpy.asarray(image)[numpy.newaxis]

"""Files that an MLflow model predicts in a batch job, in this process."""

from __future__ import annotations

import io
import json
import os
import sys

import numpy
import pandas
from PIL import Image

from headgate_worker import batch_mlflow
from headgate_worker.settings import load

TOLD = {f"HEADGATE_{key}": "e" for key in ("BUS_URL", "ENDPOINT", "DEPLOYMENT", "INSTANCE")}
IRIS = ["sepal length (cm)", "sepal width (cm)", "petal length (cm)", "petal width (cm)"]
FLOWERS = pandas.DataFrame([[5.1, 3.5, 1.4, 0.2], [6, 3, 5, 2]], columns=IRIS, dtype=float)


def predicted(name, *paths):
    variables = {"AZUREML_MODEL_DIR": sys.argv[1], "MLFLOW_MODEL_FOLDER": name}
    run = batch_mlflow.load(load({**variables, **TOLD}, version="0"))
    return run(list(paths))


def lines(frame):
    text = io.StringIO()
    frame.to_csv(text, header=False, index=False)
    return text.getvalue().splitlines()


os.chdir(sys.argv[2])
FLOWERS.to_csv("a.csv", index=False)
FLOWERS[::-1].to_parquet("b.parquet", index=False)
FLOWERS[:1].to_parquet("c.PQT", index=False)
for number in range(2):
    pixels = numpy.full((3, 4, 3), 100 * number, dtype=numpy.uint8)
    Image.fromarray(pixels).save(f"{number}.png")
with open("d.txt", "w") as file:
    file.write("text")

found = {
    "tables": lines(predicted("iris", "a.csv", "b.parquet", "c.PQT")),
    "images": lines(predicted("brightness", "0.png", "1.png")),
}
try:
    predicted("iris", "d.txt")
except batch_mlflow.UnknownFileError as error:
    found["other"] = str(error)
print("FOUND " + json.dumps(found))

"""One file of digits for each file of images; the job only counts what is returned."""

import os
from pathlib import Path

import joblib
import numpy as np


def init():
    global model
    model = joblib.load(next(Path(os.environ["AZUREML_MODEL_DIR"]).rglob("model.joblib")))


def run(mini_batch):
    outputs = Path(os.environ["AZUREML_BI_OUTPUT_PATH"])
    for path in mini_batch:
        digits = model.predict(np.loadtxt(path, delimiter=",", ndmin=2))
        np.savetxt(outputs / Path(path).name, digits, fmt="%d")
    return mini_batch

"""Reads handwritten digits: rows of 64 grey values (0 to 16) in, one digit per row out."""

import json
import os
from pathlib import Path

import joblib
import numpy as np

model = None


def init():
    """Load the one file that the deployment names as its model."""
    global model
    path = Path(os.environ["AZUREML_MODEL_DIR"]) / "model.joblib"
    model = joblib.load(path)
    print(f"loaded {type(model[-1]).__name__} from {path.name}")


def run(raw_data):
    """``{"data": [[64 numbers], ...]}`` becomes ``[digit, ...]``."""
    images = np.asarray(json.loads(raw_data)["data"], dtype=np.float64)
    return model.predict(images).tolist()

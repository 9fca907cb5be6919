"""Trains a small classifier and saves it as an MLflow model, in the folder ``model`` next to this.

The signature says what the model takes and returns; Headgate checks every request against it. The
input example becomes the example of the endpoint's API description.
"""

import argparse
from pathlib import Path

import mlflow
from mlflow.models import infer_signature
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler


def main(folder):
    flowers, species = load_iris(return_X_y=True, as_frame=True)
    classifier = make_pipeline(StandardScaler(), LogisticRegression())
    classifier.fit(flowers, species)
    mlflow.sklearn.save_model(
        classifier,
        folder,
        signature=infer_signature(flowers, classifier.predict(flowers)),
        input_example=flowers.head(2),
    )
    print(f"saved in {folder}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, nargs="?", default=Path(__file__).parent / "model")
    main(parser.parse_args().folder)

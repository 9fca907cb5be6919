"""Trains the two classifiers of this example on the digits that come with scikit-learn.

Half of the 1,797 images are held out: nothing is trained on them, so that accuracy measured by
sending them to the endpoint means something. Writes next to this file, unless told otherwise:

    models/blue/model.joblib    logistic regression
    models/green/model.joblib   support vector machine
    models/held_out.json        {"images": [[64 numbers], ...], "digits": [0..9, ...]}
"""

import argparse
import json
from pathlib import Path

import joblib
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC


def train(folder):
    """Fit both models and write everything below ``folder``."""
    images, digits = load_digits(return_X_y=True)
    seen, held_out, seen_digits, held_out_digits = train_test_split(
        images, digits, test_size=0.5, stratify=digits, random_state=20
    )
    candidates = {
        "blue": make_pipeline(StandardScaler(), LogisticRegression(C=0.02, max_iter=500)),
        "green": make_pipeline(SVC(gamma=0.001, C=10.0)),
    }
    for name, model in candidates.items():
        model.fit(seen, seen_digits)
        path = folder / name / "model.joblib"
        path.parent.mkdir(parents=True, exist_ok=True)
        joblib.dump(model, path)
        accuracy = model.score(held_out, held_out_digits)
        print(f"{name:5} {type(model[-1]).__name__:18} {accuracy:.1%} right on held-out images")
    known = {"images": held_out.astype(int).tolist(), "digits": held_out_digits.tolist()}
    (folder / "held_out.json").write_text(json.dumps(known))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", type=Path, default=Path(__file__).parent / "models")
    train(parser.parse_args().models)

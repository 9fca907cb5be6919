"""Trains a classifier of handwritten digits, and writes what there is to classify as 100 files.

Half of the 1,797 images that come with scikit-learn are held out. Writes next to this file, unless
told otherwise:

    model/model.joblib     logistic regression
    data/part-000.csv      held-out images, one a line: 64 numbers; 100 files
    expected.csv           what the model says of each when it is asked here and now
"""

import argparse
from pathlib import Path

import joblib
import numpy as np
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

FILES = 100


def write(folder):
    """Fit the model and write everything below ``folder``."""
    images, digits = load_digits(return_X_y=True)
    seen, held_out, seen_digits, _ = train_test_split(
        images, digits, test_size=0.5, stratify=digits, random_state=20
    )
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.02, max_iter=500))
    model.fit(seen, seen_digits)
    for place in ("model", "data"):
        (folder / place).mkdir(parents=True, exist_ok=True)
    joblib.dump(model, folder / "model" / "model.joblib")
    lines = []
    for number, part in enumerate(np.array_split(held_out, FILES)):
        name = f"part-{number:03}.csv"
        np.savetxt(folder / "data" / name, part, fmt="%d", delimiter=",")
        lines += [f"{name},{row},{digit}\n" for row, digit in enumerate(model.predict(part))]
    (folder / "expected.csv").write_text("".join(lines))
    print(f"{len(held_out)} images in {FILES} files below {folder / 'data'}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, default=Path(__file__).parent)
    write(parser.parse_args().folder)

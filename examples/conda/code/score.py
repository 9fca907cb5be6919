"""Finds the word that was meant, by the fewest typing errors between it and what was written."""

import json
import os
from pathlib import Path

from rapidfuzz import process
from rapidfuzz.distance import DamerauLevenshtein

words = []


def init():
    """A model registered from a folder keeps the folder's name below AZUREML_MODEL_DIR."""
    path = Path(os.environ["AZUREML_MODEL_DIR"]) / "model" / "words.txt"
    words.extend(path.read_text().split())
    print(f"{len(words)} words")


def run(raw_data):
    """``{"data": ["grene"]}`` becomes ``[{"word": "green", "errors": 1}]``."""
    return [closest(written) for written in json.loads(raw_data)["data"]]


def closest(written):
    """The nearest word and its distance in typing errors."""
    word, errors, _ = process.extractOne(written.lower(), words, scorer=DamerauLevenshtein.distance)
    return {"word": word, "errors": errors}

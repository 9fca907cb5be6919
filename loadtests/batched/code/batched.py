"""The same for all requests that are there."""

import model

from headgate_worker import tensors


def init():
    global predict
    predict = tensors.Predictor(model.load(), device="cpu")


def run_batch(items):
    return [words.tolist() for words in predict([model.prompt_of(item) for item in items])]

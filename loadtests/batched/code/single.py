"""One request, one pass."""

import model
import torch


def init():
    global classifier
    classifier = model.load()


def run(raw_data):
    with torch.inference_mode():
        return classifier(torch.tensor([model.text_of(raw_data)]))[0].tolist()

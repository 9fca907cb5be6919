"""One request, one pass."""

import model
import torch


def init():
    global generator
    generator = model.load()


def run(raw_data):
    with torch.inference_mode():
        return generator(torch.tensor([model.prompt_of(raw_data)]))[0].tolist()

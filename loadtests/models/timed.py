"""A model whose calls take as long as their request says: ``{"ms": 10}``."""

import json
import time


def init():
    pass


def run(raw_data):
    ms = json.loads(raw_data)["ms"]
    time.sleep(ms / 1000)
    return {"ms": ms}

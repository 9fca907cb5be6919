"""A model that never answers."""

import time


def init():
    pass


def run(raw_data):
    while True:
        time.sleep(3600)

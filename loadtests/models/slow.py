"""Azure's scoring script for the model that takes 100 ms."""

import json

import functions


def init():
    pass


def run(raw_data):
    return functions.slow(json.loads(raw_data))

"""Azure's scoring script for the small model."""

import json

import functions


def init():
    pass


def run(raw_data):
    return functions.small(json.loads(raw_data))

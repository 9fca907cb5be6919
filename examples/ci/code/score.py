"""Adds up a basket. A new version of it is what the pipeline rolls out."""

import json

VERSION = 1
prices = {}


def init():
    """Called once, before the first request."""
    prices.update(apple=0.4, bread=2.2, milk=1.1)


def run(raw_data):
    """Called for every request: {"items": {"apple": 3}} -> what it costs."""
    items = json.loads(raw_data)["items"]
    return {"version": VERSION, "total": sum(prices[name] * n for name, n in items.items())}

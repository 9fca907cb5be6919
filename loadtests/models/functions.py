"""The models of the load tests, as every server calls them."""

import time

import numpy as np

SLOW_S = 0.1
WEIGHTS = np.arange(10.0)


def small(document):
    """A dot product of ten numbers per row: ``{"data": [[...], ...]}`` to ``{"result": [...]}``."""
    rows = np.asarray(document["data"], dtype=np.float64)
    return {"result": (rows @ WEIGHTS).tolist()}


def small_batch(documents):
    """The same for many requests in one call of numpy."""
    parts = [document["data"] for document in documents]
    answers = (np.asarray([row for rows in parts for row in rows], np.float64) @ WEIGHTS).tolist()
    results, at = [], 0
    for rows in parts:
        results.append({"result": answers[at : at + len(rows)]})
        at += len(rows)
    return results


def binary(body):
    """The sum of little-endian float32 numbers, as an image model would read its pixels."""
    return {"sum": float(np.frombuffer(body, dtype="<f4").sum())}


def slow(document):
    """A model that takes 100 ms, during which the processor is free (as with a GPU)."""
    time.sleep(SLOW_S)
    return {"result": len(document["data"])}

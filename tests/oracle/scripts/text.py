"""run() without decorators: the body says what to do."""

import json
import logging

from azureml.contrib.services.aml_response import AMLResponse

ANSWERS = {
    "list": [1, 2.5, "three"],
    "text": "just text",
    "number": 42,
    "none": None,
    "true": True,
    "nested": {"a": {"b": [None]}},
    "unicode": "größe 数 \U0001f600",
    "nan": float("nan"),
    "set": {1, 2},
    "bytes": b"raw",
}


def init():
    print("text script is ready")


def run(raw_data, request_headers):
    print("run with", len(raw_data), "characters")
    logging.getLogger(__name__).warning("a record of the script's own")
    try:
        asked = json.loads(raw_data)
    except ValueError:
        return {"text": raw_data}
    what = asked.get("do") if isinstance(asked, dict) else None
    if what == "raise":
        raise ValueError("the script says no")
    if what == "raise_timeout":
        raise TimeoutError("somebody else was slow")
    if what == "headers":
        names = ("Content-Type", "X-Custom", "X-Request-Id", "X-Ms-Client-Request-Id", "Host")
        return {name: request_headers.get(name) for name in names}
    if what == "header_type":
        return type(request_headers).__name__
    if what == "response":
        return AMLResponse("teapot", 418, {"X-Kind": "teapot"})
    return ANSWERS.get(what, {"json": asked})

"""The smallest scoring script: it answers with the request's own JSON and a greeting."""

import json
import os

greeting = ""


def init():
    """Called once, before the first request."""
    global greeting
    greeting = os.environ.get("GREETING", "hello")
    print(f"ready to say {greeting!r}")


def run(raw_data):
    """Called for every request with its body as text; what it returns becomes JSON."""
    return {"greeting": greeting, "you_sent": json.loads(raw_data)}

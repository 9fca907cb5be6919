"""Served with every setting that changes answers; a driver script in front of the real one."""

import json
import time
import types

started = []


def init():
    started.append("driver")


def run(**anything):
    raise AssertionError("the driver's own run() is not used")


def _run(data):
    asked = json.loads(data)
    if "sleep_s" in asked:
        time.sleep(asked["sleep_s"])
    return {"started": started, "asked": asked}


driver_module = types.ModuleType("driven")
driver_module.__file__ = "driven.py"
driver_module.run = _run

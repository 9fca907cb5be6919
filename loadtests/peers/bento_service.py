"""BentoML: one worker process, one thread, no access log."""

import os
import sys
from pathlib import Path

sys.path.insert(0, os.environ["LOADTESTS_MODELS"])
import bentoml
import functions


@bentoml.service(
    workers=1, threads=1, traffic={"timeout": 60}, logging={"access": {"enabled": False}}
)
class Scoring:
    @bentoml.api
    async def small(self, data: list[list[float]]) -> dict[str, list[float]]:
        return functions.small({"data": data})

    @bentoml.api
    def binary(self, body: Path, /) -> dict[str, float]:
        return functions.binary(body.read_bytes())

    @bentoml.api
    def slow(self, data: list[list[float]]) -> dict[str, int]:
        return functions.slow({"data": data})

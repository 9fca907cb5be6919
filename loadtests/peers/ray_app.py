"""Ray Serve: one replica behind one proxy, no access log."""

import os
import signal
import sys

sys.path.insert(0, os.environ["LOADTESTS_MODELS"])
import functions
import ray
from ray import serve
from starlette.requests import Request


@serve.deployment(num_replicas=1, max_ongoing_requests=128, ray_actor_options={"num_cpus": 1})
class Small:
    async def __call__(self, request: Request):
        return functions.small(await request.json())


@serve.deployment(num_replicas=1, max_ongoing_requests=128, ray_actor_options={"num_cpus": 1})
class Binary:
    async def __call__(self, request: Request):
        return functions.binary(await request.body())


@serve.deployment(num_replicas=1, max_ongoing_requests=1, ray_actor_options={"num_cpus": 1})
class Slow:
    async def __call__(self, request: Request):
        return functions.slow(await request.json())


if __name__ == "__main__":
    workload, port = os.environ["LOADTESTS_WORKLOAD"], int(sys.argv[1])
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, object_store_memory=2**28)
    serve.start(http_options={"host": "127.0.0.1", "port": port})
    app = {"small": Small, "binary": Binary, "slow": Slow}[workload].bind()
    serve.run(app, route_prefix=f"/{workload}", logging_config={"enable_access_log": False})
    signal.sigwait({signal.SIGTERM, signal.SIGINT})
    serve.shutdown()
    ray.shutdown()

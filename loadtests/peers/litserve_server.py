"""LitServe: one API server process, one worker process, the ZeroMQ queue that it recommends."""

import os
import sys

sys.path.insert(0, os.environ["LOADTESTS_MODELS"])
import functions
import litserve


class Small(litserve.LitAPI):
    def setup(self, device):
        pass

    def predict(self, document):
        return functions.small(document)


class Slow(Small):
    def predict(self, document):
        return functions.slow(document)


if __name__ == "__main__":
    workload = os.environ["LOADTESTS_WORKLOAD"]
    api = {"small": Small, "slow": Slow}[workload](api_path=f"/{workload}")
    server = litserve.LitServer(
        api, accelerator="cpu", workers_per_device=1, fast_queue=True, timeout=60
    )
    server.run(
        host="127.0.0.1",
        port=int(sys.argv[1]),
        num_api_servers=1,
        log_level="warning",
        generate_client_file=False,
        access_log=False,
    )

"""mosec: its Rust server in front of one worker process, with or without dynamic batching."""

import os
import sys

sys.path.insert(0, os.environ["LOADTESTS_MODELS"])
import functions
from mosec import Server, Worker


class Small(Worker):
    def forward(self, data):
        return functions.small(data)


class SmallBatch(Worker):
    def forward(self, data):
        return functions.small_batch(data)


class Binary(Worker):
    def deserialize(self, data):
        return data

    def forward(self, data):
        return functions.binary(data)


class Slow(Worker):
    def forward(self, data):
        return functions.slow(data)


if __name__ == "__main__":
    workload, batch = os.environ["LOADTESTS_WORKLOAD"], int(os.environ.get("LOADTESTS_BATCH", "1"))
    server = Server()
    if batch > 1:
        # One millisecond is the shortest wait for a batch to fill that mosec takes.
        server.append_worker(SmallBatch, max_batch_size=batch, max_wait_time=1, route="/small")
    else:
        worker = {"small": Small, "binary": Binary, "slow": Slow}[workload]
        server.append_worker(worker, route=f"/{workload}", timeout=30)
    server.run()

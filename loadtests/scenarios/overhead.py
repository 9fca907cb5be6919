"""What the path adds to a model of 100 ms at half load, beyond the model and its queue."""

from __future__ import annotations

from loadtests import open_loop
from loadtests.open_loop import poisson, quantile
from loadtests.queueing import central_queue
from loadtests.scenarios.outcome import Outcome
from loadtests.system import BLUE, System

INSTANCES, MODEL_S = 4, 0.1
PENDING_PER_SLOT = 2
P50_MS_MAX, P95_MS_MAX = 3.0, 10.0


async def measure(quick: bool) -> Outcome:
    seconds, rate_per_s = 12.0 if quick else 45.0, 0.5 * INSTANCES / MODEL_S
    arrivals = poisson(rate_per_s, seconds, seed=1)
    with System.running() as system:
        system.deploy(BLUE, "timed.py", concurrency=1, instances=INSTANCES)
        target = system.target()
        message = target.message(b'{"ms": %d}' % (1000 * MODEL_S))
        await open_loop.run(target, poisson(rate_per_s, 2.0, seed=2), [message] * 1000)
        shots = await open_loop.run(target, arrivals, [message] * len(arrivals))
    ideal = central_queue(
        arrivals, [MODEL_S] * len(arrivals), INSTANCES, PENDING_PER_SLOT * INSTANCES
    )
    bare = sorted(1e3 * each for each in ideal if each is not None)
    found = shots.latencies_ms(status=200)
    outcome = Outcome(f"a {1000 * MODEL_S:.0f} ms model on {INSTANCES} instances at half load")
    outcome.figures = {
        "requests": len(shots),
        "failed": shots.errors,
        "p50, p95, p99 ms": " ".join(f"{quantile(found, q):.2f}" for q in (0.5, 0.95, 0.99)),
        "the same of an ideal queue": " ".join(
            f"{quantile(bare, q):.2f}" for q in (0.5, 0.95, 0.99)
        ),
    }
    added = [quantile(found, q) - quantile(bare, q) for q in (0.5, 0.95)]
    outcome.at_most("p50 added, ms", added[0], P50_MS_MAX)
    outcome.at_most("p95 added, ms", added[1], P95_MS_MAX)
    outcome.at_most("failed requests", shots.errors, 0)
    return outcome

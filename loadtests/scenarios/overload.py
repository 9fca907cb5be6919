"""Ten times as many requests as the model can do, for a minute."""

from __future__ import annotations

from collections import Counter

from loadtests import open_loop
from loadtests.open_loop import Shots, poisson, quantile
from loadtests.scenarios.outcome import Outcome
from loadtests.system import BLUE, System

INSTANCES, MODEL_MS = 4, 20
FACTOR = 10
BEFORE_S, AFTER_S = 5.0, 12.0
GOODPUT_MIN, REFUSAL_P99_MS_MAX, RECOVERY_S_MAX = 0.9, 50.0, 10.0


async def measure(quick: bool) -> Outcome:
    storm_s = 10.0 if quick else 60.0
    with System.running() as system:
        system.deploy(BLUE, "timed.py", concurrency=1, instances=INSTANCES)
        target = system.target()
        message = target.message(b'{"ms": %d}' % MODEL_MS)
        # Every slot taken and every place to wait: the most that the deployment can do.
        peak = await open_loop.closed(target, 3 * INSTANCES, 4.0, message)
        peak_per_s = (len(peak) - peak.errors) / peak.elapsed_s
        begun, ended = BEFORE_S, BEFORE_S + storm_s
        arrivals = [
            *poisson(0.5 * peak_per_s, BEFORE_S, seed=1),
            *(begun + at for at in poisson(FACTOR * peak_per_s, storm_s, seed=2)),
            *(ended + at for at in poisson(0.5 * peak_per_s, AFTER_S, seed=3)),
        ]
        shots = await open_loop.run(target, arrivals, [message] * len(arrivals))
    statuses = Counter(
        status
        for meant, status in zip(shots.meant_s, shots.statuses, strict=True)
        if begun <= meant < ended
    )
    refusals = shots.latencies_ms(status=429, since=begun, until=ended)
    normal_ms = quantile(shots.latencies_ms(status=200, until=begun), 0.99)
    goodput = statuses[200] / storm_s
    recovery_s = _recovery_s(shots, ended, 1.5 * normal_ms)
    outcome = Outcome(f"{FACTOR} x overload for {storm_s:.0f} s")
    outcome.figures = {
        "peak, requests/s": peak_per_s,
        "offered, requests/s": FACTOR * peak_per_s,
        "goodput, requests/s": goodput,
        "statuses": ", ".join(f"{status}: {count}" for status, count in sorted(statuses.items())),
        "answers under overload, p50 and p99 ms": " ".join(
            f"{shots.quantile_ms(q, status=200, since=begun, until=ended):.1f}" for q in (0.5, 0.99)
        ),
    }
    outcome.at_least("goodput by peak", goodput / peak_per_s, GOODPUT_MIN)
    outcome.at_most("refusals, p99 ms", quantile(refusals, 0.99), REFUSAL_P99_MS_MAX)
    outcome.at_most("seconds until normal again", recovery_s, RECOVERY_S_MAX)
    others = sum(count for status, count in statuses.items() if status not in (200, 429))
    outcome.at_most("neither answered nor refused with 429", others, 0)
    return outcome


def _recovery_s(shots: Shots, ended: float, late_ms: float) -> float:
    """Until the last request after the storm that failed or was late, in windows of a second of
    which more than one in a hundred was: single stragglers there are at half load too."""
    seconds: Counter[int] = Counter()
    bad: Counter[int] = Counter()
    for meant, end, status in zip(shots.meant_s, shots.ended_s, shots.statuses, strict=True):
        if meant >= ended:
            seconds[int(meant - ended)] += 1
            bad[int(meant - ended)] += status != 200 or 1e3 * (end - meant) > late_ms
    return float(max((at + 1 for at, all_ in seconds.items() if bad[at] > 0.02 * all_), default=0))

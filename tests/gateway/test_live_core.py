"""What deployments do now, from load reports."""

from __future__ import annotations

import pytest

from headgate.gateway.live_core import SILENT_S, WINDOW_S, LiveLoad
from headgate_contracts.load import DeploymentLoad, LoadReported


def report(router: str, seq: int, mono_s: float, *rows: DeploymentLoad, **fields: object):
    return LoadReported(
        router=router, seq=seq, since=0.0, mono_s=mono_s, deployments=rows, **fields
    )


def row(ok: int = 0, bad: int = 0, name: str = "blue", **fields: object) -> DeploymentLoad:
    return DeploymentLoad(
        workspace="local", endpoint="echo", deployment=name,
        statuses={200: ok, 424: bad}, latency_buckets={10: ok}, **fields,
    )  # fmt: skip


def test_rates_are_growth_over_time_added_up_over_routers() -> None:
    load = LiveLoad()
    for second in range(4):
        load.hear(report("a", second, 100.0 + second, row(ok=10 * second, in_flight=2)), second)
        load.hear(report("b", second, 7.0 + second, row(ok=5 * second, bad=second)), second)
    (found,) = load.rows("local", 3.0)
    assert found.requests_per_s == pytest.approx(16)
    assert found.failures_per_s == pytest.approx(1)
    assert found.in_flight == 2
    assert found.quantile_ms(0.5) is not None


def test_the_window_moves_on() -> None:
    load = LiveLoad()
    for second in range(60):
        load.hear(report("a", second, float(second), row(ok=1000 if second > 10 else 0)), second)
    (found,) = load.rows("local", 59.0)
    assert found.requests_per_s == 0
    assert found.quantile_ms(0.5) is None
    assert 50 - WINDOW_S > 10


def test_a_router_that_stops_or_falls_silent_counts_no_more() -> None:
    load = LiveLoad()
    load.hear(report("a", 1, 1.0, row(in_flight=3)), 1.0)
    load.hear(report("b", 1, 1.0, row(in_flight=4)), 1.0)
    assert load.routers(1.0) == 2
    load.hear(report("b", 2, 2.0, row(in_flight=0), is_last=True), 2.0)
    assert load.routers(2.0) == 1
    assert load.rows("local", 2.0)[0].in_flight == 3
    assert load.routers(1.0 + SILENT_S + 0.1) == 0
    assert load.rows("local", 1.0 + SILENT_S + 0.1) == []


def test_counts_that_begin_anew_are_no_negative_rates() -> None:
    load = LiveLoad()
    load.hear(report("a", 1, 1.0, row(ok=500)), 1.0)
    load.hear(report("a", 2, 2.0, row(ok=20)), 2.0)
    assert load.rows("local", 2.0)[0].requests_per_s == pytest.approx(20)


def test_parts_of_a_report_belong_together_and_workspaces_do_not() -> None:
    load = LiveLoad()
    foreign = row().model_copy(update={"workspace": "other"})
    load.hear(report("a", 1, 1.0, row(), part=0, parts=2), 1.0)
    load.hear(report("a", 1, 1.0, row(name="green"), foreign, part=1, parts=2), 1.0)
    assert [each.deployment for each in load.rows("local", 1.0)] == ["blue", "green"]

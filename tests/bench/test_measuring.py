"""The load tests measure what they say: the generator, the ideal queue, the medians."""

from __future__ import annotations

import asyncio
import math

import pytest
from loadtests import open_loop, report, servers
from loadtests.queueing import central_queue
from loadtests.runs import Run
from loadtests.workloads import BINARY, SMALL, Target, Workload


async def answering(delay_s: float, keeps: bool = True) -> tuple[asyncio.Server, Target]:
    """A server that handles one request at a time, each for so long."""
    turn = asyncio.Lock()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                await reader.readexactly(int(head.lower().split(b"content-length: ")[1].split()[0]))
                async with turn:
                    await asyncio.sleep(delay_s)
                close = b"" if keeps else b"Connection: close\r\n"
                writer.write(b"HTTP/1.1 200 OK\r\n" + close + b"Content-Length: 2\r\n\r\nok")
                if not keeps:
                    break
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    return server, Target("127.0.0.1", port, "/small", {}, SMALL.body)


async def test_a_latency_counts_from_when_the_request_was_to_leave() -> None:
    """Ten requests at once to a server that takes 20 ms each: the last one waited for the others,
    although the generator has a single connection and sent it late."""
    server, target = await answering(0.02)
    async with server:
        shots = await open_loop.run(target, [0.0] * 10, connections=1)
    assert (len(shots), shots.errors) == (10, 0)
    assert shots.latencies_ms()[-1] >= 10 * 20


@pytest.mark.parametrize("keeps", [True, False])
async def test_every_arrival_is_accounted_for(keeps: bool) -> None:
    server, target = await answering(0.0, keeps)
    arrivals = open_loop.poisson(400, 0.5, seed=1)
    async with server:
        shots = await open_loop.run(target, arrivals, connections=8)
    assert sorted(shots.numbers) == list(range(len(arrivals)))
    assert shots.errors == 0


async def test_requests_to_nobody_are_failures() -> None:
    server, target = await answering(0.0)
    server.close()
    await server.wait_closed()
    shots = await open_loop.run(target, [0.0, 0.01], connections=2)
    assert (len(shots), shots.errors) == (2, 2)


async def test_the_closed_loop_sends_the_next_request_on_an_answer() -> None:
    server, target = await answering(0.01)
    async with server:
        shots = await open_loop.closed(target, 4, 0.3)
    assert shots.errors == 0
    assert 4 <= len(shots) <= 4 + 0.3 / 0.01 + 1


def test_an_ideal_queue_of_two_servers() -> None:
    """The third waits for the first; a fourth finds the one place taken."""
    ends = central_queue([0.0, 0.0, 0.1, 0.2, 2.0], [1.0, 2.0, 1.0, 1.0, 1.0], 2, waiting_max=1)
    assert [None if end is None else round(end, 6) for end in ends] == [1.0, 2.0, 1.9, None, 1.0]


def test_ratios_are_taken_within_a_round() -> None:
    """A machine that is twice as fast in the second round changes no ratio."""
    run = Run("2026-01-01T00:00:00+00:00", {})
    for turn, speed in enumerate((1, 2, 1)):
        for name, per_s in (("headgate", 300.0), ("fastapi", 100.0)):
            load = {"workload": "small", "loop": "closed", "size": 32, "round": turn}
            run.cells.append({"server": name, **load, "requests_per_s": speed * per_s})
    assert report.ratio(run, "headgate", "fastapi", "requests_per_s", "small", "closed", 32) == 3
    assert math.isnan(
        report.ratio(run, "headgate", "mosec", "requests_per_s", "small", "closed", 32)
    )
    kept = {check.text: check for check in report.checks(run)}
    assert not kept["32 connections, requests/s by FastAPI's"].is_kept
    assert "not measured" in kept["32 connections, requests/s by mosec's"].line()


def test_what_a_run_did_not_measure_stays_as_it_was() -> None:
    """Scenarios alone do not take the comparison away, nor does one model that of another."""
    small, binary = ({"server": "headgate", "workload": name} for name in ("small", "binary"))
    scenarios: dict[str, dict[str, object]] = {"million": {"n": 1}, "stopped": {}}
    morning = Run("m", {}, [small, binary], ["a step"], scenarios=scenarios)
    noon = Run("n", {}, scenarios={"million": {"n": 2}})
    both = noon.over(morning)
    assert (both.at, both.cells, both.steps) == ("m", [small, binary], ["a step"])
    assert both.scenarios == {"million": {"n": 2}, "stopped": {}}
    evening = Run("e", {}, [small, small]).over(both)
    assert (evening.at, evening.cells) == ("e", [small, small, binary])
    assert evening.scenarios == both.scenarios


@pytest.mark.parametrize("workload", [SMALL, BINARY])
def test_the_ceiling_is_the_edge_itself(workload: Workload) -> None:
    """The echo server speaks with our HTTP edge as it is now."""
    with servers.running(servers.CEILING, workload) as running:
        shots = asyncio.run(open_loop.run(running.target, [0.0] * 5, connections=1))
    assert (len(shots), shots.errors) == (5, 0)

"""Two thousand clients that send a byte now and then, beside others that are in a hurry."""

from __future__ import annotations

import asyncio
import sys
from statistics import median

from loadtests import open_loop
from loadtests.open_loop import poisson
from loadtests.scenarios.outcome import Outcome
from loadtests.system import BLUE, System
from loadtests.workloads import Target

CLIENTS = 2_000
RATE_PER_S = 500
P99_MAX = 1.10
BYTE_EVERY_S = 1.0


async def measure(quick: bool) -> Outcome:
    seconds, turns = (4.0, 2) if quick else (6.0, 5)
    alone: list[float] = []
    beside: list[float] = []
    with System.running() as system:
        system.deploy(BLUE, "small.py", concurrency=128)
        target = system.target()
        await _p99_ms(target, seconds, 0)
        for turn in range(turns):
            alone.append(await _p99_ms(target, seconds, turn))
            crowd = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "loadtests.scenarios.slow_clients",
                target.host, str(target.port), target.path, target.headers["Authorization"],
                stdout=asyncio.subprocess.PIPE,
            )  # fmt: skip
            assert crowd.stdout is not None
            await crowd.stdout.readline()  # all are connected
            beside.append(await _p99_ms(target, seconds, turn))
            crowd.terminate()
            await crowd.wait()
            await asyncio.sleep(0.5)
    outcome = Outcome(f"{CLIENTS:,} slow clients beside {RATE_PER_S} requests/s")
    outcome.figures = {
        "p99 ms alone, each turn": " ".join(f"{ms:.2f}" for ms in alone),
        "p99 ms beside them": " ".join(f"{ms:.2f}" for ms in beside),
    }
    ratios = [after / before for before, after in zip(alone, beside, strict=True)]
    outcome.at_most("p99 beside them by p99 alone, median of turns", median(ratios), P99_MAX)
    return outcome


async def _p99_ms(target: Target, seconds: float, seed: int) -> float:
    shots = await open_loop.run(target, poisson(RATE_PER_S, seconds, seed))
    if shots.errors:
        raise RuntimeError(f"{shots.errors} of {len(shots)} requests failed")
    return shots.quantile_ms(0.99)


# The crowd: a process of its own, so that it does not share a loop with those who measure.


async def _dawdle(host: str, port: int, head: bytes, delay_s: float) -> None:
    """A client that sends its headers byte by byte, and comes again when it is shown the door."""
    while True:
        _, writer = await asyncio.open_connection(host, port)
        try:
            await asyncio.sleep(delay_s)
            for at in range(len(head)):
                writer.write(head[at : at + 1])
                await writer.drain()
                await asyncio.sleep(BYTE_EVERY_S)
        except OSError:
            pass
        finally:
            writer.close()


async def _crowd(host: str, port: int, path: str, authorization: str) -> None:
    head = f"POST {path} HTTP/1.1\r\nHost: {host}\r\nAuthorization: {authorization}\r\n".encode()
    body = b"Content-Type: application/json\r\nContent-Length: 4000\r\n\r\n" + b" " * 4000
    clients = []
    for number in range(CLIENTS):
        # Half of them dawdle over their headers, half over their bodies.
        sent = head + body
        clients.append(
            asyncio.create_task(
                _dawdle(host, port, sent, number / CLIENTS)
                if number % 2
                else _dawdle_body(host, port, head, body, number / CLIENTS)
            )
        )
        if number % 100 == 0:
            await asyncio.sleep(0.02)
    await asyncio.sleep(1.0)
    print("connected", flush=True)
    await asyncio.gather(*clients)


async def _dawdle_body(host: str, port: int, head: bytes, body: bytes, delay_s: float) -> None:
    """A client whose headers come at once and whose body does not."""
    _, writer = await asyncio.open_connection(host, port)
    writer.write(head + body[: body.index(b"\r\n\r\n") + 4])
    await asyncio.sleep(delay_s)
    while True:
        writer.write(b" ")
        await asyncio.sleep(BYTE_EVERY_S)


if __name__ == "__main__":
    asyncio.run(_crowd(sys.argv[1], int(sys.argv[2]), sys.argv[3], sys.argv[4]))

"""Processes are kept, restarted and ended in order, and none is ever left behind."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from headgate.runtime import procs
from headgate.runtime.supervisor import RestartPolicy, bound_log

# A supervisor as a process of its own: it is killed, and it ends all of its descendants.
SUPERVISE = """
import asyncio, json, sys
from pathlib import Path
from headgate.runtime.files import write_atomic
from headgate.runtime.supervisor import Child, RestartPolicy, Supervisor
from headgate_contracts.errors import HeadgateError

folder, plan = Path(sys.argv[1]), json.loads(sys.argv[2])

def child(name, argv, waits_for="", **options):
    async def ready():
        if waits_for == "broken":
            raise ConnectionError("readiness check failed")
        while not (folder / waits_for).exists():
            await asyncio.sleep(0.01)
    return Child(name, argv, ready=ready if waits_for else None, **options)

async def main():
    supervisor = Supervisor(
        [child(**options) for options in plan["children"]],
        logs=folder / "logs",
        policy=RestartPolicy(**plan.get("policy", {})),
        orphan_grace_s=plan.get("orphan_grace_s", 0.2),
        on_start=lambda: write_atomic(folder / "pids", json.dumps(supervisor.pids())),
    )
    await supervisor.run(on_ready=lambda: (folder / "ready").touch())

try:
    asyncio.run(main())
except HeadgateError as error:
    sys.exit(str(error))
"""

# A child: says its name when it starts and when it is asked to end.
CHILD = """
import os, signal, sys, time
from pathlib import Path
folder, name, mode = Path(sys.argv[1]), sys.argv[2], sys.argv[3]

def say(what):
    with (folder / "said").open("a") as file:
        file.write(f"{name} {what}\\n")

def end(*_):
    if mode == "slow":
        time.sleep(0.5)
    say("ends")
    sys.exit(0)

signal.signal(signal.SIGTERM, signal.SIG_IGN if mode == "stubborn" else end)
say("starts")
if mode == "fails":
    print("no model file", flush=True)
    sys.exit(3)
if mode in ("parent", "forgetful"):
    for kind in ("plain", "stubborn"):
        if os.fork() == 0:
            os.setsid()
            os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:-2], f"{name}-{kind}", kind])
if mode == "forgetful":
    while not (folder / "leave").exists():
        time.sleep(0.01)
    os._exit(0)
(folder / f"{name}.up").touch()
while True:
    time.sleep(600)
"""


class Supervised:
    """A running supervisor and what its children said."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.process: procs.Process | None = None

    def child(self, name: str, mode: str = "plain", **options: Any) -> dict[str, Any]:
        argv = [sys.executable, "-c", CHILD, str(self.folder), name, mode]
        return {"name": name, "argv": argv, "waits_for": f"{name}.up", **options}

    def start(self, *children: dict[str, Any], **plan: Any) -> None:
        plan["children"] = children
        with (self.folder / "output").open("ab") as output:
            self.process = procs.Process.start(
                [sys.executable, "-c", SUPERVISE, self.folder, json.dumps(plan)], output=output
            )

    async def start_and_wait(self, *children: dict[str, Any], **plan: Any) -> None:
        self.start(*children, **plan)
        await self.until(lambda: (self.folder / "ready").exists())

    def send(self, number: int) -> None:
        assert self.process is not None
        self.process.send(number)

    async def ended(self) -> int:
        assert self.process is not None
        async with asyncio.timeout(30):
            return await self.process.wait()

    async def stop(self) -> int:
        self.send(signal.SIGTERM)
        return await self.ended()

    async def until(self, condition: Callable[[], object]) -> None:
        async with asyncio.timeout(30):
            while not condition():
                await asyncio.sleep(0.01)

    @property
    def said(self) -> list[str]:
        path = self.folder / "said"
        return path.read_text().splitlines() if path.exists() else []

    @property
    def output(self) -> str:
        return (self.folder / "output").read_text()

    @property
    def pids(self) -> dict[str, int]:
        found: dict[str, int] = json.loads((self.folder / "pids").read_text())
        return found

    def survivors(self) -> list[procs.Stat]:
        """Every process anywhere that was started for this folder and still runs."""
        mine = str(self.folder).encode()
        found = []
        for entry in Path("/proc").iterdir():
            try:
                if entry.name.isdecimal() and mine in (entry / "cmdline").read_bytes():
                    stat = procs.stat(int(entry.name))
                    found += [stat] if stat is not None and not stat.ended else []
            except (FileNotFoundError, ProcessLookupError):
                continue
        return found


@pytest.fixture
async def supervised(data_dir: Path) -> AsyncIterator[Supervised]:
    """A supervisor; after the test nothing of it is left, whatever the test did."""
    one = Supervised(data_dir)
    yield one
    if one.process is not None and one.process.returncode is None:
        await one.process.stop(grace_s=10)
    left = one.survivors()
    for process in left:
        procs.send(process, signal.SIGKILL)
    assert not left


class TestStart:
    async def test_each_child_waits_for_the_one_before(self, supervised: Supervised) -> None:
        await supervised.start_and_wait(*(supervised.child(n) for n in ("a", "b", "c")))
        assert supervised.said == ["a starts", "b starts", "c starts"]
        assert set(supervised.pids) == {"a", "b", "c"}

    async def test_a_first_start_that_fails_ends_all_and_says_why(
        self, supervised: Supervised
    ) -> None:
        """No endless retries of what never worked; the child's own words are in the error."""
        supervised.start(supervised.child("a"), supervised.child("b", "fails"))
        assert await supervised.ended() == 1
        for part in ("b ended before it was ready", "exit status 3", "b.log", "no model file"):
            assert part in supervised.output
        assert supervised.said == ["a starts", "b starts", "a ends"]

    async def test_a_program_that_does_not_exist_is_named(self, supervised: Supervised) -> None:
        supervised.start({"name": "x", "argv": ["/nowhere/program"]})
        assert await supervised.ended() == 1
        assert "x cannot be started" in supervised.output
        assert "/nowhere/program" in supervised.output

    async def test_a_child_that_does_not_get_ready_is_given_up(
        self, supervised: Supervised
    ) -> None:
        supervised.start({**supervised.child("a", ready_timeout_s=0.2), "waits_for": "never"})
        assert await supervised.ended() == 1
        assert "a is not ready after 0.2 s" in supervised.output

    async def test_a_readiness_check_that_fails_is_a_failed_start(
        self, supervised: Supervised
    ) -> None:
        supervised.start({**supervised.child("a"), "waits_for": "broken"})
        assert await supervised.ended() == 1
        assert "a cannot be asked whether it is ready: ConnectionError" in supervised.output

    async def test_it_can_be_stopped_while_it_starts(self, supervised: Supervised) -> None:
        supervised.start({**supervised.child("a"), "waits_for": "never"})
        await supervised.until(lambda: supervised.said)
        assert await supervised.stop() == 0
        assert supervised.said == ["a starts", "a ends"]


class TestRestart:
    @pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
    async def test_a_child_that_ends_is_started_again_and_the_others_stay(
        self, supervised: Supervised, number: int
    ) -> None:
        """A crash and a strange orderly exit are the same to us: it should be there."""
        await supervised.start_and_wait(supervised.child("a"), supervised.child("b"))
        before = supervised.pids
        os.kill(before["a"], number)
        await supervised.until(lambda: supervised.pids.get("a", before["a"]) != before["a"])
        assert supervised.pids["b"] == before["b"]

    async def test_the_budget_ends_all_and_says_why(self, supervised: Supervised) -> None:
        """A child that cannot be kept is an error of the whole, not a silent loop."""
        supervised.start(
            supervised.child("a"),
            {**supervised.child("b", "fails"), "waits_for": ""},
            policy={"budget": 3, "first_delay_s": 0.01},
        )
        assert await supervised.ended() == 1
        for part in (
            "b had to be restarted 3 times within 600 s",
            "exit status 3",
            "no model file",
        ):
            assert part in supervised.output
        assert supervised.said.count("b starts") == 4
        assert supervised.said[-1] == "a ends"

    def test_the_first_restart_is_immediate_and_the_next_ones_wait_longer(self) -> None:
        policy, restarts, waits = RestartPolicy(budget=9), [], []
        while (delay_s := policy.delay_s(restarts, float(len(restarts)), 0.0)) is not None:
            restarts.append(float(len(restarts)))
            waits.append(delay_s)
        assert waits == [0.0, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0]

    def test_a_stable_run_makes_the_next_restart_immediate_again(self) -> None:
        """But it does not give back the budget before its window has passed."""
        policy = RestartPolicy(budget=2)
        assert policy.delay_s([100.0], 101.0, ran_s=1.0) == 0.1
        assert policy.delay_s([100.0], 131.0, ran_s=31.0) == 0.0
        assert policy.delay_s([100.0, 200.0], 300.0, ran_s=100.0) is None
        assert policy.delay_s([100.0, 200.0], 701.0, ran_s=500.0) == 0.0


class TestStop:
    async def test_children_end_in_reverse_and_the_foundation_after_the_orphans(
        self, supervised: Supervised
    ) -> None:
        """Workers that a service left behind still need the bus while they drain."""
        await supervised.start_and_wait(
            supervised.child("bus", foundation=True),
            supervised.child("control", "parent"),
            supervised.child("router"),
            orphan_grace_s=0.2,
        )
        await supervised.until(lambda: "control-stubborn starts" in supervised.said)
        await supervised.until((supervised.folder / "control-plain.up").exists)
        assert await supervised.stop() == 0
        assert [line for line in supervised.said if line.endswith("ends")] == [
            "router ends",
            "control ends",
            "control-plain ends",
            "bus ends",
        ]

    async def test_a_stubborn_child_is_killed_after_its_grace(self, supervised: Supervised) -> None:
        await supervised.start_and_wait(supervised.child("a", "stubborn", grace_s=0.2))
        assert await supervised.stop() == 0

    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP, signal.SIGTERM])
    async def test_every_signal_that_asks_to_end_ends_in_order(
        self, supervised: Supervised, number: int
    ) -> None:
        await supervised.start_and_wait(supervised.child("a"))
        supervised.send(number)
        assert await supervised.ended() == 0
        assert supervised.said[-1] == "a ends"

    async def test_asking_twice_does_not_cut_the_work_short(self, supervised: Supervised) -> None:
        """Service managers repeat SIGTERM; it is not impatience."""
        await supervised.start_and_wait(supervised.child("a", "slow"))
        supervised.send(signal.SIGTERM)
        supervised.send(signal.SIGTERM)
        assert await supervised.ended() == 0
        assert supervised.said[-1] == "a ends"

    async def test_a_second_interrupt_hurries(self, supervised: Supervised) -> None:
        """Ctrl-C twice: nobody is waited for (the grace here is longer than the test's limit)."""
        await supervised.start_and_wait(
            supervised.child("a", "stubborn", grace_s=600),
            supervised.child("b"),
            supervised.child("c", "parent"),
            orphan_grace_s=600,
        )
        supervised.send(signal.SIGINT)
        await supervised.until(lambda: "b ends" in supervised.said)
        supervised.send(signal.SIGINT)
        assert await supervised.ended() == 0


class TestNothingSurvives:
    """The fixture fails a test that leaves any process behind."""

    async def test_a_killed_supervisor_takes_its_children_along(
        self, supervised: Supervised
    ) -> None:
        """The kernel ends them, also those that ignore every polite signal."""
        await supervised.start_and_wait(supervised.child("a"), supervised.child("b", "stubborn"))
        assert len(supervised.survivors()) == 3
        supervised.send(signal.SIGKILL)
        await supervised.until(lambda: not supervised.survivors())

    async def test_what_a_killed_child_leaves_behind_is_adopted_and_ended(
        self, supervised: Supervised
    ) -> None:
        """Its children live on (workers must), in sessions of their own, until we stop."""
        await supervised.start_and_wait(supervised.child("control", "parent"))
        await supervised.until((supervised.folder / "control-plain.up").exists)
        await supervised.until((supervised.folder / "control-stubborn.up").exists)
        before = supervised.pids
        os.kill(before["control"], signal.SIGKILL)
        await supervised.until(lambda: supervised.said.count("control-plain starts") == 2)
        await supervised.until(lambda: len(supervised.survivors()) == 6)
        adopted = [p for p in supervised.survivors() if p.parent == supervised.process.pid]
        assert len(adopted) == 3
        assert await supervised.stop() == 0

    async def test_adopted_processes_do_not_stay_as_zombies(self, supervised: Supervised) -> None:
        """We are their parent now, so it is ours to collect them."""
        await supervised.start_and_wait(
            {**supervised.child("a", "forgetful"), "waits_for": ""}, supervised.child("b")
        )
        await supervised.until((supervised.folder / "a-plain.up").exists)
        assert supervised.process is not None
        me = supervised.process.pid
        (supervised.folder / "leave").touch()
        await supervised.until(lambda: supervised.said.count("a-plain starts") >= 2)
        for process in supervised.survivors():
            if process.parent == me and process.pid not in supervised.pids.values():
                procs.send(process, signal.SIGKILL)
        await supervised.until(lambda: not [p for p in procs.children(me) if p.ended])
        (supervised.folder / "leave").unlink()


class TestLogs:
    async def test_what_a_child_says_is_kept_across_its_restarts(
        self, supervised: Supervised
    ) -> None:
        await supervised.start_and_wait(supervised.child("a"))
        log = supervised.folder / "logs" / "a.log"
        assert log.exists()
        await supervised.stop()
        log.write_text("earlier\n")
        supervised.start({**supervised.child("a", "fails"), "waits_for": "never"})
        assert await supervised.ended() == 1
        assert log.read_text() == "earlier\nno model file\n"

    def test_a_log_is_bounded_while_somebody_writes_to_it(self, data_dir: Path) -> None:
        """The writer keeps its open file; the earlier content is one file away."""
        log = data_dir / "a.log"
        with log.open("ab", buffering=0) as writer:
            writer.write(b"x" * 100)
            bound_log(log, bytes_max=100)
            assert log.stat().st_size == 100
            writer.write(b"x")
            bound_log(log, bytes_max=100)
            writer.write(b"new")
        assert log.read_bytes() == b"new"
        assert (data_dir / "a.log.1").stat().st_size == 101
        bound_log(data_dir / "missing.log")

"""Processes are told apart, awaited, and ended with all their descendants."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from headgate.runtime import procs

# Becomes subreaper, leaves a tree of processes behind (one of them deaf to SIGTERM, one that keeps
# forking), ends all but one, and prints what happened.
END_ALL = """
import asyncio, os, subprocess
from headgate.runtime import procs

TREE = '''
(trap "" TERM; sleep 600; sleep 600) &
(setsid sh -c "sleep 600 & sleep 600" &) &
sleep 600
'''

async def main():
    procs.become_subreaper()
    spared = subprocess.Popen(["sleep", "600"])
    subprocess.Popen(["sh", "-c", TREE])
    while sum(p.state == "S" for p in procs.descendants(os.getpid())) < 8:
        await asyncio.sleep(0.01)
    killed = await procs.end_descendants(grace_s=0.3, spare=[spared.pid])
    left = [p.pid for p in procs.descendants(os.getpid())]
    print(killed, left == [spared.pid], spared.poll())
    spared.kill()
    spared.wait()

asyncio.run(main())
"""


@pytest.fixture
async def sleeper() -> AsyncIterator[procs.Process]:
    process = procs.Process.start(["sleep", "600"])
    yield process
    await process.stop(grace_s=0)


class TestIdentity:
    def test_a_process_is_itself_and_no_other(self, sleeper: procs.Process) -> None:
        """A pid that was reused has another start time."""
        assert procs.is_running(sleeper.identity)
        assert procs.is_running(procs.identity(os.getpid()))
        pid, _, start = sleeper.identity.partition(":")
        assert not procs.is_running(f"{pid}:{int(start) + 1}")

    async def test_an_ended_process_does_not_run_also_as_a_zombie(self) -> None:
        popen = subprocess.Popen(["true"])
        identity = procs.identity(popen.pid)
        assert await procs.wait_ended(popen.pid, timeout_s=10)
        found = procs.stat(popen.pid)
        assert found is not None
        assert found.ended
        assert not procs.is_running(identity)
        popen.wait()
        assert procs.stat(popen.pid) is None
        assert procs.identity(popen.pid) == f"{popen.pid}:0"
        assert not procs.is_running(f"{popen.pid}:0")

    async def test_a_name_with_blanks_and_brackets_is_read_right(self, data_dir: Path) -> None:
        """/proc puts the program's name, whatever it is, in the middle of the numbers."""
        program = data_dir / "a ) S 1 ("
        program.symlink_to("/bin/sleep")
        process = procs.Process.start([program, "600"])
        found = procs.stat(process.pid)
        assert found is not None
        assert found.parent == os.getpid()
        await process.stop(grace_s=5)


class TestProcess:
    async def test_its_end_is_seen_by_everybody_who_waits(self, sleeper: procs.Process) -> None:
        waiting = [asyncio.create_task(sleeper.wait()) for _ in range(3)]
        await asyncio.sleep(0)
        sleeper.send(signal.SIGTERM)
        assert await asyncio.gather(*waiting) == [-signal.SIGTERM] * 3
        assert sleeper.returncode == -signal.SIGTERM
        sleeper.send(signal.SIGTERM)  # harmless afterwards

    async def test_waiting_can_be_bounded(self, sleeper: procs.Process) -> None:
        assert not await procs.wait_ended(sleeper.pid, timeout_s=0.01)

    async def test_a_deaf_process_is_killed_after_its_grace(self) -> None:
        deaf = procs.Process.start(
            ["sh", "-c", 'trap "" TERM; echo up; exec sleep 600'],
            output=(pipe := os.pipe())[1],
        )
        os.close(pipe[1])
        assert os.read(pipe[0], 3) == b"up\n"
        os.close(pipe[0])
        assert await deaf.stop(grace_s=0.1) == -signal.SIGKILL

    async def test_the_terminals_interrupt_does_not_reach_it(self, sleeper: procs.Process) -> None:
        """It is not in our process group: we alone decide the order of the end."""
        assert os.getpgid(sleeper.pid) == sleeper.pid != os.getpgid(0)

    def test_it_dies_with_its_parent_also_when_that_is_killed(self) -> None:
        """The kernel sees to it."""
        script = (
            "from headgate.runtime.procs import Process; import time;"
            "print(Process.start(['sleep', '600']).identity, flush=True); time.sleep(600)"
        )
        parent = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE)
        assert parent.stdout is not None
        child = parent.stdout.readline().decode().strip()
        assert procs.is_running(child)
        parent.kill()
        parent.wait()
        parent.stdout.close()
        asyncio.run(_until_ended(child))

    @pytest.mark.parametrize(
        ("status", "words"), [(0, "exit status 0"), (-9, "signal SIGKILL"), (-63, "signal 63")]
    )
    def test_an_exit_status_reads_well(self, status: int, words: str) -> None:
        assert procs.describe_exit(status) == words


async def _until_ended(identity: str) -> None:
    async with asyncio.timeout(30):
        while procs.is_running(identity):
            await asyncio.sleep(0.01)


class TestTrees:
    def test_descendants_are_found_over_generations(self) -> None:
        """Also those in a session of their own."""
        shell = subprocess.Popen(
            ["sh", "-c", "setsid sh -c 'sleep 600 & echo up; wait'"], stdout=subprocess.PIPE
        )
        assert shell.stdout is not None
        assert shell.stdout.readline() == b"up\n"
        tree = procs.descendants(shell.pid)
        assert len(tree) == 2
        assert [p.pid for p in procs.children(shell.pid)] == [tree[0].pid]
        assert tree[1].parent == tree[0].pid
        for process in reversed(tree):
            procs.send(process, signal.SIGKILL)
        shell.wait()
        shell.stdout.close()

    def test_all_descendants_are_ended_and_collected_except_the_spared(self) -> None:
        """Deaf ones by SIGKILL; those that left the session as well; no zombie stays."""
        done = subprocess.run(
            [sys.executable, "-c", END_ALL], capture_output=True, text=True, timeout=30
        )
        assert done.stderr == ""
        killed, only_spared_left, spared_status = done.stdout.split()
        assert int(killed) >= 1
        assert only_spared_left == "True"
        assert spared_status == "None"

    def test_a_signal_never_hits_a_later_process_with_the_same_pid(
        self, sleeper: procs.Process
    ) -> None:
        found = procs.stat(sleeper.pid)
        assert found is not None
        earlier = procs.Stat(found.pid, found.parent, found.state, found.start - 1)
        procs.send(earlier, signal.SIGKILL)
        assert procs.is_running(sleeper.identity)

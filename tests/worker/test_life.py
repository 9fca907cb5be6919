"""The life of a worker on a real bus: start, refuse, drain, reconnect, fail with a reason."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
import uv

from headgate.runtime import natsd
from headgate_contracts import limits
from headgate_contracts.scoring import InstanceState
from worker.harness import Router, eventually, worker

ECHO = """
    def init():
        print("ready to answer")

    def run(data):
        return data
"""
SLOW = """
    import time

    def init():
        pass

    def run(data):
        time.sleep(float(data))
        return data
"""


@pytest_asyncio.fixture
async def server(data_dir: Path) -> AsyncIterator[natsd.RunningServer]:
    async with natsd.running(data_dir / "bus") as running:
        yield running


async def test_it_answers_and_says_how_it_is(server: natsd.RunningServer, data_dir: Path) -> None:
    async with Router.connected(server) as router, worker(server, data_dir, ECHO) as one:
        await router.until(one, InstanceState.READY)
        answer = await router.post(one, '{"a": 1}')
        assert answer.status == 200
        assert answer.json() == '{"a": 1}'
        assert float(answer.headers["x-ms-run-fn-exec-ms"]) >= 0
        ping = await router.client.request(one.subject, b"", timeout=5)
        assert ping.data == b""
        assert "ready to answer" in one.log()


async def test_a_full_instance_refuses_at_once(server: natsd.RunningServer, data_dir: Path) -> None:
    """The queue lives in the router: a worker takes its capacity and not one request more."""
    async with Router.connected(server) as router, worker(server, data_dir, SLOW) as one:
        await router.until(one, InstanceState.READY)
        first = await router.send(one, "0.5")
        second = await router.post(one, "0")
        assert second.refused == "busy"
        assert (await first).status == 200


async def test_work_whose_deadline_has_passed_is_not_started(
    server: natsd.RunningServer, data_dir: Path
) -> None:
    script = """
        import time

        def init():
            pass

        def run(data):
            print("ran", data)
            time.sleep(0.3)
            return data
    """
    async with (
        Router.connected(server) as router,
        worker(server, data_dir, script, capacity=2) as one,
    ):
        await router.until(one, InstanceState.READY)
        first = await router.send(one, "first")
        late = await router.send(one, "late", ttl=100)
        past = await router.post(one, "past", ttl=-1)
        assert (await first).status == 200
        assert (await late).refused == "expired"
        assert past.refused in ("expired", "busy")
        await router.post(one, "last")
        assert "ran first" in one.log()
        assert "ran late" not in one.log() and "ran past" not in one.log()


async def test_a_drain_loses_nothing(server: natsd.RunningServer, data_dir: Path) -> None:
    """Of 400 requests around SIGTERM each is answered or said not to have been started."""
    async with (
        Router.connected(server) as router,
        worker(server, data_dir, SLOW, capacity=20) as one,
    ):
        await router.until(one, InstanceState.READY)
        answers = []
        for number in range(400):
            if number == 100:
                one.signal()
            answers.append(await router.send(one, "0.001"))
            await asyncio.sleep(0.002)
            if InstanceState.DRAINING in router.states(one):
                break
        assert await one.wait() == 0
        done = await asyncio.gather(*answers)
        assert len(done) > 100
        assert all(a.status == 200 or a.refused in ("busy", "draining") for a in done)
        assert router.states(one)[-1] == InstanceState.STOPPED


async def test_an_answer_finished_while_the_bus_was_away_arrives(
    server: natsd.RunningServer, data_dir: Path
) -> None:
    async with Router.connected(server) as router, worker(server, data_dir, SLOW) as one:
        await router.until(one, InstanceState.READY)
        answer = await router.send(one, "2")
        while not any(beat.in_flight for beat in router.heartbeats):
            await asyncio.sleep(0.01)
        await server.kill()
        await server.start()
        assert (await asyncio.wait_for(answer, 20)).status == 200
        assert (await router.post(one, "0")).status == 200


def measuring(router: Router) -> set[str]:
    """Who tells how full its disk is."""
    return {beat.instance for beat in router.heartbeats if beat.disk_percent is not None}


async def test_lanes_share_an_instance_and_end_together(
    server: natsd.RunningServer, data_dir: Path
) -> None:
    script = """
        import os

        def init():
            pass

        def run(data):
            if data == "die":
                os._exit(9)
            return os.getpid()
    """
    async with (
        Router.connected(server) as router,
        worker(server, data_dir, script, lanes=3, capacity=3) as one,
    ):
        lanes = [one.instance, f"{one.instance}-1", f"{one.instance}-2"]
        for lane in lanes:
            await router.until(one, InstanceState.READY, lane)
        await eventually(lambda: measuring(router), "a look at the disk")
        assert measuring(router) == {one.instance}  # one of them speaks for all
        pids = set()
        for lane in lanes:
            subject = one.subject.removesuffix(one.instance) + lane
            answer = await (await router.send(one, "", subject=subject))
            pids.add(answer.json())
        assert len(pids) == 3
        await router.send(one, "die")
        assert await one.wait() != 0


@pytest.mark.parametrize(
    ("script", "code", "quoted"),
    [
        ("def init():\n  pass\n\ndef run(data)\n  return 1\n", "UserScriptImportError", "line 4"),
        ("import no_such_package\n", "UserScriptImportError", "no_such_package"),
        ("def init():\n  {}['k']\n\ndef run(d):\n  pass\n", "UserScriptInitFailed", "{}['k']"),
        ("def init():\n  pass\n", "UserScriptFunctionNotFound", "run"),
        ("def run(d):\n  pass\n", "UserScriptFunctionNotFound", "init"),
    ],
)
async def test_a_broken_script_is_explained(
    server: natsd.RunningServer, data_dir: Path, script: str, code: str, quoted: str
) -> None:
    """The reason reaches the driver (last words), the bus (heartbeat) and the log."""
    async with Router.connected(server) as router, worker(server, data_dir, script) as one:
        assert await one.wait() == 3
        assert one.last_words()["code"] == code
        assert quoted in one.last_words()["message"]
        await router.until(one, InstanceState.FAILED)
        assert code in one.log()


async def test_an_answer_too_large_for_the_bus_is_an_error_of_the_model(
    server: natsd.RunningServer, data_dir: Path
) -> None:
    script = f"""
        def init():
            pass

        def run(data):
            return "x" * ({limits.BUS_PAYLOAD_BYTES_MAX} if data == "big" else 1)
    """
    async with Router.connected(server) as router, worker(server, data_dir, script) as one:
        await router.until(one, InstanceState.READY)
        assert (await router.post(one, "big")).status == 500
        assert (await router.post(one, "small")).status == 200


async def test_output_of_c_code_is_kept(server: natsd.RunningServer, data_dir: Path) -> None:
    script = """
        import os

        def init():
            os.write(1, b"from below\\n")

        def run(data):
            os.write(2, b"also from below\\n")
            print("from above")
            return 1
    """
    async with Router.connected(server) as router, worker(server, data_dir, script) as one:
        await router.until(one, InstanceState.READY)
        await router.post(one, h=[["x-request-id", "request-1"]])
        assert "from below" in one.log() and "also from below" in one.log()
        assert any("request-1 from above" in line for line in one.log().splitlines())


async def test_our_variables_are_hidden_from_the_script(
    server: natsd.RunningServer, data_dir: Path
) -> None:
    script = """
        import os

        def init():
            pass

        def run(data):
            return [name for name in os.environ if name.startswith("HEADGATE_")]
    """
    async with Router.connected(server) as router, worker(server, data_dir, script) as one:
        await router.until(one, InstanceState.READY)
        assert (await router.post(one)).json() == []


async def test_wrong_credentials_end_the_worker(
    server: natsd.RunningServer, data_dir: Path
) -> None:
    async with worker(server, data_dir, ECHO, token="not.a.token") as one:
        assert await one.wait() == 4


async def test_it_ends_when_its_supervisor_is_gone(
    server: natsd.RunningServer, data_dir: Path
) -> None:
    stands_for_up = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    stat = Path(f"/proc/{stands_for_up.pid}/stat").read_text()
    start = stat[stat.rindex(")") + 2 :].split()[19]
    variables = {"HEADGATE_SUPERVISOR_PID": f"{stands_for_up.pid}:{start}"}
    async with (
        Router.connected(server) as router,
        worker(server, data_dir, ECHO, variables=variables) as one,
    ):
        await router.until(one, InstanceState.READY)
        stands_for_up.kill()
        stands_for_up.wait()
        assert await one.wait() == 0


@pytest.mark.parametrize("version", ["3.9", "3.10", "3.12", "3.13"])
async def test_it_runs_on_other_pythons(
    server: natsd.RunningServer, data_dir: Path, version: str
) -> None:
    """The user's environment decides the Python, not ours."""
    found = subprocess.run(
        [uv.find_uv_bin(), "python", "find", "--no-python-downloads", version],
        capture_output=True,
        text=True,
    )
    if found.returncode != 0:
        pytest.skip(f"no Python {version} here")
    python = found.stdout.strip()
    async with (
        Router.connected(server) as router,
        worker(server, data_dir, ECHO, python=python) as one,
    ):
        await router.until(one, InstanceState.READY)
        assert (await router.post(one, "x")).json() == "x"

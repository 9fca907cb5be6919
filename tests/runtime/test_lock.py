"""One Headgate per data folder."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from headgate.runtime import lock, procs
from headgate_contracts.errors import ErrorCode, HeadgateError

HOLD = """
import sys, time
from pathlib import Path
from headgate.runtime import lock
with lock.hold(Path(sys.argv[1]), now=1_700_000_000.0, argv=["headgate", "up"]) as held:
    held.publish({"gateway": "https://127.0.0.1:8900"})
    print("held", flush=True)
    time.sleep(600)
"""


@pytest.fixture
def other_holder(data_dir: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Another process that holds the folder."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(data_dir)],
        stdout=subprocess.PIPE,
        preexec_fn=procs.die_with_parent(),
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"held\n"
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def test_the_second_is_told_who_holds_it(
    data_dir: Path, other_holder: subprocess.Popen[bytes]
) -> None:
    """Process, command, since when, and what to do."""
    with pytest.raises(HeadgateError) as caught, lock.hold(data_dir, now=0.0):
        pass
    error = caught.value.error
    assert error.code == ErrorCode.RESOURCE_CONFLICT
    for part in (str(other_holder.pid), "`headgate up`", "2023-11-14 22:13:20", "--data"):
        assert part in error.message


@pytest.mark.parametrize("inside", ["", "deeper"])
def test_a_folder_that_cannot_be_is_said_to_be_at_fault(data_dir: Path, inside: str) -> None:
    (data_dir / "file").touch()
    with (
        pytest.raises(HeadgateError, match=r"cannot be written: .*; choose another .* --data"),
        lock.hold(data_dir / "file" / inside, now=0.0),
    ):
        pass


def test_others_can_read_who_and_where(
    data_dir: Path, other_holder: subprocess.Popen[bytes]
) -> None:
    """A command-line tool finds the running Headgate by its data folder."""
    found = lock.holder(data_dir)
    assert found is not None
    assert found.pid == other_holder.pid
    assert found.urls == {"gateway": "https://127.0.0.1:8900"}


def test_a_killed_holder_holds_nothing(
    data_dir: Path, other_holder: subprocess.Popen[bytes]
) -> None:
    """No stale lock: what it wrote is still there, but nobody is misled."""
    other_holder.send_signal(signal.SIGKILL)
    other_holder.wait()
    assert lock.holder(data_dir) is None
    with lock.hold(data_dir, now=0.0) as held:
        assert held.holder.pid == os.getpid()


def test_it_is_given_back(data_dir: Path) -> None:
    assert lock.holder(data_dir) is None
    with lock.hold(data_dir, now=5.0):
        assert lock.holder(data_dir) is not None
    assert lock.holder(data_dir) is None
    with lock.hold(data_dir, now=6.0):
        pass


def test_a_shorter_text_replaces_a_longer_one_whole(data_dir: Path) -> None:
    with lock.hold(data_dir, now=5.0, argv=["x" * 500]):
        pass
    with lock.hold(data_dir, now=5.0, argv=["x"]) as held:
        held.publish({"a": "b" * 100})
        held.publish({})
        said = json.loads((data_dir / "run" / "lock").read_text())
    assert said == {"pid": os.getpid(), "since": 5.0, "argv": ["x"], "urls": {}}
    assert stat.S_IMODE((data_dir / "run" / "lock").stat().st_mode) == 0o600


async def test_a_child_does_not_keep_it(data_dir: Path) -> None:
    """Workers outlive a killed supervisor for a moment; the next start must not wait for them."""
    with lock.hold(data_dir, now=0.0):
        child = procs.Process.start(["sleep", "600"])
    assert lock.holder(data_dir) is None
    await child.stop(grace_s=5)


def test_a_holder_that_has_not_written_yet_is_still_a_holder(data_dir: Path) -> None:
    """Between taking the lock and writing the text there is a moment."""
    with lock.hold(data_dir, now=0.0):
        (data_dir / "run" / "lock").write_text("")
        found = lock.holder(data_dir)
        assert found is not None
        assert found.pid == 0
        with pytest.raises(HeadgateError, match="just starting"), lock.hold(data_dir, now=0.0):
            pass


def test_of_many_starters_one_wins(data_dir: Path) -> None:
    """Eight at once: one gets it, seven are told."""
    everybody_tried = threading.Barrier(8, timeout=30)

    def start(_: int) -> bool:
        try:
            with lock.hold(data_dir, now=0.0):
                everybody_tried.wait()
                return True
        except HeadgateError:
            everybody_tried.wait()
            return False

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(start, range(8))) == 1

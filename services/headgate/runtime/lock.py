"""One Headgate per data folder: a lock that the kernel gives back however its holder ends."""

from __future__ import annotations

import fcntl
import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from headgate.runtime.files import private_dir
from headgate_contracts.errors import ErrorCode, HeadgateError

_HELD_BYTES_MAX = 64 * 1024


@dataclass(frozen=True, slots=True)
class Holder:
    """Who holds a data folder. ``since`` is Unix time in seconds."""

    pid: int
    since: float
    argv: tuple[str, ...]
    urls: Mapping[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        at = datetime.fromtimestamp(self.since, UTC).isoformat(sep=" ", timespec="seconds")
        return f"process {self.pid} (`{' '.join(self.argv)}`, since {at})"


class DataLock:
    """The lock while it is held. The file tells others who holds it and where it listens."""

    def __init__(self, descriptor: int, holder: Holder) -> None:
        self._descriptor = descriptor
        self.holder = holder
        self._write()

    def publish(self, urls: Mapping[str, str]) -> None:
        """Adds the addresses once they are known."""
        self.holder = Holder(self.holder.pid, self.holder.since, self.holder.argv, dict(urls))
        self._write()

    def _write(self) -> None:
        # In place, because the lock is on this very file; readers cope with a half-written one.
        text = json.dumps(asdict(self.holder)).encode()
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, text, 0)


@contextmanager
def hold(data: Path, *, now: float, argv: Sequence[str] | None = None) -> Iterator[DataLock]:
    """Holds the data folder for the time of a ``with`` block.

    Makes it if need be. Raises HeadgateError: ResourceConflict that says who holds it already,
    BadArgument where nothing can be written.
    """
    path = _path(data)
    try:
        private_dir(data)
        private_dir(path.parent)
        # Not passed on to children: a child that outlived us would keep the folder locked.
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise HeadgateError(
            ErrorCode.BAD_ARGUMENT,
            f"the data folder {data} cannot be written: {error.strerror} ({error.filename}); "
            "choose another folder with --data",
            target="data",
        ) from None
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise _conflict(data, _read(descriptor)) from None
        except OSError as error:
            raise HeadgateError(
                ErrorCode.BAD_ARGUMENT,
                f"the file system of {data} cannot lock files ({error.strerror}); "
                "choose a data folder on a local disk",
                target="data",
            ) from None
        yield DataLock(descriptor, Holder(os.getpid(), now, tuple(argv or sys.argv)))
    finally:
        os.close(descriptor)


def holder(data: Path) -> Holder | None:
    """Who holds the data folder now, or None. Locks nothing for longer than it takes to look."""
    try:
        descriptor = os.open(_path(data), os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return _read(descriptor) or Holder(pid=0, since=0.0, argv=("unknown",))
    else:
        return None
    finally:
        os.close(descriptor)


def _path(data: Path) -> Path:
    return data / "run" / "lock"


def _read(descriptor: int) -> Holder | None:
    """What the holder wrote; None while it is still writing."""
    try:
        said = json.loads(os.pread(descriptor, _HELD_BYTES_MAX, 0))
        return Holder(int(said["pid"]), float(said["since"]), tuple(said["argv"]), said["urls"])
    except (ValueError, KeyError, TypeError):
        return None


def _conflict(data: Path, held_by: Holder | None) -> HeadgateError:
    who = str(held_by) if held_by else "another process that is just starting"
    return HeadgateError(
        ErrorCode.RESOURCE_CONFLICT,
        f"the data folder {data} is in use by {who}; stop that one, or choose another folder "
        "with --data",
        target="data",
    )

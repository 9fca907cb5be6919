"""Carries what instances have collected from this machine's disk into the object store.

Every file becomes one object of the same name, and is put there whole each time it has grown: so
nothing is in the store twice, whenever one of us is killed. Files of instances that are gone are
carried away as well, then the folder is removed.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import stat
from collections.abc import Awaitable, Callable, Iterator
from itertools import islice
from pathlib import Path

from pydantic import ValidationError

from headgate.provisioner import collection
from headgate.provisioner.collection import Found, Sent, Target
from headgate.runtime.bus import Bus
from headgate.runtime.clock import Clock
from headgate.runtime.copies import remove_tree
from headgate.runtime.files import private_dir, write_atomic
from headgate.runtime.log import Log
from headgate.runtime.store import Store
from headgate_contracts import limits, provisioning
from headgate_contracts.envelope import Event
from headgate_contracts.errors import ErrorCode, HeadgateError
from headgate_contracts.provisioning import CollectionCounts
from headgate_contracts.scoring import Heartbeat
from headgate_contracts.storage import DatastoreReply, GetDatastore

EVERY_S = 5.0
DATASTORE_KNOWN_S = 60.0
LAST_ROUND_S = 10.0
FILES_PER_ROUND_MAX = 1_000
TARGET = "target.json"
LINES = "lines"

_log = Log("provisioner")
Say = Callable[[Event], Awaitable[None]]


class Shipper:
    """All that was collected on this machine."""

    def __init__(self, root: Path, store: Store, bus: Bus, clock: Clock, *, say: Say) -> None:
        self._root = root
        self._store = store
        self._bus = bus
        self._clock = clock
        self._say = say
        self._sent: dict[str, dict[str, Sent]] = {}
        self._counts: dict[str, CollectionCounts] = {}
        self._heard: dict[str, dict[str, tuple[int, int]]] = {}
        self._failures: dict[tuple[str, str], tuple[int, float]] = {}
        self._datastores: dict[tuple[str, str], float] = {}
        self._turn = asyncio.Lock()

    def open(self, instance: str, target: Target) -> Path:
        """The folder for what an instance will collect."""
        folder = private_dir(self._root / instance)
        write_atomic(folder / TARGET, target.model_dump_json())
        return private_dir(folder / LINES)

    def hear(self, instance: str, beat: Heartbeat) -> None:
        """What a model process of an instance has collected and lost so far."""
        if beat.collected or beat.collect_dropped:
            said = (beat.collected, beat.collect_dropped)
            self._heard.setdefault(instance, {})[beat.instance] = said

    def counts(self, instance: str) -> CollectionCounts | None:
        """How data collection goes; None while nothing was collected.

        What was done with events is counted since this service started.
        """
        done, heard = self._counts.get(instance), self._heard.get(instance, {}).values()
        if done is None and not heard:
            return None
        done = done or CollectionCounts()
        collected = sum(collected for collected, _ in heard)
        dropped = done.dropped + sum(dropped for _, dropped in heard)
        return done.model_copy(update={"collected": collected, "dropped": dropped})

    async def run(self, alive: Callable[[], set[str]]) -> None:
        """Look every few seconds, for ever. ``alive`` are the instances that may still write."""
        while True:
            await asyncio.sleep(EVERY_S)
            await self.round(alive)

    async def finish(self, alive: Callable[[], set[str]]) -> None:
        """Before the end: what does not get away in time is carried away by the next run."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LAST_ROUND_S):
                await self.round(alive)

    async def round(self, alive: Callable[[], set[str]]) -> None:
        """Everything that is due."""
        async with self._turn:
            names = await asyncio.to_thread(_names, self._root)
            living = alive()  # after the look: who starts meanwhile is not dead
            for instance in names:
                try:
                    await self._ship(instance, is_alive=instance in living)
                except OSError as error:
                    _log.warning("collected_unreadable", instance=instance, error=str(error))
            await self._keep_bounded([name for name in names if name not in living])

    async def _ship(self, instance: str, *, is_alive: bool) -> None:
        folder = self._root / instance
        target = await asyncio.to_thread(_target, folder / TARGET)
        if target is None:  # not yet written, or not ours
            return
        for found in await asyncio.to_thread(_files, folder / LINES, target, is_alive=is_alive):
            await self._ship_file(instance, target, found)
        if is_alive:
            return
        left = await asyncio.to_thread(_files, folder / LINES, target, is_alive=False)
        if not left:
            await asyncio.to_thread(remove_tree, folder)
            self._forget(instance)

    async def _ship_file(self, instance: str, target: Target, found: Found) -> None:
        now = self._clock.monotonic()
        sent = self._sent.setdefault(instance, {}).get(found.path)
        _, retry_at = self._failures.get((instance, found.collection), (0, 0.0))
        if now < retry_at or not collection.is_due(found, sent, now):
            return
        root = self._root / instance / LINES
        raw = await asyncio.to_thread(_read, root, found.path)
        if raw is None:  # gone meanwhile, or no file of a worker's
            if found.closed:
                await asyncio.to_thread(_discard, root, found.path)
            return
        data = collection.whole_lines(found.path, raw)
        if data and (sent is None or len(data) != sent.size_bytes):
            try:
                await self._check_datastore(target, found.collection)
                await self._store.put(collection.key_of(target, found.path), data)
            except HeadgateError as error:
                await self._fail(instance, target, found.collection, error)
                return
            events = data.count(b"\n") if found.path.endswith(collection.LINES) else 0
            self._count(instance, shipped=events - (sent.events if sent else 0))
            self._sent[instance][found.path] = Sent(len(data), events, now)
            await self._succeed(instance, target, found.collection)
        if found.closed and await asyncio.to_thread(_remove, root, found.path, len(raw)):
            self._sent[instance].pop(found.path, None)
            if len(raw) > len(data):  # the writer died within a line
                self._count(instance, dropped=1)

    # --- the destination -----------------------------------------------------------------------

    async def _check_datastore(self, target: Target, name: str) -> None:
        """A workspace's own datastores can be written to; the bus is asked once a minute."""
        datastore = collection.datastore_of(target.folders[name])
        key, now = (target.workspace, datastore.lower()), self._clock.monotonic()
        if now - self._datastores.get(key, -DATASTORE_KNOWN_S) < DATASTORE_KNOWN_S:
            return
        query = GetDatastore(workspace=target.workspace, name=datastore)
        found = (await self._bus.ask(query, DatastoreReply)).datastore
        if not found.is_built_in:
            raise HeadgateError(
                ErrorCode.BAD_ARGUMENT,
                f"the datastore {datastore!r} is a container of another storage account; collected "
                "data goes to the workspace's own datastores, such as workspaceblobstore",
                target="data_collector",
            )
        self._datastores = {k: at for k, at in self._datastores.items() if now - at < 3600}
        self._datastores[key] = now

    async def _fail(self, instance: str, target: Target, name: str, error: HeadgateError) -> None:
        failures, _ = self._failures.get((instance, name), (0, 0.0))
        wait_s = collection.retry_s(failures + 1)
        self._failures[instance, name] = (failures + 1, self._clock.monotonic() + wait_s)
        self._count(instance, failed=1)
        _log.warning("collection_failing", instance=instance, collection=name, error=str(error))
        if not failures:
            about = _about(instance, target)
            reason = str(error)[: limits.ERROR_MESSAGE_CHARS_MAX]
            await self._say(provisioning.CollectionFailing(**about, collection=name, reason=reason))

    async def _succeed(self, instance: str, target: Target, name: str) -> None:
        if self._failures.pop((instance, name), None) is not None:
            about = _about(instance, target)
            await self._say(provisioning.CollectionResumed(**about, collection=name))

    # --- bounds --------------------------------------------------------------------------------

    async def _keep_bounded(self, names: list[str]) -> None:
        """Instances that are gone leave only so much behind; the oldest goes first."""
        sizes = {name: await asyncio.to_thread(_size, self._root / name) for name in names}
        ages = {name: await asyncio.to_thread(_age, self._root / name) for name in names}
        over = sum(sizes.values()) - limits.COLLECTED_LEFT_BYTES_MAX
        for name in sorted(names, key=ages.__getitem__):
            if over <= 0:
                return
            over -= sizes[name]
            await asyncio.to_thread(remove_tree, self._root / name)
            self._forget(name)
            _log.error("collected_dropped", instance=name, bytes=sizes[name])

    def _count(self, instance: str, *, shipped: int = 0, dropped: int = 0, failed: int = 0) -> None:
        now = self._counts.get(instance, CollectionCounts())
        self._counts[instance] = CollectionCounts(
            shipped=now.shipped + shipped, dropped=now.dropped + dropped, failed=now.failed + failed
        )

    def _forget(self, instance: str) -> None:
        self._sent.pop(instance, None)
        self._counts.pop(instance, None)
        self._heard.pop(instance, None)
        self._failures = {key: each for key, each in self._failures.items() if key[0] != instance}


def _about(instance: str, target: Target) -> dict[str, str]:
    about = target.model_dump(include={"workspace", "endpoint", "deployment", "spec"})
    return {**about, "instance": instance}


# --- files ---------------------------------------------------------------------------------------


def _names(root: Path) -> list[str]:
    return sorted(each.name for each in root.iterdir()) if root.is_dir() else []


def _target(path: Path) -> Target | None:
    try:
        return Target.model_validate_json(path.read_bytes())
    except (OSError, ValidationError):
        return None


def _files(root: Path, target: Target, *, is_alive: bool) -> list[Found]:
    """What is to be looked at in one round."""
    return list(islice(_regular(root, target, is_alive=is_alive), FILES_PER_ROUND_MAX))


def _regular(root: Path, target: Target, *, is_alive: bool) -> Iterator[Found]:
    """A worker's files, in a folder that a user's script can write to as well: no link counts."""
    for place, _, names in os.walk(root):
        for name in sorted(names):
            path = Path(place) / name
            relative = path.relative_to(root).as_posix()
            with contextlib.suppress(OSError):
                found = path.lstat()
                if stat.S_ISREG(found.st_mode) and collection.is_ours(target, relative):
                    closed = not is_alive or not _is_locked(root, relative)
                    yield Found(relative, found.st_size, closed)


@contextlib.contextmanager
def _folder(root: Path, path: str) -> Iterator[tuple[int, str]]:
    """The folder of a file below ``root``, opened step by step so that no link leads out of it."""
    *folders, name = path.split("/")
    descriptor = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    try:
        for each in folders:
            inner = os.open(each, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=descriptor)
            os.close(descriptor)
            descriptor = inner
        yield descriptor, name
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _opened(root: Path, path: str) -> Iterator[int]:
    with _folder(root, path) as (folder, name):
        descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=folder)
        try:
            yield descriptor
        finally:
            os.close(descriptor)


def _is_locked(root: Path, path: str) -> bool:
    """Whether somebody writes to the file: a worker holds a lock, which goes with its process."""
    with _opened(root, path) as descriptor:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def _read(root: Path, path: str) -> bytes | None:
    """What a file holds; None when it is gone, is no file, or is larger than any of a worker's."""
    try:
        with _opened(root, path) as descriptor:
            found = os.fstat(descriptor)
            if not stat.S_ISREG(found.st_mode) or found.st_size > limits.COLLECTED_FILE_BYTES_MAX:
                return None
            with open(descriptor, "rb", closefd=False) as file:
                return file.read(limits.COLLECTED_FILE_BYTES_MAX)
    except OSError:
        return None


def _remove(root: Path, path: str, size_bytes: int) -> bool:
    """Removes a file that is still as it was read, and that nobody writes to."""
    with contextlib.suppress(OSError), _opened(root, path) as descriptor:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.fstat(descriptor).st_size == size_bytes:
            _discard(root, path)
            return True
    return False


def _discard(root: Path, path: str) -> None:
    with contextlib.suppress(OSError), _folder(root, path) as (folder, name):
        os.unlink(name, dir_fd=folder)


def _size(root: Path) -> int:
    sizes = 0
    for place, _, names in os.walk(root):
        for name in names:
            with contextlib.suppress(OSError):
                sizes += (Path(place) / name).lstat().st_size
    return sizes


def _age(root: Path) -> float:
    try:
        return (root / TARGET).stat().st_mtime
    except OSError:
        return 0.0

"""The usage journal of one router: pages in a folder that it holds, and those that others left.

``note`` is called for each request before its answer leaves; what it writes outlives the process.
A page is sealed once a second and said to the ledger's stream, and removed when the stream has it;
while the stream does not take anything, requests go on being added up in the same page. A router
that dies leaves its folder; the next one that looks says what is in it, under the same keys.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from headgate.router import usage_page
from headgate.router.answers import ModelAnswer
from headgate.router.arrivals import Arrival
from headgate.router.requests import Copy
from headgate.router.usage_page import Page, Row, Texts
from headgate.runtime.clock import Clock
from headgate.runtime.files import private_dir
from headgate.runtime.log import Log
from headgate_contracts import limits
from headgate_contracts.usage import MINUTE_S, UsageKind

_SCORED, _MIRRORED = UsageKind.SCORED.value, UsageKind.MIRRORED.value
_LOCK = "lock"
_SUFFIX = ".page"

_log = Log("router")


class Journal:
    """Pages of this process. Sealed ones are handed out in order until they are removed."""

    def __init__(self, folder: Path, reporter: str, clock: Clock) -> None:
        self.reporter = reporter
        self.lost = 0  # requests that found no room
        self.sealed: list[Page] = []
        self._clock = clock
        self._folder = folder / reporter
        self._epoch = 0
        self._rows: dict[Texts, Row] = {}
        self._minute = 0
        self._is_told = False
        self._lock = -1
        with suppress(OSError):
            self._lock = _made(self._folder)
        self._spare: Page | None = None
        self._page = self._made_page(self._next_epoch())
        self.turn_minute()

    def note_answer(
        self,
        arrival: Arrival,
        deployment: str,
        status: int,
        given: ModelAnswer | None = None,
        request_bytes: int = 0,
        response_bytes: int = 0,
    ) -> None:
        """A client's request has its answer, which leaves after this."""
        workspace, endpoint, caller = arrival.workspace, arrival.endpoint, arrival.caller
        texts = (workspace, endpoint, deployment, caller, _SCORED, status)
        row = self._note(texts, given, request_bytes, response_bytes)
        if arrival.tolls is not None:
            key = (self._page.epoch, row.number) if row is not None else None
            compute_us = given.compute_us if given is not None else 0
            moved_bytes = request_bytes + response_bytes
            arrival.tolls.pay(key, deployment, status, compute_us, moved_bytes)

    def note_copy(self, copy: Copy, given: ModelAnswer | None) -> None:
        """A mirrored copy has ended."""
        endpoint = copy.deployment.endpoint
        status, answer_bytes = (given.status, len(given.body)) if given else (0, 0)
        texts = (endpoint.workspace, endpoint.name, copy.deployment.name, "", _MIRRORED, status)
        self._note(texts, given, len(copy.body), answer_bytes)

    def _note(
        self, texts: Texts, given: ModelAnswer | None, request_bytes: int, response_bytes: int
    ) -> Row | None:
        row = self._rows.get(texts) or self._new_row(texts)
        if row is not None:
            compute_us = given.compute_us if given is not None else 0
            row.note(request_bytes, response_bytes, compute_us)
        return row

    def turn_minute(self) -> float:
        """Begin the rows of this minute; how many seconds of it are left."""
        now = self._clock.now()
        minute = int(now // MINUTE_S) * MINUTE_S
        if minute != self._minute:
            self._minute = minute
            self._rows.clear()
        return minute + MINUTE_S - now

    def seal(self) -> None:
        """Nothing more is written to this page, if there is anything in it."""
        if not self._page.is_empty:
            self.sealed.append(self._page)
            spare, self._spare = self._spare, None
            self._page = spare or self._made_page(self._next_epoch())
            self._rows.clear()

    async def prepare(self) -> None:
        """Have the next page at hand: making a file can take milliseconds."""
        if self._spare is not None:
            return
        page = await asyncio.to_thread(self._made_page, self._next_epoch())
        if page.epoch > self._page.epoch:
            self._spare = page
        else:  # this page was full meanwhile; keys only grow
            page.remove()

    async def remove_first(self) -> None:
        """The first sealed page is safe elsewhere."""
        page = self.sealed.pop(0)
        await asyncio.to_thread(page.remove)

    def close(self) -> None:
        """Give the folder up; what is still in it is for others to say."""
        for page in (self._page, self._spare):
            if page is not None and page.is_empty:
                page.remove()
        if self._lock >= 0:
            _give_up(self._folder, self._lock)
            self._lock = -1

    def _new_row(self, texts: Texts) -> Row | None:
        row = self._page.add(self._minute, texts)
        if row is None:
            if len(self.sealed) >= limits.USAGE_PAGES_MAX:
                self.lost += 1
                return None
            self.seal()
            row = self._page.add(self._minute, texts)
        if row is not None:
            self._rows[texts] = row
        return row

    def _next_epoch(self) -> int:
        self._epoch += 1
        return self._epoch

    def _made_page(self, epoch: int) -> Page:
        try:
            if self._lock < 0:
                raise OSError("its folder cannot be locked")
            page = Page(epoch, self._folder / f"{epoch:010}{_SUFFIX}")
            self._is_told = False
        except OSError as error:
            if not self._is_told:
                self._is_told = True
                _log.error("usage_in_memory_only", folder=str(self._folder), error=str(error))
            page = Page(epoch, None)
        return page


def folders_of_others(folder: Path, reporter: str) -> list[Path]:
    """Folders of other reporters; whether they live shows when one is taken."""
    try:
        found = sorted(folder.iterdir())
    except OSError:
        return []
    return [path for path in found if path.name != reporter and not path.name.startswith(".")]


@contextmanager
def taken(folder: Path) -> Iterator[list[Path]]:
    """The pages of a reporter that has ended, in order; none while it lives, or is in other hands.

    The folder is removed when nothing is left in it.
    """
    try:
        lock = _held(folder)
    except OSError:
        yield []
        return
    try:
        yield sorted(folder.glob(f"*{_SUFFIX}"))
    finally:
        _give_up(folder, lock)


def read_left(path: Path) -> usage_page.Left:
    """What is in a page that somebody left. One that cannot be read is put aside, and empty."""
    try:
        return usage_page.read(path)
    except ValueError as error:
        _log.error("usage_page_unreadable", path=str(path), error=str(error))
        path.rename(path.with_suffix(".unreadable"))
        return usage_page.Left(0, [])


def _held(folder: Path) -> int:
    """A lock on the folder, which the kernel gives back however we end. OSError: not ours."""
    descriptor = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def _made(folder: Path) -> int:
    """Make the folder and hold it. It appears locked: nobody takes it for one left behind."""
    draft = private_dir(folder.with_name(f".{folder.name}"))
    lock = _held(draft)
    draft.rename(folder)
    return lock


def _give_up(folder: Path, lock: int) -> None:
    """Let go of a folder, and remove it when it is empty."""
    with suppress(OSError):
        if [path.name for path in folder.iterdir()] == [_LOCK]:
            (folder / _LOCK).unlink()
            folder.rmdir()
    os.close(lock)

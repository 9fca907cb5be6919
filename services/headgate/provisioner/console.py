"""Tells the lines of log files as rows of the console log, and keeps the files short.

Instances write their own files and never wait for us. Once a second we read on in each, within an
allowance of lines, and count what is beyond it. Lines that could not be told stay in hand, and
nothing more is read until they are, so each is told once; a crash of ours may repeat the last
second.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from nats.errors import Error as NatsError

from headgate.provisioner import core, lines, logs, tailing
from headgate.provisioner.preparing import Preparer
from headgate.provisioner.reconciler import Reconciler
from headgate.provisioner.state import Key
from headgate.provisioner.values import State
from headgate.runtime.bus import Bus, event_headers
from headgate.runtime.clock import new_id
from headgate.runtime.files import write_atomic
from headgate.runtime.log import Log
from headgate_contracts import limits
from headgate_contracts.logs import ConsoleLogged, ConsoleRow
from headgate_contracts.resources import Deployment

LOOK_S = 1.0
ROWS_PER_LOOK_MAX = 2_000
MESSAGE_BYTES_MAX = 256 * 1024

_log = Log("provisioner")


@dataclass(frozen=True, slots=True)
class Source:
    """A file whose lines are told, and what is known of all of them."""

    name: str
    path: Path
    is_live: bool
    began: float
    workspace: str
    key: Key
    instance: str
    container: str


class ConsoleLog:
    """All log files of this machine. ``rows_per_s`` of each are told; 0: none."""

    def __init__(
        self, bus: Bus, reconciler: Reconciler, preparer: Preparer, memory: Path, rows_per_s: int
    ) -> None:
        """``memory`` is the file that remembers how far we are."""
        self._bus = bus
        self._reconciler = reconciler
        self._preparer = preparer
        self._memory = memory
        self._rows_per_s = rows_per_s
        self._writer = new_id()
        self._positions: dict[str, int] = _remembered(memory)
        self._times: dict[str, float] = {}
        self._allowances: dict[str, lines.Allowance] = {}
        self._versions: dict[Key, tuple[Deployment, str]] = {}
        self._unsaid: list[ConsoleLogged] = []
        self._lost: Counter[str] = Counter()

    async def run(self) -> None:
        """Look once a second, for ever."""
        while True:
            await asyncio.sleep(LOOK_S)
            await self.look()

    async def look(self) -> None:
        """Tell what is new, then keep the files short."""
        sources = list(self._sources())
        if self._rows_per_s:
            was_said = await self._say()
            if was_said:
                before = dict(self._positions)
                self._unsaid = await asyncio.to_thread(self._read, sources)
                if await self._say() and before != self._positions:
                    text = json.dumps(self._positions)
                    await asyncio.to_thread(write_atomic, self._memory, text)
        await asyncio.to_thread(self._cut, sources)

    def _sources(self) -> Iterator[Source]:
        for keeper in self._reconciler.keepers():
            deployment, key = keeper.desire.deployment, keeper.key
            workspace = deployment.workspace
            journal = self._preparer.log_of(key, self._version(key, deployment))
            name = f"{'.'.join(key)}/{journal.name}"
            yield Source(name, journal, True, 0.0, workspace, key, "", "storage-initializer")
            for record in list(keeper.fleet.records.values()):
                yield Source(
                    record.id,
                    self._reconciler.folder(record.id) / logs.LOG,
                    record.observed.state is not State.ENDED,
                    record.started_wall,
                    workspace,
                    key,
                    record.id,
                    "inference-server",
                )

    def _version(self, key: Key, deployment: Deployment) -> str:
        """The deployment's version; to work it out takes a while, so that is done once."""
        known = self._versions.get(key)
        if known is None or known[0] is not deployment:
            known = self._versions[key] = (deployment, core.version_of(deployment))
        return known[1]

    # --- reading, in a thread -------------------------------------------------------------------

    def _read(self, sources: list[Source]) -> list[ConsoleLogged]:
        """What is new, as messages; positions go on."""
        names = {source.name for source in sources}
        for known in (self._positions, self._times, self._allowances):
            for name in known.keys() - names:
                del known[name]
        self._versions = {s.key: self._versions[s.key] for s in sources if s.key in self._versions}
        now = self._bus.clock.monotonic()
        news = [s for s in sources if tailing.has_news(s.path, self._positions.get(s.name, 0))]
        rows: list[ConsoleRow] = []
        for number, source in enumerate(news):
            fair = (ROWS_PER_LOOK_MAX - len(rows)) // (len(news) - number)
            rows += self._rows(source, fair, now)
        return list(self._messages(rows))

    def _rows(self, source: Source, lines_max: int, now: float) -> list[ConsoleRow]:
        allowance = self._allowances.get(source.name)
        if allowance is None:
            allowance = self._allowances[source.name] = lines.Allowance.full(self._rows_per_s, now)
        piece = tailing.read_on(
            source.path,
            self._positions.get(source.name, 0),
            is_live=source.is_live,
            lines_max=min(lines_max, allowance.now(now)),
        )
        allowance.spend(len(piece.lines))
        self._positions[source.name] = piece.position
        if piece.lost:
            self._lost[source.workspace] += piece.lost
        return [self._row(source, text) for text in piece.lines]

    def _row(self, source: Source, text: str) -> ConsoleRow:
        before = self._times.get(source.name, source.began)
        line = lines.parse(text, before, self._bus.clock.now())
        self._times[source.name] = line.at
        return ConsoleRow.model_construct(
            at=line.at,
            workspace=source.workspace,
            endpoint=source.key[0],
            deployment=source.key[1],
            instance=source.instance,
            container=source.container,
            level=line.level,
            request_id=line.request_id,
            message=line.message[: limits.LOG_MESSAGE_CHARS_MAX],
        )

    def _messages(self, rows: list[ConsoleRow]) -> Iterator[ConsoleLogged]:
        part: list[ConsoleRow] = []
        size_bytes = 0
        for row in rows:
            part.append(row)
            size_bytes += 6 * len(row.message) + 300  # as JSON, at worst
            if size_bytes > MESSAGE_BYTES_MAX:
                yield self._message(part)
                part, size_bytes = [], 0
        if part or self._lost:
            yield self._message(part)

    def _message(self, rows: list[ConsoleRow]) -> ConsoleLogged:
        lost, self._lost = self._lost, Counter()
        event = ConsoleLogged.model_construct(
            writer=self._writer, rows=tuple(rows), lost=dict(lost)
        )
        return event.stamped(id=new_id(), at=self._bus.clock.now())

    # --- telling --------------------------------------------------------------------------------

    async def _say(self) -> bool:
        """Tell what is in hand; False when some of it has to wait."""
        while self._unsaid:
            event = self._unsaid[0]
            payload = event.model_dump_json().encode()
            try:
                await self._bus.publish_stored_event(
                    event.subject(), payload, event_headers(event, self._bus.service)
                )
            except (NatsError, TimeoutError, ConnectionError) as error:
                text = str(error) or type(error).__name__
                _log.warning("console_log_waits", messages=len(self._unsaid), error=text)
                return False
            self._unsaid.pop(0)
        return True

    # --- keeping files short --------------------------------------------------------------------

    def _cut(self, sources: list[Source]) -> None:
        """Cut what has grown too long. What could not be told before is counted."""
        for source in sources:
            if not source.instance or not logs.is_too_long(source.path):
                continue
            if self._rows_per_s:
                position = self._positions.get(source.name, 0)
                piece = tailing.read_on(source.path, position, is_live=True, lines_max=0)
                self._lost[source.workspace] += piece.lost
                self._positions[source.name] = piece.position
            logs.cut(source.path)


def _remembered(memory: Path) -> dict[str, int]:
    try:
        found = json.loads(memory.read_text())
        return {str(name): int(position) for name, position in found.items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}

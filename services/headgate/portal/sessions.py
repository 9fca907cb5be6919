"""Who is signed in: sessions in memory, and the code that signs in without typing a token.

A session keeps the token that its owner has shown; the browser gets a random name for it, in a
cookie that no script reads and that no other site makes it send.
"""

from __future__ import annotations

import hmac
import secrets
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from headgate.client.api import Client
from headgate.client.target import Target
from headgate.portal.core import Right
from headgate.portal.pace import Line
from headgate.portal.watch import Watch
from headgate.runtime.clock import Clock
from headgate.runtime.files import write_atomic
from headgate_contracts import limits

COOKIE = "headgate_studio"
_CODE_BYTES = 24


@dataclass(frozen=True, slots=True)
class Draft:
    """A deployment as its form was last sent, so that it can be mended.

    ``model`` is a reference to what was uploaded then; ``by_hand`` the YAML, if that was edited.
    ``awaits_traffic``: all of it goes there when it is ready. That is known here and not by the
    page's address, which anybody could hand to somebody who may move traffic.
    """

    script: str
    conda: str = ""
    size: str = "Standard_DS3_v2"
    count: int = 1
    concurrency: int = 1
    model: str = ""
    by_hand: str = ""
    awaits_traffic: bool = False


@dataclass(slots=True)
class Session:
    """One signed-in browser."""

    id: str
    subject: str
    right: Right
    client: Client
    watch: Watch
    began_at: float
    used_at: float
    drafts: OrderedDict[tuple[str, str], Draft] = field(default_factory=OrderedDict)
    pages: dict[str, Callable[[], None]] = field(default_factory=dict)
    """Open pages, and what ends each of them when the session ends."""
    line: Line = field(default_factory=Line)
    """Those that are asked for."""

    @property
    def target(self) -> Target:
        return self.client.http.target

    @property
    def workspace(self) -> str:
        return self.target.workspace

    def keep(self, endpoint: str, name: str, draft: Draft) -> None:
        self.drafts[endpoint, name] = draft
        while len(self.drafts) > limits.STUDIO_DRAFTS_MAX:
            self.drafts.popitem(last=False)

    def is_over(self, now: float) -> bool:
        """Whether nobody has used it for long, or it has been there for too long."""
        return (
            now - self.used_at > limits.STUDIO_SESSION_IDLE_S
            or now - self.began_at > limits.STUDIO_SESSION_LIFE_S
        )

    def take_traffic_wish(self, endpoint: str, name: str) -> bool:
        """Whether a deployment that is ready now was to have all traffic; told once."""
        draft = self.drafts.get((endpoint, name))
        if draft is None or not draft.awaits_traffic:
            return False
        self.drafts[endpoint, name] = replace(draft, awaits_traffic=False)
        return True

    async def close(self) -> None:
        for leave in list(self.pages.values()):
            leave()
        await self.watch.close()
        await self.client.__aexit__(None, None, None)


class Sessions:
    """At most :data:`limits.STUDIO_SESSIONS_MAX`, and of one subject at most
    :data:`limits.STUDIO_SESSIONS_OF_SUBJECT_MAX`; the one that was used longest ago goes first."""

    def __init__(self, clock: Clock) -> None:
        self.monotonic = clock.monotonic
        self._clock = clock
        self._by_id: OrderedDict[str, Session] = OrderedDict()

    def find(self, session_id: str) -> Session | None:
        """The session, unless it is over; finding it is using it."""
        session, now = self._by_id.get(session_id), self._clock.monotonic()
        if session is None or session.is_over(now):
            return None
        session.used_at = now
        self._by_id.move_to_end(session_id)
        return session

    @property
    def pages(self) -> int:
        """How many are open, of all sessions."""
        return sum(len(session.pages) for session in self._by_id.values())

    def watch(self, client: Client) -> Watch:
        return Watch(client, self._clock)

    async def add(self, subject: str, right: Right, client: Client, watch: Watch) -> Session:
        """A new session for a client that is open already."""
        own = [each.id for each in self._by_id.values() if each.subject == subject]
        if len(own) >= limits.STUDIO_SESSIONS_OF_SUBJECT_MAX:
            await self.end(own[0])
        elif len(self._by_id) >= limits.STUDIO_SESSIONS_MAX:
            await self.end(next(iter(self._by_id)))
        now = self._clock.monotonic()
        session = Session(secrets.token_urlsafe(32), subject, right, client, watch, now, now)
        self._by_id[session.id] = session
        return session

    async def end(self, session_id: str) -> None:
        session = self._by_id.pop(session_id, None)
        if session is not None:
            await session.close()

    async def end_of_subject(self, session_id: str) -> None:
        """End this session and all others of whoever has it."""
        session = self._by_id.get(session_id)
        for other in list(self._by_id.values()):
            if session is not None and other.subject == session.subject:
                await self.end(other.id)

    async def sweep(self) -> None:
        """End what is over."""
        now = self._clock.monotonic()
        for session in list(self._by_id.values()):
            if session.is_over(now):
                await self.end(session.id)

    async def close(self) -> None:
        for session_id in list(self._by_id):
            await self.end(session_id)


class SignInCode:
    """A code in a file that only the owner of the data folder can read or write; good once."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def make(self) -> str:
        """Put a new code in place of any other."""
        code = secrets.token_urlsafe(_CODE_BYTES)
        write_atomic(self._path, code)
        return code

    def spend(self, given: str) -> bool:
        """Whether this is the code; from then on it is none any more."""
        try:
            wanted = self._path.read_text(encoding="utf-8").strip()
        except FileNotFoundError:
            return False
        if not wanted or not hmac.compare_digest(wanted.encode(), given.encode()):
            return False
        self._path.unlink(missing_ok=True)
        return True

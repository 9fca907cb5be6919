"""What the provisioner asks of a driver: the one place where instances become real.

A driver starts an instance, finds those that run already, waits for their end and ends them. It
decides nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from headgate_contracts.resources import InferenceConfig


@dataclass(frozen=True, slots=True)
class Limits:
    """What one instance may use of its machine."""

    cores: float
    memory_bytes: int
    gpus: int


@dataclass(frozen=True, slots=True)
class Interpreter:
    """What a process runs on: a Python of this machine, with the packages of its environment."""

    python: Path


@dataclass(frozen=True, slots=True)
class Image:
    """What a container runs on. ``id`` names exactly one content.

    ``python`` is the interpreter in it that runs our worker. With ``server`` instead, the image
    brings an HTTP server of its own, whose routes these are.
    """

    id: str
    python: str = ""
    server: InferenceConfig | None = None


Base = Interpreter | Image


@dataclass(frozen=True, slots=True)
class Launch:
    """Everything needed to start one instance. ``variables`` are Azure's and the user's.

    Paths are those of this machine; a driver that shows them elsewhere translates them, in
    ``variables`` too. ``code`` is None when the base needs none. Without ``limits`` an instance
    may use all of its machine; without ``egress`` it reaches the bus and nothing else. ``collect``
    says as JSON what the worker collects into ``collect_folder``, which is not the instance's own:
    it outlives it. ``batch`` says as JSON what a node of a batch job is told: it takes no requests.
    One of low priority gets what others leave of the processors.
    """

    instance: str
    endpoint: str
    deployment: str
    spec: str
    base: Base
    code: Path | None
    capacity: int
    token: str = field(repr=False)
    variables: Mapping[str, str] = field(default_factory=dict, repr=False)
    limits: Limits | None = None
    collect: str = ""
    collect_folder: Path | None = None
    egress: bool = True
    model_mount_path: str = ""
    batch: str = ""
    is_low_priority: bool = False


@dataclass(frozen=True, slots=True)
class Running:
    """One running instance. ``start`` tells its process from a later one with the same pid."""

    instance: str
    endpoint: str
    deployment: str
    spec: str
    pid: int
    start: int
    driver: str = "process"


@dataclass(frozen=True, slots=True)
class LastWords:
    """Why the user's script made its process end, in the worker's words."""

    code: str
    message: str


@dataclass(frozen=True, slots=True)
class OutOfMemory:
    """The kernel ended something for its memory: the limit, and the most that was used if known."""

    limit_bytes: int
    peak_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class Exit:
    """How an instance ended. ``status`` is negative for a signal, None when nobody could tell.

    ``because`` goes on from "instance x ...", when more is known than a status tells.
    """

    status: int | None
    last_words: LastWords | None = None
    because: str = ""
    out_of_memory: OutOfMemory | None = None


class Driver(Protocol):
    async def start(self, launch: Launch) -> Running:
        """Start an instance; OSError or HeadgateError when that is impossible."""

    async def found(self) -> Sequence[Running]:
        """Every instance of this installation that runs now, whoever started it."""

    async def ended(self, running: Running) -> Exit:
        """Wait until the instance has ended, with everything that it started."""

    async def stop(self, running: Running, *, drain_s: float) -> None:
        """Let the instance finish its requests and end it; kill it after ``drain_s``."""

    def renew_token(self, instance: str, token: str) -> None:
        """Give a running instance new bus credentials."""

    def token_age_s(self, instance: str, now: float) -> float:
        """How old the credentials of an instance are; ``now`` is Unix time."""

    def folder(self, instance: str) -> Path:
        """Where the instance's files are, its log among them."""

    def remove(self, instance: str) -> None:
        """Forget the files of an ended instance."""

    async def close(self, *, all_ended: bool) -> None:
        """Let go of everything; ``all_ended``: also of what helps instances while they run."""

"""The data plane: scoring frames between router and worker, heartbeats, and the route table.

**Frame.** A scoring message holds one or more frames, each
``>II`` (meta bytes, body bytes) + meta (UTF-8 JSON object) + body (opaque bytes).
The body is never decoded between ingress and model.

Request meta: ``id`` (unique per router connection), ``dl`` (deadline in milliseconds on the
*instance's own* monotonic clock, so no two clocks need to agree) or ``ttl`` (milliseconds from
arrival, for senders that do not know that clock), ``m`` method (POST), ``p`` path (``/score``),
``q`` query string (none), ``h`` list of [name, value] pairs. A router says the ids apart from the
headers that they are: ``rid`` is x-request-id, and x-ms-request-id unless there is a ``cid``, which
is that and x-ms-client-request-id. From ``w`` on, its requests of one kind are the same bytes.

With ``tr`` the instance tells in ``held`` for how many milliseconds it had the request until the
answer, or its first part, left.

Answer meta: ``id``, ``s`` status the model's server would give, ``h`` list of [name, value] pairs,
``ms`` execution time of ``run()``, ``n`` requests in flight in the instance after this one. A whole
answer without ``h`` has the headers of an ordinary one: Content-Type is application/json,
x-ms-run-function-failed is False, and x-ms-run-fn-exec-ms is ``ms`` with three decimals.
When the request was *not started*: ``k`` = ``busy``, ``draining`` or ``expired``, and no body.

An empty message on the instance subject is a ping, answered by an empty message.

**What takes more than one frame** has frames with ``c``, the sequence number ``q`` where order
counts, and the ``id`` of its request. Each side says how far the other may go, in bytes from the
beginning of the body, and nobody sends more. The router's frames go to the instance's subject for
parts, without a reply subject; that of the request is in ``r``.

- A request meta with ``w`` takes an answer in parts, up to that byte at first; without it the
  answer comes as a whole or is refused by size.
- A request meta with ``size`` has no body in its frame: ``size`` bytes follow in ``body`` frames,
  as far as the instance's ``take`` frames allow (``to``).
- An answer in parts is a number of ``part`` frames. The first has ``s`` and ``h`` besides, ``size``
  where the length is known, and ``ms`` when the model has finished already (its slot is free). All
  but the last have ``more``; the last has ``ms`` and ``n``. The router's ``take`` frames let it go
  on (``to``).
- ``broken`` instead of a last part: the rest will never come; ``e`` says why.
- ``leave`` from the router: nobody waits for this answer any more. It is still ended, by whatever
  frame fits, so that the slot is known to be free.

When either side loses its connection to the bus everything in parts ends, since parts may be lost.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from enum import StrEnum
from typing import Any, ClassVar

from pydantic import Field
from pydantic_core import from_json

from headgate_contracts import subjects
from headgate_contracts.envelope import Event, Value
from headgate_contracts.quotas import Quota

FRAME_HEAD = struct.Struct(">II")


class FrameError(ValueError):
    """A scoring message that is not a sequence of whole frames."""


def encode_frame_head(meta: dict[str, Any], body_bytes: int) -> bytes:
    """A frame up to its body, for senders that do not copy the body into it."""
    head = json.dumps(meta, separators=(",", ":"), ensure_ascii=False).encode()
    return FRAME_HEAD.pack(len(head), body_bytes) + head


def encode_frame(meta: dict[str, Any], body: bytes) -> bytes:
    """One frame as bytes."""
    return encode_frame_head(meta, len(body)) + body


def decode_frames(payload: bytes) -> Iterator[tuple[dict[str, Any], bytes]]:
    """The frames of a message, in order. Raises FrameError on anything malformed."""
    offset, size = 0, len(payload)
    while offset < size:
        if size - offset < FRAME_HEAD.size:
            raise FrameError("truncated frame head")
        meta_bytes, body_bytes = FRAME_HEAD.unpack_from(payload, offset)
        offset += FRAME_HEAD.size
        end = offset + meta_bytes + body_bytes
        if end > size:
            raise FrameError("truncated frame")
        try:
            meta = from_json(payload[offset : offset + meta_bytes])
        except ValueError as error:
            raise FrameError(f"frame meta is not JSON: {error}") from None
        if not isinstance(meta, dict):
            raise FrameError("frame meta is not an object")
        yield meta, payload[offset + meta_bytes : end]
        offset = end


class Control(StrEnum):
    """What a frame is that is neither a request nor a whole answer (``c``)."""

    BODY = "body"
    BROKEN = "broken"
    LEAVE = "leave"
    PART = "part"
    TAKE = "take"


class InstanceState(StrEnum):
    """What an instance says of itself; only ``ready`` receives requests."""

    STARTING = "starting"
    READY = "ready"
    DRAINING = "draining"
    FAILED = "failed"
    STOPPED = "stopped"
    LOST = "lost"  # said by the provisioner of an instance whose process has ended
    UNREADY = "unready"  # said by the provisioner of one whose readiness probe fails


class Heartbeat(Event):
    """Sent by each instance twice a second and at once when its state changes."""

    TYPE: ClassVar[str] = "headgate.worker.event.v1.heartbeat"

    endpoint: str
    deployment: str
    instance: str
    state: InstanceState
    spec: str = Field("", description="hash of the deployment version this instance runs")
    mono_ms: float = Field(0.0, description="the instance's monotonic clock, milliseconds")
    wall_ms: float = Field(0.0, description="the instance's wall clock, milliseconds")
    capacity: int = Field(1, description="requests it takes at once")
    in_flight: int = 0
    requests: int = Field(0, description="requests finished since its start")
    overdue_ms: float = Field(
        0.0, description="how long its model has been in a request whose deadline has passed"
    )
    withheld_s: float = Field(
        0.0, description="with state unready: how long routers leave it out, 0 ends that"
    )
    link: bool = Field(
        False, description="it listens on its socket in the links folder of its machine"
    )
    pid: int = 0
    rss_bytes: int = 0
    cpu_s: float = 0.0
    disk_percent: float | None = Field(
        None, description="how full the file system of its temporary folder is"
    )
    gpu_percent: float | None = Field(None, description="how busy its GPUs are, on the mean")
    gpu_memory_percent: float | None = Field(None, description="of the memory of its GPUs")
    gpu_joules: float | None = Field(
        None, description="energy of its GPUs since its start, from looks at their power"
    )
    collected: int = Field(0, description="events of data collection written since its start")
    collect_dropped: int = Field(0, description="events of data collection lost since its start")
    batches: int = Field(0, description="batches that went through its model since its start")
    batched_requests: int = Field(0, description="requests in those batches")
    batched_rows: int = Field(0, description="rows in those batches, as the script counts them")
    trouble: str = Field("", description="why a model's own server does not pass its probes")
    error_code: str = ""
    error_message: str = Field(
        "", description="why it failed; while it starts, the line of the script that is running"
    )

    def subject(self) -> str:
        return subjects.heartbeat(self.endpoint, self.deployment, self.instance)


class DeploymentRoute(Value):
    """What a router must know of one deployment."""

    max_concurrent_requests_per_instance: int = 1
    request_timeout_ms: int = 5_000
    scoring_path: str = "/score"
    is_stopped: bool = False
    held_max: int = Field(
        0, description="requests that may wait while it grows or has no instance; 0: Azure's rule"
    )
    hold_s: float = Field(
        0.0, description="how long a request may wait for the first instance; 0: not at all"
    )
    instances_max: int = Field(0, description="how far it can grow; at that, Azure's rule holds")


class KeyDigest(Value):
    """A key as routers know it: SHA-256 of the whole key, hexadecimal, and an id for records."""

    id: str
    sha256: str


class Route(Value):
    """The routing table of one endpoint, as stored in the routes bucket under its name."""

    workspace: str
    endpoint: str
    revision: int = Field(0, description="grows with every change; older values are ignored")
    auth_mode: str = "key"
    is_public: bool = Field(True, description="false: by HTTP from listed networks only")
    keys: tuple[KeyDigest, ...] = ()
    tokens_not_before: float = Field(
        0.0, description="scoring tokens issued before this Unix time count no longer"
    )
    traffic: dict[str, int] = {}
    mirror_traffic: dict[str, int] = {}
    deployments: dict[str, DeploymentRoute] = {}
    quotas: tuple[Quota, ...] = Field((), description="rates and counts that hold here")

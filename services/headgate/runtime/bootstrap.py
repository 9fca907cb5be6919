"""Creates the streams and buckets of the layout; the only place that may.

Safe to run at every start and from several processes: what is there is kept, limits are only ever
widened, and nothing is deleted. So an operator's larger limits or replicas survive an upgrade.
"""

from __future__ import annotations

from typing import Any

from nats.errors import Error as NatsError
from nats.js.api import DiscardPolicy, RetentionPolicy, StorageType, StreamConfig
from nats.js.client import JetStreamContext
from nats.js.errors import APIError, NotFoundError

from headgate.runtime.bus import Bus
from headgate.runtime.log import Log
from headgate_contracts.errors import ErrorCode, HeadgateError
from headgate_contracts.streams import LAYOUT, Bucket, Layout, Stream

# Older servers accept settings that they do not know, and then do not keep them.
API_LEVEL_MIN = 5
_UNLIMITED = -1
_log = Log("bootstrap")


async def bootstrap(bus: Bus, layout: Layout = LAYOUT) -> None:
    """Make sure that everything of ``layout`` exists. Raises HeadgateError that says what fails."""
    try:
        await _require_level(bus.js)
        for wanted in _configs(layout):
            await _ensure(bus.js, wanted)
    except NatsError as error:
        raise HeadgateError(
            ErrorCode.UNAVAILABLE, f"JetStream at {bus.url} does not answer: {error}"
        ) from error


async def _require_level(js: JetStreamContext) -> None:
    api = (await js.account_info()).api
    level = (api.level if api else 0) or 0
    if level < API_LEVEL_MIN:
        raise HeadgateError(
            ErrorCode.UNAVAILABLE,
            f"the bus speaks JetStream API level {level}, at least {API_LEVEL_MIN} is needed: "
            "run nats-server 2.14.3 or newer",
        )


def _configs(layout: Layout) -> list[StreamConfig]:
    streams = [_stream_config(stream) for stream in layout.streams]
    return streams + [_bucket_config(bucket) for bucket in layout.buckets]


def _stream_config(stream: Stream) -> StreamConfig:
    return StreamConfig(
        name=stream.name,
        description=stream.description,
        subjects=list(stream.subjects),
        retention=RetentionPolicy.WORK_QUEUE if stream.is_queue else RetentionPolicy.LIMITS,
        storage=StorageType.FILE,
        discard=DiscardPolicy.NEW if stream.refuses_when_full else DiscardPolicy.OLD,
        max_bytes=stream.max_bytes,
        max_age=stream.max_age_s,
        max_msg_size=stream.max_msg_bytes,
        duplicate_window=stream.duplicate_window_s,
        deny_delete=True,
        allow_direct=True,
        num_replicas=1,
    )


def _bucket_config(bucket: Bucket) -> StreamConfig:
    """A KV bucket is a stream with this configuration (ADR-8 of NATS)."""
    return StreamConfig(
        name=f"KV_{bucket.name}",
        description=bucket.description,
        subjects=[f"$KV.{bucket.name}.>"],
        retention=RetentionPolicy.LIMITS,
        storage=StorageType.FILE,
        discard=DiscardPolicy.NEW,
        max_bytes=bucket.max_bytes,
        max_msgs_per_subject=bucket.history,
        max_age=bucket.max_age_s,
        duplicate_window=120.0,
        allow_rollup_hdrs=True,
        allow_direct=True,
        deny_delete=True,
        num_replicas=1,
    )


async def _ensure(js: JetStreamContext, wanted: StreamConfig) -> None:
    name = str(wanted.name)
    try:
        found = (await js.stream_info(name)).config
    except NotFoundError:
        await _create(js, wanted)
        return
    changes = _changes(found, wanted)
    if not changes:
        return
    try:
        await js.update_stream(found.evolve(**changes))
    except APIError as error:
        raise HeadgateError(
            ErrorCode.RESOURCE_CONFLICT,
            f"the stream {name} exists in a form that cannot become the one needed "
            f"({', '.join(sorted(changes))}): {error.description}. Move it away and restart",
            target=name,
        ) from error
    _log.info("stream_updated", name=name, fields=",".join(sorted(changes)))


async def _create(js: JetStreamContext, wanted: StreamConfig) -> None:
    try:
        # Another process may be as far as this: the server takes the same stream twice.
        await js.add_stream(wanted)
    except APIError as error:
        raise HeadgateError(
            ErrorCode.UNAVAILABLE,
            f"the bus server refuses the stream {wanted.name}: {error.description}",
            target=str(wanted.name),
        ) from error
    _log.info("stream_created", name=wanted.name)


def _changes(found: StreamConfig, wanted: StreamConfig) -> dict[str, Any]:
    """Which fields of ``found`` must change so that it serves as ``wanted``."""
    needed: dict[str, Any] = {
        "description": wanted.description,
        "subjects": wanted.subjects,
        "retention": wanted.retention,
        "storage": wanted.storage,
        "discard": wanted.discard,
        "allow_direct": True,
        "allow_rollup_hdrs": wanted.allow_rollup_hdrs,
        "deny_delete": True,
        "max_bytes": _wider(found.max_bytes, wanted.max_bytes),
        "max_msg_size": _wider(found.max_msg_size, wanted.max_msg_size),
        "max_msgs_per_subject": _wider(found.max_msgs_per_subject, wanted.max_msgs_per_subject),
        "max_age": _wider(found.max_age, wanted.max_age),
        "duplicate_window": _wider(found.duplicate_window, wanted.duplicate_window),
    }
    return {key: value for key, value in needed.items() if getattr(found, key) != value}


def _wider(found: float | None, wanted: float | None) -> float | None:
    """The limit that keeps more; the server writes "no limit" as -1 or 0."""
    if found is None or wanted is None or found <= 0:
        return found
    return _UNLIMITED if wanted < 0 else max(found, wanted)

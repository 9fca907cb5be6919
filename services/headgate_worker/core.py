"""Decisions of an instance as pure functions: no clock, no input, no output."""

from __future__ import annotations

from typing import Any, Optional

# Mirrors of headgate_contracts.limits and .subjects; a test keeps them equal.
HEARTBEAT_INTERVAL_S = 0.5
DRAIN_PROPAGATION_S = 0.5
BUS_PAYLOAD_BYTES_MAX = 8 * 1024 * 1024
SCORING_BODY_BYTES_MAX = BUS_PAYLOAD_BYTES_MAX - 64 * 1024
BODY_BYTES_MAX = 100 * 1024 * 1024
BODY_WINDOW_BYTES = 1024 * 1024
STREAM_GIVEN_UP_S = 30.0
ERROR_MESSAGE_CHARS_MAX = 8_192
ROOT = "hg.v1"
QUEUE_GROUP = "w"

STARTING = "starting"
READY = "ready"
DRAINING = "draining"
FAILED = "failed"
STOPPED = "stopped"

# Why a request was not started (``k``).
BUSY = "busy"
EXPIRED = "expired"

# What a frame is that is neither a request nor a whole answer (``c``).
BODY = "body"
BROKEN = "broken"
LEAVE = "leave"
PART = "part"
TAKE = "take"


def instance_subject(endpoint: str, deployment: str, instance: str) -> str:
    return f"{ROOT}.inst.{endpoint}.{deployment}.{instance}"


def parts_subject(endpoint: str, deployment: str, instance: str) -> str:
    return f"{instance_subject(endpoint, deployment, instance)}.parts"


def deployment_subject(endpoint: str, deployment: str) -> str:
    return f"{ROOT}.dep.{endpoint}.{deployment}"


def heartbeat_subject(endpoint: str, deployment: str, instance: str) -> str:
    return f"{ROOT}.hb.{endpoint}.{deployment}.{instance}"


def identity_subject(endpoint: str, deployment: str, instance: str) -> str:
    return f"{ROOT}.idt.{endpoint}.{deployment}.{instance}"


def identity_inbox(instance: str) -> str:
    return f"_INBOX_worker.{instance}"


def lane_instance(instance: str, lane: int) -> str:
    """The id of one of the model processes that share an instance; the first has its name."""
    return f"{instance}-{lane}" if lane else instance


def lane_capacity(capacity: int, lanes: int) -> int:
    """How many requests each lane takes at once."""
    return max(1, -(-capacity // lanes))


def deadline_ms(meta: dict[str, Any], now_ms: float) -> float:
    """When a request is worth nothing any more, on this machine's monotonic clock."""
    due = meta.get("dl")
    if isinstance(due, (int, float)):
        return due
    left = meta.get("ttl")
    return now_ms + left if isinstance(left, (int, float)) else float("inf")


def refusal(
    state: str, *, in_flight: int, capacity: int, deadline: float, now_ms: float
) -> Optional[str]:
    """Why a request is not started, as the answer's ``k``; None when it is taken.

    A draining instance still takes what arrives: whoever sent it did not know yet, and it hears
    nothing any more as soon as the bus has confirmed that it left.
    """
    if deadline <= now_ms:
        return EXPIRED
    if state in (FAILED, STOPPED):
        return DRAINING
    if state == STARTING or in_flight >= capacity:
        return BUSY
    return None


def reconnect_delay_max_s(failures: int, *, base_s: float = 0.05, cap_s: float = 2.0) -> float:
    """The most that a client waits before its next attempt; the dice choose how much of it."""
    return min(cap_s, base_s * 2.0 ** min(failures, 16))

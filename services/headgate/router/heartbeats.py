"""Heartbeats as they come off the bus: checked, because anything may come."""

from __future__ import annotations

from pydantic import ValidationError

from headgate.runtime.log import Log
from headgate_contracts.scoring import Heartbeat

_log = Log("router")


def read(subject: str, payload: bytes) -> Heartbeat | None:
    """The heartbeat; None, and a line in the log, when it is none or speaks for somebody else."""
    try:
        beat = Heartbeat.model_validate_json(payload)
        if beat.subject() != subject:
            raise ValueError(f"it speaks for {beat.subject()}")
    except (ValidationError, ValueError) as error:
        _log.warning("bad_heartbeat", subject=subject, error=str(error)[:200])
        return None
    return beat

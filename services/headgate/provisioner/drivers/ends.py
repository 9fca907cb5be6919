"""What the end of a container means: its status, and its cause in words. Pure."""

from __future__ import annotations

from headgate.provisioner.drivers import OutOfMemory
from headgate.provisioner.drivers.attendant import Ended

_SIGNALS_FROM = 128
_STOPPED = (0, 128 + 15)

ENGINE_ENDED = "was ended because the Docker engine was stopped or restarted"


def describe(ended: Ended) -> str:
    """Why a container ended, where the engine knows more than an exit status."""
    if not ended.attrs:
        return "is gone: somebody has removed its container"
    if ended.engine_was_away:
        return ENGINE_ENDED
    return ""


def out_of_memory(ended: Ended) -> OutOfMemory | None:
    """The limit that a container went over; the engine does not tell how much it used."""
    if not ended.state.get("OOMKilled"):
        return None
    return OutOfMemory(int((ended.attrs.get("HostConfig") or {}).get("Memory") or 0))


def was_told_to_stop(ended: Ended) -> bool:
    """Whether it ended as after SIGTERM."""
    return bool(ended.attrs) and _exit_code(ended) in _STOPPED


def _exit_code(ended: Ended) -> int:
    return int(ended.state.get("ExitCode") or 0)


def status_of(ended: Ended) -> int | None:
    """The exit status; negative for a signal, as of a process."""
    if not ended.attrs:
        return None
    code = _exit_code(ended)
    return _SIGNALS_FROM - code if _SIGNALS_FROM < code <= _SIGNALS_FROM + 64 else code

"""Structured logs: each line is an action with named values, for people or as JSON.

``log = Log("router"); log.info("instance_lost", endpoint="digits", reason="exit code 3")``
"""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime
from typing import Any, Literal

from headgate.runtime.visible import visible

_ROOT = "headgate"


class Log:
    """Writes actions of one service."""

    def __init__(self, service: str) -> None:
        self._logger = logging.getLogger(f"{_ROOT}.{service}")

    def debug(self, action: str, **values: Any) -> None:
        self._write(logging.DEBUG, action, values)

    def info(self, action: str, **values: Any) -> None:
        self._write(logging.INFO, action, values)

    def warning(self, action: str, **values: Any) -> None:
        self._write(logging.WARNING, action, values)

    def error(self, action: str, **values: Any) -> None:
        self._write(logging.ERROR, action, values)

    def exception(self, action: str, **values: Any) -> None:
        """An error together with the traceback of the exception being handled."""
        self._write(logging.ERROR, action, values, exc_info=True)

    def _write(
        self, level: int, action: str, values: dict[str, Any], *, exc_info: bool = False
    ) -> None:
        self._logger.log(level, action, extra={"values": values}, exc_info=exc_info)


class _Formatter(logging.Formatter):
    def __init__(self, *, as_json: bool) -> None:
        super().__init__()
        self._as_json = as_json

    def format(self, record: logging.LogRecord) -> str:
        at = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        at = at.replace("+00:00", "Z")
        values: dict[str, Any] = getattr(record, "values", {})
        service = record.name.removeprefix(f"{_ROOT}.")
        trace = self.formatException(record.exc_info) if record.exc_info else ""
        if self._as_json:
            line = {"at": at, "level": record.levelname, "service": service}
            line |= {"action": record.getMessage(), **values}
            if trace:
                line["traceback"] = trace
            return json.dumps(line, default=str)
        # A value from outside must neither begin a line of its own nor steer a terminal.
        pairs = " ".join(f"{key}={value}" for key, value in values.items())
        pairs = visible(pairs.replace("\n", "\\n"))
        text = f"{at} {record.levelname:<7} {service:<12} {record.getMessage()} {pairs}".rstrip()
        return f"{text}\n{visible(trace)}" if trace else text


def configure(level: str = "INFO", form: Literal["text", "json"] = "text") -> None:
    """Send our logs to standard error. Called once per process, by the entry point."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Formatter(as_json=form == "json"))
    root = logging.getLogger(_ROOT)
    root.handlers[:] = [handler]
    root.setLevel(level)
    root.propagate = False
    others = logging.getLogger()
    if not others.handlers:
        others.addHandler(handler)
        others.setLevel(logging.WARNING)

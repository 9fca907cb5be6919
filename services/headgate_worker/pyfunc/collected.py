"""What a model without a script gets and gives, for a deployment that collects it.

As on Azure, the collections are ``model_inputs`` and ``model_outputs``, and hold tables.
"""

from __future__ import annotations

from typing import Any, Optional

from headgate_worker import monitoring, output

INPUTS, OUTPUTS = "model_inputs", "model_outputs"


class Collected:
    """Both collections. What fails in them is logged and fails no request."""

    def __init__(self) -> None:
        plan = monitoring.current.plan if monitoring.current is not None else None
        enabled = plan.collections if plan is not None else {}
        self._collectors = {
            name: monitoring.Collector(name=name, on_error=_log)
            for name in (INPUTS, OUTPUTS)
            if name in enabled
        }
        self._refused: set[str] = set()

    def inputs(self, data: Any) -> None:
        if INPUTS in self._collectors:
            self._collect(INPUTS, data)

    def outputs(self, result: Any) -> None:
        if OUTPUTS in self._collectors:
            self._collect(OUTPUTS, result)

    def _collect(self, name: str, data: Any) -> None:
        table = _table(data)
        if table is not None:
            self._collectors[name].collect(table)
        elif name not in self._refused:
            self._refused.add(name)
            kind = type(data).__name__
            output.log("WARNING", f"{name} is not collected: a {kind} of this shape is no table")


def _table(data: Any) -> Optional[Any]:
    """A DataFrame of it; None when it has no rows and columns."""
    import pandas

    if isinstance(data, pandas.DataFrame):
        return data
    try:
        return pandas.DataFrame(data)
    except Exception:  # whatever pandas thinks of what a model returns
        return None


def _log(error: Exception) -> None:
    output.log("WARNING", f"data is not collected: {error}")

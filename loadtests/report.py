"""What a run says: medians over its rounds, ratios within each round, tables. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from loadtests import servers, workloads
from loadtests.runs import Cell, Run

HEADGATE = "headgate"
# Columns of the tables: title, field of a cell, digits after the point.
_COLUMNS = (
    ("requests/s", "requests_per_s", 0),
    ("p50 ms", "p50_ms", 2),
    ("p95 ms", "p95_ms", 2),
    ("p99 ms", "p99_ms", 2),
    ("CPU s per 1,000", "cpu_s_per_1000", 3),
    ("memory MiB", "memory_mib", 0),
    ("failed", "errors", 0),
)
RATIO = "Headgate x"


@dataclass(frozen=True, slots=True)
class Table:
    """One load of one model: a row per server."""

    title: str
    columns: tuple[str, ...]
    rows: list[tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class Check:
    """One promise, its figure, and whether it is kept; ``value`` nan: it was not measured."""

    text: str
    value: float
    limit: float
    at_most: bool = False

    @property
    def is_kept(self) -> bool:
        return self.value <= self.limit if self.at_most else self.value >= self.limit

    def line(self) -> str:
        sign = "<=" if self.at_most else ">="
        verdict = "met" if self.is_kept else "not measured" if _is_nan(self.value) else "NOT MET"
        return f"{verdict}: {self.text}: {self.value:.4g} ({sign} {self.limit:g})"


def tables(run: Run) -> list[Table]:
    """One table per load that was measured, in the order of measuring."""
    loads: dict[tuple[str, str, int], None] = {}
    for cell in run.cells:
        loads[cell["workload"], cell["loop"], cell["size"]] = None
    order = list(workloads.ALL)
    keys = sorted(loads, key=lambda key: (order.index(key[0]), key[1], key[2]))
    return [_table(run, *key) for key in keys]


def _table(run: Run, workload: str, loop: str, size: int) -> Table:
    rows, rounds = [], 0
    for name, server in servers.ALL.items():
        found = cells(run, name, workload, loop, size)
        if not found:
            continue
        rounds = max(rounds, len(found))
        figures = [f"{_median(found, key):,.{digits}f}" for _, key, digits in _COLUMNS]
        better = _ratio_of(run, workload, loop, size, name)
        rows.append((server.title, *figures, "" if _is_nan(better) else f"{better:.2f}"))
    title = f"{workloads.ALL[workload].title}, {_load(loop, size)} (median of {rounds})"
    return Table(title, ("server", *(name for name, _, _ in _COLUMNS), RATIO), rows)


def _load(loop: str, size: int) -> str:
    if loop == "open":
        return f"open loop, {size:,} requests/s"
    return f"closed loop, {size:,} connection{'s' if size > 1 else ''}"


def _ratio_of(run: Run, workload: str, loop: str, size: int, name: str) -> float:
    """Above 1 Headgate is better: more requests in a closed loop, lower latency in an open one."""
    if loop == "closed":
        return ratio(run, HEADGATE, name, "requests_per_s", workload, loop, size)
    return ratio(run, name, HEADGATE, "p50_ms", workload, loop, size)


def cells(run: Run, name: str, workload: str, loop: str, size: int) -> list[Cell]:
    wanted = (name, workload, loop, size)
    keys = ("server", "workload", "loop", "size")
    return [cell for cell in run.cells if tuple(cell[key] for key in keys) == wanted]


def ratio(run: Run, above: str, below: str, key: str, workload: str, loop: str, size: int) -> float:
    """Median over the rounds of one server's figure divided by the other's in the same round."""
    upper = {cell["round"]: cell[key] for cell in cells(run, above, workload, loop, size)}
    lower = {cell["round"]: cell[key] for cell in cells(run, below, workload, loop, size)}
    found = [upper[turn] / lower[turn] for turn in upper.keys() & lower.keys() if lower[turn]]
    return median(found) if found else float("nan")


def checks(run: Run) -> list[Check]:
    """The promises about Headgate beside the others."""

    def speed(below: str, limit: float) -> Check:
        value = ratio(run, HEADGATE, below, "requests_per_s", "small", "closed", 32)
        return Check(f"32 connections, requests/s by {servers.ALL[below].name}'s", value, limit)

    def delay(below: str, limit: float) -> Check:
        value = ratio(run, HEADGATE, below, "p50_ms", "small", "closed", 1)
        text = f"1 connection, p50 by {servers.ALL[below].name}'s"
        return Check(text, value, limit, at_most=True)

    return [
        speed("mosec-batching", 1.6),
        speed("mosec", 4.5),
        speed("fastapi", 5.0),
        speed("azureml", 16.0),
        speed("ray-serve", 100.0),
        speed("echo", 0.4),
        delay("fastapi", 1.2),
        delay("azureml", 0.6),
    ]


def markdown(run: Run, plots: Sequence[str] = ()) -> str:
    """The whole run as a page."""
    machine = run.machine
    lines = [
        f"# Load tests of {run.at[:10]}",
        "",
        f"{machine['processor']}, {machine['cores']} cores, {machine['memory_gib']} GiB, "
        f"Linux {machine['kernel']}, Python {machine['python']}; Headgate's scoring path "
        f"{machine['scoring_path']}; load generator on the same machine. How the servers "
        "are set up: [README](../README.md).",
        "",
    ]
    for table in tables(run):
        lines += [f"## {table.title}", "", _row(table.columns), _row(["---"] * len(table.columns))]
        lines += [*map(_row, table.rows), ""]
    for plot in plots:
        lines += [f"![{plot.rpartition('-')[2].removesuffix('.svg')}]({plot})", ""]
    if run.absent:
        lines += ["## Not measured", ""]
        lines += [f"- {name}: {_one_line(why)}" for name, why in run.absent.items()] + [""]
    if run.cells:
        lines += ["## Promises", "", *_listed(checks(run)), ""]
    for name, result in run.scenarios.items():
        lines += [f"## {name}: {result['title']}", "", *figures(result), ""]
        lines += [*_listed(Check(**check) for check in result["checks"]), ""]
    return "\n".join(lines).rstrip() + "\n"


def figures(result: dict[str, Any]) -> list[str]:
    """What a scenario measured, as a list."""
    return [f"- {text}: {_shown(value)}" for text, value in result["figures"].items()]


def _shown(value: object) -> str:
    return f"{value:,.4g}" if isinstance(value, float) else str(value)


def _listed(found: Iterable[Check]) -> list[str]:
    return [f"- {check.line()}" for check in found]


def _row(texts: Sequence[str]) -> str:
    return f"| {' | '.join(texts)} |"


def _median(found: Sequence[Cell], key: str) -> float:
    return float(median(cell[key] for cell in found))


def _is_nan(value: float) -> bool:
    return value != value


def _one_line(text: str) -> str:
    return " ".join(text.split())[:300]

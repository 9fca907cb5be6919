"""``make bench``: Headgate with all its features on beside other servers, in one run.

Without a scenario's name the servers are compared; ``python -m loadtests scenarios`` runs all of
Headgate's own scenarios, and the name of one runs that one. A run that was stopped goes on where
it was; README.md beside this file tells more.
"""

from __future__ import annotations

import argparse
import math
import signal
import sys
from collections.abc import Collection, Sequence

from rich.console import Console
from rich.table import Table

from loadtests import compare, report, results, scenarios, servers, workloads
from loadtests.closed_loop import generator
from loadtests.runs import CURRENT, Run

COMPARE, SCENARIOS, SHOW = "compare", "scenarios", "show"
QUICK_ROUNDS, ROUNDS = 3, 5
QUICK_SECONDS, SECONDS = 2.0, 4.0


def main() -> int:
    chosen = _parser().parse_args()
    # Ended as by Ctrl-C, so that what was started is ended too.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    console = Console()
    try:
        return _run(chosen, console)
    except KeyboardInterrupt:
        console.print("stopped; the same command goes on from here")
        return 130


def _run(chosen: argparse.Namespace, console: Console) -> int:
    """Do what was asked; 1 when a promise was not kept."""
    run = Run.resume(fresh=chosen.fresh)
    kept = True
    if chosen.what == COMPARE:
        if not compare.measure(run, _plan(chosen), console, chosen.time):
            console.print("there is more to measure: the same command goes on from here")
            return 0
        show(run, console)
        kept = _tell(report.checks(run), console)
    elif chosen.what == SHOW:
        show(run, console)
    else:
        names = list(scenarios.ALL) if chosen.what == SCENARIOS else [chosen.what]
        for name in names:
            if name in run.scenarios and chosen.what == SCENARIOS:
                continue
            result = scenarios.run(name, quick=chosen.quick)
            run.add_scenario(name, result)
            console.rule(f"{name}: {result['title']}")
            console.print("\n".join(report.figures(result)), markup=False, highlight=False)
            kept &= _tell([report.Check(**check) for check in result["checks"]], console)
    if chosen.save:
        for path in results.save(run, console):
            console.print(f"written: {path}", markup=False)
        CURRENT.unlink(missing_ok=True)
    return 0 if kept else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="loadtests", description=__doc__)
    parser.add_argument(
        "what",
        nargs="?",
        default=COMPARE,
        choices=(COMPARE, SHOW, SCENARIOS, *scenarios.ALL),
        help="compare servers (default), show what there is so far, or run scenarios",
    )
    names = ", ".join(servers.ALL)
    parser.add_argument("--only", default="", help=f"servers, separated by commas: {names}")
    models = ", ".join(workloads.ALL)
    parser.add_argument("--models", default="", help=f"models, separated by commas: {models}")
    parser.add_argument("--rounds", type=int, help=f"rounds over all servers ({ROUNDS})")
    parser.add_argument("--seconds", type=float, help=f"time of each load ({SECONDS:g})")
    parser.add_argument(
        "--quick", action="store_true", help=f"{QUICK_ROUNDS} rounds of {QUICK_SECONDS:g} s"
    )
    parser.add_argument("--save", action="store_true", help="write to loadtests/results")
    parser.add_argument("--fresh", action="store_true", help="forget the run under way")
    parser.add_argument(
        "--time", type=float, default=math.inf, help="stop after about so many seconds"
    )
    return parser


def _plan(chosen: argparse.Namespace) -> compare.Plan:
    names = _listed(chosen.only, servers.ALL, "server")
    models = _listed(chosen.models, workloads.ALL, "model")
    rounds = chosen.rounds or (QUICK_ROUNDS if chosen.quick else ROUNDS)
    seconds = chosen.seconds or (QUICK_SECONDS if chosen.quick else SECONDS)
    return compare.Plan(names, models, rounds, seconds)


def _listed(text: str, known: Collection[str], what: str) -> tuple[str, ...]:
    """Names of a list with commas; an empty one means all."""
    names = tuple(name for name in text.split(",") if name) or tuple(known)
    if unknown := set(names) - set(known):
        raise SystemExit(f"no such {what}: {', '.join(sorted(unknown))}")
    return names


def show(run: Run, console: Console) -> None:
    """All tables of a run, for people."""
    console.print(f"closed loop by {generator()}; Headgate x: above 1 Headgate is better")
    for table in report.tables(run):
        shown = Table(title=table.title, title_justify="left")
        for column in table.columns:
            shown.add_column(column, justify="left" if column == "server" else "right")
        for row in table.rows:
            shown.add_row(*row)
        console.print(shown)
    for name, why in run.absent.items():
        console.print(f"not measured: {name}: {why}", style="red", markup=False)


def _tell(checks: Sequence[report.Check], console: Console) -> bool:
    for check in checks:
        console.print(check.line(), style="" if check.is_kept else "red", markup=False)
    return all(check.is_kept for check in checks)


if __name__ == "__main__":
    sys.exit(main())

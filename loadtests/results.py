"""Keeps a run: JSON, a page with its tables, and plots, under its date."""

from __future__ import annotations

import subprocess
from pathlib import Path

from rich.console import Console

from loadtests import environments, report
from loadtests.processes import ServerError
from loadtests.runs import Run

RESULTS = Path(__file__).parent / "results"
_PLOTS = Path(__file__).with_name("plots.py")


def save(run: Run, console: Console) -> list[Path]:
    """Write what the run has; the files that were written. The results of a day are one page:
    what this run did not measure stays as it was."""
    stem = RESULTS / run.at[:10]
    document, page = stem.with_suffix(".json"), stem.with_suffix(".md")
    if document.exists():
        run = run.over(Run.read(document))
    run.write(document)
    plots = _draw(document, console) if run.cells else []
    page.write_text(report.markdown(run, [plot.name for plot in plots]))
    return [document, page, *plots]


def _draw(document: Path, console: Console) -> list[Path]:
    """Plots are drawn in an environment of their own; without them the figures are kept all the
    same."""
    try:
        python = environments.ensure("plots") / "python"
    except ServerError as error:
        console.print(f"no plots: {error}", style="red", markup=False)
        return []
    done = subprocess.run(
        [str(python), str(_PLOTS), str(document)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        console.print(f"no plots: {done.stderr[-400:]}", style="red", markup=False)
        return []
    return [Path(line) for line in done.stdout.splitlines()]

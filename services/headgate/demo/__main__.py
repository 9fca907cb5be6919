"""``python -m headgate.demo [--exit] [--requests N] [--data DIR]``."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from headgate.demo import story
from headgate.demo.observe import Observer
from headgate.demo.report import Report
from headgate.demo.system import DemoError, System
from headgate.demo.traffic import HeldOut, Scorer

FAILED = 1
INTERRUPTED = 130


def main() -> int:
    """The exit code: 0 when every promise was kept."""
    parser = argparse.ArgumentParser(prog="headgate-demo", description=__doc__)
    parser.add_argument("--exit", action="store_true", help="stop Headgate at the end")
    parser.add_argument("--requests", type=int, default=4_000, help="images sent in the split")
    parser.add_argument("--data", type=Path, default=Path(".demo"), help="folder, made anew")
    arguments = parser.parse_args()
    console = Console(highlight=False)
    try:
        return asyncio.run(_demonstrate(console, arguments))
    except KeyboardInterrupt:
        console.print("\nstopped")
        return INTERRUPTED


async def _demonstrate(console: Console, arguments: argparse.Namespace) -> int:
    system = System(arguments.data.absolute())
    report = Report(console)
    try:
        held_out = await story.boot(system, report, story.FOLDER / "models")
        url = await story.deploy(system, report)
        kept = await _prove(system, report, url, held_out, arguments.requests)
        if not arguments.exit:
            await _leave_up(console, system, url)
        return 0 if kept else FAILED
    except DemoError as error:
        console.print(f"[bold red]✗[/] {escape(str(error))}")
        return FAILED
    finally:
        with console.status("stopping Headgate"):
            await system.stop()


async def _prove(
    system: System, report: Report, url: str, held_out: HeldOut, requests: int
) -> bool:
    """Run every phase and give the verdict."""
    credentials = ("online-endpoint", "get-credentials", "--name", story.ENDPOINT)
    keys = json.loads((await system.cli(*credentials, "--output", "json")).output)
    ca = Path((await system.cli("ca")).output.strip())
    async with (
        Observer(system, story.ENDPOINT) as observer,
        Scorer(url, ca, held_out) as scorer,
    ):
        stage = story.Stage(system, report, requests, scorer, observer, keys["primaryKey"])
        for phase in story.PHASES:
            await phase(stage)
    report.phase("Verdict", "What was promised, and what was seen.")
    report.verdict(stage.checks)
    return all(check.kept for check in stage.checks)


async def _leave_up(console: Console, system: System, url: str) -> None:
    """Print where everything is, and wait for Ctrl-C."""
    console.print("Headgate stays up; Ctrl-C stops it.")
    console.print(f"  REST API  {system.gateway_url()}", soft_wrap=True)
    console.print(f"  scoring   {url}", soft_wrap=True)
    console.print(f"  try       headgate online-endpoint list --data {story.short(system.data)}")
    await system.wait()


if __name__ == "__main__":
    sys.exit(main())

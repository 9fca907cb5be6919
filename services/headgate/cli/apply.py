"""``headgate apply``: make the resources what their YAML files say, and nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from typer import Option

from headgate.cli import options
from headgate.cli.session import Session, client_command

PLAN_COLUMNS = ("action", "kind", "name", "fields", "file")


def register(app: typer.Typer) -> None:
    """Adds the command to the root."""
    client_command(app, "apply")(apply)


async def apply(
    session: Session,
    file: Annotated[
        Path, Option("--file", "-f", help="YAML file, or a folder whose files name their $schema.")
    ],
    dry_run: Annotated[
        bool, Option("--dry-run", help="Show what would be done, and do nothing.")
    ] = False,
    allow_outside: options.AllowOutside = False,
) -> None:
    """Make things what their YAML files say. Endpoints, deployments, models and environments.

    Everything is read and compared first. Exit code 0: it is so now, whether or not something
    had to be done. 2: refused before or while something was begun. 1: begun, and it failed; what
    served before goes on serving.
    """
    from headgate.cli.apply_files import read_all
    from headgate.cli.apply_plan import Planner
    from headgate.cli.apply_steps import carry_out, refusing

    wanted = read_all(file, allow_outside=allow_outside)
    async with session.client() as client:
        with refusing():
            steps = await Planner(client, wanted).plan()
        if not dry_run:
            await carry_out(session, client, steps)
    session.show([step.described() for step in steps], PLAN_COLUMNS)

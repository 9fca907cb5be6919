"""``headgate azure-env``: what programs with Azure's libraries need in their environment."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer
from typer import Option

from headgate.cli.session import Session, client_command


class Shell(StrEnum):
    """Whose syntax the lines have."""

    BASH = "bash"
    POWERSHELL = "powershell"


def register(app: typer.Typer) -> None:
    """Adds the command to the root."""
    client_command(app, "azure-env")(azure_env)


async def azure_env(
    session: Session,
    shell: Annotated[Shell, Option("--shell", help="Whose syntax the lines have.")] = Shell.BASH,
    subscription: Annotated[
        str, Option("--subscription", help="Subscription to name; any will do.")
    ] = "",
    resource_group: Annotated[
        str, Option("--resource-group", "-g", help="Resource group to name; any will do.")
    ] = "",
) -> None:
    """Print variables for programs that use azure-ai-ml. In a shell: eval "$(headgate azure-env)".

    One of them is the token that this command line uses itself. --output json prints a document.
    """
    from headgate.azure import env
    from headgate.cli.output import write

    found = env.variables(
        session.target(),
        session.data,
        subscription=subscription,
        resource_group=resource_group,
    )
    if session.form is not None or session.query:
        session.show(found)
    else:
        write(env.for_bash(found) if shell is Shell.BASH else env.for_powershell(found))

"""``headgate token``: access tokens for people and programs."""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Annotated

import typer
from typer import Argument, Option

from headgate.cli import errors, options
from headgate.cli.session import Session, client_command, confirm

app = typer.Typer(no_args_is_help=True, help="Access tokens: create, list, revoke.")

COLUMNS = ("id", "name", "grants", "created_by", "expires_at", "revoked_at")
_AGE = re.compile(r"(\d{1,5})([mhd])\Z", re.ASCII)


class RoleChoice(StrEnum):
    READER = "reader"
    OPERATOR = "operator"
    OWNER = "owner"
    ADMIN = "admin"


@client_command(app, "create")
async def create(
    session: Session,
    name: Annotated[str, Argument(help="Name of the token, such as ci or alice-laptop.")],
    role: Annotated[RoleChoice, Option("--role", help="What the token may do.")],
    workspace: Annotated[
        list[str] | None,
        Option(
            "--workspace",
            "-w",
            envvar="HEADGATE_WORKSPACE",
            help="Where; several are possible, * is everywhere. Default: that of the login.",
        ),
    ] = None,
    expires: Annotated[
        str, Option("--expires", help="Life of the token: 30d, 12h, 90m. Default: 90 days.")
    ] = "",
) -> None:
    """Create a token. It is printed once and kept nowhere."""
    from headgate.cli import shapes
    from headgate.client.access import Access

    lifetime = _duration(expires)
    async with session.client() as client:
        places = workspace or [client.context.workspace]
        grants = [f"{place}/{role.value}" for place in places]
        made = await Access(client).create_token(name, grants, lifetime)
    errors.say("this is the only time that the token is shown")
    session.show(shapes.token(made))


def _duration(age: str) -> str:
    """``30d`` as ISO 8601 writes it."""
    if not age:
        return ""
    match = _AGE.match(age)
    if match is None:
        raise errors.UsageError(f"--expires {age!r}: write a number and m, h or d, such as 30d")
    return f"P{match[1]}D" if match[2] == "d" else f"PT{match[1]}{match[2].upper()}"


@client_command(app, "list")
async def list_all(session: Session) -> None:
    """List the tokens of the workspaces that you own."""
    from headgate.cli import shapes
    from headgate.client.access import Access

    async with session.client() as client:
        found = await Access(client).list_tokens()
    session.show([shapes.token(each) for each in found], COLUMNS)


@client_command(app, "revoke")
async def revoke(
    session: Session,
    token_id: Annotated[str, Argument(help="Id of the token, as 'headgate token list' shows it.")],
    yes: options.Yes = False,
) -> None:
    """Revoke a token. So is all that was made with it, within seconds."""
    from headgate.client.access import Access

    confirm(f"Revoke the token {token_id!r}?", yes=yes)
    async with session.client() as client:
        await Access(client).revoke_token(token_id)


@client_command(app, "rotate-signing-key")
async def rotate_signing_key(
    session: Session,
    drop_old: Annotated[
        bool, Option("--drop-old", help="End every token there is, your own included.")
    ] = False,
    yes: options.Yes = False,
) -> None:
    """Sign with a new key from now on. Every 30 days this happens by itself."""
    from headgate.client.access import Access

    confirm("End every token that was ever given out?" if drop_old else "Make a new key?", yes=yes)
    async with session.client() as client:
        await Access(client).rotate_signing_key(drop_old=drop_old)

"""``headgate login``, ``logout``, ``whoami``: who the command line is, and to whom it speaks."""

from __future__ import annotations

import getpass
import sys

import typer

from headgate.cli import errors
from headgate.cli.session import Session, client_command


def register(app: typer.Typer) -> None:
    """Adds the commands to the root."""
    client_command(app, "login")(login)
    app.command("logout")(logout)
    client_command(app, "whoami")(whoami)


async def login(session: Session) -> None:
    """Check a token and keep it for later commands.

    The token comes from --token-file or HEADGATE_TOKEN; otherwise you are asked for it.
    """
    import dataclasses

    from headgate.cli import shapes
    from headgate.client import Client, logins
    from headgate.client.access import Access

    target = session.target(require_token=False, use_login=False)
    token = session.token() or _ask_for_token(target.url)
    if not token:
        raise errors.UsageError("no token was given; 'headgate token create' makes one")
    target = dataclasses.replace(target, token=token)
    async with Client(target) as client:
        who = await Access(client).whoami()
    workspace = workspace_of(who["grants"], session.workspace)
    path = logins.save(logins.Login(target.url, token, target.ca, workspace))
    errors.say(f"logged in to {target.url}, workspace {workspace}; kept in {path}")
    session.show(shapes.principal(who))


def workspace_of(grants: list[str], asked: str) -> str:
    """The workspace of a login: the one asked for, else the usual one, else one with a role.

    Raises CommandFailedError where the token has none: every command would find nothing there.
    """
    from headgate.client.logins import DEFAULT_WORKSPACE

    places = [grant.partition("/")[0] for grant in grants]
    wanted = asked or DEFAULT_WORKSPACE
    if wanted in places or "*" in places:
        return wanted
    if places and not asked:
        return places[0]
    raise errors.CommandFailedError(
        f"the token has no role in the workspace {wanted!r}, but {', '.join(grants) or 'none'}; "
        "name another workspace with --workspace, or have a token made with a role in this one",
        errors.AUTH,
    )


def _ask_for_token(url: str) -> str:
    if not sys.stdin.isatty():
        raise errors.UsageError(
            "name a file with --token-file or set HEADGATE_TOKEN: there is no terminal to ask on"
        )
    return getpass.getpass(f"Token for {url}: ", sys.stderr).strip()


def logout() -> None:
    """Forget the login. The token itself goes on counting: see 'headgate token revoke'."""
    from headgate.client import logins

    errors.say("logged out" if logins.forget() else "there was no login")


async def whoami(session: Session) -> None:
    """Show who the token speaks for, and with which roles."""
    from headgate.cli import shapes
    from headgate.client.access import Access

    async with session.client() as client:
        session.show(shapes.principal(await Access(client).whoami()))

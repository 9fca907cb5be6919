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
    """Check a token and keep it, with the address, for the commands to come.

    The token comes from --token-file or HEADGATE_TOKEN; otherwise you are asked for it.
    """
    import dataclasses

    from headgate.cli import shapes
    from headgate.client import Client, logins
    from headgate.client.access import Access

    target = session.target(require_token=False, use_login=False)
    token = session.token() or _ask_for_token(target.url)
    target = dataclasses.replace(target, token=token)
    async with Client(target) as client:
        who = await Access(client).whoami()
    path = logins.save(logins.Login(target.url, token, target.ca, target.workspace))
    errors.say(f"logged in to {target.url}; kept in {path}")
    session.show(shapes.principal(who))


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

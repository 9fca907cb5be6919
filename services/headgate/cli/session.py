"""What every client command has: a Headgate to talk to, a form of output, an end with a code."""

from __future__ import annotations

import inspect
import os
import sys
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from headgate.cli import errors, options, output

if TYPE_CHECKING:
    from headgate.client import Client, Target

DEFAULT_DATA = Path("~/.headgate")
AsyncCommand = Callable[..., Coroutine[Any, Any, None]]


@dataclass(slots=True)
class Session:
    """One run of one command."""

    data: Path | None
    url: str
    ca: Path | None
    token_file: Path | None
    workspace: str
    form: options.Format | None
    query: str
    waiting_for: str = ""
    """Id of the operation that is being waited for; told when the wait is broken off."""

    @property
    def data_folder(self) -> Path:
        """The data folder that was given, or the usual one."""
        return (self.data or DEFAULT_DATA).expanduser()

    def target(self, *, require_token: bool = True, use_login: bool = True) -> Target:
        """The Headgate that this command talks to."""
        from headgate.client import find_target
        from headgate.runtime.settings import client_token

        return find_target(
            self.data,
            url=self.url,
            ca=self.ca,
            token=client_token(),
            token_file=self.token_file,
            workspace=self.workspace,
            require_token=require_token,
            use_login=use_login,
        )

    def token(self) -> str:
        """The token that was given for this command; empty: none."""
        from headgate.client.logins import read_token
        from headgate.runtime.settings import client_token

        return client_token() or (read_token(self.token_file) if self.token_file else "")

    def client(self) -> Client:
        """A client, to be entered with ``async with``."""
        from headgate.client import Client

        return Client(self.target())

    @property
    def is_table(self) -> bool:
        """Whether the whole result is for people: it may be told in other words than JSON has."""
        return output.form_of(self.form) is options.Format.TABLE and not self.query

    def show(self, document: Any, columns: output.Columns = ()) -> None:
        """The result of the command, on stdout."""
        output.show(document, self.form, self.query, columns)


def client_command(app: typer.Typer, name: str) -> Callable[[AsyncCommand], AsyncCommand]:
    """Registers ``async def command(session, ...)``: adds the options that make a session, runs
    it, and turns failures into messages and exit codes."""

    def register(command: AsyncCommand) -> AsyncCommand:
        own = list(inspect.signature(command, eval_str=True).parameters.values())[1:]
        # A command may have its own idea of an option that all have, such as several workspaces.
        common = [
            parameter
            for name, parameter in inspect.signature(_session, eval_str=True).parameters.items()
            if name not in {each.name for each in own}
        ]
        names = [parameter.name for parameter in common]

        def wrapper(**values: Any) -> None:
            session = _session(**{key: values.pop(key) for key in names})
            raise typer.Exit(_run(session, command(session, **values)))

        parameters = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in (*own, *common)]
        wrapper.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined] # read by typer
        wrapper.__annotations__ = {p.name: p.annotation for p in parameters}
        wrapper.__doc__ = command.__doc__
        app.command(name)(wrapper)
        return command

    return register


def _session(
    data: options.AnyData = None,
    url: options.Url = "",
    ca: options.Ca = None,
    token_file: options.TokenFile = None,
    workspace: options.Workspace = "",
    output: options.Output = None,
    query: options.Query = "",
) -> Session:
    return Session(data, url, ca, token_file, workspace, output, query)


def _run(session: Session, work: Coroutine[Any, Any, None]) -> int:
    import asyncio

    try:
        asyncio.run(work)
    except KeyboardInterrupt:
        if session.waiting_for:
            errors.say(
                f"interrupted; the operation {session.waiting_for} goes on. Look with 'show'."
            )
        return errors.INTERRUPTED
    except BrokenPipeError:
        abandon_stdout()
    except Exception as error:
        return errors.report(error)
    return errors.OK


def abandon_stdout() -> None:
    """The reader of stdout has gone: nothing more is written, not even at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def confirm(question: str, *, yes: bool) -> None:
    """Asks on a terminal; without one, only ``--yes`` agrees."""
    if yes:
        return
    if not sys.stdin.isatty():
        raise errors.UsageError(f"{question} Say --yes: there is no terminal to ask on.")
    if not typer.confirm(question, err=True):
        raise errors.CommandFailedError("nothing was done")

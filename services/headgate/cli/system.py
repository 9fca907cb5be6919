"""``headgate up``, ``run``, ``status`` and ``ca``: the system itself."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from typer import Argument, Option

from headgate.cli import options
from headgate.cli.session import DEFAULT_DATA, Session, client_command

PARTS = ("registry", "identity", "provisioner", "autoscaler", "gateway", "router")

Config = Annotated[
    Path | None, Option("--config", help="Settings file; default: headgate.yaml in --data.")
]
DataFolder = Annotated[
    Path | None, Option("--data", help="Folder that holds everything; default: ~/.headgate.")
]
Http = Annotated[bool | None, Option("--http", help="Plain HTTP instead of TLS; only on loopback.")]
Host = Annotated[str | None, Option("--host", help="Address to listen on.")]
Port = Annotated[int | None, Option("--port", help="Gateway port; 0 picks a free one.")]
ScoringPort = Annotated[
    int | None, Option("--scoring-port", help="Scoring port; 0 picks a free one.")
]
Nats = Annotated[str | None, Option("--nats", help="URL of the bus.")]
LogLevel = Annotated[str | None, Option("--log-level", help="DEBUG, INFO, WARNING or ERROR.")]


def register(app: typer.Typer) -> None:
    """Adds the commands to the root."""
    app.command("up")(up)
    app.command("run")(run)
    app.command("ca")(ca)
    client_command(app, "status")(status)
    client_command(app, "studio")(studio)


def up(
    data: DataFolder = None,
    port: Port = None,
    scoring_port: ScoringPort = None,
    http: Http = None,
    host: Host = None,
    log_level: LogLevel = None,
    config: Config = None,
) -> None:
    """Run everything on this machine until Ctrl-C."""
    given = {
        "data": data, "port": port, "scoring_port": scoring_port, "http": http, "host": host,
        "log_level": log_level.upper() if log_level else None,
    }  # fmt: skip
    _serve("up", given, config)


def run(
    service: Annotated[
        str,
        Argument(
            help="control, bootstrap, or one of registry, identity, provisioner, gateway, router."
        ),
    ],
    data: DataFolder = None,
    nats: Nats = None,
    port: Port = None,
    scoring_port: ScoringPort = None,
    http: Http = None,
    host: Host = None,
    log_level: LogLevel = None,
    config: Config = None,
) -> None:
    """Run one service on an existing bus."""
    given = {
        "data": data, "nats": nats, "port": port, "scoring_port": scoring_port, "http": http,
        "host": host, "log_level": log_level.upper() if log_level else None,
    }  # fmt: skip
    _serve(service, given, config)


def _serve(what: str, given: dict[str, Any], config: Path | None) -> None:
    from headgate.cli.errors import report
    from headgate.runtime import settings
    from headgate_contracts.errors import HeadgateError

    try:
        loaded = settings.load(given, config=config)
        if what == "up":
            from headgate.up import up as serve

            code = serve(loaded)
        else:
            from headgate.assembly import run as serve_one

            code = serve_one(what, loaded)
    except HeadgateError as error:
        code = report(error)
    raise typer.Exit(code)


def ca(data: options.Data = DEFAULT_DATA) -> None:
    """Print the path of the local CA. For curl: --cacert "$(headgate ca)"."""
    from headgate.cli.errors import FAILED, say
    from headgate.cli.output import write

    path = data.expanduser().absolute() / "tls" / "ca.pem"
    if not path.is_file():
        say(
            f"error: {path} does not exist; it is made when 'headgate up' starts for the first time"
        )
        raise typer.Exit(FAILED)
    write(f"{path}\n")


async def studio(session: Session) -> None:
    """Print a link to the studio that signs in once."""
    from headgate.cli.output import write
    from headgate.client.target import read_running
    from headgate.up import studio_link
    from headgate_contracts.errors import ErrorCode, HeadgateError

    running = read_running(session.data_folder)
    if "studio" not in running:
        raise HeadgateError(
            ErrorCode.UNAVAILABLE,
            "this Headgate serves no studio: pip install 'headgate[portal]', and start it again",
        )
    write(studio_link(running, session.data_folder / "run") + "\n")


async def status(session: Session) -> None:
    """Show the services of a running Headgate. Ends with 1 when a part is missing."""
    from headgate.cli.errors import CommandFailedError
    from headgate.cli.observed import renamed

    async with session.client() as client:
        document = renamed(await client.status())
    session.show(document)
    running = {each["name"].removeprefix("headgate-") for each in document["services"]}
    if missing := [name for name in PARTS if name not in running]:
        raise CommandFailedError(f"not all is up; no answer from: {', '.join(missing)}")

"""Options that several commands share, with ``az``'s names and letters."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

from typer import Option


class Format(StrEnum):
    """How a command prints its result."""

    JSON = "json"
    YAML = "yaml"
    TABLE = "table"
    TSV = "tsv"
    CSV = "csv"


# --- on every command that talks to a Headgate ---
Data = Annotated[
    Path, Option("--data", envvar="HEADGATE_DATA", help="Data folder of the local Headgate.")
]
AnyData = Annotated[
    Path | None,
    Option(
        "--data",
        envvar="HEADGATE_DATA",
        help="Data folder of a local Headgate. Default: the login, else ~/.headgate.",
        show_default=False,
    ),
]
Url = Annotated[
    str, Option("--url", envvar="HEADGATE_URL", help="Address of another Headgate's gateway.")
]
Ca = Annotated[
    Path | None,
    Option("--ca", envvar="HEADGATE_CA", help="CA file to trust. Local ones are known."),
]
TokenFile = Annotated[
    Path | None,
    Option(
        "--token-file",
        envvar="HEADGATE_TOKEN_FILE",
        help="File (mode 0600) with the token; or set HEADGATE_TOKEN. Local ones are known.",
    ),
]
Workspace = Annotated[
    str,
    Option(
        "--workspace",
        "-w",
        envvar="HEADGATE_WORKSPACE",
        help="Workspace. Default: that of the login, else local.",
        show_default=False,
    ),
]
Output = Annotated[
    Format | None,
    Option(
        "--output", "-o", help="Default: table on a terminal, JSON into a pipe.", show_default=False
    ),
]
Query = Annotated[
    str, Option("--query", help="Print only this field, such as tags.team or [0].name.")
]

# --- naming things ---
EndpointName = Annotated[str, Option("--name", "-n", help="Name of the endpoint.")]
DeploymentName = Annotated[str, Option("--name", "-n", help="Name of the deployment.")]
OfEndpoint = Annotated[
    str, Option("--endpoint-name", "--endpoint", "-e", help="Name of the endpoint.")
]
AssetName = Annotated[str, Option("--name", "-n", help="Name.")]
AssetVersion = Annotated[str, Option("--version", "-v", help="Version.")]

# --- what to create, what to change ---
File = Annotated[Path | None, Option("--file", "-f", help="YAML file, as Azure ML has it.")]
Set = Annotated[
    list[str] | None,
    Option("--set", metavar="PATH=VALUE", help="Set a field: --set tags.team=vision."),
]
Add = Annotated[
    list[str] | None,
    Option("--add", metavar="PATH VALUE", help="Add to a list, or key=value to a mapping."),
]
Remove = Annotated[
    list[str] | None,
    Option("--remove", metavar="PATH", help="Remove a field, or an item: list[0]."),
]
ForceString = Annotated[
    bool, Option("--force-string", help="Take values of --set and --add as text.")
]
AllowOutside = Annotated[
    bool,
    Option(
        "--allow-outside", help="Let the file name paths outside its folder and the current one."
    ),
]
Local = Annotated[
    bool, Option("--local", help="On this machine alone, as one process, without any service.")
]
NoWait = Annotated[bool, Option("--no-wait", help="Do not wait for the operation to end.")]
Yes = Annotated[bool, Option("--yes", "-y", help="Do not ask.")]

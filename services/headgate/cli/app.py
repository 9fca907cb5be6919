"""The command tree. Importing this module costs typer and nothing else."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from headgate import __version__
from headgate.cli import (
    access,
    alert,
    apply,
    assets,
    autoscale,
    azure_env,
    batch_deployment,
    batch_endpoint,
    compute,
    costs,
    data,
    datastore,
    events,
    identity,
    instance_type,
    job,
    logs,
    metrics,
    online_deployment,
    online_endpoint,
    quota,
    sla,
    system,
    tokens,
    top,
    trace,
    workspace,
)

SPREAD = (
    *("--set", "--add", "--remove", "--traffic", "-r", "--mirror-traffic"),
    *("--scale", "--recurrence", "--index"),
)

_KINDS = {"int_parsing": "whole number", "float_parsing": "number"}


class Root(TyperGroup):
    """The root command, which words bad values of options as Headgate does, not as pydantic."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except typer.BadParameter as error:
            error.message = _worded(error)
            raise


def _worded(error: typer.BadParameter) -> str:
    """What is wrong with the value, and the value itself."""
    find = getattr(error.__cause__, "errors", None)
    if find is None:  # none of pydantic's
        return error.message
    found: dict[str, Any] = find()[0]
    kind, value = str(found["type"]), repr(found["input"])
    if kind.endswith("_parsing"):
        return f"{value} is no {_KINDS.get(kind, kind.removesuffix('_parsing'))}"
    return str(found["msg"]).removeprefix("Value error, ").replace("Input", value, 1)


app = typer.Typer(
    name="headgate",
    cls=Root,
    help="Online endpoints for machine learning models, on your own machines.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
app.add_typer(online_endpoint.app, name="online-endpoint")
app.add_typer(online_deployment.app, name="online-deployment")
app.add_typer(batch_endpoint.app, name="batch-endpoint")
app.add_typer(batch_deployment.app, name="batch-deployment")
app.add_typer(job.app, name="job")
app.add_typer(assets.models, name="model")
app.add_typer(assets.environments, name="environment")
app.add_typer(data.app, name="data")
app.add_typer(datastore.app, name="datastore")
app.add_typer(compute.app, name="compute")
app.add_typer(instance_type.app, name="instance-type")
app.add_typer(workspace.app, name="workspace")
app.add_typer(autoscale.app, name="autoscale")
app.add_typer(events.app, name="events")
app.add_typer(logs.app, name="logs")
app.add_typer(metrics.app, name="metrics")
costs.register(app)
app.add_typer(costs.budgets, name="budget")
app.add_typer(quota.app, name="quota")
app.add_typer(sla.app, name="sla")
app.add_typer(alert.app, name="alert")
system.register(app)
apply.register(app)
trace.register(app)
top.register(app)
azure_env.register(app)
access.register(app)
app.add_typer(tokens.app, name="token")
app.add_typer(identity.app, name="identity")


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


def run(arguments: list[str]) -> int:
    """Runs one command line; the exit code."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    try:
        app(spread(arguments), prog_name="headgate")
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else 1
    return 0


def spread(arguments: list[str]) -> list[str]:
    """Options that take several values in ``az``, as options that are given several times.

    ``--set a=1 b=2`` becomes ``--set a=1 --set b=2``; ``--remove list 0`` becomes
    ``--remove list[0]``; ``--add list x y`` becomes ``--add list=x --add list=y``.
    """
    result: list[str] = []
    option, path, is_first = "", "", False
    for argument in arguments:
        if argument.startswith("-"):
            option, is_first = argument, True
            result.append(argument)
        elif option == "--add" and is_first and "=" not in argument:
            path, is_first = argument, False
            result.pop()
        elif option == "--add" and path:
            result += [option, f"{path}={argument}"]
        elif option == "--remove" and not is_first and argument.isdecimal():
            result[-1] = f"{result[-1]}[{argument}]"
        else:
            result += [argument] if is_first or option not in SPREAD else [option, argument]
            is_first, path = False, ""
    return result

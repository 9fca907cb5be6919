"""``headgate model`` and ``headgate environment``: versions that deployments refer to."""

from __future__ import annotations

from typing import Annotated

import typer
from typer import Option

from headgate.cli import options
from headgate.cli.session import Session, client_command

models = typer.Typer(no_args_is_help=True, help="Models: register, list, show.")
environments = typer.Typer(no_args_is_help=True, help="Environments: register, list, show.")

NAME_COLUMNS = ("name", "latest_version", "description", "tags")
MODEL_COLUMNS = ("name", "version", "type", "path", "description")
ENVIRONMENT_COLUMNS = ("name", "version", "image", "description")

Label = Annotated[str, Option("--label", "-l", help="Label instead of a version: latest.")]
OptionalVersion = Annotated[
    str, Option("--version", "-v", help="Version; the newest when it is not given.")
]


@client_command(models, "create")
async def create_model(
    session: Session,
    file: options.File = None,
    name: options.AssetName = "",
    version: options.AssetVersion = "",
    path: Annotated[str, Option("--path", "-p", help="File or folder of the model.")] = "",
    type: Annotated[
        str, Option("--type", "-t", help="custom_model, mlflow_model or triton_model.")
    ] = "",
    description: Annotated[str, Option("--description", help="What it is.")] = "",
    set: options.Set = None,
    allow_outside: options.AllowOutside = False,
) -> None:
    """Upload and register a model version. Versions never change once they exist."""
    from headgate.cli import shapes
    from headgate.cli.documents import Asked, tell_warnings
    from headgate.cli.progress import upload_bar
    from headgate.client.assets import register_model

    fields = {
        "name": name, "version": version, "path": path, "type": type, "description": description,
    }  # fmt: skip
    document = Asked(file, fields, set or (), allow_outside=allow_outside).document()
    local = document.model()
    tell_warnings(document)
    async with session.client() as client:
        session.show(shapes.model(await register_model(client, local, upload_bar)))


@client_command(models, "list")
async def list_models(session: Session, name: options.AssetName = "") -> None:
    """List models, or the versions of one."""
    from headgate.cli import shapes

    async with session.client() as client:
        if name:
            rows = [shapes.model(found) for found in await client.list_models(name)]
            session.show(rows, MODEL_COLUMNS)
        else:
            found = await client.list_containers("models")
            session.show([shapes.container(body) for body in found], NAME_COLUMNS)


@client_command(models, "show")
async def show_model(
    session: Session,
    name: options.AssetName,
    version: OptionalVersion = "",
    label: Label = "latest",
) -> None:
    """Show one version of a model."""
    from headgate.cli import shapes

    async with session.client() as client:
        session.show(shapes.model(await client.get_model(name, version or f"@{label}")))


@client_command(environments, "create")
async def create_environment(
    session: Session,
    file: options.File = None,
    name: options.AssetName = "",
    version: options.AssetVersion = "",
    conda_file: Annotated[str, Option("--conda-file", "-c", help="conda file.")] = "",
    image: Annotated[str, Option("--image", "-i", help="Container image.")] = "",
    description: Annotated[str, Option("--description", help="What it is.")] = "",
    set: options.Set = None,
    allow_outside: options.AllowOutside = False,
) -> None:
    """Register an environment version. Versions never change once they exist."""
    from headgate.cli import shapes
    from headgate.cli.documents import Asked, tell_warnings
    from headgate.cli.progress import upload_bar
    from headgate.client.assets import register_environment

    fields = {
        "name": name, "version": version, "conda_file": conda_file, "image": image,
        "description": description,
    }  # fmt: skip
    document = Asked(file, fields, set or (), allow_outside=allow_outside).document()
    local = document.environment()
    tell_warnings(document)
    async with session.client() as client:
        session.show(shapes.environment(await register_environment(client, local, upload_bar)))


@client_command(environments, "list")
async def list_environments(session: Session, name: options.AssetName = "") -> None:
    """List environments, or the versions of one."""
    from headgate.cli import shapes

    async with session.client() as client:
        if name:
            rows = [shapes.environment(found) for found in await client.list_environments(name)]
            session.show(rows, ENVIRONMENT_COLUMNS)
        else:
            found = await client.list_containers("environments")
            session.show([shapes.container(body) for body in found], NAME_COLUMNS)


@client_command(environments, "show")
async def show_environment(
    session: Session,
    name: options.AssetName,
    version: OptionalVersion = "",
    label: Label = "latest",
) -> None:
    """Show one version of an environment."""
    from headgate.cli import shapes

    async with session.client() as client:
        found = await client.get_environment(name, version or f"@{label}")
        session.show(shapes.environment(found))

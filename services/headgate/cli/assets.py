"""``headgate model`` and ``headgate environment``: versions that deployments refer to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer
from typer import Option

from headgate.cli import options
from headgate.cli.errors import tell_removal
from headgate.cli.session import Session, client_command, confirm

if TYPE_CHECKING:
    from collections.abc import Sequence

    from headgate_contracts.assets import AssetKind

models = typer.Typer(no_args_is_help=True, help="Models: register, list, show, archive, delete.")
environments = typer.Typer(
    no_args_is_help=True, help="Environments: register, list, refresh, archive, delete."
)

NAME_COLUMNS = ("name", "latest_version", "description", "tags")
MODEL_COLUMNS = ("name", "version", "type", "path", "description")
ENVIRONMENT_COLUMNS = ("name", "version", "image", "description")

Label = Annotated[str, Option("--label", "-l", help="Label instead of a version: latest.")]
ArchivedOnly = Annotated[bool, Option("--archived-only", help="Only what is archived.")]
IncludeArchived = Annotated[
    bool, Option("--include-archived", help="What is archived as well as what is not.")
]
Version = Annotated[str, Option("--version", "-v", help="Version; all when it is not given.")]
NoLabel = Annotated[str, Option("--label", "-l", help="Label instead of a version: latest.")]
OptionalVersion = Annotated[
    str, Option("--version", "-v", help="Version; the newest when it is not given.")
]


def add_list(app: typer.Typer, kind: AssetKind, words: str, columns: Sequence[str]) -> None:
    """The command that lists names, or the versions of one, is the same for every kind."""

    async def list_all(
        session: Session,
        name: options.AssetName = "",
        archived_only: ArchivedOnly = False,
        include_archived: IncludeArchived = False,
    ) -> None:
        from headgate.cli import shapes
        from headgate.client.storage import Storage, read_view

        view = read_view(archived_only=archived_only, include_archived=include_archived)
        async with session.client() as client:
            storage = Storage(client)
            if not name:
                rows = await storage.containers(kind, view)
                session.show([shapes.container(body) for body in rows], NAME_COLUMNS)
            elif kind == "models":
                models = await storage.models(name, view)
                session.show([shapes.model(each) for each in models], columns)
            elif kind == "environments":
                environments = await storage.environments(name, view)
                session.show([shapes.environment(each) for each in environments], columns)
            else:
                data = await storage.data(name, view)
                session.show([shapes.data(each) for each in data], columns)

    list_all.__doc__ = f"List {words}, or the versions of one."
    client_command(app, "list")(list_all)


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


add_list(models, "models", "models", MODEL_COLUMNS)


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


@client_command(environments, "refresh")
async def refresh_environments(
    session: Session,
    name: Annotated[str, Option("--name", "-n", help="Environment; all when not given.")] = "",
    version: Version = "",
    dry_run: Annotated[
        bool, Option("--dry-run", help="Tell what has changed, and change nothing.")
    ] = False,
    no_wait: options.NoWait = False,
) -> None:
    """Look for newer images and packages. Deployments that use them are rolled.

    New instances are ready before old ones go; a deployment that cannot start on the new
    environment goes on as before.
    """
    from headgate.cli.refreshing import refresh

    await refresh(session, name, version, dry_run=dry_run, no_wait=no_wait)


add_list(environments, "environments", "environments", ENVIRONMENT_COLUMNS)


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


def add_lifecycle(app: typer.Typer, kind: AssetKind, word: str) -> None:
    """The commands that hide, show and delete versions are the same for every kind."""

    async def archive(
        session: Session, name: options.AssetName, version: Version = "", label: NoLabel = ""
    ) -> None:
        await _archive(session, kind, name, version, label, is_archived=True)

    async def restore(
        session: Session, name: options.AssetName, version: Version = "", label: NoLabel = ""
    ) -> None:
        await _archive(session, kind, name, version, label, is_archived=False)

    async def delete(
        session: Session, name: options.AssetName, version: Version = "", yes: options.Yes = False
    ) -> None:
        from headgate.client.storage import Storage

        what = f"{word} {name!r}"
        of = f"version {version} of the " if version else "the "
        confirm(f"Delete {of}{what}?", yes=yes)
        async with session.client() as client:
            existed = await Storage(client).delete_asset(kind, name, version)
        tell_removal(existed, f"version {version} of the {what}" if version else what)

    archive.__doc__ = "Hide a version, or all of them, from lists. What is hidden stays usable."
    restore.__doc__ = "Show an archived version, or all of them, in lists again."
    delete.__doc__ = "Delete a version, or all of them. What a deployment uses stays."
    for command in (archive, restore, delete):
        client_command(app, command.__name__)(command)


async def _archive(
    session: Session, kind: AssetKind, name: str, version: str, label: str, *, is_archived: bool
) -> None:
    from headgate.cli.errors import UsageError
    from headgate.client.storage import Storage

    if version and label:
        raise UsageError("--version and --label exclude each other")
    async with session.client() as client:
        storage = Storage(client)
        if label:
            version = await storage.labelled_version(kind, name, label)
        await storage.archive(kind, name, version, is_archived=is_archived)


add_lifecycle(models, "models", "model")
add_lifecycle(environments, "environments", "environment")

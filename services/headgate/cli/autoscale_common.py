"""What the commands of ``headgate autoscale`` share: options, and one setting found and stored."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from typer import Option

from headgate.cli.errors import UsageError
from headgate.cli.session import Session

if TYPE_CHECKING:
    from collections.abc import Callable

    from headgate.client import Client, Found
    from headgate_contracts.autoscale import AutoscaleSpec

OfDeployment = Annotated[
    str, Option("--deployment-name", "--deployment", "-d", help="Name of the deployment.")
]
Setting = Annotated[
    str,
    Option("--autoscale-name", "--name", "-n", help="Name of the setting. Default: <e>-<d>."),
]
Least = Annotated[int | None, Option("--min-count", help="Instances at least.")]
Most = Annotated[int | None, Option("--max-count", help="Instances at most.")]
Count = Annotated[int | None, Option("--count", help="Instances without metrics; alone: always.")]
ProfileName = Annotated[str, Option("--profile-name", "-p", help="Name of the profile.")]


async def find(client: Client, name: str, endpoint: str, deployment: str) -> Found[AutoscaleSpec]:
    """The setting that is meant."""
    from headgate.client.autoscale import Autoscale

    if name:
        return await Autoscale(client).get(name)
    if not (endpoint and deployment):
        raise UsageError("say which: --name, or --endpoint and --deployment")
    return await Autoscale(client).of(endpoint, deployment)


async def read(session: Session, name: str, endpoint: str, deployment: str) -> AutoscaleSpec:
    """What the setting says that is meant."""
    async with session.client() as client:
        return (await find(client, name, endpoint, deployment)).spec


async def change(
    session: Session,
    name: str,
    endpoint: str,
    deployment: str,
    changed: Callable[[AutoscaleSpec], AutoscaleSpec],
) -> None:
    """Store the setting that is meant as it is after a change, and show it."""
    async with session.client() as client:
        found = await find(client, name, endpoint, deployment)
        await store(session, client, changed(found.spec), found.etag)


async def store(session: Session, client: Client, spec: AutoscaleSpec, etag: str) -> None:
    """Store a setting and show it."""
    from headgate.client.autoscale import Autoscale

    show_setting(session, await Autoscale(client).put(spec, etag))


def show_setting(session: Session, found: Found[AutoscaleSpec]) -> None:
    """A setting on stdout: for people in the words of the flags."""
    from headgate.cli import autoscale_words as words

    session.show(words.fields(found.spec) if session.is_table else shown(found))


def shown(found: Found[AutoscaleSpec]) -> dict[str, Any]:
    """A setting as it is printed."""
    document: dict[str, Any] = found.spec.model_dump(mode="json", exclude_none=True)
    return document

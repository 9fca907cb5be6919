"""``headgate autoscale``: settings, their rules and profiles, history, simulation."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from typer import Option

from headgate.cli import options
from headgate.cli.autoscale_common import (
    Count,
    Least,
    Most,
    OfDeployment,
    Setting,
    change,
    find,
    show_setting,
    shown,
    store,
)
from headgate.cli.autoscale_rules import profiles, rules
from headgate.cli.errors import UsageError, tell_removal
from headgate.cli.session import Session, client_command, confirm

if TYPE_CHECKING:
    from headgate_contracts.autoscale import AutoscaleSpec

app = typer.Typer(no_args_is_help=True, help="Change the number of instances by rule and schedule.")
app.add_typer(rules, name="rule")
app.add_typer(profiles, name="profile")

COLUMNS = ("name", "endpoint", "deployment", "enabled", "profiles")
HISTORY = {
    "timestamp": "time",
    "deployment": "deployment",
    "action": "action",
    "from_count": "from",
    "to_count": "to",
    "reason": "reason",
    "message": "message",
}


@client_command(app, "create")
async def create(
    session: Session,
    file: options.File = None,
    name: Setting = "",
    endpoint: options.OfEndpoint = "",
    deployment: OfDeployment = "",
    min_count: Least = None,
    max_count: Most = None,
    count: Count = None,
) -> None:
    """Create the setting of a deployment. From a file of Azure's form, or with bounds alone."""
    from headgate.azure import yaml_autoscale
    from headgate.azure.yaml_files import YamlFile
    from headgate.cli import autoscale_edit as edit
    from headgate_contracts.autoscale import AutoscaleSpec, Profile

    if file is not None:
        YamlFile.open(file)
        spec = yaml_autoscale.setting(file)
    elif endpoint and deployment:
        bounds = edit.capacity(min_count, max_count, count)
        spec = AutoscaleSpec(
            name=name or f"{endpoint}-{deployment}",
            endpoint=endpoint,
            deployment=deployment,
            profiles=(Profile(name=edit.DEFAULT_PROFILE, capacity=bounds),),
        )
    else:
        raise UsageError("give --file, or --endpoint and --deployment")
    async with session.client() as client:
        await store(session, client, spec, "*")


@client_command(app, "update")
async def update(
    session: Session,
    name: Setting = "",
    endpoint: options.OfEndpoint = "",
    deployment: OfDeployment = "",
    enabled: Annotated[bool | None, Option("--enabled/--disabled", help="On or off.")] = None,
    min_count: Least = None,
    max_count: Most = None,
    count: Count = None,
) -> None:
    """Change bounds, or switch a setting on or off. Bounds are those of the default profile."""
    from headgate.cli import autoscale_edit as edit

    def changed(spec: AutoscaleSpec) -> AutoscaleSpec:
        if enabled is not None:
            spec = spec.model_copy(update={"enabled": enabled})
        if (min_count, max_count, count) == (None, None, None):
            return spec
        default = edit.default_profile(spec)
        kept = default.capacity
        bounds = edit.capacity(
            kept.minimum if min_count is None else min_count,
            kept.maximum if max_count is None else max_count,
            kept.default if count is None else count,
        )
        return edit.with_profile(spec, default.model_copy(update={"capacity": bounds}))

    await change(session, name, endpoint, deployment, changed)


@client_command(app, "show")
async def show(
    session: Session,
    name: Setting = "",
    endpoint: options.OfEndpoint = "",
    deployment: OfDeployment = "",
) -> None:
    """Show a setting."""
    async with session.client() as client:
        show_setting(session, await find(client, name, endpoint, deployment))


@client_command(app, "list")
async def list_all(session: Session) -> None:
    """List settings."""
    from headgate.cli import autoscale_words as words
    from headgate.client.autoscale import Autoscale

    async with session.client() as client:
        rows = []
        for found in await Autoscale(client).list_all():
            told = words.name if session.is_table else (lambda profile: profile.name)
            rows.append({**shown(found), "profiles": [*map(told, found.spec.profiles)]})
        session.show(rows, COLUMNS)


@client_command(app, "delete")
async def delete(
    session: Session,
    name: Setting = "",
    endpoint: options.OfEndpoint = "",
    deployment: OfDeployment = "",
    yes: options.Yes = False,
) -> None:
    """Delete a setting; the number of instances stays as it is."""
    from headgate.client.autoscale import Autoscale

    async with session.client() as client:
        if not name:
            name = (await find(client, name, endpoint, deployment)).spec.name
        confirm(f"Delete the autoscale setting {name!r}?", yes=yes)
        tell_removal(await Autoscale(client).delete(name), f"autoscale setting {name!r}")


@client_command(app, "history")
async def history(
    session: Session,
    endpoint: options.OfEndpoint = "",
    deployment: OfDeployment = "",
    since: Annotated[str, Option("--since", help="An age such as 10m, or a time.")] = "",
    top: Annotated[int, Option("--top", min=1, max=1_000, help="At most so many.")] = 100,
) -> None:
    """Show what was decided about instances and why. The newest comes first."""
    from headgate.cli.observed import renamed
    from headgate.client.autoscale import Autoscale

    async with session.client() as client:
        found = await Autoscale(client).decisions(endpoint, deployment, since, top)
        session.show(renamed(found), HISTORY)


# --- simulation --------------------------------------------------------------------------------


@client_command(app, "simulate")
async def simulate(
    session: Session,
    load: Annotated[str, Option("--load", help="'10 for 5m, 10..80 for 10m': requests/s.")] = "",
    recorded: Annotated[
        Path | None, Option("--recorded", help="CSV file: a time and requests/s per line.")
    ] = None,
    file: options.File = None,
    name: Setting = "",
    endpoint: options.OfEndpoint = "",
    deployment: OfDeployment = "",
    min_count: Least = None,
    max_count: Most = None,
    target: Annotated[
        float | None, Option("--target", help="Requests in hand per instance (target mode).")
    ] = None,
    concurrency: Annotated[int, Option("--concurrency", min=1, help="Requests at once.")] = 1,
    service_time: Annotated[float, Option("--service-time", min=0.001, help="Seconds.")] = 0.1,
    startup: Annotated[float, Option("--startup", min=0, help="Seconds of a start.")] = 5.0,
    start: Annotated[str, Option("--start", help="When it begins (UTC), for schedules.")] = "",
    seed: Annotated[
        int | None, Option("--seed", help="Random arrivals, the same for the same number.")
    ] = None,
) -> None:
    """Show what a setting, or the target mode, makes of a load. On simulated time, at once.

    The setting is that of a file or one that is stored; a deployment that follows its load brings
    its own target, and --target, --min-count and --max-count stand for one that does not exist.
    """
    from headgate.cli import autoscale_simulate as simulation

    if bool(load) == bool(recorded):
        raise UsageError("give --load or --recorded")
    rate, duration_s = (
        simulation.synthetic(load) if load else simulation.recorded(Path(str(recorded)))
    )
    spec, deployed = await simulation.subject(session, file, name, endpoint, deployment)
    scenario = simulation.scenario(
        spec,
        deployed,
        simulation.Assumed(target, min_count, max_count, concurrency, service_time, startup, start),
        rate,
        duration_s,
    )
    simulation.show(simulation.run(scenario, seed), session.form, session.query)

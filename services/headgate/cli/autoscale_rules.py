"""``headgate autoscale rule`` and ``headgate autoscale profile``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer
from typer import Option

from headgate.cli import options
from headgate.cli.autoscale_common import (
    Count,
    Least,
    Most,
    OfDeployment,
    ProfileName,
    Setting,
    change,
    read,
)
from headgate.cli.errors import UsageError
from headgate.cli.session import Session, client_command

if TYPE_CHECKING:
    from headgate_contracts.autoscale import AutoscaleSpec

rules = typer.Typer(no_args_is_help=True, help="Rules of a profile.")
profiles = typer.Typer(no_args_is_help=True, help="Profiles: bounds and rules for a time.")

# --- rules -------------------------------------------------------------------------------------


@client_command(rules, "create")
async def create_rule(
    session: Session,
    condition: Annotated[str, Option("--condition", help='"CpuUtilizationPercentage > 70 avg 5m"')],
    scale: Annotated[
        list[str], Option("--scale", metavar="out|in|to N[%]", help="'out 2', 'in 25%' or 'to 5'.")
    ],
    name: Setting = "",
    endpoint: options.OfEndpoint = "",
    deployment: OfDeployment = "",
    profile_name: ProfileName = "",
    cooldown: Annotated[str, Option("--cooldown", help="Minutes, or such as 30s.")] = "5",
    timegrain: Annotated[str, Option("--timegrain", help="Statistic and grain: 'avg 1m'.")] = "",
    resource: Annotated[
        str,
        Option("--resource", help="'endpoint' looks at the whole endpoint; a resource id too."),
    ] = "",
    per_instance: Annotated[
        bool, Option("--divide-per-instance", help="Divide the metric by the instances.")
    ] = False,
) -> None:
    """Add a rule to a profile."""
    from headgate.azure.arm_autoscale import read_resource
    from headgate.cli import autoscale_edit as edit
    from headgate_contracts.autoscale import Rule

    def with_rule(spec: AutoscaleSpec) -> AutoscaleSpec:
        where = f"endpoints/{spec.endpoint}" if resource == "endpoint" else ""
        if resource and not where:
            try:
                where = read_resource(resource)
            except ValueError as error:
                raise UsageError(f"--resource: {error}") from None
        looked_at = edit.trigger(
            condition, resource=where, grain=timegrain, per_instance=per_instance
        )
        rule = Rule(trigger=looked_at, action=edit.action(scale, cooldown, looked_at.operator))
        present = edit.profile_of(spec, profile_name).rules
        return edit.with_rules(spec, profile_name, (*present, rule))

    await change(session, name, endpoint, deployment, with_rule)


@client_command(rules, "list")
async def list_rules(
    session: Session,
    name: Setting = "",
    endpoint: options.OfEndpoint = "",
    deployment: OfDeployment = "",
    profile_name: ProfileName = "",
) -> None:
    """List the rules of a profile with their numbers."""
    from headgate.cli import autoscale_edit as edit
    from headgate.cli import autoscale_words as words

    profile = edit.profile_of(await read(session, name, endpoint, deployment), profile_name)
    numbered = list(enumerate(profile.rules))
    if session.is_table:
        rows = [words.rule_row(number, rule) for number, rule in numbered]
        session.show(rows, ("index", "condition", "scale", "cooldown"))
    else:
        session.show([{"index": at, **rule.model_dump(mode="json")} for at, rule in numbered])


@client_command(rules, "delete")
async def delete_rule(
    session: Session,
    index: Annotated[list[str], Option("--index", help="Numbers of rules, or '*' for all.")],
    name: Setting = "",
    endpoint: options.OfEndpoint = "",
    deployment: OfDeployment = "",
    profile_name: ProfileName = "",
) -> None:
    """Remove rules from a profile."""
    from headgate.cli import autoscale_edit as edit

    def without_rules(spec: AutoscaleSpec) -> AutoscaleSpec:
        present = dict(enumerate(edit.profile_of(spec, profile_name).rules))
        known = set(map(str, present))
        gone = known if "*" in index else set(index)
        if unknown := gone - known:
            raise UsageError(f"--index: there is no rule {', '.join(sorted(unknown))}")
        left = [rule for number, rule in present.items() if str(number) not in gone]
        return edit.with_rules(spec, profile_name, left)

    await change(session, name, endpoint, deployment, without_rules)


# --- profiles ----------------------------------------------------------------------------------


@client_command(profiles, "create")
async def create_profile(
    session: Session,
    profile_name: ProfileName,
    name: Setting = "",
    endpoint: options.OfEndpoint = "",
    deployment: OfDeployment = "",
    min_count: Least = None,
    max_count: Most = None,
    count: Count = None,
    recurrence: Annotated[
        list[str] | None, Option("--recurrence", metavar="week DAYS", help="week sat sun")
    ] = None,
    timezone: Annotated[str, Option("--timezone", help="A Windows or IANA name.")] = "UTC",
    start: Annotated[str, Option("--start", help="08:30, or 2030-01-31T08:00:00.")] = "",
    end: Annotated[str, Option("--end", help="18:00, or 2030-02-01T00:00:00.")] = "",
    copy_rules: Annotated[str, Option("--copy-rules", help="Profile whose rules to copy.")] = "",
) -> None:
    """Add a profile for certain days of the week, or between two dates.

    A weekly profile comes with a second one that ends it with what holds by default.
    """
    from headgate.cli import autoscale_edit as edit
    from headgate_contracts.autoscale import Profile

    def with_profile(spec: AutoscaleSpec) -> AutoscaleSpec:
        copied = edit.profile_named(spec, copy_rules).rules if copy_rules else ()
        bounds = edit.capacity(min_count, max_count, count)
        profile = Profile(name=profile_name, capacity=bounds, rules=copied)
        if recurrence:
            return edit.recurring(spec, profile, recurrence, timezone, start, end)
        return edit.with_profile(spec, edit.fixed(profile, timezone, start, end))

    await change(session, name, endpoint, deployment, with_profile)


@client_command(profiles, "list")
async def list_profiles(
    session: Session,
    name: Setting = "",
    endpoint: options.OfEndpoint = "",
    deployment: OfDeployment = "",
) -> None:
    """List the profiles of a setting."""
    from headgate.cli import autoscale_words as words

    spec = await read(session, name, endpoint, deployment)
    if session.is_table:
        rows = [words.profile_row(each) for each in spec.profiles]
        session.show(rows, ("name", "capacity", "when", "rules"))
    else:
        session.show([each.model_dump(mode="json", exclude_none=True) for each in spec.profiles])


@client_command(profiles, "show")
async def show_profile(
    session: Session,
    profile_name: ProfileName,
    name: Setting = "",
    endpoint: options.OfEndpoint = "",
    deployment: OfDeployment = "",
) -> None:
    """Show a profile."""
    from headgate.cli import autoscale_edit as edit
    from headgate.cli import autoscale_words as words

    profile = edit.profile_named(await read(session, name, endpoint, deployment), profile_name)
    if session.is_table:
        session.show(words.profile_row(profile))
    else:
        session.show(profile.model_dump(mode="json", exclude_none=True))


@client_command(profiles, "delete")
async def delete_profile(
    session: Session,
    profile_name: ProfileName,
    name: Setting = "",
    endpoint: options.OfEndpoint = "",
    deployment: OfDeployment = "",
) -> None:
    """Remove a profile, and the one that ends it."""
    from headgate.cli import autoscale_edit as edit

    def without_profile(spec: AutoscaleSpec) -> AutoscaleSpec:
        return edit.without_profile(spec, profile_name)

    await change(session, name, endpoint, deployment, without_profile)

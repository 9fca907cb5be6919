"""The form of an autoscale setting: profiles with their bounds, their times and their rules."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from nicegui import ui

from headgate.portal import autoscale_core as decide
from headgate.portal.pages import dialogs
from headgate.portal.pages.dialogs import Fields, open_form
from headgate.portal.pages.frame import guarded
from headgate_contracts import limits
from headgate_contracts.autoscale import (
    AutoscaleSpec,
    Capacity,
    Direction,
    Operator,
    Profile,
    Rule,
    Weekday,
)

_ADDED = decide.rule(Operator.GREATER_THAN, 70, Direction.INCREASE)
Edited = Callable[[AutoscaleSpec], Awaitable[None]]


class Form:
    """Drawn anew when there are other profiles or rules; what is changed is told at once."""

    def __init__(self, edited: Edited, *, can_write: bool) -> None:
        self.edited = edited
        self._can_write = can_write
        self._spec: AutoscaleSpec | None = None
        self._place = ui.column().classes("full-width lanes")

    @property
    def spec(self) -> AutoscaleSpec:
        """The setting as it was changed last."""
        assert self._spec is not None, "nothing is drawn before there is a setting"
        return self._spec

    def keep(self, spec: AutoscaleSpec) -> None:
        """What was told here comes back: nothing is drawn, unless there is more or less of it."""
        before, self._spec = self._spec, spec
        if before is None or decide.shape(before) != decide.shape(spec):
            self.show(spec)

    def show(self, spec: AutoscaleSpec) -> None:
        self._spec = spec
        self._place.clear()
        with self._place:
            for index, profile in enumerate(spec.profiles):
                self._profile(index, profile)
            if self._can_write:
                ui.button(
                    "Add a weekly profile", icon="event", on_click=self._ask_for_profile
                ).props("no-caps outline")

    def _change(self, make: Callable[[], AutoscaleSpec]) -> Callable[[], Awaitable[None]]:
        async def change() -> None:
            await self.edited(make())

        return guarded(change)

    def _profile(self, index: int, profile: Profile) -> None:
        with ui.column().classes("lane close").mark(f"profile-{profile.name}"):
            with ui.row().classes("full-width mid"):
                ui.label(profile.name).classes("text-h6")
                ui.label(decide.when(profile)).classes("quiet")
                ui.space()
                if self._can_write and len(self.spec.profiles) > 1:
                    remove = self._change(lambda: decide.with_profile(self.spec, index, None))
                    ui.button(icon="delete", on_click=remove).props(
                        f'flat dense aria-label="Remove the profile {index + 1}"'
                    )
            self._bounds(index, profile)
            for number, rule in enumerate(profile.rules):
                self._rule(index, number, rule)
            if self._can_write and len(profile.rules) < limits.SCALE_RULES_MAX:
                add = self._change(lambda: self._with_rule(index, len(profile.rules), _ADDED))
                ui.button("Add a rule", icon="add", on_click=add).props("flat dense no-caps")

    def _with_rule(self, index: int, number: int, rule: Rule | None) -> AutoscaleSpec:
        changed = decide.with_rule(self.spec.profiles[index], number, rule)
        return decide.with_profile(self.spec, index, changed)

    def _bounds(self, index: int, profile: Profile) -> None:
        with ui.row().classes("mid"):
            fields = {
                name: self._number(title, getattr(profile.capacity, name))
                for name, title in (
                    ("minimum", "At least"), ("maximum", "At most"), ("default", "Without metrics"),
                )
            }  # fmt: skip
            ui.label("instances").classes("quiet")

        def make() -> AutoscaleSpec:
            capacity = Capacity(**{name: int(each.value or 0) for name, each in fields.items()})
            changed = self.spec.profiles[index].model_copy(update={"capacity": capacity})
            return decide.with_profile(self.spec, index, changed)

        for each in fields.values():
            self._listen(each, make)

    def _rule(self, index: int, number: int, rule: Rule) -> None:
        trigger, action = rule.trigger, rule.action
        with ui.row().classes("mid"):
            ui.label("When").classes("quiet")
            names = sorted({*decide.METRICS, trigger.metric_name})
            metric = ui.select(names, value=trigger.metric_name).props('aria-label="Metric"')
            operator = ui.select(decide.OPERATORS, value=trigger.operator)
            operator.props('aria-label="Comparison"')
            threshold = self._number("Threshold", trigger.threshold)
            window = self._number("Over seconds", trigger.time_window)
            ways = {Direction.INCREASE: "add", Direction.DECREASE: "take away"}
            way = ui.select(ways, value=action.direction).props('aria-label="Direction"')
            value = self._number("Instances", action.value)
            cooldown = self._number("Cooldown, s", action.cooldown)
            if self._can_write:
                remove = self._change(lambda: self._with_rule(index, number, None))
                ui.button(icon="close", on_click=remove).props(
                    f'flat dense aria-label="Remove the rule {number + 1}"'
                )

        def make() -> AutoscaleSpec:
            told = {
                "trigger": {
                    **trigger.model_dump(),
                    "metric_name": metric.value,
                    "operator": operator.value,
                    "threshold": threshold.value,
                    "time_window": int(window.value or 0),
                },
                "action": {
                    **action.model_dump(),
                    "direction": way.value,
                    "value": int(value.value or 0),
                    "cooldown": int(cooldown.value or 0),
                },
            }
            return self._with_rule(index, number, Rule.model_validate(told))

        for each in (metric, operator, way):
            each.set_enabled(self._can_write)
            each.on_value_change(self._change(make))
        for field in (threshold, window, value, cooldown):
            self._listen(field, make)

    def _number(self, title: str, value: float) -> ui.number:
        made = ui.number(title, value=value, min=0).props("dense").style("width: 8rem")
        made.set_enabled(self._can_write)
        return made

    def _listen(self, field: ui.number, make: Callable[[], AutoscaleSpec]) -> None:
        """A number counts when it has been typed, not while it is."""
        known = [field.value]

        async def changed() -> None:
            if field.value is not None and field.value != known[0]:
                known[0] = field.value
                await self.edited(make())

        field.on("blur", guarded(changed))
        field.on("keydown.enter", guarded(changed))

    def _ask_for_profile(self) -> None:
        open_form(WeekForm(self))


class WeekForm(dialogs.Form):
    """A profile for some hours of the week."""

    word = "Add"

    def __init__(self, form: Form) -> None:
        super().__init__("New weekly profile")
        self._form = form

    def draw(self) -> Fields:
        week = [day.value for day in Weekday]
        fields: Fields = {
            "name": ui.input("Name", value="daytime"),
            "days": ui.select(week, value=week[:5], label="Days", multiple=True).props("use-chips"),
        }
        with ui.element("div").classes("pair full-width"):
            fields["begins"] = ui.number("From hour", value=8, min=0, max=23, precision=0)
            fields["ends"] = ui.number("To hour", value=18, min=1, max=24, precision=0)
        fields["time_zone"] = ui.input("Time zone", value="UTC")
        with ui.element("div").classes("pair full-width"):
            fields["least"] = ui.number("Instances, at least", value=2, min=0, precision=0)
            fields["most"] = ui.number("At most", value=8, min=1, precision=0)
        return fields

    def asked(self) -> dict[str, Any]:
        numbers = {name: _whole(self.fields[name]) for name in ("begins", "ends", "least", "most")}
        return super().asked() | numbers

    def problems(self) -> Mapping[str, str]:
        return decide.week_problems(self._form.spec, self.asked())

    def meaning(self) -> str:
        return decide.week_meaning(self.asked())

    async def save(self) -> None:
        await self._form.edited(decide.with_week(self._form.spec, **self.asked()))


def _whole(field: Any) -> int:
    return int(field.value or 0)

"""Deployments as lanes: state, figures, and the sliders that share the traffic out."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial

from nicegui import ui

from headgate.client.api import Found, Started
from headgate.portal import core
from headgate.portal.attention import every
from headgate.portal.gate import PREFIX
from headgate.portal.pages.dialogs import confirm
from headgate.portal.pages.frame import REFRESH_S, empty, finish, guarded, state_badge, state_color
from headgate.portal.sessions import Session
from headgate_contracts import limits
from headgate_contracts.resources import DeploymentSpec

Call = Callable[[str, str], Awaitable[Started]]

_FIGURES = ("Requests/s", "Errors/s", "p50 ms", "p95 ms", "In flight", "Waiting", "Copies/s")


@dataclass(slots=True)
class _Draft:
    """The shares as the sliders stand; ``stored`` as they are."""

    stored: dict[str, int] = field(default_factory=dict)
    shares: dict[str, int] = field(default_factory=dict)

    @property
    def is_changed(self) -> bool:
        return self.shares != self.stored


class Share(ui.slider):
    """A slider that moves at once: waiting for the server would lose quick steps."""

    LOOPBACK = False


class Lanes:
    """The tab of one endpoint."""

    def __init__(self, session: Session, endpoint: str) -> None:
        self._session = session
        self._endpoint = endpoint
        self._draft = _Draft()
        self._pending: tuple[ui.button, ...] = ()
        self._drawn: list[tuple[str, str, str]] = []
        self._sliders: dict[str, Share] = {}
        self._percents: dict[str, ui.label] = {}
        self._figures: dict[str, list[ui.label]] = {}
        self._states: dict[str, tuple[ui.badge, ui.label, ui.label]] = {}

    def draw(self) -> None:
        with ui.row().classes("full-width mid"):
            self._preview = ui.label().classes("wrap").props("role=status")
            ui.space()
            if self._session.right.can_write:
                apply = ui.button("Apply", on_click=guarded(self._send)).props("no-caps")
                reset = ui.button("Reset", on_click=self._take_back).props("flat no-caps")
                self._pending = (apply, reset)
                address = f"{PREFIX}/endpoints/{self._endpoint}/deploy"
                ui.button("New deployment", icon="add").props(f'no-caps outline href="{address}"')
        self._place = ui.column().classes("full-width lanes")
        self._mirror_place = ui.column().classes("full-width")
        self._refresh()
        every(REFRESH_S, self._refresh)

    # -- what is shown --------------------------------------------------------------------------

    def _refresh(self) -> None:
        view = self._session.watch.view
        found = view.endpoint(self._endpoint)
        deployments = view.deployments.get(self._endpoint, [])
        if found is None:
            return
        names = [each.spec.name for each in deployments]
        stored = {name: found.spec.traffic.get(name, 0) for name in names}
        if stored != self._draft.stored:
            self._draft = _Draft(stored, dict(stored))
        shape = [(n, "", "") for n in names] + [
            (k, "mirror", str(v)) for k, v in found.spec.mirror_traffic.items()
        ]
        if shape != self._drawn or not names:
            self._drawn = shape
            self._rebuild(deployments, found.spec.mirror_traffic)
        for each in deployments:
            self._update(each)
        self._show_draft()

    def _rebuild(self, deployments: list[Found[DeploymentSpec]], mirror: dict[str, int]) -> None:
        self._place.clear()
        self._sliders, self._percents, self._figures, self._states = {}, {}, {}, {}
        with self._place:
            if not deployments:
                empty(
                    "No deployment yet.",
                    "A deployment is a model with its script and its instances. New deployment, "
                    "above, makes the first one.",
                )
            for each in deployments:
                self._lane(each.spec.name)
        self._mirror_place.clear()
        if self._session.right.can_write and len(deployments) > 1:
            with self._mirror_place:
                self._mirror([each.spec.name for each in deployments], mirror)

    def _lane(self, name: str) -> None:
        can_write = self._session.right.can_write
        with ui.column().classes("lane close").mark(f"lane-{name}"):
            with ui.row().classes("full-width mid"):
                ui.label(name).classes("text-h6")
                badge = state_badge("")
                ready = ui.label().classes("quiet")
                ui.space()
                with ui.row().classes("mid close no-wrap"):
                    self._menu(name)
            with ui.row().classes("full-width mid no-wrap"):
                slider = Share(min=0, max=100, step=1, value=self._draft.shares.get(name, 0))
                slider.props(f'aria-label="Traffic of {name} in per cent" label')
                slider.on_value_change(lambda event, n=name: self._moved(n, int(event.value)))
                slider.set_enabled(can_write)
                percent = ui.label().classes("figure").style("min-width: 4.5rem; text-align: right")
            with ui.row().classes("spread"):
                figures = []
                for title in _FIGURES:
                    with ui.column().classes("tight"):
                        figures.append(ui.label(core.UNKNOWN).classes("figure"))
                        ui.label(title).classes("quiet text-caption")
            error = ui.label().classes("text-negative wrap mono")
        self._sliders[name], self._percents[name] = slider, percent
        self._figures[name], self._states[name] = figures, (badge, ready, error)

    def _update(self, found: Found[DeploymentSpec]) -> None:
        name = found.spec.name
        badge, ready, error = self._states[name]
        count = int(found.properties.get("readyInstances", 0))
        badge.set_text(found.state)
        badge.props(f"color={state_color(found.state)}")
        ready.set_text(f"{count} of {found.spec.instance_count} ready · {found.spec.instance_type}")
        error.set_text(f"{found.error.code}: {found.error.message}" if found.error else "")
        error.set_visibility(found.error is not None)
        live = self._session.watch.view.latest(self._endpoint, name)
        texts = [core.UNKNOWN] * len(_FIGURES)
        if live is not None:
            texts = [
                core.short(live.requests_per_s), core.short(live.failures_per_s, 2),
                core.short(live.p50_ms), core.short(live.p95_ms), str(live.in_flight),
                str(live.waiting), core.short(live.mirrored_per_s),
            ]  # fmt: skip
        for label, text in zip(self._figures[name], texts, strict=True):
            label.set_text(text)

    def _menu(self, name: str) -> None:
        right, client = self._session.right, self._session.client
        endpoint = self._endpoint
        logs = f"{PREFIX}/endpoints/{endpoint}/deployments/{name}"
        ui.button("Details", icon="info").props(f'flat dense no-caps href="{logs}"')
        if right.can_write:

            def act(text: str, call: Call) -> Callable[[], Awaitable[None]]:
                async def go() -> None:
                    started = await call(endpoint, name)
                    await finish(self._session, started, f"{text} {name}")

                return guarded(go)

            more = ui.button(icon="more_vert")
            with more.props(f'flat dense aria-label="Actions of {name}"'), ui.menu():
                ui.menu_item("All traffic here", lambda: self._all_to(name))
                ui.menu_item("Stop", act("stopping", client.stop_deployment))
                ui.menu_item("Start", act("starting", client.start_deployment))
                if right.can_delete:
                    delete = act("deleting", client.delete_deployment)
                    question = f"Delete the deployment {name!r} of {endpoint!r}?"
                    ui.menu_item("Delete", partial(confirm, question, "Delete", delete))

    def _mirror(self, names: list[str], mirror: dict[str, int]) -> None:
        current = next(iter(mirror), "")
        with ui.row().classes("lane mid"):
            ui.label("Mirror a copy of live requests to")
            choice = ui.select(
                {"": "nobody", **{name: name for name in names}}, value=current
            ).props('dense aria-label="Mirror to"')
            amount = ui.number(value=mirror.get(current, 10), min=0, max=limits.MIRROR_PERCENT_MAX)
            amount.props('dense suffix="%" aria-label="Mirrored per cent"').style("width: 6rem")
            ui.label("answers are compared and dropped").classes("quiet")

            async def apply() -> None:
                percent = int(amount.value or 0)
                shares = {choice.value: percent} if choice.value and percent else {}
                await self._change({"mirror_traffic": shares}, "changing the mirror")

            ui.button("Apply mirror", on_click=guarded(apply)).props("no-caps outline")

    # -- what is done ---------------------------------------------------------------------------

    def _moved(self, name: str, percent: int) -> None:
        if self._draft.shares.get(name) == percent:
            return
        self._draft.shares = core.rebalanced(self._draft.shares, name, percent)
        self._show_draft()

    def _all_to(self, name: str) -> None:
        self._moved(name, core.WHOLE)

    def _take_back(self) -> None:
        self._draft.shares = dict(self._draft.stored)
        self._show_draft()

    def _show_draft(self) -> None:
        draft = self._draft
        for name, percent in draft.shares.items():
            if name in self._sliders:
                self._sliders[name].set_value(percent)
                self._percents[name].set_text(f"{percent} %")
        lines = core.changes(draft.stored, draft.shares)
        self._preview.set_text(f"Not applied yet: {'; '.join(lines)}" if lines else "")
        for button in self._pending:
            button.set_visibility(draft.is_changed)

    async def _send(self) -> None:
        shares = {name: share for name, share in self._draft.shares.items() if share}
        await self._change({"traffic": shares}, "changing the traffic")

    async def _change(self, update: dict[str, object], text: str) -> None:
        client = self._session.client
        stored = await client.get_endpoint(self._endpoint)
        spec = stored.spec.model_copy(update=update)
        await finish(self._session, await client.update_endpoint(spec, stored.etag), text)


def draw(session: Session, endpoint: str) -> None:
    Lanes(session, endpoint).draw()

"""Making a deployment from the page, and the page of one deployment."""

from __future__ import annotations

import re
from collections.abc import Mapping

from fastapi import Request
from nicegui import ui

from headgate.azure.arm_fields import Json
from headgate.azure.yaml_files import YamlFile
from headgate.client.assets import register_all
from headgate.client.storage import Storage
from headgate.portal import core
from headgate.portal.attention import every
from headgate.portal.gate import PREFIX
from headgate.portal.pages import logs
from headgate.portal.pages.frame import (
    Studio,
    guarded,
    heading,
    page,
    state_badge,
    state_color,
)
from headgate.portal.pages.recipe import Recipe
from headgate.portal.pages.tables import table
from headgate.portal.sessions import Draft, Session
from headgate_contracts import limits
from headgate_contracts.errors import ErrorCode, HeadgateError

_SCRIPT = '''import json


def init():
    """Called once, before the first request: load the model here."""


def run(raw_data):
    """Called for each request with its body as text; what it returns is the answer."""
    data = json.loads(raw_data)["data"]
    return {"sums": [sum(row) for row in data]}
'''
_INSTANCES = (
    ("id", "Instance"), ("state", "State"), ("pid", "Process"), ("restarts", "Restarts"),
    ("reason", "Reason"),
)  # fmt: skip
_CONTENT_NAME = re.compile("[0-9a-f]{32}")
TAKEN = "there is a deployment of this name, which would be replaced"
SCHEMAS = "https://azuremlschemas.azureedge.net/latest"


class Wizard:
    """The form of one deployment."""

    def __init__(
        self, session: Session, endpoint: str, edited: str, deployments: Mapping[str, str]
    ) -> None:
        """``deployments``: those that there are, with their states."""
        self._session = session
        self._deployments = deployments
        self._endpoint = endpoint
        self._edited = edited
        self._draft = session.drafts.get((endpoint, edited)) or Draft(_SCRIPT)
        self._recipe = Recipe(self._draft, YamlFile.deployment, self._fields, self._command)

    def draw(self, types: list[Json], models: list[str]) -> None:
        choices = {str(t["name"]): size_text(t) for t in types}
        size = self._draft.size if self._draft.size in choices else next(iter(choices), None)
        with ui.element("div").classes("two"):
            with ui.column():
                self.name = ui.input(
                    "Name",
                    value=self._edited or core.free_name(self._deployments, "blue", "green"),
                    validation={
                        limits.NAME_RULE: core.is_name,
                        TAKEN: self._is_own,
                    },
                ).classes("full-width")
                self.size = ui.select(
                    choices,
                    value=size,
                    label="Instance type",
                    with_input=True,
                ).classes("full-width")
                self.count = ui.number(
                    "Instances",
                    value=self._draft.count,
                    min=0,
                    max=limits.INSTANCES_PER_DEPLOYMENT_MAX,
                    precision=0,
                ).classes("full-width")
                self.concurrency = ui.number(
                    "Requests at once per instance",
                    value=self._draft.concurrency,
                    min=1,
                    precision=0,
                ).classes("full-width")
                self._scaling()
                self.traffic = ui.switch(
                    "All traffic to it when it is ready", value=not self._has_others()
                )
                self._recipe.draw_model(models)
            with ui.column():
                self._recipe.draw()
        self._recipe.draw_problems()
        ui.button("Deploy", icon="rocket_launch", on_click=guarded(self._deploy)).props("no-caps")
        fields = (
            self.name, self.size, self.count, self.concurrency, self.traffic, self.follows,
            self.least, self.most,
        )  # fmt: skip
        for each in fields:
            each.on_value_change(self._recipe.refresh)

    def _scaling(self) -> None:
        self.follows = ui.switch("The number of instances follows the load", value=False)
        with ui.row().classes("full-width no-wrap") as bounds:
            most = limits.INSTANCES_PER_DEPLOYMENT_MAX
            self.least = ui.number("At least", value=1, min=0, max=most, precision=0)
            self.most = ui.number("At most", value=4, min=1, max=most, precision=0)
            for each in (self.least, self.most):
                each.classes("col")
        bounds.bind_visibility_from(self.follows, "value")

    def _is_own(self, name: str) -> bool:
        return name == self._edited or name not in self._deployments

    def _has_others(self) -> bool:
        """Whether another deployment can have traffic already."""
        return any(
            state != "Failed" for name, state in self._deployments.items() if name != self._edited
        )

    def _fields(self) -> dict[str, object]:
        document: dict[str, object] = {
            "$schema": f"{SCHEMAS}/managedOnlineDeployment.schema.json",
            "name": self.name.value,
            "endpoint_name": self._endpoint,
            "instance_type": self.size.value,
            "instance_count": int(self.count.value or 0),
        }
        if int(self.concurrency.value or 1) != 1:
            document["request_settings"] = {
                "max_concurrent_requests_per_instance": int(self.concurrency.value)
            }
        if self.follows.value:
            document["scale_settings"] = {
                "type": "target_utilization",
                "min_instances": int(self.least.value or 0),
                "max_instances": int(self.most.value or 1),
            }
        return document

    def _command(self) -> str:
        flag = " --all-traffic" if self.traffic.value else ""
        return f"headgate online-deployment create -f deployment.yml{flag}"

    async def _deploy(self) -> None:
        recipe, client = self._recipe, self._session.client
        local = recipe.checked()
        if local is None:
            return
        if local.spec.endpoint_name != self._endpoint:
            recipe.tell(f"endpoint_name: this page deploys to {self._endpoint}")
            return
        if not self._is_own(local.spec.name):
            recipe.tell(f"name: {TAKEN}")
            return
        spec = await register_all(client, local)
        draft = Draft(
            recipe.script.value or "",
            recipe.conda.value or "",
            spec.instance_type,
            spec.instance_count,
            int(self.concurrency.value or 1),
            spec.model or "",
            recipe.hand_written,
            bool(self.traffic.value),
        )
        self._session.keep(self._endpoint, spec.name, draft)
        try:
            stored = await client.get_deployment(self._endpoint, spec.name)
        except HeadgateError as error:
            if error.error.code is not ErrorCode.RESOURCE_NOT_FOUND:
                raise
            await client.create_deployment(spec)
        else:
            await client.update_deployment(spec, stored.etag)
        self._session.watch.hurry()
        ui.navigate.to(f"/endpoints/{self._endpoint}/deployments/{spec.name}")


def size_text(size: Json) -> str:
    prices = size.get("estimatedVMPrices")
    values = prices.get("values", []) if isinstance(prices, dict) else []
    price = values[0].get("retailPrice", 0) if values else 0
    currency = prices.get("billingCurrency", "") if isinstance(prices, dict) else ""
    gpus = f", {size['gpus']} GPU" if size.get("gpus") else ""
    return (
        f"{size['name']}: {size.get('cores', size.get('vCPUs'))} cores, "
        f"{size['memoryGB']} GiB{gpus}, {price} {currency}/h"
    )


async def model_names(session: Session) -> list[str]:
    """Models that somebody has given a name; others are named by their content."""
    found = [
        str(each.get("name", "")) for each in await Storage(session.client).containers("models")
    ]
    return sorted(name for name in found if not _CONTENT_NAME.fullmatch(name))


def register(studio: Studio) -> None:
    @ui.page("/endpoints/{endpoint}/deploy")
    async def deploy(request: Request, endpoint: str, edit: str = "") -> None:
        session = studio.session(request)
        with page(session, "New deployment", back=(endpoint, f"/endpoints/{endpoint}")):
            if not session.right.can_write:
                ui.label("Deployments are made by operators of the workspace.").classes("lane")
                return
            found = await session.client.list_deployments(endpoint)
            wizard = Wizard(session, endpoint, edit, {each.spec.name: each.state for each in found})
            wizard.draw(await Storage(session.client).instance_types(), await model_names(session))

    @ui.page("/endpoints/{endpoint}/deployments/{name}")
    async def deployment(request: Request, endpoint: str, name: str) -> None:
        session = studio.session(request)
        with page(session, name, back=(endpoint, f"/endpoints/{endpoint}")):
            await session.client.get_deployment(endpoint, name)
            _deployment(session, endpoint, name)


def _deployment(session: Session, endpoint: str, name: str) -> None:
    with ui.row().classes("mid"):
        badge = state_badge("")
        ready = ui.label().props("role=status")
    problem = ui.label().classes("wrap mono lane text-negative").props("role=alert")
    problem.set_visibility(False)
    if session.right.can_write and (endpoint, name) in session.drafts:
        address = f"{PREFIX}/endpoints/{endpoint}/deploy?edit={name}"
        mend = ui.button("Mend it", icon="build").props(f'no-caps href="{address}"')
        mend.bind_visibility_from(problem, "visible")
    running = table(_INSTANCES, key="id")

    async def refresh() -> None:
        try:
            found = await session.client.get_deployment(endpoint, name)
            instances = await session.client.instances(endpoint, name)
        except HeadgateError as error:
            if error.error.code is ErrorCode.RESOURCE_NOT_FOUND:
                badge.set_text("deleted")
            return
        badge.set_text(found.state)
        badge.props(f"color={state_color(found.state)}")
        ready.set_text(
            f"{found.properties.get('readyInstances', 0)} of {found.spec.instance_count} "
            f"instances ready · {found.spec.instance_type}"
        )
        problem.set_visibility(found.error is not None)
        if found.error is not None:
            problem.set_text(f"{found.error.code}: {found.error.message}")
        running.rows = [core.instance_row(each) for each in instances]
        if found.state == "Succeeded" and session.take_traffic_wish(endpoint, name):
            await guarded(give_traffic)()

    async def give_traffic() -> None:
        stored = await session.client.get_endpoint(endpoint)
        traffic = dict.fromkeys(stored.spec.traffic, 0) | {name: core.WHOLE}
        spec = stored.spec.model_copy(update={"traffic": traffic})
        await session.client.update_endpoint(spec, stored.etag)
        ui.notify(f"{name} has all traffic of {endpoint}", type="positive")

    every(1.5, refresh)
    heading("Log")
    logs.LogView(session, endpoint, [name])

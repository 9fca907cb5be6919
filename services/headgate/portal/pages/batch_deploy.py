"""Making a batch deployment from the page."""

from __future__ import annotations

import sys
from typing import Any

from fastapi import Request
from nicegui import ui

from headgate.azure.arm_fields import Json
from headgate.azure.yaml_files import YamlFile
from headgate.client.assets import register_all
from headgate.client.storage import Storage
from headgate.portal import core
from headgate.portal.pages.batch_endpoint import make_default
from headgate.portal.pages.deploy import SCHEMAS, TAKEN, model_names, size_text
from headgate.portal.pages.frame import Studio, finish, guarded, page
from headgate.portal.pages.recipe import Recipe
from headgate.portal.sessions import Draft, Session
from headgate_contracts import limits
from headgate_contracts.storage import ComputeSpec

_SCRIPT = '''from pathlib import Path


def init():
    """Called once in each process, before its first mini-batch: load the model here."""


def run(mini_batch):
    """Called with a list of file paths; one element of what it returns is one line of output."""
    return [f"{Path(path).name}: {len(Path(path).read_bytes())} bytes" for path in mini_batch]
'''
_CONDA = f"dependencies:\n  - python={sys.version_info.major}.{sys.version_info.minor}\n"
_HOST = "the host itself"
_NEW = "a new pool"
_POOL_MAX_DEFAULT = 2


def register(studio: Studio) -> None:
    @ui.page("/batch/{endpoint}/deploy")
    async def batch_deploy(request: Request, endpoint: str) -> None:
        session = studio.session(request)
        with page(session, "New batch deployment", back=(endpoint, f"/batch/{endpoint}")):
            if not session.right.can_write:
                ui.label("Deployments are made by operators of the workspace.").classes("lane")
                return
            storage = Storage(session.client)
            pools = [each.spec.name for each in await storage.list_computes()]
            found = await session.client.list_batch_deployments(endpoint)
            taken = frozenset(each.spec.name for each in found)
            wizard = BatchWizard(session, endpoint, pools, taken)
            wizard.draw(await storage.instance_types(), await model_names(session))


class BatchWizard:
    """The form of one batch deployment."""

    def __init__(
        self, session: Session, endpoint: str, pools: list[str], taken: frozenset[str]
    ) -> None:
        """``taken``: names of the deployments that there are."""
        self._session = session
        self._endpoint = endpoint
        self._pools = pools
        self._taken = taken
        self._recipe = Recipe(
            Draft(_SCRIPT, _CONDA),
            YamlFile.batch_deployment,
            self._fields,
            self._command,
            needs_model=True,
        )

    def draw(self, types: list[Json], models: list[str]) -> None:
        with ui.element("div").classes("two"):
            with ui.column():
                self.name = ui.input(
                    "Name",
                    value=core.free_name(self._taken, "main", "next"),
                    validation={limits.NAME_RULE: core.is_name, TAKEN: self._is_new},
                ).classes("full-width")
                self._compute(types)
                self._how()
                self.default = ui.switch("Jobs that name no deployment go to it", value=True)
                self._recipe.draw_model(models)
            with ui.column():
                self._recipe.draw()
        self._recipe.draw_problems()
        ui.button("Deploy", icon="rocket_launch", on_click=guarded(self._deploy)).props("no-caps")
        fields = (
            self.name, self.compute, self.pool, self.files, self.nodes, self.processes,
            self.retries, self.timeout, self.threshold, self.action, self.output, self.default,
        )  # fmt: skip
        for each in fields:
            each.on_value_change(self._recipe.refresh)

    def _is_new(self, name: str) -> bool:
        return name not in self._taken

    def _compute(self, types: list[Json]) -> None:
        choices = [*self._pools, _NEW, _HOST]
        self.compute = ui.select(choices, value=choices[0], label="Compute").classes("full-width")
        with ui.column().classes("full-width lane close") as new:
            self.pool = ui.input("Name of the pool", value="pool").classes("full-width")
            sizes = {str(each["name"]): size_text(each) for each in types}
            self.size = ui.select(
                sizes, value=next(iter(sizes), None), label="Instance type", with_input=True
            ).classes("full-width")
            self.pool_max = _number("Nodes at most", _POOL_MAX_DEFAULT, 1)
            ui.label("A pool costs nothing while no job runs.").classes("quiet")
        new.bind_visibility_from(self.compute, "value", value=_NEW)

    def _how(self) -> None:
        self.files = _number("Files per mini-batch", 10, 1)
        self.nodes = _number("Nodes of a job", 1, 1)
        self.processes = _number("Processes per node", 1, 1)
        with ui.expansion("Failures and output").classes("full-width"):
            self.retries = _number("Further attempts at a mini-batch", 3, 0)
            self.timeout = _number("Seconds that an attempt may take", 30, 1)
            self.threshold = _number("Items that may fail (-1: any number)", -1, -1)
            self.action = ui.select(
                {"append_row": "what run() returns, in one file",
                 "summary_only": "files that the script writes"},
                value="append_row", label="Output",
            ).classes("full-width")  # fmt: skip
            self.output = ui.input("Name of the output file", value="predictions.csv")
            self.output.classes("full-width")

    def _fields(self) -> dict[str, object]:
        pool = self.pool.value if self.compute.value == _NEW else self.compute.value
        compute = {} if self.compute.value == _HOST else {"compute": f"azureml:{pool}"}
        settings: dict[str, object] = {
            "mini_batch_size": _whole(self.files),
            "max_concurrency_per_instance": _whole(self.processes),
            "retry_settings": {
                "max_retries": _whole(self.retries),
                "timeout": _whole(self.timeout),
            },
            "error_threshold": _whole(self.threshold),
            "output_action": self.action.value,
        }
        if self.action.value == "append_row":
            settings["output_file_name"] = self.output.value
        return {
            "$schema": f"{SCHEMAS}/modelBatchDeployment.schema.json",
            "name": self.name.value,
            "endpoint_name": self._endpoint,
            "type": "model",
            **compute,
            "resources": {"instance_count": _whole(self.nodes)},
            "settings": settings,
        }

    def _command(self) -> str:
        flag = " --set-default" if self.default.value else ""
        lines = [f"headgate batch-deployment create -f deployment.yml{flag}"]
        if self.compute.value == _NEW:
            lines.insert(
                0,
                f"headgate compute create -n {self.pool.value} --type amlcompute "
                f"--size {self.size.value} --max-instances {_whole(self.pool_max)}",
            )
        return "\n".join(lines)

    async def _deploy(self) -> None:
        recipe, client = self._recipe, self._session.client
        local = recipe.checked()
        if local is None:
            return
        if local.spec.endpoint_name != self._endpoint:
            recipe.tell(f"endpoint_name: this page deploys to {self._endpoint}")
            return
        if not self._is_new(local.spec.name):
            recipe.tell(f"name: {TAKEN}")
            return
        if self.compute.value == _NEW and not recipe.hand_written:
            await self._make_pool()
        spec = await register_all(client, local)
        started = await client.put_batch_deployment(spec)
        await finish(self._session, started, f"creating batch deployment {spec.name}")
        if self.default.value:
            await make_default(self._session, spec)
        else:
            ui.navigate.to(f"/batch/{self._endpoint}")

    async def _make_pool(self) -> None:
        spec = ComputeSpec(
            name=str(self.pool.value),
            size=str(self.size.value),
            max_instances=_whole(self.pool_max),
        )
        await Storage(self._session.client).put_compute(spec)


def _number(title: str, value: int, least: int) -> ui.number:
    return ui.number(title, value=value, min=least, precision=0).classes("full-width")


def _whole(field: Any) -> int:
    return int(field.value or 0)

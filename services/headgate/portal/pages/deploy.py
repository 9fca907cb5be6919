"""Making a deployment from the page, and the page of one deployment."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import yaml
from fastapi import Request
from nicegui import events, ui

from headgate.azure.yaml_files import YamlFile, YamlFileError
from headgate.client.assets import register_all
from headgate.client.storage import Storage
from headgate.portal import core
from headgate.portal.gate import PREFIX
from headgate.portal.pages import logs
from headgate.portal.pages.frame import Studio, editor, guarded, later, page, state_badge
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
_FILES_MAX = 100


class Wizard:
    """What the form holds, as the files that the command line would take."""

    def __init__(self, session: Session, endpoint: str, edited: str) -> None:
        self._session = session
        self._endpoint = endpoint
        self._edited = edited
        self._draft = session.drafts.get((endpoint, edited)) or Draft(
            _SCRIPT, "", "Standard_DS3_v2", 1, 1
        )
        self._folder = Path(tempfile.mkdtemp(prefix="headgate-studio-"))
        self._uploads: list[str] = []
        ui.context.client.on_delete(lambda: shutil.rmtree(self._folder, ignore_errors=True))

    def draw(self, types: list[dict[str, object]]) -> None:
        choices = {str(t["name"]): _size_text(t) for t in types}
        size = self._draft.size if self._draft.size in choices else next(iter(choices), None)
        with ui.element("div").classes("two"):
            with ui.column():
                self.name = ui.input(
                    "Name",
                    value=self._edited or "blue",
                    validation={limits.NAME_RULE: core.is_name},
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
                self.traffic = ui.switch("All traffic to it when it is ready", value=True)
                ui.upload(
                    label="Model files (optional)",
                    multiple=True,
                    auto_upload=True,
                    on_upload=self._take,
                    max_file_size=limits.STUDIO_UPLOAD_BYTES_MAX,
                    max_files=_FILES_MAX,
                ).classes("full-width").props('flat bordered data-label="Model files"')
            with ui.column():
                with ui.tabs().props("dense no-caps align=left") as tabs:
                    script, packages, as_yaml = (
                        ui.tab(t) for t in ("Scoring script", "Packages (conda)", "Equivalent YAML")
                    )
                with ui.tab_panels(tabs, value=script).classes("full-width"):
                    with ui.tab_panel(script).classes("q-px-none"):
                        self.script = editor(
                            self._draft.script, "Python", "Scoring script", "22rem"
                        )
                    with ui.tab_panel(packages).classes("q-px-none"):
                        ui.label("Empty: the interpreter that runs Headgate, as it is.")
                        self.conda = editor(self._draft.conda, "YAML", "Conda packages", "20rem")
                    with ui.tab_panel(as_yaml).classes("q-px-none"):
                        shown = ui.code("", language="yaml").classes("full-width")
                        command = ui.code("", language="bash").classes("full-width")
        self.problems = ui.label().classes("text-negative wrap mono").props("role=alert")
        ui.button("Deploy", icon="rocket_launch", on_click=guarded(self._deploy)).props("no-caps")

        def refresh() -> None:
            shown.set_content(yaml.safe_dump(self._document(), sort_keys=False))
            flag = " --all-traffic" if self.traffic.value else ""
            command.set_content(f"headgate online-deployment create -f deployment.yml{flag}")

        for each in (self.name, self.size, self.count, self.concurrency, self.traffic, self.conda):
            each.on_value_change(refresh)
        refresh()

    async def _take(self, event: events.UploadEventArguments) -> None:
        name = Path(event.file.name).name
        folder = self._folder / "model"
        folder.mkdir(exist_ok=True)
        await event.file.save(folder / name)
        self._uploads.append(name)

    def _document(self) -> dict[str, object]:
        document: dict[str, object] = {
            "$schema": "https://azuremlschemas.azureedge.net/latest/managedOnlineDeployment"
            ".schema.json",
            "name": self.name.value,
            "endpoint_name": self._endpoint,
            "code_configuration": {"code": "code", "scoring_script": "score.py"},
            "instance_type": self.size.value,
            "instance_count": int(self.count.value or 0),
        }
        if self._uploads:
            document["model"] = {"path": "model"}
        if (self.conda.value or "").strip():
            document["environment"] = {
                "conda_file": "conda.yml",
                "image": "mcr.microsoft.com/azureml/minimal-py311-inference",
            }
        if int(self.concurrency.value or 1) != 1:
            document["request_settings"] = {
                "max_concurrent_requests_per_instance": int(self.concurrency.value)
            }
        return document

    def _sent(self) -> Draft:
        return Draft(
            self.script.value or "",
            self.conda.value or "",
            str(self.size.value),
            int(self.count.value or 0),
            int(self.concurrency.value or 1),
        )

    async def _deploy(self) -> None:
        code = self._folder / "code"
        code.mkdir(exist_ok=True)
        (code / "score.py").write_text(self.script.value or "", encoding="utf-8")
        (self._folder / "conda.yml").write_text(self.conda.value or "", encoding="utf-8")
        file = self._folder / "deployment.yml"
        file.write_text(yaml.safe_dump(self._document(), sort_keys=False), encoding="utf-8")
        try:
            local = YamlFile.open(file).deployment()
        except YamlFileError as error:
            self.problems.set_text(
                "\n".join(
                    str(problem).replace(f"{self._folder}/", "") for problem in error.problems
                )
            )
            return
        self.problems.set_text("")
        client = self._session.client
        spec = await register_all(client, local)
        self._session.keep(self._endpoint, spec.name, self._sent())
        try:
            stored = await client.get_deployment(self._endpoint, spec.name)
        except HeadgateError as error:
            if error.error.code is not ErrorCode.RESOURCE_NOT_FOUND:
                raise
            await client.create_deployment(spec)
        else:
            await client.update_deployment(spec, stored.etag)
        self._session.watch.hurry()
        after = "?traffic=all" if self.traffic.value else ""
        ui.navigate.to(f"/endpoints/{self._endpoint}/deployments/{spec.name}{after}")


def _size_text(size: dict[str, object]) -> str:
    prices = size.get("estimatedVMPrices")
    values = prices.get("values", []) if isinstance(prices, dict) else []
    price = values[0].get("retailPrice", 0) if values else 0
    currency = prices.get("billingCurrency", "") if isinstance(prices, dict) else ""
    gpus = f", {size['gpus']} GPU" if size.get("gpus") else ""
    return (
        f"{size['name']}: {size.get('cores', size.get('vCPUs'))} cores, "
        f"{size['memoryGB']} GiB{gpus}, {price} {currency}/h"
    )


def register(studio: Studio) -> None:
    @ui.page("/endpoints/{endpoint}/deploy")
    async def deploy(request: Request, endpoint: str, edit: str = "") -> None:
        session = studio.session(request)
        with page(session, "New deployment", back=(endpoint, f"/endpoints/{endpoint}")):
            wizard = Wizard(session, endpoint, edit)
            wizard.draw(await Storage(session.client).instance_types())

    @ui.page("/endpoints/{endpoint}/deployments/{name}")
    async def deployment(request: Request, endpoint: str, name: str, traffic: str = "") -> None:
        session = studio.session(request)
        with page(session, name, back=(endpoint, f"/endpoints/{endpoint}")):
            _deployment(session, endpoint, name, gives_traffic=traffic == "all")


def _deployment(session: Session, endpoint: str, name: str, *, gives_traffic: bool) -> None:
    with ui.row().classes("mid"):
        badge = state_badge("")
        ready = ui.label().props("role=status")
    problem = ui.label().classes("wrap mono lane text-negative").props("role=alert")
    problem.set_visibility(False)
    if session.right.can_write and (endpoint, name) in session.drafts:
        address = f"{PREFIX}/endpoints/{endpoint}/deploy?edit={name}"
        mend = ui.button("Mend it", icon="build").props(f'no-caps href="{address}"')
        mend.bind_visibility_from(problem, "visible")
    columns = [
        {"name": key, "label": label, "field": key, "align": "left"}
        for key, label in (
            ("id", "Instance"),
            ("state", "State"),
            ("pid", "Process"),
            ("restarts", "Restarts"),
            ("reason", "Reason"),
        )
    ]
    table = ui.table(columns=columns, rows=[], row_key="id").classes("full-width")
    table.props("flat bordered dense")
    pending = [gives_traffic]

    async def refresh() -> None:
        try:
            found = await session.client.get_deployment(endpoint, name)
            instances = await session.client.instances(endpoint, name)
        except HeadgateError as error:
            if error.error.code is ErrorCode.RESOURCE_NOT_FOUND:
                badge.set_text("deleted")
            return
        badge.set_text(found.state)
        ready.set_text(
            f"{found.properties.get('readyInstances', 0)} of {found.spec.instance_count} "
            f"instances ready · {found.spec.instance_type}"
        )
        problem.set_visibility(found.error is not None)
        if found.error is not None:
            problem.set_text(f"{found.error.code}: {found.error.message}")
        table.rows = [core.instance_row(each) for each in instances]
        if pending[0] and found.state == "Succeeded":
            pending[0] = False
            await guarded(give_traffic)()

    async def give_traffic() -> None:
        stored = await session.client.get_endpoint(endpoint)
        traffic = dict.fromkeys(stored.spec.traffic, 0) | {name: core.WHOLE}
        spec = stored.spec.model_copy(update={"traffic": traffic})
        await session.client.update_endpoint(spec, stored.etag)
        ui.notify(f"{name} has all traffic of {endpoint}", type="positive")

    later(refresh())
    ui.timer(1.5, refresh)
    ui.element("h2").classes("text-h6")._text = "Log"
    logs.LogView(session, endpoint, [name])

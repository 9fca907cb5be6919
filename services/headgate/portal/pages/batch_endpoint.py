"""The page of one batch endpoint: its deployments, a job made by form, and its jobs."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path

from fastapi import Request
from nicegui import events, ui
from pydantic import ValidationError

from headgate.client.api import Found
from headgate.client.jobs import Jobs
from headgate.client.storage import Storage
from headgate.client.uploads import upload
from headgate.portal import batch_core
from headgate.portal.gate import PREFIX
from headgate.portal.pages import batch
from headgate.portal.pages.dialogs import confirm
from headgate.portal.pages.frame import (
    Studio,
    bad_form,
    empty,
    finish,
    guarded,
    page,
    scoring_address,
    tabbed,
)
from headgate.portal.sessions import Session
from headgate_contracts import limits
from headgate_contracts.batch import BatchDefaults, BatchDeploymentSpec, BatchEndpointSpec
from headgate_contracts.errors import ErrorCode, HeadgateError

_FILES_MAX = 1_000
_DEFAULT = "the default deployment"
_UPLOAD, _ADDRESS, _ASSET = "Files from here", "Datastore path or address", "Data asset"


def register(studio: Studio) -> None:
    @ui.page("/batch/{name}")
    async def batch_endpoint(request: Request, name: str) -> None:
        session = studio.session(request)
        with page(session, name, back=("Batch", "/batch")):
            found = await session.client.get_batch_endpoint(name)
            deployments = await session.client.list_batch_deployments(name)
            data = await Storage(session.client).containers("data")
            assets = [str(each.get("name", "")) for each in data]
            scoring_address(found)
            tabbed(
                {
                    "Jobs": partial(
                        batch.jobs_table, partial(session.client.list_batch_jobs, name)
                    ),
                    "Deployments": partial(_deployments, session, found, deployments),
                    "New job": lambda: Invocation(session, found, deployments, assets).draw(),
                    "Settings": partial(_settings, session, found),
                },
                first="Jobs" if deployments else "Deployments",
            )


# --- deployments -------------------------------------------------------------------------------


def _deployments(
    session: Session,
    endpoint: Found[BatchEndpointSpec],
    deployments: list[Found[BatchDeploymentSpec]],
) -> None:
    name = endpoint.spec.name
    if session.right.can_write:
        address = f"{PREFIX}/batch/{name}/deploy"
        ui.button("New deployment", icon="add").props(f'no-caps outline href="{address}"')
    if not deployments:
        empty(
            "No deployment yet.",
            "A batch deployment is a script, often with a model, and how its jobs are run. New "
            "deployment, above, makes the first one.",
        )
    for each in deployments:
        _deployment(session, endpoint, each)


def _deployment(
    session: Session, endpoint: Found[BatchEndpointSpec], found: Found[BatchDeploymentSpec]
) -> None:
    spec, name = found.spec, found.spec.name
    is_default = endpoint.spec.defaults.deployment_name == name
    with ui.column().classes("lane close").mark(f"lane-{name}"):
        with ui.row().classes("full-width mid"):
            ui.label(name).classes("text-h6")
            if is_default:
                ui.badge("default", color="positive").classes("q-px-sm q-py-xs")
            ui.space()
            if session.right.can_write and not is_default:
                ui.button(
                    "Make default", on_click=guarded(partial(make_default, session, spec))
                ).props("flat dense no-caps")
            if session.right.can_delete and not is_default:
                _delete(
                    session,
                    f"the deployment {name!r} of {endpoint.spec.name!r}",
                    partial(session.client.delete_batch_deployment, spec.endpoint_name, name),
                    f"/batch/{endpoint.spec.name}",
                )
        ui.label(batch_core.deployment_text(spec)).classes("quiet wrap")
        if spec.model:
            ui.label(spec.model).classes("mono wrap")


async def make_default(session: Session, spec: BatchDeploymentSpec) -> None:
    """Jobs that name no deployment go to this one from now on."""
    stored = await session.client.get_batch_endpoint(spec.endpoint_name)
    wanted = stored.spec.model_copy(update={"defaults": BatchDefaults(deployment_name=spec.name)})
    started = await session.client.put_batch_endpoint(wanted, stored.etag)
    await finish(session, started, f"making {spec.name} the default of {spec.endpoint_name}")
    ui.navigate.to(f"/batch/{spec.endpoint_name}")


def _delete(
    session: Session, what: str, call: Callable[[], Awaitable[object]], address: str
) -> None:
    async def delete() -> None:
        await call()
        ui.navigate.to(address)

    ask = partial(confirm, f"Delete {what}?", "Delete", delete)
    ui.button("Delete", on_click=ask).props("flat dense no-caps color=negative")


def _settings(session: Session, found: Found[BatchEndpointSpec]) -> None:
    spec = found.spec
    with ui.column().classes("lane"):
        rows = (
            ("Address", str(found.properties.get("scoringUri", ""))),
            ("Opened by", "tokens of people and programs (aad_token)"),
            ("Description", spec.description),
            ("Tags", ", ".join(f"{k}={v}" for k, v in spec.tags.items())),
        )
        for title, text in rows:
            with ui.row().classes("no-wrap"):
                ui.label(title).classes("quiet").style("width: 7rem")
                ui.label(text or "none").classes("wrap")
    if session.right.can_delete:
        _delete(
            session,
            f"the batch endpoint {spec.name!r} with its deployments? Its jobs stay",
            partial(session.client.delete_batch_endpoint, spec.name),
            "/batch",
        )


# --- a new job ---------------------------------------------------------------------------------


class Invocation:
    """The form that makes a job."""

    def __init__(
        self,
        session: Session,
        endpoint: Found[BatchEndpointSpec],
        deployments: list[Found[BatchDeploymentSpec]],
        assets: list[str],
    ) -> None:
        self._session = session
        self._endpoint = endpoint.spec
        self._names = [each.spec.name for each in deployments]
        self._assets = assets
        self._folder = Path(tempfile.mkdtemp(prefix="headgate-studio-"))
        folder = self._folder
        ui.context.client.on_delete(lambda: shutil.rmtree(folder, ignore_errors=True))
        self._files: set[str] = set()

    def draw(self) -> None:
        if not self._session.right.can_write:
            ui.label("Jobs are made by operators of the workspace.").classes("lane")
            return
        if not self._names:
            ui.label("There is no deployment that could run a job yet.").classes("lane")
            return
        with ui.element("div").classes("two"):
            with ui.column():
                self._input()
            with ui.column():
                self._options()
        self._problem = ui.label().classes("text-negative wrap mono").props("role=alert")
        ui.button("Start the job", icon="play_arrow", on_click=guarded(self._start)).props(
            "no-caps"
        )

    def _input(self) -> None:
        ui.label("Input").classes("text-h6")
        self._kind = ui.toggle([_UPLOAD, _ADDRESS, _ASSET], value=_UPLOAD).props("no-caps")
        files = ui.upload(
            label="Files",
            multiple=True,
            auto_upload=True,
            on_upload=self._take,
            max_file_size=limits.STUDIO_UPLOAD_BYTES_MAX,
            max_files=_FILES_MAX,
        ).classes("full-width")
        files.props('flat bordered data-label="Input files"')
        files.bind_visibility_from(self._kind, "value", value=_UPLOAD)
        self._taken = ui.label().classes("quiet").props("role=status")
        with ui.column().classes("full-width") as place:
            self._uri = ui.input(
                "Address", placeholder="azureml://datastores/workspaceblobstore/paths/data/"
            ).classes("full-width")
            self._is_file = ui.switch("A single file, no folder")
        place.bind_visibility_from(self._kind, "value", value=_ADDRESS)
        with ui.column().classes("full-width") as asset:
            if self._assets:
                self._asset = ui.select(
                    self._assets, value=self._assets[0], label="Data asset, newest version"
                ).classes("full-width")
            else:
                ui.label("There is no data asset: headgate data create makes one.").classes("quiet")
        asset.bind_visibility_from(self._kind, "value", value=_ASSET)

    def _options(self) -> None:
        ui.label("Job").classes("text-h6")
        default = self._endpoint.defaults.deployment_name
        choices = {"": f"{_DEFAULT} ({default})"} if default else {}
        choices |= {name: name for name in self._names}
        self._deployment = ui.select(
            choices, value=next(iter(choices)), label="Deployment"
        ).classes("full-width")
        self._name = ui.input("Name (empty: a new one)").classes("full-width")
        with ui.expansion("Other than the deployment says").classes("full-width"):
            self._overrides = {
                key: ui.number(title, precision=0).props("clearable").classes("full-width")
                for key, title in batch_core.OVERRIDES.items()
            }
            self._file_name = ui.input("Name of the output file").classes("full-width")

    async def _take(self, event: events.UploadEventArguments) -> None:
        folder = self._folder / "input"
        folder.mkdir(exist_ok=True)
        name = Path(event.file.name).name
        await event.file.save(folder / name)
        self._files.add(name)
        self._taken.set_text(f"{len(self._files)} files are here")

    async def _source(self) -> tuple[str, bool]:
        """The input's address, and whether it is a single file."""
        if self._kind.value == _UPLOAD:
            if not self._files:
                raise HeadgateError(ErrorCode.BAD_ARGUMENT, "choose the files that the job reads")
            sent = await upload(self._session.client, self._folder / "input", keep_name=False)
            return sent.uri, False
        if self._kind.value == _ASSET:
            if not self._assets:
                raise HeadgateError(ErrorCode.BAD_ARGUMENT, "there is no data asset")
            return f"azureml:{self._asset.value}@latest", False
        return (self._uri.value or "").strip(), bool(self._is_file.value)

    async def _start(self) -> None:
        self._problem.set_text("")
        try:
            uri, is_file = await self._source()
            command = batch_core.invocation(
                workspace=self._session.workspace,
                endpoint=self._endpoint.name,
                deployment=str(self._deployment.value or ""),
                name=(self._name.value or "").strip(),
                uri=uri,
                is_file=is_file,
                file_name=(self._file_name.value or "").strip(),
                overrides={key: field.value for key, field in self._overrides.items()},
            )
            body = await Jobs(self._session.client).invoke(command)
        except HeadgateError as error:
            self._problem.set_text(error.error.message)
            return
        except ValidationError as error:
            self._problem.set_text(bad_form(error).error.message)
            return
        ui.navigate.to(f"/jobs/{body['name']}")

"""What a deployment is made of, as a form holds it: the files that the command line would take."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Generic

import yaml
from nicegui import events, ui

from headgate.azure.yaml_files import YamlFile, YamlFileError
from headgate.azure.yaml_values import D, LocalDeployment
from headgate.portal.pages.frame import Code, editor
from headgate.portal.sessions import Draft
from headgate_contracts import limits

SCRIPT = "score.py"
IMAGE = "mcr.microsoft.com/azureml/minimal-py311-inference"
_FILES_MAX = 100


class Recipe(Generic[D]):
    """A folder with script, packages, model files, and the YAML that names them.

    ``fields`` are what the rest of the form says, in the words of the YAML file; by hand the YAML
    may say anything else about the same files. ``needs_model``: without one, the
    script's folder is it.
    """

    def __init__(
        self,
        draft: Draft,
        read: Callable[[YamlFile], LocalDeployment[D]],
        fields: Callable[[], dict[str, object]],
        command: Callable[[], str],
        *,
        needs_model: bool = False,
    ) -> None:
        self._draft = draft
        self._read: Callable[[YamlFile], LocalDeployment[D]] = read
        self._fields = fields
        self._command = command
        self._needs_model = needs_model
        self._uploads: list[str] = []
        self.folder = Path(tempfile.mkdtemp(prefix="headgate-studio-"))
        (self.folder / "code").mkdir()
        folder = self.folder
        ui.context.client.on_delete(lambda: shutil.rmtree(folder, ignore_errors=True))

    # -- what is shown --------------------------------------------------------------------------

    def draw_model(self, names: Iterable[str]) -> None:
        """A choice of what is registered, and files to upload instead."""
        choices = {"": "none; the script alone"}
        choices |= {f"azureml:{name}@latest": f"{name}, newest version" for name in names}
        if self._draft.model:
            choices[self._draft.model] = self._draft.model
        self.model = ui.select(choices, value=self._draft.model, label="Model")
        self.model.classes("full-width")
        ui.upload(
            label="New model files",
            multiple=True,
            auto_upload=True,
            on_upload=self._take,
            max_file_size=limits.STUDIO_UPLOAD_BYTES_MAX,
            max_files=_FILES_MAX,
        ).classes("full-width").props('flat bordered data-label="Model files"')

    def draw(self) -> None:
        """Tabs for the script, the packages and the YAML."""
        with ui.tabs().props("dense no-caps align=left") as tabs:
            script, packages, as_yaml = (
                ui.tab(title) for title in ("Scoring script", "Packages (conda)", "YAML")
            )
        with ui.tab_panels(tabs, value=script).classes("full-width"):
            with ui.tab_panel(script):
                self.script = editor(self._draft.script, "Python", "Scoring script", "22rem")
            with ui.tab_panel(packages):
                if not self._needs_model:
                    ui.label("Empty: the interpreter that runs Headgate, as it is.")
                self.conda = editor(self._draft.conda, "YAML", "Conda packages", "20rem")
            with ui.tab_panel(as_yaml):
                self.by_hand = ui.switch(
                    "Write it by hand, instead of the form", value=bool(self._draft.by_hand)
                )
                self.yaml = editor(self._draft.by_hand, "YAML", "YAML of the deployment", "19rem")
                self._shown = Code("command")

    def draw_problems(self) -> None:
        self._problems = ui.label().classes("text-negative wrap mono").props("role=alert")
        self.yaml.bind_enabled_from(self.by_hand, "value")
        self.yaml.on_value_change(self._typed)
        self.by_hand.on_value_change(self.refresh)
        self.conda.on_value_change(self.refresh)
        self.model.on_value_change(self.refresh)
        self.refresh()

    def refresh(self) -> None:
        """The YAML follows the form, unless it is written by hand."""
        if not self.by_hand.value:
            self.yaml.set_value(yaml.safe_dump(self.document(), sort_keys=False))
            self._problems.set_text("")
        self._shown.set_content(self._command())

    def _typed(self) -> None:
        if self.by_hand.value:
            self.checked()

    async def _take(self, event: events.UploadEventArguments) -> None:
        name = Path(event.file.name).name
        folder = self.folder / "model"
        folder.mkdir(exist_ok=True)
        await event.file.save(folder / name)
        self._uploads.append(name)
        self.refresh()

    # -- what it means --------------------------------------------------------------------------

    def document(self) -> dict[str, object]:
        """The form as the YAML file that means the same."""
        document = self._fields()
        document["code_configuration"] = {"code": "code", "scoring_script": SCRIPT}
        if self._uploads:
            document["model"] = {"path": "model"}
        elif self.model.value:
            document["model"] = self.model.value
        elif self._needs_model:
            document["model"] = {"path": "code"}  # what there is
        if (self.conda.value or "").strip():
            document["environment"] = {"conda_file": "conda.yml", "image": IMAGE}
        return document

    def checked(self) -> LocalDeployment[D] | None:
        """The deployment with its files; None, and the reasons on the page, if it cannot be one."""
        (self.folder / "code" / SCRIPT).write_text(self.script.value or "", encoding="utf-8")
        (self.folder / "conda.yml").write_text(self.conda.value or "", encoding="utf-8")
        text = self.yaml.value if self.by_hand.value else None
        if text is None:
            text = yaml.safe_dump(self.document(), sort_keys=False)
        try:
            local = self._read(YamlFile.of_text(text.encode(), self.folder / "deployment.yml"))
        except YamlFileError as error:
            found = "\n".join(map(str, error.problems))
            self._problems.set_text(found.replace(f"{self.folder}/", ""))
            return None
        self._problems.set_text("")
        return local

    def tell(self, problem: str) -> None:
        self._problems.set_text(problem)

    @property
    def hand_written(self) -> str:
        return str(self.yaml.value or "") if self.by_hand.value else ""

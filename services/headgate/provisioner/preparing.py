"""Makes a version ready to start: resolves its references, lays out code, model, environment."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from headgate.provisioner import collection, mlflow_models
from headgate.provisioner.artefacts import Artefacts
from headgate.provisioner.building import Journal
from headgate.provisioner.collection import Target
from headgate.provisioner.core import version_from, version_of
from headgate.provisioner.drivers import Base
from headgate.provisioner.environments import Environments
from headgate.provisioner.state import Key, Memory, Recipe
from headgate.runtime.bus import Bus
from headgate.runtime.copies import remove_tree
from headgate_contracts.errors import ErrorCode, HeadgateError
from headgate_contracts.registry import AssetReply, GetAsset
from headgate_contracts.resources import (
    Deployment,
    DeploymentSpec,
    EnvironmentSpec,
    ModelSpec,
)

Say = Callable[[str], None]
_REFERENCE = "azureml:"
LANES_MAX = 256
JOURNALS_KEPT = 10


@dataclass(frozen=True, slots=True)
class Prepared:
    """A version that can be started."""

    base: Base
    code: Path | None
    capacity: int
    lanes: int
    variables: dict[str, str] = field(repr=False)
    collect: str = ""
    target: Target | None = None
    egress: bool = True
    model_mount_path: str = ""


@dataclass(frozen=True, slots=True)
class _Laid:
    """A version whose content is on this machine. ``code`` is the folder that it starts in."""

    code: Path | None
    variables: dict[str, str] = field(repr=False)
    recipe: Recipe


class Preparer:
    """Prepares versions; whatever is here already is not done again."""

    def __init__(
        self,
        bus: Bus,
        memory: Memory,
        artefacts: Artefacts,
        environments: Environments,
        logs: Path,
    ) -> None:
        self._bus = bus
        self._memory = memory
        self._artefacts = artefacts
        self._environments = environments
        self._logs = logs

    def log_of(self, key: Key, spec: str) -> Path:
        """Where the preparation of a version is written down."""
        return self._logs / f"{key[0]}.{key[1]}" / f"{spec}.log"

    async def logs_of(self, key: Key, spec: str) -> list[Path]:
        """The same with the log of its environment's build."""
        recipe = await self._memory.recipe(key, spec)
        builds = self._environments.logs_of(recipe.environment) if recipe else []
        return [self.log_of(key, spec), *builds]

    async def sweep(self, in_use: set[tuple[Key, str]]) -> None:
        """Remove content that no version needs. Nothing is done while something runs of which we
        do not know what it needs."""
        recipes = await self._memory.recipes()
        known = {v for v, recipe in recipes.items() if recipe.code_place or recipe.model_place}
        if not in_use <= known:
            return
        await self._artefacts.sweep(
            place
            for recipe in recipes.values()
            for place in (recipe.code_place, recipe.model_place)
        )
        await self._environments.sweep(
            [(recipe.environment, recipe.made) for recipe in recipes.values()]
        )

    async def forget(self, key: Key) -> None:
        """Remove the journals of a deployment."""
        await asyncio.to_thread(remove_tree, self.log_of(key, "x").parent)

    async def prepare(self, spec: str, wanted: Deployment) -> Prepared:
        """Raises HeadgateError that says what in the deployment cannot be met."""
        key, workspace = (wanted.spec.endpoint_name, wanted.spec.name), wanted.workspace
        journal = Journal(self.log_of(key, spec))
        await asyncio.to_thread(_keep_newest, journal.path.parent, JOURNALS_KEPT)
        try:
            recipe = await self._memory.recipe(key, spec)
            if recipe is None:
                if version_of(wanted) != spec:
                    raise HeadgateError(
                        ErrorCode.RESOURCE_NOT_FOUND, f"version {spec} is not known any more"
                    )
                recipe = await self._recipe_of(key, wanted)
                await self._memory.remember_recipe(key, spec, recipe)
            laid = await self._lay_out(recipe, journal.say)
            deployment = recipe.deployment
            folders = collection.folders_of(deployment, recipe.collected)
            egress = deployment.egress_public_network_access == "enabled"
            based = await self._environments.base_for(
                laid.recipe.environment, recipe.made, egress, journal.say
            )
            pinned = laid.recipe.model_copy(update={"made": based.made})
            if pinned != recipe:
                await self._memory.remember_recipe(key, spec, pinned)
            return Prepared(
                base=based.base,
                code=laid.code,
                capacity=deployment.request_settings.max_concurrent_requests_per_instance,
                lanes=1 if laid.code is None else lanes_of(deployment),
                variables=laid.variables,
                collect=collection.told(deployment, workspace, folders),
                target=collection.target_of(deployment, workspace, spec, folders),
                egress=egress,
                model_mount_path=deployment.model_mount_path or "",
            )
        except HeadgateError as error:
            journal.say(f"failed: {error}")
            raise

    async def prepare_once(self, recipe: Recipe, journal: Journal) -> Prepared:
        """What a node of a batch job starts from; nothing of it is remembered.

        Raises HeadgateError that says what cannot be met.
        """
        try:
            laid = await self._lay_out(recipe, journal.say)
            based = await self._environments.base_for(
                laid.recipe.environment, recipe.made, True, journal.say
            )
        except HeadgateError as error:
            journal.say(f"failed: {error}")
            raise
        return Prepared(
            base=based.base, code=laid.code, capacity=1, lanes=1, variables=laid.variables
        )

    async def _lay_out(self, recipe: Recipe, say: Say) -> _Laid:
        """Copies of code and model, and the recipe with the places of its content."""
        configuration = recipe.deployment.code_configuration
        if recipe.environment is not None and recipe.environment.inference_config is not None:
            return await self._lay_out_for_server(recipe, say)
        if configuration is None or recipe.code is None:
            return await self._lay_out_mlflow(recipe, say)
        script = configuration.scoring_script
        code = await self._artefacts.code(recipe.code, script, recipe.code_place, say)
        variables = recipe.deployment.variables
        variables |= {"AML_APP_ROOT": str(code), "AZUREML_ENTRY_SCRIPT": script}
        variables.pop("AZUREML_MODEL_DIR", None)
        recipe = recipe.model_copy(update={"code_place": code.name})
        if recipe.model is not None:
            directory, recipe = await self._model(recipe.model, recipe, say)
            variables["AZUREML_MODEL_DIR"] = str(directory)
        return _Laid(code, variables, recipe)

    async def _lay_out_for_server(self, recipe: Recipe, say: Say) -> _Laid:
        """An image with a server of its own gets its model, if it has one, and no script."""
        if recipe.deployment.batching is not None:
            raise HeadgateError(
                ErrorCode.BAD_ARGUMENT,
                "an image with a server of its own is asked request by request; leave batching "
                "out, and let that server batch",
                target="batching",
            )
        variables = recipe.deployment.variables
        if recipe.model is not None:
            directory, recipe = await self._model(recipe.model, recipe, say)
            variables["AZUREML_MODEL_DIR"] = str(directory)
        return _Laid(None, variables, recipe)

    async def _lay_out_mlflow(self, recipe: Recipe, say: Say) -> _Laid:
        """A model that says itself how it is loaded and what it needs for that."""
        model = recipe.model
        if model is None or model.type != "mlflow_model":
            raise _without_script(model)
        directory, recipe = await self._model(model, recipe, say)
        folder = await asyncio.to_thread(mlflow_models.find, directory)
        if recipe.environment is None:
            needs = await asyncio.to_thread(
                lambda: mlflow_models.needs(mlflow_models.reader(folder))
            )
            for note in needs.notes:
                say(note)
            recipe = recipe.model_copy(update={"environment": _made_for(model, needs)})
        variables = recipe.deployment.variables
        variables.pop("AZUREML_ENTRY_SCRIPT", None)  # none is what makes the worker bring its own
        variables |= {
            "AML_APP_ROOT": str(folder),
            "AZUREML_MODEL_DIR": str(directory),
            "MLFLOW_MODEL_FOLDER": folder.relative_to(directory).as_posix(),
        }
        return _Laid(folder, variables, recipe)

    async def _model(self, model: ModelSpec, recipe: Recipe, say: Say) -> tuple[Path, Recipe]:
        """Its AZUREML_MODEL_DIR, and the recipe with the place of its content."""
        place = await self._artefacts.model(model, recipe.model_place, say)
        directory = self._artefacts.model_directory(place, model)
        return directory, recipe.model_copy(update={"model_place": place.name})

    async def _recipe_of(self, key: Key, wanted: Deployment) -> Recipe:
        """A version that differs in the build of its environment alone keeps all the rest."""
        same = version_from(wanted.spec)
        for known in await self._memory.recipes_of(key):
            if version_from(known.deployment) == same:
                return known.model_copy(update={"made": None})
        return await self._resolve(wanted.workspace, wanted.spec)

    async def _resolve(self, workspace: str, deployment: DeploymentSpec) -> Recipe:
        code = model = environment = None
        if deployment.code_configuration is not None:
            reply = await self._asset(workspace, "codes", deployment.code_configuration.code)
            code = reply.code.spec if reply.code else None
        if deployment.model is not None:
            reply = await self._asset(workspace, "models", deployment.model)
            model = reply.model.spec if reply.model else None
        if deployment.environment is not None:
            reply = await self._asset(workspace, "environments", deployment.environment)
            environment = reply.environment.spec if reply.environment else None
        return Recipe(
            deployment=deployment,
            code=code,
            model=model,
            environment=environment,
            collected=await self._collected(workspace, deployment),
        )

    async def _collected(self, workspace: str, deployment: DeploymentSpec) -> dict[str, str]:
        """The paths of the data assets that collections name."""
        wanted = deployment.data_collector
        paths: dict[str, str] = {}
        for name, each in wanted.enabled.items() if wanted else ():
            if each.data is not None:
                reply = await self._asset(workspace, "data", each.data)
                if reply.data is not None:
                    paths[name] = reply.data.spec.path
        return paths

    async def _asset(self, workspace: str, kind: str, reference: str) -> AssetReply:
        name, separator, version = reference.removeprefix(_REFERENCE).partition(":")
        if not reference.startswith(_REFERENCE) or not separator:
            raise HeadgateError(
                ErrorCode.BAD_ARGUMENT,
                f"{reference!r} is not a resolved reference (azureml:<name>:<version>)",
                target=kind,
            )
        query = GetAsset.model_validate(
            {"workspace": workspace, "kind": kind, "name": name, "version": version}
        )
        return await self._bus.ask(query, AssetReply)


def lanes_of(deployment: DeploymentSpec) -> int:
    """How many model processes an instance has; what is no number counts as one."""
    count = deployment.environment_variables.get("WORKER_COUNT", "1").strip()
    return min(max(1, int(count)), LANES_MAX) if count.isdecimal() else 1


def _keep_newest(folder: Path, count: int) -> None:
    for old in sorted(folder.iterdir(), key=lambda p: p.stat().st_mtime)[:-count]:
        old.unlink(missing_ok=True)


def _made_for(model: ModelSpec, needs: mlflow_models.Needs) -> EnvironmentSpec:
    return EnvironmentSpec(
        name=model.name, version=model.version, conda_file=needs.conda_file, is_anonymous=True
    )


def _without_script(model: ModelSpec | None) -> HeadgateError:
    kind = f"a {model.type}" if model else "no model"
    return HeadgateError(
        ErrorCode.BAD_ARGUMENT,
        f"the deployment has {kind} and no code_configuration; only an mlflow_model can be "
        "deployed without a scoring script. Add code_configuration with `code` and "
        "`scoring_script`",
        target="code_configuration",
    )

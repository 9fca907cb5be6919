"""Makes the environments in use anew, and rolls the deployments whose environment has changed.

One round at a time: each environment is looked at, and where it has become another one the registry
is asked to let its deployments run on that, a few at a time. From there on it is an update like any
other: new instances are ready before old ones go, and a version that fails is taken back.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from headgate.provisioner import made as making
from headgate.provisioner.core import version_of
from headgate.provisioner.environments import Environments
from headgate.provisioner.made import Made
from headgate.provisioner.state import Key, Memory, Recipe
from headgate.runtime.bus import Bus
from headgate.runtime.clock import Clock, short_id
from headgate.runtime.files import write_atomic
from headgate.runtime.log import Log
from headgate_contracts import limits
from headgate_contracts.errors import ErrorCode, HeadgateError, WireError
from headgate_contracts.refreshing import (
    EnvironmentChanged,
    EnvironmentLook,
    GetRefresh,
    LookState,
    Refresh,
    RefreshDeployment,
    RefreshEnvironments,
    RefreshReply,
    Roll,
    RollState,
)
from headgate_contracts.registry import DeploymentReply, GetDeployment
from headgate_contracts.resources import Deployment, EnvironmentSpec, ProvisioningState

ROLLS_AT_ONCE = 2  # each takes the room of a surge
ROLL_S_MAX = 3_600.0
_POLL_S = 0.5
_PASSING = (  # a change that is under way, and what ends by itself
    ErrorCode.RESOURCE_CONFLICT,
    ErrorCode.RESOURCE_NOT_FOUND,
    ErrorCode.UNAVAILABLE,
    ErrorCode.TIMED_OUT,
    ErrorCode.REGISTRY_BUSY,
)

_log = Log("provisioner")


@dataclass(frozen=True, slots=True)
class Use:
    """One build of an environment, and the deployments that run on it."""

    environment: EnvironmentSpec | None
    made: Made
    deployments: tuple[Deployment, ...]

    @property
    def name(self) -> str:
        return self.environment.name if self.environment else ""

    @property
    def version(self) -> str:
        return self.environment.version if self.environment else ""

    def look(self) -> EnvironmentLook:
        """What is known before anything was looked at."""
        rolls = tuple(
            Roll(workspace=d.workspace, endpoint=d.spec.endpoint_name, deployment=d.spec.name)
            for d in self.deployments
        )
        return EnvironmentLook(
            name=self.name, version=self.version, build=self.made.build, deployments=rolls
        )


def uses_of(
    deployments: Iterable[Deployment],
    recipes: Mapping[tuple[Key, str], Recipe],
    command: RefreshEnvironments,
) -> list[Use]:
    """The environments that a command means, in order of their names.

    An environment that a model brought along, or none at all, has no version to be named by.
    """
    found: dict[tuple[str, str, str], list[tuple[Deployment, Recipe]]] = {}
    for deployment in deployments:
        key = (deployment.spec.endpoint_name, deployment.spec.name)
        recipe = recipes.get((key, version_of(deployment)))
        is_leaving = deployment.provisioning_state is ProvisioningState.DELETING
        if recipe is None or recipe.made is None or is_leaving:
            continue
        if command.workspace not in ("", deployment.workspace):
            continue
        named = recipe.environment or EnvironmentSpec(name="-")
        if command.name not in ("", named.name) or command.version not in ("", named.version):
            continue
        place = (named.name, named.version, recipe.made.id)
        found.setdefault(place, []).append((deployment, recipe))
    return [
        Use(pairs[0][1].environment, pairs[0][1].made, tuple(each for each, _ in pairs))
        for _, pairs in sorted(found.items())
        if pairs[0][1].made is not None
    ]


class Refresher:
    """``deployments`` are all that this provisioner looks after. ``every_s``: 0 for never."""

    def __init__(
        self,
        bus: Bus,
        clock: Clock,
        memory: Memory,
        environments: Environments,
        deployments: Callable[[], Iterable[Deployment]],
        *,
        every_s: float,
        note: Path,
    ) -> None:
        """``note`` is a file that keeps when the schedule was last kept."""
        self._bus = bus
        self._clock = clock
        self._memory = memory
        self._environments = environments
        self._deployments = deployments
        self._every_s = every_s
        self._note = note
        self._refreshes: dict[str, Refresh] = {}
        self._waiting: asyncio.Queue[tuple[str, RefreshEnvironments]] = asyncio.Queue(
            limits.REFRESHES_WAITING_MAX
        )

    # --- answers -------------------------------------------------------------------------------

    async def begin(self, command: RefreshEnvironments) -> RefreshReply:
        """Take a refresh on; it is done after those that were asked for before."""
        refresh = Refresh(
            id=short_id(),
            workspace=command.workspace,
            dry_run=command.dry_run,
            started_at=self._clock.now(),
        )
        try:
            self._waiting.put_nowait((refresh.id, command))
        except asyncio.QueueFull:
            raise HeadgateError(
                ErrorCode.QUOTA_EXCEEDED,
                f"{limits.REFRESHES_WAITING_MAX} refreshes of environments wait already; "
                "look at those, or ask again later",
            ) from None
        self._refreshes[refresh.id] = refresh
        for old in list(self._refreshes)[: -limits.REFRESHES_KEPT_MAX]:
            del self._refreshes[old]
        return RefreshReply(refresh=refresh)

    async def get(self, query: GetRefresh) -> RefreshReply:
        found = self._refreshes.get(query.refresh_id)
        if found is None or found.workspace != query.workspace:
            raise HeadgateError(
                ErrorCode.RESOURCE_NOT_FOUND,
                f"there is no refresh {query.refresh_id[:80]!r} in this workspace; only the latest "
                "are remembered, until the next restart. Deployments that it had begun to roll go "
                "on; ask for another refresh to see the rest",
                target="refresh",
            )
        return RefreshReply(refresh=found)

    # --- the work ------------------------------------------------------------------------------

    async def run(self) -> None:
        """Do what is asked for, and what the schedule says, for ever."""
        while True:
            due_in_s = await asyncio.to_thread(self._due_in_s)
            try:
                async with asyncio.timeout(due_in_s):
                    refresh_id, command = await self._waiting.get()
            except TimeoutError:
                await asyncio.to_thread(self._keep_schedule)
                with contextlib.suppress(HeadgateError):  # so many wait that it is done anyway
                    await self.begin(RefreshEnvironments())
                continue
            await self._refresh(refresh_id, command)

    def _due_in_s(self) -> float | None:
        if not self._every_s:
            return None
        try:
            last = float(self._note.read_text())
        except (OSError, ValueError):  # the schedule begins now
            self._keep_schedule()
            return self._every_s
        return max(0.0, min(last, self._clock.now()) + self._every_s - self._clock.now())

    def _keep_schedule(self) -> None:
        write_atomic(self._note, f"{self._clock.now()}\n")

    async def _refresh(self, refresh_id: str, command: RefreshEnvironments) -> None:
        recipes = await self._memory.recipes()
        uses = uses_of(self._deployments(), recipes, command)
        looks = [use.look() for use in uses]
        self._tell(refresh_id, looks)
        for number, use in enumerate(uses):

            def note(look: EnvironmentLook, number: int = number) -> None:
                looks[number] = look
                self._tell(refresh_id, looks)

            await self._renew(use, command, looks[number], note)
        self._tell(refresh_id, looks, is_over=True)

    def _tell(
        self, refresh_id: str, looks: list[EnvironmentLook], *, is_over: bool = False
    ) -> None:
        refresh = self._refreshes.get(refresh_id)
        if refresh is not None:
            ended_at = self._clock.now() if is_over else None
            news = {"environments": tuple(looks), "ended_at": ended_at}
            self._refreshes[refresh_id] = refresh.model_copy(update=news)

    async def _renew(
        self,
        use: Use,
        command: RefreshEnvironments,
        look: EnvironmentLook,
        note: Callable[[EnvironmentLook], None],
    ) -> None:
        """Look at one environment, and roll its deployments when it has changed."""
        look = look.model_copy(update={"state": LookState.CHECKING})
        note(look)
        made = use.made
        try:
            if command.dry_run:
                found = await self._environments.look(use.environment, made, _quiet)
                changes, unknown = found.changes, found.unknown
            else:
                renewed = await self._environments.renew(use.environment, made, _quiet)
                made, unknown = renewed.made, making.bounded(renewed.unknown)
                changes = making.changes(use.made, made)
        except HeadgateError as error:
            _log.warning("refresh_failed", environment=use.name, error=str(error))
            note(look.model_copy(update={"state": LookState.FAILED, "error": error.error}))
            return
        state = LookState.CHANGED if changes else LookState.SAME
        look = look.model_copy(update={"state": state, "changes": changes, "unknown": unknown})
        note(look)
        _log.info("environment_looked_at", environment=use.name, state=state.value)
        if not changes:
            return
        await self._memory.say(
            EnvironmentChanged(
                name=use.name or "default",
                version=use.version,
                sha256=use.made.build,
                changes=changes,
                deployments=len(use.deployments),
                dry_run=command.dry_run,
            )
        )
        if not command.dry_run:
            await self._roll_all(use, made, look, command.by, note)

    # --- rolling -------------------------------------------------------------------------------

    async def _roll_all(
        self,
        use: Use,
        made: Made,
        look: EnvironmentLook,
        by: str,
        note: Callable[[EnvironmentLook], None],
    ) -> None:
        rolls = list(look.deployments)
        free = asyncio.Semaphore(ROLLS_AT_ONCE)

        def tell(number: int, state: RollState, error: WireError | None = None) -> None:
            rolls[number] = rolls[number].model_copy(update={"state": state, "error": error})
            note(look.model_copy(update={"deployments": tuple(rolls)}))

        async def roll(number: int, deployment: Deployment) -> None:
            async with free:
                tell(number, RollState.ROLLING)
                command = RefreshDeployment(
                    workspace=deployment.workspace,
                    endpoint=deployment.spec.endpoint_name,
                    name=deployment.spec.name,
                    build=made.build,
                    changes=look.changes,
                    by=by,
                )
                try:
                    async with asyncio.timeout(ROLL_S_MAX):
                        tell(number, *await self._roll(command, deployment))
                except TimeoutError:
                    text = f"it was not rolled within {ROLL_S_MAX:g} s"
                    late = WireError(code=ErrorCode.RESOURCE_NOT_READY, message=text)
                    tell(number, RollState.FAILED, late)

        await asyncio.gather(*(roll(n, each) for n, each in enumerate(use.deployments)))

    async def _roll(
        self, command: RefreshDeployment, seen: Deployment
    ) -> tuple[RollState, WireError | None]:
        """Let the registry have a deployment replaced, and wait for what becomes of it."""
        while True:
            found = await self._settled(command, lambda now: now.provisioning_state.is_final)
            if found is None or not _is_same(found, seen, command.build):
                return RollState.SUPERSEDED, None
            if found.environment_build == command.build:
                break
            try:
                await self._bus.ask(command, DeploymentReply)
            except HeadgateError as error:
                if error.error.code not in _PASSING:
                    return RollState.FAILED, error.error
                await asyncio.sleep(_POLL_S)
        if found.provisioning_state is ProvisioningState.SUCCEEDED:
            return RollState.SUCCEEDED, None
        return RollState.FAILED, found.error

    async def _settled(
        self, command: RefreshDeployment, is_reached: Callable[[Deployment], bool]
    ) -> Deployment | None:
        """The deployment once it is as wanted; None when it is gone."""
        query = GetDeployment(
            workspace=command.workspace, endpoint=command.endpoint, name=command.name
        )
        while True:
            try:
                found = (await self._bus.ask(query, DeploymentReply)).deployment
            except HeadgateError as error:
                if error.error.code is ErrorCode.RESOURCE_NOT_FOUND:
                    return None
            else:
                if found.provisioning_state is ProvisioningState.DELETING:
                    return None
                if is_reached(found):
                    return found
            await asyncio.sleep(_POLL_S)


def _is_same(now: Deployment, seen: Deployment, build: str) -> bool:
    """Whether it still runs on the environment that was looked at, or on the new one already."""
    return (
        now.created_at == seen.created_at
        and now.spec.environment == seen.spec.environment
        and now.environment_build in (seen.environment_build, build)
    )


def _quiet(_: str) -> None:
    """What is done is in the log of the build."""

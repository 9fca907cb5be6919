"""Batch jobs among their real neighbours: bus, registry, provisioner with nodes, batch service."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

from headgate.batch import app as batch_app
from headgate.provisioner import app as provisioner_app
from headgate.registry import app as registry_app
from headgate.runtime import natsd
from headgate.runtime.bootstrap import bootstrap
from headgate.runtime.bus import Bus, Msg
from headgate.runtime.clock import SystemClock
from headgate.runtime.service import Service
from headgate.runtime.settings import Settings
from headgate.runtime.store import Store
from headgate_contracts import batch, registry, rpc, storage, subjects
from headgate_contracts.batch import BatchDeploymentSpec, BatchEndpointSpec
from headgate_contracts.envelope import Command, Query
from headgate_contracts.jobs import (
    DeadLetter,
    GetJob,
    Job,
    JobInput,
    JobOutput,
    JobOverrides,
    JobStatus,
    ListDeadLetters,
    SubmitJob,
)
from headgate_contracts.resources import CodeConfiguration, CodeSpec, EnvironmentSpec, ModelSpec

WORKSPACE = "local"
ENDPOINT = "numbers"
DATA = "azureml://datastores/workspaceblobstore/paths"
T = TypeVar("T")
_BUILDS = {
    "registry": registry_app.build,
    "provisioner": provisioner_app.build,
    "batch": batch_app.build,
}

# Doubles the number in each file. What a file holds besides a number makes it fail.
DOUBLE = """
import os

def init():
    print("the model is loaded")

def run(mini_batch):
    found = []
    for path in mini_batch:
        with open(path) as file:
            found.append(f"{os.path.basename(path)},{2 * int(file.read())}")
    return found
"""


async def eventually(look: Callable[[], Awaitable[T]], *, within_s: float = 30.0) -> T:
    """The first result of ``look`` that is true."""
    async with asyncio.timeout(within_s):
        while not (found := await look()):
            await asyncio.sleep(0.05)
    return found


class House:
    """All services of batch jobs in this process; each can be stopped and started."""

    def __init__(self, server: natsd.RunningServer, settings: Settings) -> None:
        self.server = server
        self.settings = settings
        self.store = Store(settings.store_url())
        self.services: dict[str, Service] = {}
        self.events: list[tuple[str, bytes]] = []
        self._versions = 0

    async def open(self) -> None:
        boot = await self.connect("bootstrap")
        await bootstrap(boot)
        await boot.close()
        self.probe = await self.connect("probe")
        await self.probe.subscribe(subjects.events_of("job"), self._note)
        for name in _BUILDS:
            await self.start(name)
        for command in (
            batch.PutBatchEndpoint(workspace=WORKSPACE, spec=BatchEndpointSpec(name=ENDPOINT)),
            registry.PutModel(
                workspace=WORKSPACE, spec=ModelSpec(name="model", version="1", path="uploads/m")
            ),
            registry.PutEnvironment(
                workspace=WORKSPACE, spec=EnvironmentSpec(name="none", version="1")
            ),
        ):
            await self.ask(command)
        await self.store.put("uploads/m", b"2")

    async def close(self) -> None:
        for name in reversed(_BUILDS):
            await self.stop(name)
        await self.probe.close()

    async def start(self, name: str) -> None:
        bus = await self.connect(name)
        self.services[name] = await _BUILDS[name](self.settings, bus, SystemClock())
        await self.services[name].start()

    async def stop(self, name: str) -> None:
        if service := self.services.pop(name, None):
            await service.stop()

    async def connect(self, name: str) -> Bus:
        return await Bus.connect(name, self.server.url, self.server.creds(name), SystemClock())

    async def ask(self, request: Command | Query) -> Any:
        return await self.probe.ask(request, rpc.reply_of(type(request)), timeout_s=10)

    async def _note(self, message: Msg) -> None:
        self.events.append((message.subject.rpartition(".")[2], message.data))

    # --- what users do ---

    async def deploy(
        self, script: str = DOUBLE, name: str = "blue", compute: str | None = None, **fields: Any
    ) -> None:
        """A deployment with this script; the only one gets what names none."""
        self._versions += 1
        prefix = f"uploads/{self._versions:064x}/code"
        await self.store.put(f"{prefix}/score.py", script.encode())
        spec = CodeSpec(name="code", version=str(self._versions), path=prefix)
        await self.ask(registry.PutCode(workspace=WORKSPACE, spec=spec))
        deployment = BatchDeploymentSpec(
            name=name,
            endpoint_name=ENDPOINT,
            model="azureml:model:1",
            environment="azureml:none:1",
            code_configuration=CodeConfiguration(
                code=f"azureml:code:{self._versions}", scoring_script="score.py"
            ),
            compute=compute,
            **fields,
        )
        await self.ask(batch.PutBatchDeployment(workspace=WORKSPACE, spec=deployment))
        defaults = batch.BatchDefaults(deployment_name=name)
        endpoint = BatchEndpointSpec(name=ENDPOINT, defaults=defaults)
        await self.ask(batch.PutBatchEndpoint(workspace=WORKSPACE, spec=endpoint))

    async def compute(self, name: str = "pool", **fields: Any) -> str:
        spec = storage.ComputeSpec(name=name, **fields)
        await self.ask(storage.PutCompute(workspace=WORKSPACE, spec=spec))
        return f"azureml:{name}"

    async def upload(self, folder: str, contents: Mapping[str, str]) -> str:
        """Files in the default datastore; their address."""
        base = f"workspaces/{WORKSPACE}/workspaceblobstore/{folder}"
        for name, text in contents.items():
            await self.store.put(f"{base}/{name}", text.encode())
        return f"{DATA}/{folder}/"

    async def numbers(self, count: int, folder: str = "numbers") -> str:
        return await self.upload(folder, {f"{n:05}.txt": str(n) for n in range(count)})

    async def submit(self, uri: str, *, output: str = "", **fields: Any) -> Job:
        overrides = fields.pop("overrides", {})
        command = SubmitJob(
            workspace=WORKSPACE,
            endpoint=ENDPOINT,
            inputs={"x": JobInput(type=fields.pop("type", "uri_folder"), uri=uri)},
            outputs={"y": JobOutput(uri=output)} if output else {},
            overrides=JobOverrides(**overrides),
            **fields,
        )
        job: Job = (await self.ask(command)).job
        return job

    async def job(self, name: str) -> Job:
        found: Job = (await self.ask(GetJob(workspace=WORKSPACE, name=name))).job
        return found

    async def until(self, name: str, *statuses: JobStatus, within_s: float = 40.0) -> Job:
        """The job once it has one of the statuses; that it has ended, without any."""

        async def look() -> Job | None:
            found = await self.job(name)
            reached = found.status in statuses if statuses else found.status.is_final
            return found if reached else None

        found = await eventually(look, within_s=within_s)
        assert found is not None
        return found

    async def output(self, job: Job, name: str = "predictions.csv") -> str:
        key = f"workspaces/{WORKSPACE}/workspaceblobstore/azureml/{job.name}/score/{name}"
        return (await self.store.read(key, bytes_max=10**9)).decode()

    async def log(self, job: Job, name: str) -> str:
        prefix = f"workspaces/{WORKSPACE}/workspaceartifactstore/ExperimentRun/dcid.{job.name}"
        found = [blob.key async for blob in self.store.walk(prefix) if blob.key.endswith(name)]
        texts = [await self.store.read(key, bytes_max=10**8) for key in found]
        return b"\n".join(texts).decode()

    async def dead_letters(self, job: Job) -> tuple[DeadLetter, ...]:
        reply = await self.ask(ListDeadLetters(workspace=WORKSPACE, name=job.name))
        found: tuple[DeadLetter, ...] = reply.dead_letters
        return found


def doubled(count: int) -> str:
    """What DOUBLE makes of :meth:`House.numbers`."""
    return "".join(f"{n:05}.txt,{2 * n}\n" for n in range(count))


@asynccontextmanager
async def house(folder: Path, **fields: Any) -> AsyncIterator[House]:
    async with natsd.running(folder) as server:
        found = House(server, Settings(data=folder, **fields))
        await found.open()
        try:
            yield found
        finally:
            await found.close()

"""What a user of batch jobs does, said on the bus: deploys a script, uploads, submits, waits."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeVar

from headgate.runtime.bus import Bus
from headgate.runtime.store import Store
from headgate_contracts import batch, registry, rpc, storage
from headgate_contracts.batch import BatchDeploymentSpec, BatchEndpointSpec
from headgate_contracts.envelope import Command, Query
from headgate_contracts.errors import Blame, HeadgateError
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
STORED = f"workspaces/{WORKSPACE}/workspaceblobstore"
T = TypeVar("T")


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


async def eventually(
    look: Callable[[], Awaitable[T]], *, within_s: float = 30.0, every_s: float = 0.05
) -> T:
    """The first result of ``look`` that is true."""
    async with asyncio.timeout(within_s):
        while not (found := await look()):
            await asyncio.sleep(every_s)
    return found


class BatchUser:
    """One user with one batch endpoint. Asks by ``probe``, keeps files in ``store``."""

    probe: Bus
    store: Store
    _versions = 0

    async def settle_in(self) -> None:
        """Make what every deployment needs."""
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

    async def ask(self, request: Command | Query) -> Any:
        return await self.probe.ask(request, rpc.reply_of(type(request)), timeout_s=10)

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
        base = f"{STORED}/{folder}"
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
        """A job as it is; waits for a service that is away."""

        async def look() -> Job | None:
            try:
                found: Job = (await self.ask(GetJob(workspace=WORKSPACE, name=name))).job
            except HeadgateError as error:
                if error.error.blame is Blame.CALLER:
                    raise
                return None
            return found

        found = await eventually(look)
        assert found is not None
        return found

    async def until(
        self, name: str, *statuses: JobStatus, within_s: float = 40.0, every_s: float = 0.05
    ) -> Job:
        """The job once it has one of the statuses; that it has ended, without any."""

        async def look() -> Job | None:
            found = await self.job(name)
            reached = found.status in statuses if statuses else found.status.is_final
            return found if reached else None

        found = await eventually(look, within_s=within_s, every_s=every_s)
        assert found is not None
        return found

    async def output(self, job: Job, name: str = "predictions.csv") -> str:
        key = f"{STORED}/azureml/{job.name}/score/{name}"
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

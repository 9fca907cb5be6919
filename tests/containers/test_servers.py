"""Images with an HTTP server of their own, scored through their own routes."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import docker
import pytest

from containers.engine import IMAGE
from containers.harness import ContainerWorld
from headgate_contracts.resources import (
    InferenceConfig,
    InferenceRoute,
    Probe,
    ProvisioningState,
    RequestSettings,
)
from provisioner.harness import eventually, kill

TAG = "headgate-test-server:1"
SERVER = """
import http.server, json, os, pathlib, socket, sys, time

started = time.monotonic()
state = {"live": 200}


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self, status, said):
        body = json.dumps(said).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("X-Model", "own")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        if self.path == "/live":
            self.answer(state["live"], {})
        elif self.path == "/ready":
            self.answer(200 if time.monotonic() - started > 0.5 else 503, {})
        else:
            self.answer(404, {})

    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])) or "{}")
        if "die" in asked:
            os._exit(asked["die"])
        if "live" in asked:
            state["live"] = asked["live"]
        said = {"path": self.path, "model": os.environ.get("AZUREML_MODEL_DIR", ""), "asked": asked}
        if said["model"]:
            said["files"] = sorted(os.listdir(said["model"]))
        if "reach" in asked:
            try:
                socket.create_connection(tuple(asked["reach"]), timeout=3).close()
                said["reached"] = True
            except OSError as error:
                said["reached"] = False
        self.answer(asked.get("status", 200), said)

    def log_message(self, format, *arguments):
        print(format % arguments, flush=True)


print("the server is up", flush=True)
http.server.ThreadingHTTPServer(("0.0.0.0", 5001), Handler).serve_forever()
"""
ROUTES = InferenceConfig(
    liveness_route=InferenceRoute(path="/live", port=5001),
    readiness_route=InferenceRoute(path="/ready", port=5001),
    scoring_route=InferenceRoute(path="/v1/models/own:predict", port=5001),
)
SCORED = "/v1/models/own:predict"


@pytest.fixture(scope="module")
def server(engine: docker.DockerClient, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The image of such a server."""
    folder: Path = tmp_path_factory.mktemp("server")
    (folder / "server.py").write_text(SERVER)
    text = f'FROM {IMAGE}\nCOPY server.py /server.py\nENTRYPOINT ["python3", "/server.py"]\n'
    (folder / "Dockerfile").write_text(text)
    engine.images.build(path=str(folder), tag=TAG, rm=True)
    return TAG


async def deployed(world: ContainerWorld, image: str, **fields: Any) -> None:
    environment = await world.environment(image=image, inference_config=ROUTES)
    await world.put(environment=environment, **fields)
    done = await world.outcome()
    assert done.provisioning_state is ProvisioningState.SUCCEEDED, done.error


async def test_a_server_is_scored_through_its_own_route(world: ContainerWorld, server: str) -> None:
    model = await world.model("weights.txt", {"weights.txt": b"1 2 3"})
    many = RequestSettings(max_concurrent_requests_per_instance=20)
    await deployed(world, server, model=model, model_mount_path="/models", request_settings=many)
    status, said = await world.score({"a": 1})
    assert (status, said["path"], said["asked"]) == (200, SCORED, {"a": 1})
    assert said["model"].startswith("/models/azureml-models/model/")
    assert said["files"] == ["weights.txt"]
    answers = await asyncio.gather(*(world.score({"n": n, "status": 418}) for n in range(20)))
    assert {status for status, _ in answers} == {418}
    assert sorted(said["asked"]["n"] for _, said in answers) == list(range(20))
    log = (await world.logs(tail=1000)).content
    assert "the server is up" in log
    (container,) = world.containers()
    assert container.attrs["HostConfig"]["ReadonlyRootfs"]
    assert container.attrs["Config"]["User"] not in ("", "0", "root")


async def test_a_server_that_ends_is_replaced_with_the_reason(
    world: ContainerWorld, server: str
) -> None:
    await deployed(world, server)
    (before,) = await world.ready(1)
    asking = asyncio.ensure_future(world.score({"die": 7}))
    await world.replaced(before)
    assert "exit status 7" in await world.reason_of_end(before)
    asking.cancel()
    assert (await world.score({}))[0] == 200
    await eventually(lambda: asyncio.sleep(0, len(world.processes()) == 1))  # one agent


async def test_a_server_that_fails_its_liveness_route_is_replaced(
    world: ContainerWorld, server: str
) -> None:
    probe = Probe(initial_delay=1, period=1, timeout=1, failure_threshold=3)
    await deployed(world, server, liveness_probe=probe)
    (before,) = await world.ready(1)
    await world.score({"live": 500})
    await world.replaced(before)
    assert "GET /live on port 5001 answers 500" in await world.reason_of_end(before)


async def test_a_server_without_egress_is_scored_and_reaches_nothing(
    world: ContainerWorld, server: str
) -> None:
    await deployed(world, server, egress_public_network_access="disabled")
    status, said = await world.score({"reach": ["192.0.2.1", 80]})
    assert status == 200
    assert said["reached"] is False
    (container,) = world.containers()
    (name,) = container.attrs["NetworkSettings"]["Networks"]
    assert world.engine.networks.get(name).attrs["Internal"]


async def test_agents_are_adopted_with_their_containers(world: ContainerWorld, server: str) -> None:
    await deployed(world, server)
    before = {(i.id, i.pid) for i in await world.ready(1)}
    await world.stop_provisioner()
    assert (await world.score({}))[0] == 200
    await world.start_provisioner()
    assert {(i.id, i.pid) for i in await world.ready(1)} == before
    assert (await world.score({}))[0] == 200


async def test_an_agent_that_ends_is_replaced(world: ContainerWorld, server: str) -> None:
    """Whether its container is replaced with it does not matter: nothing is left over."""
    await deployed(world, server)
    (agent,) = world.processes()
    kill(agent)

    async def is_whole() -> bool:
        found = [i for i in await world.instances() if i.state == "ready"]
        agents = world.processes()
        return len(found) == len(agents) == 1 and agent not in agents

    await eventually(is_whole)
    assert (await world.score({}))[0] == 200
    assert len([c for c in world.containers() if c.status == "running"]) == 1

"""Instances as containers: what they see, what they may, and how their ends are told."""

from __future__ import annotations

import asyncio
from pathlib import Path

from containers.harness import ContainerWorld
from headgate_contracts.resources import ProvisioningState
from provisioner.harness import GOOD, eventually

LOOKS = """
import json, os, pathlib, socket


def init():
    print("the model is loaded")


def writes(path):
    try:
        pathlib.Path(path, "probe").write_text("x")
    except OSError as error:
        return error.strerror
    return "written"


def reaches(address):
    try:
        socket.create_connection(tuple(address), timeout=3).close()
    except OSError as error:
        return error.strerror or str(error)
    return "connected"


def run(raw):
    asked = json.loads(raw)
    if "reach" in asked:
        return reaches(asked["reach"])
    status = pathlib.Path("/proc/self/status").read_text()
    caps = next(l.split()[1] for l in status.splitlines() if l.startswith("CapEff"))
    fresh = next(l.split()[1] for l in status.splitlines() if l.startswith("NoNewPrivs"))
    model = os.environ.get("AZUREML_MODEL_DIR", "")
    return {
        "uid": os.getuid(),
        "capabilities": int(caps, 16),
        "no_new_privileges": fresh,
        "root": writes("/"),
        "code": writes(os.environ["AML_APP_ROOT"]),
        "tmp": writes("/tmp"),
        "app_root": os.environ["AML_APP_ROOT"],
        "cwd": os.getcwd(),
        "model": model,
        "files": sorted(os.listdir(model)) if model else [],
        "interfaces": sorted(os.listdir("/sys/class/net")),
        "ours": sorted(n for n in os.environ if n.startswith("HEADGATE_")),
    }
"""


BROKEN = """
def init():
    raise ValueError("no weights")


def run(data):
    return data
"""


async def test_a_container_scores_and_may_do_no_harm(world: ContainerWorld) -> None:
    model = await world.model("weights.txt", {"weights.txt": b"1 2 3"})
    done = await world.deploy(LOOKS, model=model)
    assert done.provisioning_state is ProvisioningState.SUCCEEDED, done.error
    status, seen = await world.score({})
    assert status == 200
    assert seen["uid"] != 0
    assert seen["capabilities"] == 0
    assert seen["no_new_privileges"] == "1"
    assert seen["root"] == seen["code"] == "Read-only file system"
    assert seen["tmp"] == "written"
    assert seen["app_root"] == seen["cwd"] == "/var/azureml-app/code"
    assert seen["model"].startswith("/var/azureml-app/azureml-models/model/")
    assert seen["files"] == ["weights.txt"]
    assert seen["ours"] == []
    (container,) = world.containers()
    host = container.attrs["HostConfig"]
    assert host["NetworkMode"] not in ("host", "bridge", "default")
    assert host["PidsLimit"] > 0
    assert not host["PortBindings"]
    assert "the model is loaded" in (await world.logs()).content


async def test_without_egress_only_the_bus_answers(world: ContainerWorld) -> None:
    """The same address is reached from an instance that may reach out."""
    outside = await asyncio.start_server(lambda reader, writer: writer.close(), "0.0.0.0", 0)
    port = outside.sockets[0].getsockname()[1]
    await world.deploy(LOOKS, "open")
    (container,) = world.containers("open")
    networks = container.attrs["NetworkSettings"]["Networks"]
    gateway = next(iter(networks.values()))["Gateway"]
    await world.deploy(LOOKS, "shut", egress_public_network_access="disabled")
    assert await world.score({"reach": [gateway, port]}, "open") == (200, "connected")
    status, said = await world.score({"reach": [gateway, port]}, "shut")
    assert (status, said) == (200, "Network is unreachable")
    assert (await world.score({}, "shut"))[1]["interfaces"] == ["lo"]
    outside.close()


async def test_a_script_that_fails_is_told_with_its_traceback(world: ContainerWorld) -> None:
    done = await world.deploy(
        'def init():\n    raise ValueError("no weights")\n\ndef run(data):\n    pass\n'
    )
    assert done.provisioning_state is ProvisioningState.FAILED
    assert done.error is not None
    assert "no weights" in done.error.message
    assert done.error.code == "UserScriptInitFailed"
    (lines,) = [d.message for d in done.error.details if d.code == "LastLogLines"]
    assert "Traceback" in lines
    await eventually(lambda: asyncio.sleep(0, not world.containers()))


async def test_what_kills_an_instance_is_named(world: ContainerWorld) -> None:
    script = """
import os, signal


def init():
    pass


def run(data):
    os.kill(os.getpid(), signal.SIGSEGV)
"""
    await world.deploy(script)
    (before,) = await world.ready(1)
    asking = asyncio.ensure_future(world.score({}))
    await world.replaced(before)
    asking.cancel()
    assert "signal SIGSEGV" in await world.reason_of_end(before)


async def test_instances_are_adopted_by_the_next_provisioner(world: ContainerWorld) -> None:
    await world.deploy(GOOD, instance_count=2)
    before = {(i.id, i.pid) for i in await world.ready(2)}
    await world.stop_provisioner()
    assert (await world.score(7))[0] == 200  # the relay goes on as well
    await world.start_provisioner()
    assert {(i.id, i.pid) for i in await world.ready(2)} == before
    assert (await world.score(7)) == (200, "7")
    content = (await world.logs(tail=1000)).content
    assert content.count("the model is loaded") == 2


async def test_the_end_of_a_container_is_known_though_nobody_looked(
    world: ContainerWorld,
) -> None:
    await world.deploy(GOOD)
    (before,) = await world.ready(1)
    await world.stop_provisioner()
    (container,) = world.containers()
    container.kill("SIGKILL")
    await world.start_provisioner()
    assert (await world.replaced(before)).id != before.id
    assert "signal SIGKILL" in await world.reason_of_end(before)


async def test_an_image_without_python_is_refused_in_words(
    world: ContainerWorld, tmp_path: Path
) -> None:
    (tmp_path / "Dockerfile").write_text('FROM scratch\nCOPY Dockerfile /\nCMD ["/x"]\n')
    world.engine.images.build(path=str(tmp_path), tag="headgate-test-empty:1", rm=True)
    environment = await world.environment(image="headgate-test-empty:1")
    done = await world.deploy(GOOD, environment=environment)
    assert done.error is not None
    assert done.error.code == "ImageBuildFailure"
    assert "no Python" in done.error.message
    assert "inference_config" in done.error.message


async def test_an_image_that_is_nowhere_is_refused_in_words(world: ContainerWorld) -> None:
    environment = await world.environment(image="localhost:1/nowhere/nothing:7")
    done = await world.deploy(GOOD, environment=environment)
    assert done.error is not None
    assert done.error.code == "ImageBuildFailure"
    assert "localhost:1/nowhere/nothing:7 cannot be pulled" in done.error.message

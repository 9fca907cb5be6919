"""The calls to the engine that make and remove containers. They block: see ``engine``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from headgate.provisioner.drivers import containers
from headgate.provisioner.drivers.containers import LABEL_PREFIX

if TYPE_CHECKING:
    from docker import DockerClient


@dataclass(frozen=True, slots=True)
class Started:
    """A container that runs. ``address`` is empty where it has no network."""

    pid: int
    address: str


def run(client: DockerClient, options: dict[str, Any]) -> Started:
    """Make and start a container. What could not be started is not left behind."""
    import docker

    binds = options.pop("binds")
    gpus = options.pop("gpus", 0)
    options.pop("detach")
    mounts = [
        docker.types.Mount(str(b.target), str(b.source), type="bind", read_only=b.read_only)
        for b in binds
    ]
    limit = containers.OPEN_FILES_MAX
    made = client.containers.create(
        **options,
        mounts=mounts,
        ulimits=[
            docker.types.Ulimit(name="nofile", soft=limit, hard=limit),
            docker.types.Ulimit(name="core", soft=0, hard=0),
        ],
        log_config=docker.types.LogConfig(type="json-file", config=containers.LOG_OPTIONS),
        device_requests=[docker.types.DeviceRequest(count=gpus, capabilities=[["gpu"]])]
        if gpus
        else None,
    )
    try:
        made.start()
        made.reload()
    except BaseException:
        made.remove(force=True)
        raise
    networks = made.attrs["NetworkSettings"]["Networks"].values()
    addresses = [one["IPAddress"] for one in networks if one.get("IPAddress")]
    return Started(int(made.attrs["State"]["Pid"]), next(iter(addresses), ""))


def remove(client: DockerClient, *, name: str) -> None:
    client.containers.get(name).remove(force=True)


def ensure_network(client: DockerClient, name: str, installation: str, *, internal: bool) -> None:
    """A network whose members do not reach each other; ``internal``: nor anything outside."""
    if not client.networks.list(names=[name]):
        client.networks.create(
            name,
            driver="bridge",
            internal=internal,
            labels={LABEL_PREFIX + "installation": installation},
            options={"com.docker.network.bridge.enable_icc": "false"},
        )

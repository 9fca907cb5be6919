"""How the container of an instance is made: everything that the engine is told, as values.

A container sees its code, its model and our worker, all read-only; a small folder that it shares
with us for its credentials and its last words; and the bus as a UNIX socket. So it needs no
network to answer requests, and no port of this machine is opened for it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from headgate.provisioner.drivers import Image, Launch

LABEL_PREFIX = "io.headgate."
APP = PurePosixPath("/var/azureml-app")
SHARED = PurePosixPath("/run/headgate")
BUS = PurePosixPath("/run/headgate-bus")
COLLECTED = PurePosixPath("/run/headgate-collected")
SCRATCH = "/tmp"  # noqa: S108 - a container's own, in memory: nobody else is there
WORKER = "/opt/headgate/worker.pyz"
TOKEN = "bus.token"
LAST_WORDS = "last_words.json"
SOCKET = "bus.sock"
PIDS_MAX = 1_024
OPEN_FILES_MAX = 4_096
LOG_OPTIONS = {"max-size": "10m", "max-file": "2"}  # only until we have copied it
NANO = 1_000_000_000
CPU_SHARES_MIN = 2  # of 1,024; for whoever takes what others leave


@dataclass(frozen=True, slots=True)
class Host:
    """What containers get from this machine. ``user`` is the uid and gid that they run as."""

    installation: str
    user: str
    drain_timeout_s: float
    worker: Path
    bus: Path


def name_of(installation: str, instance: str) -> str:
    """The same for the same instance, so that there can never be two."""
    return f"headgate-{installation}-{instance}"


def labels_of(installation: str, launch: Launch) -> dict[str, str]:
    """What an instance is found again by."""
    said = {
        "installation": installation,
        "instance": launch.instance,
        "endpoint": launch.endpoint,
        "deployment": launch.deployment,
        "spec": launch.spec,
    }
    return {LABEL_PREFIX + name: value for name, value in said.items()}


@dataclass(frozen=True, slots=True)
class Bind:
    """A path of this machine and where a container sees it."""

    source: Path
    target: PurePosixPath
    read_only: bool = True


def content_binds(launch: Launch) -> list[Bind]:
    """Code and model, where Azure's containers have them."""
    binds = []
    directory = launch.variables.get("AZUREML_MODEL_DIR", "")
    if directory:
        inside = PurePosixPath(*Path(directory).parts[-3:])  # azureml-models/<name>/<version>
        at = PurePosixPath(launch.model_mount_path) / inside if launch.model_mount_path else None
        binds.append(Bind(Path(directory), at or APP / inside))
    if launch.code is not None and not (directory and launch.code.is_relative_to(directory)):
        binds.append(Bind(launch.code, APP / "code"))
    return binds


def seen_inside(path: str, binds: list[Bind]) -> str:
    """A path of this machine as a container sees it; what is not shown there stays as it is."""
    for bind in binds:
        if Path(path).is_relative_to(bind.source):
            return str(bind.target / Path(path).relative_to(bind.source))
    return path


def worker_options(launch: Launch, image: Image, host: Host, shared: Path) -> dict[str, Any]:
    """The options of a container that runs our worker."""
    content = content_binds(launch)
    binds = [
        *content,
        Bind(host.worker, PurePosixPath(WORKER)),
        Bind(host.bus, BUS),
        Bind(shared, SHARED, read_only=False),
    ]
    if launch.collect_folder is not None:
        binds.append(Bind(launch.collect_folder, COLLECTED, read_only=False))
    return {
        **_common(launch, image, host, binds),
        "entrypoint": [image.python, "-u", "-X", "faulthandler", WORKER],
        "command": [],
        "environment": _environment(launch, host, content),
        "working_dir": seen_inside(str(launch.code or "/"), content),
        "stop_signal": "SIGTERM",
    }


def server_options(launch: Launch, image: Image, host: Host) -> dict[str, Any]:
    """The options of a container with a server of its own, which is started as its image says."""
    content = content_binds(launch)
    variables = {name: seen_inside(value, content) for name, value in launch.variables.items()}
    return {
        **_common(launch, image, host, content),
        "environment": {"HOME": SCRATCH, "AML_APP_ROOT": str(APP), **variables},
    }


def _common(launch: Launch, image: Image, host: Host, binds: list[Bind]) -> dict[str, Any]:
    """What every container has: limits, and nothing that it could do harm with."""
    options: dict[str, Any] = {
        "image": image.id,
        "name": name_of(host.installation, launch.instance),
        "labels": labels_of(host.installation, launch),
        "user": host.user,
        "read_only": True,
        "tmpfs": {SCRATCH: "rw,nosuid,nodev,exec,mode=1777"},
        "cap_drop": ["ALL"],
        "security_opt": ["no-new-privileges:true"],
        "init": True,
        "pids_limit": PIDS_MAX,
        "binds": binds,
        "detach": True,
    }
    if launch.is_low_priority:
        options["cpu_shares"] = CPU_SHARES_MIN
    limits = launch.limits
    if limits is not None:
        options["nano_cpus"] = int(limits.cores * NANO)
        options["mem_limit"] = limits.memory_bytes
        options["memswap_limit"] = limits.memory_bytes  # no swap besides
        if limits.gpus:
            options["gpus"] = limits.gpus
    return options


def _environment(launch: Launch, host: Host, content: list[Bind]) -> dict[str, str]:
    """All that a worker gets besides what its image says."""
    variables = {name: seen_inside(value, content) for name, value in launch.variables.items()}
    if launch.collect:
        variables |= {"HEADGATE_COLLECT": launch.collect, "HEADGATE_COLLECT_DIR": str(COLLECTED)}
    if launch.batch:
        variables["HEADGATE_BATCH"] = launch.batch
    return {
        **_DEFAULTS,
        **variables,
        "HEADGATE_BUS_URL": f"unix://{BUS / SOCKET}",
        "HEADGATE_BUS_TOKEN_FILE": str(SHARED / TOKEN),
        "HEADGATE_ENDPOINT": launch.endpoint,
        "HEADGATE_DEPLOYMENT": launch.deployment,
        "HEADGATE_INSTANCE": launch.instance,
        "HEADGATE_SPEC": launch.spec,
        "HEADGATE_CAPACITY": str(launch.capacity),
        "HEADGATE_LAST_WORDS": str(SHARED / LAST_WORDS),
        "HEADGATE_DRAIN_TIMEOUT_S": f"{host.drain_timeout_s:g}",
    }


# USER: some libraries want a name for their user, and the image does not know ours.
_DEFAULTS: Mapping[str, str] = {
    "HOME": SCRATCH,
    "TMPDIR": SCRATCH,
    "LANG": "C.UTF-8",
    "USER": "headgate",
    "PYTHONDONTWRITEBYTECODE": "1",
}

"""The servers that are compared, and how each is started: README.md tells why like this."""

from __future__ import annotations

import http.client
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType

from loadtests import environments, workloads
from loadtests.processes import ServerError, Tree, free_port, last_words, spawn
from loadtests.system import BLUE, System
from loadtests.workloads import Target, Workload

PEERS_FOLDER = Path(__file__).parent / "peers"
START_TIMEOUT_S = 90.0
_PATH = "/{workload}"


@dataclass(frozen=True, slots=True)
class Server:
    """One line of the tables. Texts in braces are filled in when it is started.

    ``environment``: name of its virtual environment, "" for Headgate's own. ``distribution``: the
    package whose version is shown. ``workloads``: what it can serve.
    """

    name: str
    environment: str
    distribution: str
    command: tuple[str, ...]
    environ: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    path: str = _PATH
    bodies: Mapping[str, tuple[bytes, str]] = field(default_factory=lambda: MappingProxyType({}))
    workloads: tuple[str, ...] = tuple(workloads.ALL)
    stop: signal.Signals = signal.SIGTERM
    program: str = "python"

    @property
    def title(self) -> str:
        """The name with the version that is installed."""
        if not self.environment:
            return self.name
        name, comma, kind = self.name.partition(",")
        version = environments.version(self.environment, self.distribution)
        return f"{name} {version}{comma}{kind}"


@dataclass(frozen=True, slots=True)
class Running:
    """A server that answers."""

    target: Target
    tree: Tree
    started_s: float


HEADGATE = Server("Headgate", "", "", ("{workload}.py",))
HEADGATE_BATCHING = Server(
    "Headgate, batching", "", "", ("{workload}_batch.py",), workloads=("small",)
)
CEILING = Server("HTTP echo of our edge", "", "", ("{peers}/echo_server.py", "{port}"))
FASTAPI = Server(
    "FastAPI", "fastapi", "fastapi",
    (
        "fastapi_app:app", "--app-dir", "{peers}", "--host", "127.0.0.1", "--port", "{port}",
        "--workers", "1", "--no-access-log", "--log-level", "warning",
    ),
    program="uvicorn",
)  # fmt: skip
_MOSEC = (
    "{peers}/mosec_server.py", "--address", "127.0.0.1", "--port", "{port}",
    "--log-level", "warning", "--timeout", "60000",
)  # fmt: skip
MOSEC = Server("mosec", "mosec", "mosec", _MOSEC)
MOSEC_BATCHING = Server(
    "mosec, batching", "mosec", "mosec", _MOSEC,
    environ={"LOADTESTS_BATCH": "32"}, workloads=("small",),
)  # fmt: skip
LITSERVE = Server(
    "LitServe", "litserve", "litserve", ("{peers}/litserve_server.py", "{port}"),
    workloads=("small", "slow"),
)  # fmt: skip
BENTOML = Server(
    "BentoML", "bentoml", "bentoml",
    (
        "serve", "bento_service:Scoring", "--working-dir", "{peers}", "--host", "127.0.0.1",
        "--port", "{port}",
    ),
    environ={"BENTOML_HOME": "{scratch}/bentoml", "BENTOML_DO_NOT_TRACK": "True"},
    program="bentoml",
)  # fmt: skip
RAY_SERVE = Server(
    "Ray Serve", "ray-serve", "ray", ("{peers}/ray_app.py", "{port}"),
    environ={
        "RAY_USAGE_STATS_ENABLED": "0", "RAY_TMPDIR": "{scratch}", "PYTHONPATH": "{models}",
    },
)  # fmt: skip
RAY_SERVE_HAPROXY = replace(
    RAY_SERVE,
    name="Ray Serve, HAProxy",
    environ={
        **RAY_SERVE.environ, "RAY_SERVE_ENABLE_HA_PROXY": "1",
        "RAY_SERVE_HAPROXY_CONFIG_FILE_LOC": "{scratch}/haproxy.cfg",
        "RAY_SERVE_HAPROXY_SOCKET_PATH": "{scratch}/haproxy.sock",
        "RAY_SERVE_HAPROXY_SERVER_STATE_BASE": "{scratch}",
        "RAY_SERVE_HAPROXY_SERVER_STATE_FILE": "{scratch}/haproxy.state",
        "RAY_SERVE_HAPROXY_METRICS_PORT": "{port2}", "RAY_SERVE_HAPROXY_STATS_PORT": "{port3}",
    },
    workloads=("small",),
)  # fmt: skip
MLSERVER = Server(
    "MLServer", "mlserver", "mlserver", ("start", "{peers}/mlserver"),
    environ={
        "MLSERVER_HOST": "127.0.0.1", "MLSERVER_HTTP_PORT": "{port}",
        "MLSERVER_GRPC_PORT": "{port2}", "MLSERVER_METRICS_PORT": "{port3}",
        "MLSERVER_ENVIRONMENTS_DIR": "{scratch}/envs",
    },
    path="/v2/models/scoring/infer",
    bodies={"small": workloads.V2, "slow": workloads.V2},
    workloads=("small", "slow"),
    program="mlserver",
)  # fmt: skip
AZURE = Server(
    "azureml-inference-server-http", "azureml", "azureml-inference-server-http",
    (
        "--entry_script", "{models}/{workload}.py", "--port", "{port}", "--worker_count", "1",
    ),
    environ={"AML_APP_ROOT": "{models}"},
    path="/score",
    program="azmlinfsrv",
)  # fmt: skip

ALL = {
    "headgate": HEADGATE,
    "headgate-batching": HEADGATE_BATCHING,
    "echo": CEILING,
    "fastapi": FASTAPI,
    "mosec": MOSEC,
    "mosec-batching": MOSEC_BATCHING,
    "litserve": LITSERVE,
    "bentoml": BENTOML,
    "ray-serve": RAY_SERVE,
    "ray-serve-haproxy": RAY_SERVE_HAPROXY,
    "mlserver": MLSERVER,
    "azureml": AZURE,
}


@contextmanager
def running(server: Server, workload: Workload) -> Iterator[Running]:
    """The server with this model, ended with all its processes when the block is left."""
    if server in (HEADGATE, HEADGATE_BATCHING):
        with System.running() as system:
            begun = time.monotonic()
            script = server.command[0].format(workload=workload.name)
            system.deploy(BLUE, script, concurrency=128, timeout_ms=30_000)
            target = system.target(workload)
            _until_answered(target, lambda: "", begun)
            yield Running(target, system.tree, time.monotonic() - begun)
    else:
        yield from _running_peer(server, workload)


def _running_peer(server: Server, workload: Workload) -> Iterator[Running]:
    with tempfile.TemporaryDirectory(prefix="hg-bench-") as name:
        scratch, port = Path(name), free_port()
        texts = {
            "peers": str(PEERS_FOLDER), "models": str(workloads.MODELS), "scratch": name,
            "port": str(port), "port2": str(free_port()), "port3": str(free_port()),
            "workload": workload.name,
        }  # fmt: skip
        bin_folder = (
            environments.ensure(server.environment)
            if server.environment
            else Path(sys.executable).parent
        )
        command = [str(bin_folder / server.program), *(a.format(**texts) for a in server.command)]
        environ = {
            **os.environ,
            "LOADTESTS_SCRATCH": name,  # by this its processes are known
            "LOADTESTS_MODELS": texts["models"],
            "LOADTESTS_WORKLOAD": workload.name,
            "PATH": f"{bin_folder}{os.pathsep}{os.environ['PATH']}",
            **{key: value.format(**texts) for key, value in server.environ.items()},
        }
        log, tree, begun = scratch / "server.log", Tree(name), time.monotonic()
        process = spawn(command, environ, log)
        try:
            usual = workload.body, workload.content_type
            body, content_type = server.bodies.get(workload.name, usual)
            headers = {"Content-Type": content_type}
            target = Target("127.0.0.1", port, server.path.format(**texts), headers, body)
            _until_answered(target, lambda: _ended(process, log), begun)
            yield Running(target, tree, time.monotonic() - begun)
        finally:
            tree.end(process, server.stop)


def _ended(process: subprocess.Popen[bytes], log: Path) -> str:
    return "" if process.poll() is None else f"it has ended:\n{last_words(log)}"


def _until_answered(target: Target, ended: Callable[[], str], begun: float) -> None:
    """Wait until a request is answered with 200."""
    said = ""
    while time.monotonic() - begun < START_TIMEOUT_S:
        if why := ended():
            raise ServerError(why)
        connection = http.client.HTTPConnection(target.host, target.port, timeout=30)
        try:
            connection.request("POST", target.path, target.body, target.headers)
            answer = connection.getresponse()
            said = f"{answer.status} {answer.read(300)!r}"
            if answer.status == 200:
                return
        except (OSError, http.client.HTTPException) as error:
            said = repr(error)
        finally:
            connection.close()
        time.sleep(0.1)
    raise ServerError(f"it does not answer: {said}")

"""What the commands for endpoints and deployments do with ``--local``."""

from __future__ import annotations

import asyncio
import http.client
import json
from pathlib import Path
from typing import Any

from headgate.azure.yaml_values import LocalDeployment
from headgate.cli.errors import UsageError, say
from headgate.cli.output import write
from headgate.cli.progress import Spinner
from headgate.cli.session import Session
from headgate.client.scoring import Scored
from headgate.local import workers
from headgate.local.deploying import Deployer
from headgate.local.folders import Folders, Kept
from headgate.provisioner import logs
from headgate_contracts.errors import ErrorCode, HeadgateError
from headgate_contracts.resources import DeploymentSpec, EndpointSpec

SCORE_TIMEOUT_S = 3_600  # a debugger may hold the model
LOG_POLL_S = 0.2

Document = dict[str, Any]


# --- endpoints ---------------------------------------------------------------------------------


def create_endpoint(session: Session, spec: EndpointSpec) -> None:
    folders = _folders(session)
    if any(each.name == spec.name for each in folders.endpoints()):
        raise HeadgateError(
            ErrorCode.RESOURCE_EXISTS, f"the local endpoint {spec.name!r} exists already"
        )
    folders.put_endpoint(spec)
    session.show(_endpoint(folders, spec))


def stored_endpoint(session: Session, name: str) -> EndpointSpec:
    return _folders(session).endpoint(name)


def update_endpoint(session: Session, spec: EndpointSpec, *, shares: bool) -> None:
    if shares:
        raise UsageError("a local endpoint splits no traffic: name a deployment when you invoke it")
    folders = _folders(session)
    folders.put_endpoint(spec)
    session.show(_endpoint(folders, spec))


def show_endpoint(session: Session, name: str) -> None:
    folders = _folders(session)
    session.show(_endpoint(folders, folders.endpoint(name)))


def list_endpoints(session: Session) -> None:
    folders = _folders(session)
    found = [_endpoint(folders, each) for each in folders.endpoints()]
    session.show(found, ("name", "deployments", "scoring_uri"))


async def delete_endpoint(session: Session, name: str) -> None:
    await _deployer(session).delete_endpoint(name)


async def invoke(
    session: Session, endpoint: str, deployment: str, body: bytes, content_type: str
) -> Scored:
    """One request to the worker of a local deployment."""
    folders = _folders(session)
    kept = folders.chosen(endpoint, deployment)
    name = kept.spec.name
    worker = await _deployer(session).find(endpoint, name)
    if worker is None:
        raise HeadgateError(
            ErrorCode.UNAVAILABLE,
            f"the local deployment {name!r} does not run any more; see its log "
            f"(headgate online-deployment get-logs --local -n {name} -e {endpoint}) and start it "
            "with: headgate online-deployment update --local "
            f"-n {name} -e {endpoint}",
        )
    return await asyncio.to_thread(_post, worker, body, content_type)


def _post(worker: workers.Worker, body: bytes, content_type: str) -> Scored:
    connection = http.client.HTTPConnection(workers.HOST, worker.port, timeout=SCORE_TIMEOUT_S)
    try:
        connection.request("POST", worker.path, body, {"Content-Type": content_type})
        answer = connection.getresponse()
        return Scored(answer.status, answer.reason, dict(answer.getheaders()), answer.read())
    except (OSError, http.client.HTTPException) as error:
        raise HeadgateError(
            ErrorCode.UNAVAILABLE, f"no answer from the worker on port {worker.port}: {error}"
        ) from None
    finally:
        connection.close()


# --- deployments -------------------------------------------------------------------------------


async def create_deployment(
    session: Session,
    local: LocalDeployment[DeploymentSpec],
    file: Path | None,
    *,
    debug: bool,
    wait_for_debugger: bool,
) -> None:
    spec = local.spec
    folders = _folders(session)
    folders.endpoint(spec.endpoint_name)
    if any(each.spec.name == spec.name for each in folders.deployments(spec.endpoint_name)):
        raise HeadgateError(
            ErrorCode.RESOURCE_EXISTS,
            f"the local endpoint {spec.endpoint_name!r} has a deployment {spec.name!r} already; "
            "use update",
        )
    await deploy(session, local, file, debug=debug, wait_for_debugger=wait_for_debugger)


async def deploy(
    session: Session,
    local: LocalDeployment[DeploymentSpec],
    file: Path | None,
    *,
    debug: bool,
    wait_for_debugger: bool,
) -> None:
    """Starts a deployment or replaces the one that runs, and shows how it came out."""
    spec = local.spec
    text = f"local deployment {spec.name}"
    with Spinner(text) as spinner:
        kept = await _deployer(session).deploy(
            local,
            _whole(file),
            lambda line: spinner.update(f"{text}: {line}"),
            debug=debug or wait_for_debugger,
            wait_for_debugger=wait_for_debugger,
        )
    if kept.debug_port:
        say(_how_to_attach(kept))
    session.show(await _deployment(session, kept))


def _whole(file: Path | None) -> str:
    return str(file.absolute()) if file is not None else ""


def file_of(session: Session, endpoint: str, name: str) -> Path | None:
    """The YAML file that a local deployment was last made from."""
    file = _folders(session).deployment(endpoint, name).file
    return Path(file) if Path(file).is_file() else None


async def show_deployment(session: Session, endpoint: str, name: str) -> None:
    folders = _folders(session)
    folders.endpoint(endpoint)
    session.show(await _deployment(session, folders.deployment(endpoint, name)))


async def list_deployments(session: Session, endpoint: str) -> None:
    folders = _folders(session)
    folders.endpoint(endpoint)
    found = [await _deployment(session, each) for each in folders.deployments(endpoint)]
    session.show(found, ("name", "provisioning_state", "scoring_uri", "pid", "code"))


async def delete_deployment(session: Session, endpoint: str, name: str) -> None:
    _folders(session).deployment(endpoint, name)
    await _deployer(session).delete(endpoint, name)


async def get_logs(session: Session, endpoint: str, name: str, *, lines: int, follow: bool) -> None:
    """The log of the worker that runs, or of the last one that did."""
    folders = _folders(session)
    folders.deployment(endpoint, name)
    folder = folders.of(endpoint, name)
    save = _deployer(session).save_log
    await save(endpoint, name)
    source = [logs.Source("local", folder / logs.LOG, began=0.0, live=True)]
    text, cursor = await asyncio.to_thread(logs.read, source, lines, "", prefixed=False)
    write(text)
    while follow:
        await asyncio.sleep(LOG_POLL_S)
        await save(endpoint, name)
        text, cursor = await asyncio.to_thread(logs.read, source, lines, cursor, prefixed=False)
        write(text)


# --- how things look ---------------------------------------------------------------------------


def _endpoint(folders: Folders, spec: EndpointSpec) -> Document:
    deployments = folders.deployments(spec.name)
    document: Document = {
        "name": spec.name,
        "description": spec.description,
        "tags": spec.tags,
        "local": True,
        "deployments": [each.spec.name for each in deployments],
        "provisioning_state": "Succeeded",
    }
    if len(deployments) == 1:
        document["scoring_uri"] = _scoring_uri(deployments[0])
    return document


async def _deployment(session: Session, kept: Kept) -> Document:
    spec = kept.spec
    folder = _folders(session).of(spec.endpoint_name, spec.name)
    worker = await _deployer(session).find(spec.endpoint_name, spec.name)
    is_ready = worker is not None and await asyncio.to_thread(workers.answers, worker)
    document: Document = {
        "name": spec.name,
        "endpoint_name": spec.endpoint_name,
        "local": True,
        "provisioning_state": "Succeeded" if is_ready else "Creating" if worker else "Failed",
        "scoring_uri": _scoring_uri(kept),
        "code": kept.code,
        "scoring_script": kept.script,
        "python": kept.python,
        "image": kept.image,
        "pid": worker.pid or None if worker else None,
        "container": worker.container if worker else "",
        "log": str(folder / logs.LOG),
    }
    if kept.debug_port:
        document["debug_port"] = kept.debug_port
    return document


def _scoring_uri(kept: Kept) -> str:
    return f"http://{workers.HOST}:{kept.port}{kept.path}"


def _how_to_attach(kept: Kept) -> str:
    """A launch configuration as editors that speak the debug adapter protocol take it."""
    configuration = {
        "name": f"headgate {kept.spec.endpoint_name}/{kept.spec.name}",
        "type": "debugpy",
        "request": "attach",
        "connect": {"host": workers.HOST, "port": kept.debug_port},
        "justMyCode": False,
    }
    return (
        f"a debugger can attach at {workers.HOST}:{kept.debug_port}; "
        f"in .vscode/launch.json:\n{json.dumps(configuration, indent=2)}"
    )


def _folders(session: Session) -> Folders:
    return Folders(session.data_folder)


def _deployer(session: Session) -> Deployer:
    return Deployer(session.data_folder)

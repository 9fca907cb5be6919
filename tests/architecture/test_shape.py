"""The shape of the code: import rules, file sizes, settings in one place."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SERVICES = ROOT / "services" / "headgate"
CONTRACTS = ROOT / "contracts" / "headgate_contracts"
WORKER = ROOT / "services" / "headgate_worker"
SERVICE_NAMES = (
    "registry",
    "identity",
    "logs",
    "metering",
    "provisioner",
    "batch",
    "autoscaler",
    "router",
    "gateway",
    "portal",
)
SOURCES = sorted([*SERVICES.rglob("*.py"), *CONTRACTS.rglob("*.py"), *WORKER.rglob("*.py")])
TABLES = (
    *("registry", "identity", "logs/", "metering/", "provisioner", "autoscaler", "batch/"),
    *("runtime/tables.py", "runtime/outbox.py", "runtime/intake.py"),
)
HEAVY = {
    "torch": (),
    "docker": ("provisioner/drivers", "provisioner/image", "local/boxes.py"),
    "sqlmodel": TABLES,
    "sqlalchemy": TABLES,
    "opentelemetry": ("runtime/otlp.py",),
    "aiohttp": (
        *("gateway", "identity/oidc.py", "router/ingress.py", "client", "demo"),
        "runtime/remote.py",
    ),
    "azure": ("azure/sdk.py",),
    "jwt": ("runtime/tokens.py", "identity"),
    "faststream": ("runtime/answers.py", "schemas.py"),
    "nats": (
        *("runtime", "router", "gateway"),
        *("logs/intake.py", "metering/intake", "metering/alerts.py", "batch/"),
        *("provisioner/console.py", "provisioner/nodes"),
    ),
    "yaml": ("azure", "runtime/settings.py", "provisioner", "cli", "portal/pages"),
    **dict.fromkeys(("nicegui", "fastapi", "starlette", "uvicorn"), ("portal",)),
}


def imports(path: Path, *, top_level_only: bool = False) -> set[str]:
    """Dotted names of everything a file imports."""
    tree = ast.parse(path.read_text())
    found: set[str] = set()
    nodes = ast.iter_child_nodes(tree) if top_level_only else ast.walk(tree)
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            found |= {f"{node.module}.{alias.name}" for alias in node.names} | {node.module}
    return found


def roots(names: set[str]) -> set[str]:
    return {name.split(".")[0] for name in names}


@pytest.mark.parametrize("path", sorted(CONTRACTS.rglob("*.py")), ids=lambda p: p.name)
def test_contracts_need_only_the_standard_library_and_pydantic(path: Path) -> None:
    allowed = sys.stdlib_module_names | {"pydantic", "pydantic_core", "headgate_contracts"}
    assert roots(imports(path)) <= allowed


@pytest.mark.parametrize("path", sorted(WORKER.rglob("*.py")), ids=lambda p: p.name)
def test_the_worker_imports_nothing_of_the_system(path: Path) -> None:
    """It runs in the user's environment, so it must need nothing there."""
    assert not {"headgate", "headgate_contracts"} & roots(imports(path))
    needed = roots(imports(path, top_level_only=True))
    assert needed <= sys.stdlib_module_names | {"headgate_worker"}


@pytest.mark.parametrize("service", SERVICE_NAMES)
def test_a_service_never_imports_another(service: str) -> None:
    others = {f"headgate.{name}" for name in SERVICE_NAMES if name != service}
    for path in (SERVICES / service).rglob("*.py"):
        for name in imports(path):
            assert not any(name == o or name.startswith(f"{o}.") for o in others), path


def test_the_runtime_imports_no_service() -> None:
    for path in (SERVICES / "runtime").rglob("*.py"):
        for name in imports(path):
            assert not name.startswith(tuple(f"headgate.{s}" for s in SERVICE_NAMES)), path


@pytest.mark.parametrize("path", sorted(SERVICES.glob("*/core.py")), ids=lambda p: p.parent.name)
def test_cores_are_pure(path: Path) -> None:
    """No async, clock, randomness, logs or input and output where decisions are made."""
    tree = ast.parse(path.read_text())
    asynchronous = (ast.AsyncFunctionDef, ast.Await, ast.AsyncFor, ast.AsyncWith)
    assert not any(isinstance(node, asynchronous) for node in ast.walk(tree))
    forbidden = {"time", "random", "secrets", "logging", "asyncio", "os", "socket", "subprocess"}
    assert not forbidden & roots(imports(path))
    assert roots(imports(path)) <= sys.stdlib_module_names | {"headgate_contracts", "headgate"}


@pytest.mark.parametrize("library", sorted(HEAVY))
def test_heavy_libraries_stay_in_their_modules(library: str) -> None:
    for path in SERVICES.rglob("*.py"):
        if library in roots(imports(path)):
            place = path.relative_to(SERVICES).as_posix()
            assert place.startswith(HEAVY[library]), f"{place} imports {library}"


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_source_files_stay_small_and_say_what_they_are(path: Path) -> None:
    text = path.read_text()
    assert len(text.splitlines()) <= 400
    if text.strip():
        assert ast.get_docstring(ast.parse(text)), "a module docstring is missing"


def test_the_environment_is_read_in_one_place() -> None:
    for path in SERVICES.rglob("*.py"):
        if path.relative_to(SERVICES).as_posix() != "runtime/settings.py":
            assert "os.environ" not in path.read_text(), path
            assert "getenv" not in path.read_text(), path


def test_no_unsafe_loaders() -> None:
    """Pickle never crosses a wire here, and YAML is loaded safely."""
    for path in SOURCES:
        assert not {"pickle", "marshal", "shelve", "dill"} & roots(imports(path)), path
        text = path.read_text()
        for word in ("yaml.load(", "yaml.unsafe_load", "FullLoader", "shell=True"):
            assert word not in text, f"{path}: {word}"

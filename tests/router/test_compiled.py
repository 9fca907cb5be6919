"""The scoring path as machine code answers as the same modules do in Python."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from headgate import compile as compiling
from headgate.runtime.compiled import HALVES, ROUTER

ROOT = Path(__file__).resolve().parents[2]
SUITES = ("edge", "scoring", "shape", "core", "headers", "frames", "turns")
WORKER_SUITES = ("batching", "streams", "v2", "kinds", "ordinary")


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the services whose scoring path is compiled."""
    compiler = (sysconfig.get_config_var("CC") or "cc").split()[0]
    if shutil.which(compiler) is None:
        pytest.skip(f"no C compiler ({compiler}) here")
    root = tmp_path_factory.mktemp("compiled")
    for half in HALVES:
        shutil.copytree(ROOT / "services" / half.package, root / half.package)
    compiling.remove(root)
    assert compiling.compile_into(root) == sum(len(half.modules) for half in HALVES)
    return root


def run(tree: Path, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(tree)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    return done.stdout


@pytest.mark.timeout(600)
def test_the_routers_suites_pass_on_it(tree: Path) -> None:
    told = "from headgate.router import compiled; print(compiled.state())"
    assert run(tree, "-c", told).strip() == "compiled"
    run(tree, "-m", "pytest", "-q", *(f"tests/router/test_{name}.py" for name in SUITES))


@pytest.mark.timeout(600)
def test_the_workers_suites_pass_on_it(tree: Path, tmp_path: Path) -> None:
    told = (
        "import sys; from pathlib import Path; from headgate.provisioner.drivers import "
        "worker_archive as worker; print(worker.build_here(Path(sys.argv[1])).is_dir())"
    )
    assert run(tree, "-c", told, str(tmp_path)).strip() == "True"
    run(tree, "-m", "pytest", "-q", *(f"tests/worker/test_{name}.py" for name in WORKER_SUITES))


def test_other_pythons_run_the_same_folder_from_its_sources(tree: Path, tmp_path: Path) -> None:
    build = (
        "import sys; from pathlib import Path; from headgate.provisioner.drivers import "
        "worker_archive as worker; print(worker.build_here(Path(sys.argv[1])))"
    )
    folder = Path(run(tree, "-c", build, str(tmp_path)).strip())
    assert list(folder.rglob("*.so"))
    for path in folder.rglob("*.so"):  # as a Python sees it whose extension modules end otherwise
        path.rename(path.with_name(path.name.replace("cpython-", "cpython-9")))
    told = "from headgate_worker import scoring; print(scoring.__file__)"
    assert run(folder, "-c", told).strip() == str(folder / "headgate_worker/scoring.py")


def test_a_source_that_has_changed_since_is_noticed(tree: Path) -> None:
    for half in HALVES:
        assert half.library(tree)
        with (tree / half.modules[0]).open("a") as file:
            file.write("# changed\n")
        assert not half.library(tree)
    told = "from headgate.router import compiled; print(compiled.state())"
    assert run(tree, "-c", told).strip() == "stale"


def test_a_failed_compilation_leaves_everything_as_it_was(tree: Path) -> None:
    before = sorted(path.name for path in tree.rglob("*.so"))
    with (tree / ROUTER.modules[0]).open("a") as file:
        file.write("nonsense: int = 'text'\n")
    with pytest.raises(compiling.CompileError, match="assignment"):
        compiling.compile_into(tree)
    assert sorted(path.name for path in tree.rglob("*.so")) == before

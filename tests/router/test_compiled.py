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
from headgate.router import compiled

ROOT = Path(__file__).resolve().parents[2]
SUITES = ("test_edge.py", "test_scoring.py", "test_shape.py", "test_core.py")


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the services whose scoring path is compiled."""
    compiler = (sysconfig.get_config_var("CC") or "cc").split()[0]
    if shutil.which(compiler) is None:
        pytest.skip(f"no C compiler ({compiler}) here")
    root = tmp_path_factory.mktemp("compiled")
    shutil.copytree(ROOT / "services/headgate", root / "headgate")
    compiling.remove(root)
    assert compiling.compile_into(root) == len(compiled.MODULES)
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
    run(tree, "-m", "pytest", "-q", *(f"tests/router/{name}" for name in SUITES))


def test_a_source_that_has_changed_since_is_noticed(tree: Path) -> None:
    with (tree / compiled.MODULES[0]).open("a") as file:
        file.write("# changed\n")
    told = "from headgate.router import compiled; print(compiled.state())"
    assert run(tree, "-c", told).strip() == "stale"


def test_a_failed_compilation_leaves_everything_as_it_was(tree: Path) -> None:
    before = sorted(path.name for path in tree.rglob("*.so"))
    with (tree / compiled.MODULES[0]).open("a") as file:
        file.write("nonsense: int = 'text'\n")
    with pytest.raises(compiling.CompileError, match="assignment"):
        compiling.compile_into(tree)
    assert sorted(path.name for path in tree.rglob("*.so")) == before

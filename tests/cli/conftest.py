"""One running system for all tests of the command line."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from textwrap import dedent

import pytest

from cli.system import System
from cli.terminal import Ran, headgate

Command = Callable[..., Ran]


@pytest.fixture(scope="package")
def running_system() -> Iterator[System]:
    folder = Path(tempfile.mkdtemp(prefix="hg-cli-"))
    system = System(folder)
    system.start()
    yield system
    system.stop()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def system(running_system: System, monkeypatch: pytest.MonkeyPatch) -> System:
    """The running system, found by ``HEADGATE_DATA``."""
    monkeypatch.setenv("HEADGATE_DATA", str(running_system.data))
    return running_system


@pytest.fixture
def cli(system: System) -> Command:
    """Runs a command that must succeed."""

    def run(*arguments: str | Path) -> Ran:
        ran = headgate(*arguments)
        assert ran.code == 0, f"{arguments} -> {ran.code}\n{ran.out}{ran.err}"
        return ran

    return run


@pytest.fixture
def endpoint(cli: Command, unique: Callable[[str], str]) -> str:
    """An endpoint of this test's own."""
    name = unique("ep")
    cli("online-endpoint", "create", "-n", name)
    return name


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A deployable folder: ``blue.yml`` with code, model and environment."""
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "score.py").write_text("def init(): ...\ndef run(data): return data\n")
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "weights.bin").write_bytes(b"1234")
    (tmp_path / "conda.yml").write_text("dependencies: [python=3.11]\n")
    (tmp_path / "blue.yml").write_text(
        dedent("""\
        name: blue
        endpoint_name: set-by-flag
        model: {path: model}
        code_configuration: {code: code, scoring_script: score.py}
        environment: {conda_file: conda.yml}
        instance_count: 2
        """)
    )
    monkeypatch.chdir(tmp_path)
    return tmp_path

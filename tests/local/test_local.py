"""Local endpoints as a developer uses them: deploy, look, edit, look again. No Headgate runs."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import struct
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml

from acceptance.system import PROGRAM, environment, processes_of, wait_for

ECHO = """
    import json, os
    from pathlib import Path

    def init():
        print("up")

    def run(raw_data):
        print("asked")
        model = os.environ.get("AZUREML_MODEL_DIR")
        weights = sorted(p.read_text() for p in Path(model).rglob("*.txt")) if model else []
        return {"said": "one", "sent": json.loads(raw_data), "weights": weights}
"""


class Desk:
    """A folder to work in, and the command line on a data folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "work"
        self.data = folder / "data"
        (self.folder / "code").mkdir(parents=True)

    def script(self, text: str) -> None:
        (self.folder / "code" / "score.py").write_text(dedent(text))

    def file(self, name: str = "blue", **fields: Any) -> Path:
        said = {
            "name": name,
            "endpoint_name": "desk",
            "code_configuration": {"code": "code", "scoring_script": "score.py"},
            "instance_type": "Standard_DS3_v2",
            "instance_count": 1,
            **fields,
        }
        path = self.folder / f"{name}.yml"
        path.write_text(yaml.safe_dump(said))
        return path

    def run(self, *words: str | Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(PROGRAM), *map(str, words)],
            capture_output=True,
            text=True,
            timeout=120,
            env=environment(HEADGATE_DATA=str(self.data)),
            check=False,
        )

    def deployment(self, verb: str, *words: str | Path) -> Any:
        return self._need("online-deployment", verb, "--local", *words)

    def endpoint(self, verb: str, *words: str | Path) -> Any:
        return self._need("online-endpoint", verb, "--local", *words)

    def ask(self, request: object, *words: str) -> Any:
        path = self.folder / "request.json"
        path.write_text(json.dumps(request))
        return json.loads(self.endpoint("invoke", "-n", "desk", "-r", path, *words))

    def _need(self, *words: str | Path) -> str:
        done = self.run(*words)
        assert done.returncode == 0, f"{words}\n{done.stdout}{done.stderr}"
        return done.stdout


@pytest.fixture
def desk() -> Iterator[Desk]:
    folder = Path(tempfile.mkdtemp(prefix="hg-local-"))
    made = Desk(folder)
    made.script(ECHO)
    made.endpoint("create", "-n", "desk")
    yield made
    for pid in processes_of(made.data):
        os.kill(pid, signal.SIGKILL)
    shutil.rmtree(folder, ignore_errors=True)


def test_deploy_edit_and_ask_again_without_a_running_headgate(desk: Desk) -> None:
    shown = json.loads(desk.deployment("create", "-f", desk.file()))
    assert shown["provisioning_state"] == "Succeeded"
    assert desk.ask({"a": 1}) == {"said": "one", "sent": {"a": 1}, "weights": []}

    desk.script(ECHO.replace('"one"', '"two"'))
    again = json.loads(desk.deployment("update", "-n", "blue", "-e", "desk"))
    assert desk.ask({"a": 2})["said"] == "two"
    assert again["scoring_uri"] == shown["scoring_uri"]
    assert again["pid"] != shown["pid"]

    log = desk.deployment("get-logs", "-n", "blue", "-e", "desk")
    assert "up" in log and "asked" in log
    listed = json.loads(desk.deployment("list", "-e", "desk"))
    assert [(each["name"], each["pid"]) for each in listed] == [("blue", again["pid"])]
    assert json.loads(desk.endpoint("list"))[0]["deployments"] == ["blue"]

    desk.deployment("delete", "-n", "blue", "-e", "desk", "--yes")
    assert processes_of(desk.data) == {}
    assert json.loads(desk.deployment("list", "-e", "desk")) == []


def test_clients_that_break_off_or_send_nonsense_leave_no_traceback(desk: Desk) -> None:
    shown = json.loads(desk.deployment("create", "-f", desk.file()))
    address = ("127.0.0.1", urlsplit(shown["scoring_uri"]).port)
    with socket.create_connection(address) as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.sendall(b"POST /sc")
    for head in (b"Content-Length: -1", b"Content-Length: 1_0", b"Transfer-Encoding: chunked"):
        with socket.create_connection(address) as client:
            client.sendall(b"POST /score HTTP/1.1\r\n" + head + b"\r\n\r\nzz\r\n")
            answer = client.makefile("rb").read()
        assert answer.startswith(b"HTTP/1.1 400 ")
        assert b"The size of the body is no number: '" in answer
    assert desk.ask({"a": 1})["said"] == "one"
    assert "Traceback" not in desk.deployment("get-logs", "-n", "blue", "-e", "desk")


def test_a_model_is_found_where_a_deployed_one_is_and_survives_the_deployment(desk: Desk) -> None:
    model = desk.folder / "model"
    model.mkdir(mode=0o755)
    (model / "a.txt").write_text("alpha")
    (model / "b.txt").write_text("beta")
    desk.deployment("create", "-f", desk.file(model={"path": "model"}))
    assert desk.ask({})["weights"] == ["alpha", "beta"]
    desk.endpoint("delete", "-n", "desk", "--yes")
    assert (model / "b.txt").read_text() == "beta" and model.stat().st_mode & 0o777 == 0o755
    assert processes_of(desk.data) == {}
    assert json.loads(desk.endpoint("list")) == []


def test_several_deployments_are_asked_by_name(desk: Desk) -> None:
    for name in ("blue", "green"):
        desk.deployment("create", "-f", desk.file(name, environment_variables={"A": name}))
    request = desk.folder / "r.json"
    request.write_text("{}")
    done = desk.run("online-endpoint", "invoke", "--local", "-n", "desk", "-r", request)
    assert done.returncode == 2 and "several deployments (blue, green)" in done.stderr
    assert desk.ask({"b": 1}, "-d", "green")["sent"] == {"b": 1}


def test_a_script_that_fails_is_told_with_its_line_and_mended_by_the_next_update(
    desk: Desk,
) -> None:
    desk.script('def init():\n    raise ValueError("bad weights")\n\ndef run(x): ...\n')
    done = desk.run("online-deployment", "create", "--local", "-f", desk.file())
    assert done.returncode == 1
    assert "UserScriptInitFailed" in done.stderr and "ValueError: bad weights" in done.stderr
    assert 'score.py", line 2, in init' in done.stderr and "headgate/" not in done.stderr
    shown = json.loads(desk.deployment("show", "-n", "blue", "-e", "desk"))
    assert shown["provisioning_state"] == "Failed" and shown["pid"] is None

    desk.script(ECHO)
    mended = json.loads(desk.deployment("update", "-n", "blue", "-e", "desk"))
    assert desk.ask({})["said"] == "one"
    assert mended["scoring_uri"] == shown["scoring_uri"]


def test_a_worker_that_was_killed_is_said_to_be_gone(desk: Desk) -> None:
    shown = json.loads(desk.deployment("create", "-f", desk.file()))
    os.kill(shown["pid"], signal.SIGKILL)
    wait_for(lambda: not processes_of(desk.data), "it has ended")
    request = desk.folder / "r.json"
    request.write_text("{}")
    done = desk.run("online-endpoint", "invoke", "--local", "-n", "desk", "-r", request)
    assert done.returncode == 1 and "does not run any more" in done.stderr


@pytest.mark.parametrize(
    ("fields", "code", "said"),
    [
        ({"model": "azureml:weights:1"}, 2, "model azureml:weights:1 is registered"),
        ({"environment": "azureml:cpu@latest"}, 2, "environment azureml:cpu@latest is registered"),
        ({"code_configuration": None}, 2, "has no code"),
        ({"environment": {"image": "python:3.11"}}, 1, "ImageBuildFailure"),
        ({"endpoint_name": "nobody"}, 4, "no local endpoint 'nobody'"),
    ],
)
def test_what_only_a_workspace_has_is_refused(
    desk: Desk, fields: dict[str, Any], code: int, said: str
) -> None:
    file = desk.file(**{name: value for name, value in fields.items() if value is not None})
    if None in fields.values():
        kept = yaml.safe_load(file.read_text())
        file.write_text(yaml.safe_dump({k: v for k, v in kept.items() if k not in fields}))
    done = desk.run("online-deployment", "create", "--local", "-f", file)
    assert done.returncode == code and said in done.stderr, done.stderr
    assert processes_of(desk.data) == {}


@pytest.mark.slow
def test_an_environment_is_built_once(desk: Desk) -> None:
    conda = {"dependencies": ["pip", {"pip": ["idna==3.10"]}]}
    (desk.folder / "conda.yml").write_text(yaml.safe_dump(conda))
    desk.script("import idna\n\ndef init(): ...\n\ndef run(raw_data): return idna.__version__\n")
    file = desk.file(environment={"conda_file": "conda.yml", "image": "ignored:1"})
    first = desk.run("online-deployment", "create", "--local", "-f", file)
    assert first.returncode == 0 and "is being built" in first.stderr, first.stderr
    assert desk.ask({}) == "3.10"
    second = desk.run("online-deployment", "update", "--local", "-n", "blue", "-e", "desk")
    assert second.returncode == 0 and "is here already" in second.stderr, second.stderr
    assert "is being built" not in second.stderr


def test_debugging_needs_a_local_deployment(desk: Desk) -> None:
    done = desk.run("online-deployment", "create", "--debug", "-f", desk.file())
    assert done.returncode == 2 and "--local" in done.stderr

"""Local deployments whose environment is an image, on a real Docker engine."""

from __future__ import annotations

import json
from collections.abc import Iterator

import docker
import pytest

from containers.conftest import engine
from containers.engine import IMAGE
from local.test_local import ECHO, Desk, desk

__all__ = ["desk", "engine"]
pytestmark = pytest.mark.slow

SERVER = """
import http.server

class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.answer(b"ready")

    def do_POST(self):
        self.answer(self.rfile.read(int(self.headers["Content-Length"]))[::-1])

    def answer(self, body):
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

print("own server", flush=True)
http.server.HTTPServer(("", 9000), Handler).serve_forever()
"""


@pytest.fixture
def box(desk: Desk, engine: docker.DockerClient) -> Iterator[Desk]:
    yield desk
    desk.run("online-endpoint", "delete", "--local", "-n", "desk", "--yes")


def running(client: docker.DockerClient, name: str) -> list[str]:
    return [str(each.name) for each in client.containers.list(all=True) if each.name == name]


def test_an_image_runs_the_script_from_where_it_is_edited(
    box: Desk, engine: docker.DockerClient
) -> None:
    model = box.folder / "model"
    model.mkdir()
    (model / "a.txt").write_text("alpha")
    file = box.file(environment={"image": IMAGE}, model={"path": "model"})
    shown = json.loads(box.deployment("create", "-f", file))
    assert shown["image"] == IMAGE and shown["pid"] is None
    assert running(engine, shown["container"]) == [shown["container"]]
    assert box.ask({"a": 1}) == {"said": "one", "sent": {"a": 1}, "weights": ["alpha"]}
    box.script(ECHO.replace('"one"', '"two"'))
    box.deployment("update", "-n", "blue", "-e", "desk")
    assert box.ask({})["said"] == "two"
    assert "asked" in box.deployment("get-logs", "-n", "blue", "-e", "desk")
    box.deployment("delete", "-n", "blue", "-e", "desk", "--yes")
    assert running(engine, shown["container"]) == []


def test_a_script_that_fails_in_a_container_is_told_with_its_line(box: Desk) -> None:
    box.script('def init():\n    raise ValueError("bad weights")\n\ndef run(x): ...\n')
    file = box.file(environment={"image": IMAGE})
    done = box.run("online-deployment", "create", "--local", "-f", file)
    assert done.returncode == 1
    assert "UserScriptInitFailed" in done.stderr
    assert 'score.py", line 2, in init' in done.stderr, done.stderr
    refused = box.run("online-deployment", "update", "--local", "--debug", "-f", file)
    assert refused.returncode == 2 and "processes of this machine only" in refused.stderr


def test_a_server_of_ones_own_is_built_and_asked_at_its_own_route(box: Desk) -> None:
    context = box.folder / "image"
    context.mkdir()
    (context / "serve.py").write_text(SERVER)
    (context / "Dockerfile").write_text(
        f'FROM {IMAGE}\nCOPY serve.py /serve.py\nCMD ["python3", "/serve.py"]\n'
    )
    route = {"port": 9000, "path": "/mirror"}
    environment = {
        "build": {"path": "image"},
        "inference_config": {"scoring_route": route, "readiness_route": route},
    }
    file = box.folder / "own.yml"
    said = {
        "name": "own",
        "endpoint_name": "desk",
        "environment": environment,
        "instance_type": "Standard_DS3_v2",
        "instance_count": 1,
    }
    file.write_text(json.dumps(said))
    shown = json.loads(box.deployment("create", "-f", file))
    assert shown["scoring_uri"].endswith("/mirror")
    request = box.folder / "r.txt"
    request.write_text("abc")
    assert box.endpoint("invoke", "-n", "desk", "-r", request) == "cba"
    assert "own server" in box.deployment("get-logs", "-n", "own", "-e", "desk")

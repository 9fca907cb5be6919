"""Models logged with the real MLflow, and one Headgate that serves each from its folder alone.

MLflow is installed in an environment of its own, made once and kept. Headgate builds another one
from what the models say; they all say the same, so it is built once for all of these tests.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from acceptance.system import EXAMPLES, PROGRAM, Headgate, environment
from pythons import INSTALL_TIMEOUT_S, python_with

HERE = Path(__file__).parent
EXAMPLE = EXAMPLES / "mlflow"
CACHE = HERE.parents[1] / ".cache" / "mlflow-venv"
PACKAGES = ("mlflow>=3.1,<4", "scikit-learn>=1.5", "pandas>=2.2")
SERVING_TIMEOUT_S = 300.0  # the environment's build and the first import of everything in it
BOTH = {name: {"enabled": "True"} for name in ("model_inputs", "model_outputs")}
MODELS: dict[str, dict[str, Any]] = {  # and what their deployments say besides
    "iris": {},
    "table": {},
    "named": {},
    "grid": {},
    "outer": {"data_collector": {"collections": BOTH}},
}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.slow)
            item.add_marker(pytest.mark.timeout(INSTALL_TIMEOUT_S + SERVING_TIMEOUT_S))


@pytest.fixture(scope="session")
def mlflow_python() -> Path:
    """The Python in which MLflow is installed; made on first use."""
    return python_with(PACKAGES, CACHE)


@pytest.fixture(scope="session")
def files() -> Iterator[Path]:
    """A folder for models and YAML files."""
    made = Path(tempfile.mkdtemp(prefix="hg-mlflow-"))
    yield made
    shutil.rmtree(made, ignore_errors=True)


@pytest.fixture(scope="session")
def models(mlflow_python: Path, files: Path) -> Path:
    """The folder with the logged models; ``iris`` is that of ``examples/mlflow``."""
    for script, target in ((EXAMPLE / "log_model.py", "iris"), (HERE / "log_models.py", ".")):
        done = subprocess.run(
            [str(mlflow_python), str(script), str(files / target)],
            cwd=files,
            capture_output=True,
            text=True,
            timeout=INSTALL_TIMEOUT_S,
        )
        assert done.returncode == 0, done.stderr
    shutil.copytree(files / "iris", files / "outer" / "model")
    return files


class Served:
    """Endpoints with the names of the models, each with one deployment."""

    def __init__(self, headgate: Headgate, files: Path) -> None:
        self.headgate = headgate
        self.files = files
        self._known: dict[str, tuple[str, str]] = {}

    def ask(self, endpoint: str, body: Any) -> tuple[int, Any]:
        """The model's own status, and its answer or what it said instead."""
        return self._send(endpoint, "/score", json.dumps(body).encode())

    def swagger(self, endpoint: str) -> Any:
        """The description of the scoring API."""
        return self._send(endpoint, "/swagger.json", None)[1]

    def refusal(self, endpoint: str, body: Any) -> str:
        """What a request is refused with that the caller is to blame for."""
        status, said = self.ask(endpoint, body)
        assert status == 400, (status, said)
        assert "Traceback" not in said
        return str(said)

    def _send(self, endpoint: str, path: str, data: bytes | None) -> tuple[int, Any]:
        if endpoint not in self._known:
            found = self.headgate.cli_json("online-endpoint", "show", "--name", endpoint)
            self._known[endpoint] = (
                found["scoring_uri"].removesuffix("/score"),
                self.headgate.keys(endpoint)["primaryKey"],
            )
        uri, key = self._known[endpoint]
        told = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
        request = urllib.request.Request(uri + path, data=data, headers=told)
        try:
            with urllib.request.urlopen(request, context=self.headgate.tls, timeout=30) as answer:
                return answer.status, _strict(answer.read())
        except urllib.error.HTTPError as error:
            with error:
                assert error.code == 424, error.read()
                inner = int(error.headers["ms-azureml-model-error-statuscode"])
                return inner, json.loads(error.read())["message"]

    def deploying(self, model: str, **fields: Any) -> subprocess.Popen[str]:
        """Creates an endpoint, and a deployment whose YAML file has a model and ``fields``."""
        said = {"name": "blue", "endpoint_name": model, **fields}
        said["model"] = {"path": f"./{model}", "type": "mlflow_model"}
        endpoint, deployment = self.files / f"{model}.yml", self.files / f"{model}-blue.yml"
        endpoint.write_text(yaml.safe_dump({"name": model}))
        deployment.write_text(yaml.safe_dump(said))
        self.headgate.cli("online-endpoint", "create", "-f", endpoint)
        return subprocess.Popen(
            [PROGRAM, "online-deployment", "create", "-f", deployment, "--all-traffic"],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=environment(HEADGATE_DATA=str(self.headgate.data)),
        )

    def logs(self, endpoint: str, *flags: str) -> str:
        return self.headgate.cli(
            "online-deployment", "get-logs", "--endpoint-name", endpoint, "--name", "blue", *flags
        )


@pytest.fixture(scope="session")
def served(models: Path) -> Iterator[Served]:
    """All models, deployed side by side."""
    system = Headgate(Path(tempfile.mkdtemp(prefix="hg-mlf-")))
    try:
        system.start()
        made = Served(system, models)
        for under_way in [made.deploying(name, **MODELS[name]) for name in MODELS]:
            said, _ = under_way.communicate(timeout=SERVING_TIMEOUT_S)
            assert under_way.returncode == 0, said
        yield made
    finally:
        system.discard()


def _strict(data: bytes) -> Any:
    """JSON as everybody else reads it: without NaN."""

    def refuse(word: str) -> None:
        raise ValueError(f"{word} is not JSON")

    return json.loads(data, parse_constant=refuse)

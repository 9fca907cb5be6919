"""MLflow models in batch jobs, without a script."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import yaml

from acceptance.system import ROOT
from mlflow_models.conftest import Served
from mlflow_models.test_no_code import FLOWERS, IRIS

HERE = Path(__file__).parent


def test_tables_and_images_are_predicted_file_by_file(
    mlflow_python: Path, models: Path, tmp_path: Path
) -> None:
    """A line has the row's number (of tables), the prediction and the file's name."""
    done = subprocess.run(
        [str(mlflow_python), str(HERE / "predict_files.py"), str(models), str(tmp_path)],
        env={**os.environ, "PYTHONPATH": str(ROOT / "services")},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.rpartition("FOUND ")[2])
    assert found["tables"] == [
        *("0,0,a.csv", "1,2,a.csv"),
        *("0,2,b.parquet", "1,0,b.parquet"),
        "0,0,c.PQT",
    ]
    assert found["images"] == ["0.0,0.png", "100.0,1.png"]
    assert "d.txt is neither a table" in found["other"] and "scoring script" in found["other"]


def test_a_job_of_a_model_alone_says_what_its_online_deployment_says(
    served: Served, tmp_path: Path
) -> None:
    folder = tmp_path / "flowers"
    folder.mkdir()
    for number in range(3):
        rows = "".join(f"{','.join(map(str, row))}\n" for row in FLOWERS * (number + 1))
        (folder / f"{number}.csv").write_text(f"{','.join(IRIS)}\n{rows}")
    deployment = {
        "name": "alone",
        "endpoint_name": "flowers",
        "type": "model",
        "model": {"path": "./iris", "type": "mlflow_model"},
        "settings": {"mini_batch_size": 2, "output_file_name": "flowers.csv"},
    }
    (served.files / "flowers.yml").write_text(yaml.safe_dump(deployment))
    cli = served.headgate.cli
    cli("batch-endpoint", "create", "-n", "flowers")
    cli("batch-deployment", "create", "-f", served.files / "flowers.yml", "--set-default")
    invoke = ("batch-endpoint", "invoke", "-n", "flowers", "--input", folder)
    cli(*invoke, "--job-name", "all-flowers", "--stream")
    cli("job", "download", "-n", "all-flowers", "-p", tmp_path / "got")
    (output,) = (tmp_path / "got").rglob("flowers.csv")
    status, answers = served.ask("iris", {"input_data": FLOWERS})
    assert status == 200
    assert output.read_text().splitlines() == [
        f"{row},{answers[row % 2]},{number}.csv"
        for number in range(3)
        for row in range(2 * (number + 1))
    ]

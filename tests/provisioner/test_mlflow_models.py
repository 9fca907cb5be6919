"""What an MLflow model's own files say about where it lies and what it needs."""

from __future__ import annotations

from pathlib import Path
from textwrap import dedent

import pytest
import yaml

from headgate.provisioner import conda, mlflow_models
from headgate_contracts import limits
from headgate_contracts.errors import ErrorCode, HeadgateError

MLMODEL = """
    flavors:
      python_function:
        env: {conda: conda.yaml, virtualenv: python_env.yaml}
        loader_module: mlflow.sklearn
        python_version: 3.11.7
      sklearn: {pickled_model: model.pkl}
    mlflow_version: 2.20.1
"""
CONDA = """
    channels: [conda-forge]
    dependencies:
    - python=3.10.13
    - pip<=24.0
    - libgomp
    - pip:
      - mlflow==2.14.1
      - scikit-learn==1.5.0
    name: mlflow-env
"""


def needs(**files: str) -> mlflow_models.Needs:
    """Of a model with these files; ``__`` in a name stands for its dot."""
    texts = {name.replace("__", "."): dedent(text) for name, text in files.items()}
    return mlflow_models.needs({"MLmodel": dedent(MLMODEL), **texts}.get)


def recipe(**files: str) -> conda.Recipe:
    """What the provisioner builds of it."""
    return conda.parse(needs(**files).conda_file)


def test_the_conda_file_is_taken_with_its_versions() -> None:
    found = recipe(conda__yaml=CONDA, requirements__txt="numpy==1.0")
    assert found.python == "3.10.13"
    assert found.lines == ("mlflow==2.14.1", "scikit-learn==1.5.0")


def test_models_with_the_same_packages_share_an_environment() -> None:
    other = CONDA.replace("mlflow-env", "other").replace("conda-forge", "defaults")
    assert needs(conda__yaml=CONDA).conda_file == needs(conda__yaml=other).conda_file
    changed = CONDA.replace("1.5.0", "1.5.1")
    assert needs(conda__yaml=CONDA).conda_file != needs(conda__yaml=changed).conda_file


def test_a_virtualenv_file_brings_its_requirements() -> None:
    found = recipe(
        python_env__yaml="""
            python: 3.9.18
            build_dependencies: [pip, setuptools]
            dependencies: ["-r requirements.txt"]
        """,
        requirements__txt="# made by MLflow\nmlflow==2.14.1\nlightgbm==4.5.0  # exactly\n\n",
    )
    assert found.python == "3.9.18"
    assert found.lines == ("mlflow==2.14.1", "lightgbm==4.5.0")


def test_requirements_alone_get_the_python_of_the_model() -> None:
    found = recipe(requirements__txt="mlflow==2.14.1\n")
    assert (found.python, found.lines) == ("3.11.7", ("mlflow==2.14.1",))


@pytest.mark.parametrize(
    ("requirements", "lines"),
    [
        ("mlflow[gateway]>=2.14", ("mlflow[gateway]>=2.14",)),
        ("mlflow-skinny==2.13.0", ("mlflow-skinny==2.13.0", "numpy", "pandas")),
        ("MLflow_Skinny==2.13.0\npandas==2.2", ("MLflow_Skinny==2.13.0", "pandas==2.2", "numpy")),
        (
            "scikit-learn==1.5.0",
            ("scikit-learn==1.5.0", "mlflow-skinny==2.20.1", "numpy", "pandas"),
        ),
    ],
)
def test_what_loads_the_model_is_added_when_the_model_does_not_name_it(
    requirements: str, lines: tuple[str, ...]
) -> None:
    assert recipe(requirements__txt=requirements).lines == lines


def test_old_versions_of_mlflow_get_what_they_take_for_granted() -> None:
    old = dedent(MLMODEL).replace("2.20.1", "2.3.2")
    found = recipe(MLmodel=old, requirements__txt="mlflow==2.3.2").lines
    assert found == ("mlflow==2.3.2", "setuptools<81")
    assert recipe(MLmodel=old, requirements__txt="mlflow==2.3.2\nsetuptools==65").lines[1:] == (
        "setuptools==65",
    )
    assert recipe(MLmodel=old).lines == (
        "mlflow-skinny==2.3.2",
        "numpy<2",
        "pandas<3",
        "setuptools<81",
    )


def test_a_model_that_names_no_packages_gets_mlflow_alone_and_a_warning() -> None:
    assert recipe().lines == ("mlflow-skinny==2.20.1", "numpy", "pandas")
    assert "warning" in needs().notes[0]


def test_mlflow_from_conda_counts() -> None:
    found = recipe(conda__yaml="dependencies: [python=3.11, conda-forge::mlflow=2.14, xgboost]")
    assert found.lines == ("mlflow==2.14.*", "xgboost")


def test_files_named_in_the_model_are_used_and_none_outside_of_it(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "secret.txt").write_text("secret")
    (tmp_path / "model" / "my.yaml").write_text("dependencies: [python=3.12]")
    (tmp_path / "model" / "large").write_bytes(b" " * (limits.YAML_BYTES_MAX + 1))
    read = mlflow_models.reader(tmp_path / "model")
    assert read("my.yaml") == "dependencies: [python=3.12]"
    assert read("../secret.txt") is None
    assert read(str(tmp_path / "secret.txt")) is None
    with pytest.raises(HeadgateError, match="larger than"):
        read("large")
    model = "flavors: {python_function: {env: my.yaml}}\nmlflow_version: 1.2.3"
    assert recipe(MLmodel=model, my__yaml="dependencies: [python=3.12]").python == "3.12"


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({"MLmodel": "flavors: {sklearn: {}}"}, "no python_function flavor .*sklearn"),
        ({"MLmodel": "- a"}, "MLmodel holds no mapping"),
        ({"MLmodel": "a: ["}, "MLmodel is not valid YAML"),
        ({"conda__yaml": "dependencies: python"}, "`dependencies` in its file conda.yaml"),
        ({"requirements__txt": "-r other.txt"}, "a file that it does not hold: -r other.txt"),
    ],
)
def test_what_cannot_be_understood_is_named(files: dict[str, str], words: str) -> None:
    with pytest.raises(HeadgateError, match=words) as caught:
        needs(**files)
    assert caught.value.error.code is ErrorCode.BAD_ARGUMENT
    assert caught.value.error.target == "model"


def test_requirements_that_include_themselves_end() -> None:
    with pytest.raises(HeadgateError, match=r"-r requirements\.txt"):
        needs(requirements__txt="-r requirements.txt\nnumpy")


def test_constraints_are_left_out_with_a_word() -> None:
    found = needs(requirements__txt="mlflow==2.14.1\n-c constraints.txt")
    assert yaml.safe_load(found.conda_file)["dependencies"][-1] == {"pip": ["mlflow==2.14.1"]}
    assert any("-c constraints.txt" in note for note in found.notes)


@pytest.mark.parametrize("place", [".", "model", "outer/model"])
def test_the_model_is_found_up_to_a_folder_down(tmp_path: Path, place: str) -> None:
    (tmp_path / place).mkdir(parents=True, exist_ok=True)
    (tmp_path / place / "MLmodel").touch()
    (tmp_path / place / "data").mkdir()
    assert mlflow_models.find(tmp_path) == tmp_path / place


def test_a_folder_without_a_model_or_with_several_is_refused(tmp_path: Path) -> None:
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "weights.bin").touch()
    with pytest.raises(HeadgateError, match=r"no file MLmodel.*m/weights\.bin"):
        mlflow_models.find(tmp_path)
    for name in ("a", "b"):
        (tmp_path / "m" / name).mkdir()
        (tmp_path / "m" / name / "MLmodel").touch()
    with pytest.raises(HeadgateError, match=r"several models \(m/a, m/b\)"):
        mlflow_models.find(tmp_path)
